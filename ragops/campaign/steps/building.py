"""Build one index for a step or an undo: wait for those that build already, build, look, record."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial

from ragops.campaign.steps.base import Run
from ragops.errors import RagopsError
from ragops.facts import IndexFacts
from ragops.indexes.plan import IndexBuild
from ragops.indexes.running import wait_for_builds
from ragops.indexes.watch import watched
from ragops.postgres.ddl import drop_index_sql
from ragops.postgres.index_builds import NoSharedMemory, create, find_index, index_progress
from ragops.postgres.journal import mark_restored
from ragops.postgres.locks import LOCK_TIMEOUT_S, with_lock_retries
from ragops.postgres.statements import text_of


@dataclass(frozen=True, slots=True)
class BuiltIndex:
    build: IndexBuild
    bytes: int
    seconds: float

    def to_json(self) -> dict[str, object]:
        parameters = self.build.resources.parameters
        return {
            "name": self.build.name,
            "table": self.build.table.qualified,
            "bytes": self.bytes,
            "seconds": self.seconds,
            "settings": {parameter.name: parameter.value for parameter in parameters},
            "sql": text_of(self.build.create),
            "restored": self.build.is_restored,
        }


def build_index(run: Run, build: IndexBuild) -> BuiltIndex:
    """Build one index, and mark it as restored. Raises as `rebuild`.

    An index that another session builds on the table is waited for; one of this name is taken over.
    """
    started, session = time.monotonic(), run.session
    if wait_for_builds(session, build.table, renew=run.renew) and not build.is_reindex and _took_over(run, build):
        session.reporter.info(f"index {build.name} was finished by that session")
    else:
        note = f": {build.resources.note}" if build.resources.note else ""
        session.reporter.info(f"building {build.name} on {build.table.qualified}{note}")
        try:
            _build_once(run, build)
        except NoSharedMemory as short:
            build = build.without_parallel_workers()
            session.reporter.info(f"{short.what} ({short.actual}); going on without parallel workers")
            _build_once(run, build)
    index = find_index(session.connection, build.table, build.name)
    if index is None or not index.is_valid:
        raise RagopsError(
            f"the server built the index {build.name}, but does not use it",
            where=build.table.qualified,
            actual="invalid" if index else "not in the catalog",
            expected="a valid index",
            hint="ragops index status   then: ragops index rebuild",
        )
    return BuiltIndex(build, index.bytes, round(time.monotonic() - started, 3))


def _took_over(run: Run, build: IndexBuild) -> bool:
    """Adopt the index if it is there and valid. Raises RagopsError if it is another one of that name."""
    index = find_index(run.session.connection, build.table, build.name)
    if index is None or not index.is_valid:
        return False
    if not build.is_made_as(index.definition):
        raise RagopsError(
            f"another session has built an index {build.name} that is not the wanted one",
            where=build.table.qualified,
            actual=index.definition,
            expected=text_of(build.create),
            hint="drop or rename it, then run the command again",
        )
    adopt(run, build)
    return True


def adopt(run: Run, build: IndexBuild) -> None:
    """Give an index that is there what its build would have given it last, and mark it as restored."""
    session = run.session

    def act() -> None:
        with run.transaction(lock_timeout_s=LOCK_TIMEOUT_S):
            for statement in build.property_statements:
                session.connection.execute(statement)
            mark_restored(session.connection, schema=build.table.schema, name=build.name)

    with_lock_retries(session.connection, act, tables=[build.table], reporter=session.reporter)


def _build_once(run: Run, build: IndexBuild) -> None:
    session = run.session
    index = find_index(session.connection, build.table, build.name)
    if index is not None and not index.is_valid:
        # A killed CREATE INDEX CONCURRENTLY leaves an invalid index, which would keep the name.
        session.reporter.info(f"index {index.name} is invalid (an interrupted build): dropping and rebuilding it")
        _drop_invalid(run, build, index)
    if build.concurrently:
        _build_concurrently(run, build)
        return

    def act() -> None:
        with run.transaction(lock_timeout_s=LOCK_TIMEOUT_S, is_long=True):
            create(session.connection, build.statements, table=build.table)
            mark_restored(session.connection, schema=build.table.schema, name=build.name)

    def build_with_retries() -> None:
        with_lock_retries(session.connection, act, tables=[build.table], reporter=session.reporter)

    watched(
        session,
        build_with_retries,
        on=session.connection,
        progress=partial(index_progress, oid=build.table.oid),
        what=f"index {build.name}",
        left="nothing of it is left",
        renew=run.renew,
    )


def _drop_invalid(run: Run, build: IndexBuild, index: IndexFacts) -> None:
    def act() -> None:
        with run.transaction(lock_timeout_s=LOCK_TIMEOUT_S):
            run.session.connection.execute(drop_index_sql(index))

    with_lock_retries(run.session.connection, act, tables=[build.table], reporter=run.session.reporter)


def _build_concurrently(run: Run, build: IndexBuild) -> None:
    """Run the only statement that cannot share a transaction with its record.

    The order is: intent (the step is marked running), act, look into the catalog, record. The parameters,
    too, have no transaction: they are set for a session of their own, which ends with the build. There are
    none behind a pooler, where the session would be another client's afterwards.
    """
    session = run.session
    with session.connect() as own:
        watched(
            session,
            lambda: create(own, build.statements, table=build.table),
            on=own,
            progress=partial(index_progress, oid=build.table.oid),
            what=f"index {build.name}",
            left="what it left is invalid, and the next rebuild drops it",
            renew=run.renew,
        )
    mark_restored(session.connection, schema=build.table.schema, name=build.name)
