"""rebuild_indexes: restore the journaled vector indexes or create the playbook's, with progress."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import ceil

from ragops.campaign.privileges import privilege_problems
from ragops.campaign.steps.base import PlanFacts, PlannedStep, Run
from ragops.errors import RagopsError
from ragops.facts import version_of
from ragops.findings import PlanProblem
from ragops.indexes.plan import (
    IndexBuild,
    JournalEntry,
    analyses,
    covered_indexes,
    droppable_indexes,
    index_builds,
)
from ragops.indexes.resources import SAFE_PARALLEL_PGVECTOR, Lists
from ragops.indexes.watch import watched
from ragops.playbook.names import TableName
from ragops.playbook.steps import DropIndexes, Embed, RebuildIndexes
from ragops.postgres.catalog import read_table
from ragops.postgres.connection import Connection, transaction
from ragops.postgres.ddl import drop_index_sql
from ragops.postgres.index_builds import NoSharedMemory, create, find_index, index_progress
from ragops.postgres.journal import JournaledIndex, journaled_indexes, mark_restored
from ragops.postgres.locks import LOCK_TIMEOUT_S, with_lock_retries
from ragops.postgres.statements import text_of


@dataclass(frozen=True, slots=True)
class Rebuilding:
    """The builds of one run with what each is given, and the indexes that are there already."""

    builds: tuple[IndexBuild, ...]
    present: tuple[str, ...]
    rows: int
    """Of the tables that get an index."""
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, object]:
        """What `ragops index rebuild --dry-run --json` prints."""
        return {
            "plan": [
                {
                    "name": build.name,
                    "table": build.table.qualified,
                    "sql": [text_of(statement) for statement in build.statements],
                    "note": build.resources.note,
                }
                for build in self.builds
            ],
            "present": list(self.present),
            "rows": self.rows,
            "notes": list(self.notes),
        }


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


@dataclass(frozen=True, slots=True)
class RebuildResult:
    indexes: tuple[BuiltIndex, ...]
    present: tuple[str, ...]
    rows: int
    seconds: float

    def to_json(self) -> dict[str, object]:
        return {
            "indexes": [index.to_json() for index in self.indexes],
            "present": list(self.present),
            "rows": self.rows,
            "seconds": self.seconds,
        }


@dataclass(frozen=True, slots=True)
class RebuildIndexesStep:
    settings: RebuildIndexes

    def problems(self, facts: PlanFacts) -> Iterator[PlanProblem | str]:
        # Long statements lift a role's timeout in their transaction; a concurrent build cannot have one.
        timeout = facts.database.server.settings.get("statement_timeout", "0")
        if self.settings.concurrently and timeout != "0":
            yield (
                f"statement_timeout is {timeout}, which would end CREATE INDEX CONCURRENTLY: "
                "ALTER ROLE … SET statement_timeout = 0, or concurrently: false"
            )
        tables = [table for table in facts.database.tables.values() if table]
        valid = {index.name for table in tables for index in table.indexes if index.is_valid}
        are_dropped = any(isinstance(step, DropIndexes) for step in facts.playbook.steps)
        for index in facts.playbook.indexes:
            if are_dropped or index.name not in valid:
                yield from privilege_problems(facts.database, index.table, "OWN", "CREATE")

    def plan(self, facts: PlanFacts, number: int) -> PlannedStep:
        existing, journal = droppable_indexes(facts.database), list(facts.journal)
        if any(isinstance(step, DropIndexes) for step in facts.before(number)):
            journal += [JournalEntry(i.schema, i.name, i.table, i.definition, i.properties) for i in existing]
            existing = []
        server = facts.database.server
        builds = [
            build.equipped(rows=_rows_of(facts, number, build), server=server, settings=self.settings)
            for build in index_builds(
                facts.playbook,
                facts.database,
                existing=existing,
                journal=journal,
                concurrently=self.settings.concurrently,
            )
        ]
        rows, rate = _embedded_before(facts, number), facts.database.index_rows_per_s
        notes = [f"{build.name}: {build.resources.note}" for build in builds if build.resources.note]
        covered = covered_indexes(facts.playbook, facts.database, existing=existing, journal=journal)
        notes += _covered_notes(covered)
        later = facts.playbook.steps[number:]
        if any(isinstance(build.graph, Lists) for build in builds) and any(isinstance(s, Embed) for s in later):
            notes.append("IVFFlat lists are chosen from the rows that are there; later rows are sorted into them")
        return PlannedStep(
            number,
            self.settings.step,
            f"build {len(builds)} vector index{'es' if len(builds) != 1 else ''}",
            self.settings,
            statements=(*(statement for build in builds for statement in build.statements), *analyses(builds)),
            rows=rows,
            tables=tuple(dict.fromkeys(build.table.qualified for build in builds)),
            estimate_s=rows / rate if builds and rows and rate else None,
            notes=tuple(notes) if builds or notes else ("every index is present and valid: nothing to build",),
            writes_bytes=sum(b.graph.bytes(_rows_of(facts, number, b) or 0) or 0 for b in builds) or None,
        )

    def run(self, run: Run) -> RebuildResult:
        return rebuild(run, self.settings)


def rebuild(run: Run, settings: RebuildIndexes, *, names: Sequence[str] = ()) -> RebuildResult:
    """Build what is missing or invalid; a valid index of that name is left alone and reported.

    Raises RagopsError when the server refuses a build, Interrupted when it was stopped (a plain
    build then leaves nothing behind).
    """
    session, started = run.session, time.monotonic()
    planned = plan_rebuild(run, settings, names=names)
    for name in planned.present:
        session.reporter.info(f"index {name} is already present and valid")
    for note in planned.notes:
        session.reporter.info(note)
    built = tuple(build_index(run, build) for build in planned.builds)
    for analysis in analyses(planned.builds):
        with transaction(session.connection, is_long=True):
            session.connection.execute(analysis)
    result = RebuildResult(built, planned.present, planned.rows, round(time.monotonic() - started, 3))
    run.record(result)
    return result


def plan_rebuild(run: Run, settings: RebuildIndexes, *, names: Sequence[str] = ()) -> Rebuilding:
    """Return what `rebuild` would do now. Raises PlanRefused where that would be unsafe."""
    session = run.session
    facts = session.facts()
    existing, journal = droppable_indexes(facts), read_journal(session.connection)
    covered = covered_indexes(session.playbook, facts, existing=existing, journal=journal)
    all_builds = index_builds(
        session.playbook,
        facts,
        existing=existing,
        journal=journal,
        concurrently=settings.concurrently,
        named=names,
    )
    builds = [build for build in all_builds if not names or build.name in names]
    wanted = {index.name for index in session.playbook.indexes} | {build.name for build in builds}
    version = facts.server.pgvector_version
    if builds and version is not None and version_of(version) < SAFE_PARALLEL_PGVECTOR:
        # Parallel HNSW builds are unsafe in pgvector 0.6.0 to 0.8.1.
        session.reporter.info_once(
            f"pgvector {version} is older than 0.8.2 (CVE-2026-3172): no parallel index build"
        )
    rows: dict[int, int] = {}
    for table in {build.table.oid: build.table for build in builds}.values():
        # Counted: estimates are far off after a load.
        with transaction(session.connection, is_long=True):
            now = read_table(session.connection, TableName(table.schema, table.name))
        rows[table.oid] = now.rows if now else 0
    return Rebuilding(
        tuple(
            build.equipped(rows=rows[build.table.oid], server=facts.server, settings=settings) for build in builds
        ),
        tuple(index.name for index in existing if index.is_valid and index.name in wanted),
        sum(rows.values()),
        _covered_notes({name: other for name, other in covered.items() if name not in names}),
    )


def read_journal(connection: Connection) -> list[JournalEntry]:
    """Return dropped and not yet restored indexes; none without a ledger.

    Those of earlier campaigns are among them: one that was given up (`ragops reset --new`) leaves its definitions
    to the next one.
    """
    return [entry_of(row) for row in journaled_indexes(connection)]


def entry_of(row: JournaledIndex) -> JournalEntry:
    """Return what a plan needs of a row of the journal."""
    return JournalEntry(row.schema, row.name, row.table, row.definition, row.properties)


def _covered_notes(covered: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(
        f"{name} is not built: {other} is equal to it (the same column and operator class)"
        for name, other in covered.items()
    )


def _embedded_before(facts: PlanFacts, number: int) -> int | None:
    """Return the items that the steps before this one embed; None where that is not known."""
    embeds = [step for step in facts.before(number) if isinstance(step, Embed)]
    if not embeds or embeds[-1].until is None:
        return facts.items if embeds else None
    return embeds[-1].until if facts.items is None else min(embeds[-1].until, facts.items)


def _rows_of(facts: PlanFacts, number: int, build: IndexBuild) -> int | None:
    """Return the rows that a build of step `number` will find in its table; None where that is not known."""
    if not any(isinstance(step, Embed) for step in facts.before(number)):
        return build.table.rows
    documents, items = facts.table("documents"), _embedded_before(facts, number)
    if items is None or build.table.oid == documents.oid:
        return items
    # As many chunks per document as there are now, and at least one.
    return ceil(items * max(1.0, build.table.rows / documents.rows if documents.rows else 1.0))


def build_index(run: Run, build: IndexBuild) -> BuiltIndex:
    """Build one index, and mark it as restored. Raises as `rebuild`."""
    started, reporter = time.monotonic(), run.session.reporter
    note = f": {build.resources.note}" if build.resources.note else ""
    reporter.info(f"building {build.name} on {build.table.qualified}{note}")
    try:
        _build_once(run, build)
    except NoSharedMemory as short:
        build = build.without_parallel_workers()
        reporter.info(f"{short.what} ({short.actual}); going on without parallel workers")
        _build_once(run, build)
    index = find_index(run.session.connection, build.table, build.name)
    if index is None or not index.is_valid:
        raise RagopsError(
            f"the server built the index {build.name}, but does not use it",
            where=build.table.qualified,
            actual="invalid" if index else "not in the catalog",
            expected="a valid index",
            hint="ragops index status   then: ragops index rebuild",
        )
    return BuiltIndex(build, index.bytes, round(time.monotonic() - started, 3))


def _build_once(run: Run, build: IndexBuild) -> None:
    session = run.session
    index = find_index(session.connection, build.table, build.name)
    if index is not None and not index.is_valid:
        # A killed CREATE INDEX CONCURRENTLY leaves an invalid index, which would keep the name.
        session.reporter.info(f"index {index.name} is invalid (an interrupted build): dropping and rebuilding it")
        with run.transaction(lock_timeout_s=LOCK_TIMEOUT_S):
            session.connection.execute(drop_index_sql(index))
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
