"""rebuild_indexes: restore the journaled HNSW indexes or create the playbook's, with progress."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ragops.actions import DropIndex, IndexBuild
from ragops.campaign.context import Effect, StepContext
from ragops.errors import Interrupted
from ragops.facts import IndexFacts, version_of
from ragops.indexes.plan import analyses, build_name, droppable_indexes, index_builds
from ragops.indexes.resources import SAFE_PARALLEL_PGVECTOR, Resources, resources_of
from ragops.playbook.names import TableName
from ragops.playbook.steps import RebuildIndexes
from ragops.postgres.catalog import has_ragops_schema, read_table
from ragops.postgres.connection import Connection, transaction
from ragops.postgres.ddl import LOCK_TIMEOUT_S, sql_of, sql_text, with_lock_retries
from ragops.postgres.index_builds import NoSharedMemory, create, find_index, index_progress
from ragops.postgres.ledger import mark_restored

POLL_S = 0.5


@dataclass(frozen=True, slots=True)
class Planned:
    """The builds of one run with what each is given, and the indexes that are there already."""

    builds: tuple[tuple[IndexBuild, Resources], ...]
    present: tuple[str, ...]
    rows: int
    """Of the tables that get an index."""


def run(context: StepContext, step: RebuildIndexes, *, names: Sequence[str] = ()) -> Effect:
    """Build what is missing or invalid; a valid index of that name is left alone and said so.

    Raises RagopsError when the server refuses a build, Interrupted when it was stopped (a plain
    build then leaves nothing behind).
    """
    started = time.monotonic()
    planned = plan(context, step, names=names)
    for name in planned.present:
        context.reporter.info(f"index {name} is already present and valid")
    built = [_build(context, build, resources) for build, resources in planned.builds]
    for analysis in analyses([build for build, _ in planned.builds]):
        with transaction(context.connection, is_long=True):
            context.connection.execute(sql_of(analysis))
    effect: Effect = {
        "indexes": built,
        "present": list(planned.present),
        "rows": planned.rows,
        "seconds": round(time.monotonic() - started, 3),
    }
    context.record(effect)
    return effect


def plan(context: StepContext, step: RebuildIndexes, *, names: Sequence[str] = ()) -> Planned:
    """What `run` would do now. Raises PlanRefused where that would be unsafe."""
    facts = context.facts()
    existing = droppable_indexes(facts)
    journal = context.journal() if has_ragops_schema(context.connection) else []
    builds = index_builds(context.playbook, facts, existing=existing, journal=journal, step=step)
    builds = [build for build in builds if not names or build_name(build) in names]
    wanted = {index.name for index in context.playbook.indexes} | {build_name(b) for b in builds}
    if builds:
        report_if_unsafe(context, facts.server.pgvector_version)
    rows = {oid: _count(context, build) for oid, build in {b.table.oid: b for b in builds}.items()}
    return Planned(
        tuple(
            (build, resources_of(build, rows=rows[build.table.oid], server=facts.server, step=step))
            for build in builds
        ),
        tuple(i.name for i in existing if i.is_valid and i.name in wanted),
        sum(rows.values()),
    )


def describe(planned: Planned) -> dict[str, Any]:
    """The plan as JSON, with the SQL of each build."""
    return {
        "plan": [
            {
                "name": build_name(build),
                "table": build.table.qualified,
                "sql": [sql_text(action) for action in (*resources.parameters, build)],
                "note": resources.note,
            }
            for build, resources in planned.builds
        ],
        "present": list(planned.present),
        "rows": planned.rows,
    }


def _count(context: StepContext, build: IndexBuild) -> int:
    """Rows of the build's table, counted: estimates are far off after a load."""
    with transaction(context.connection, is_long=True):
        found = read_table(context.connection, TableName(build.table.schema, build.table.name))
    return found.rows if found else 0


def _build(context: StepContext, build: IndexBuild, resources: Resources) -> dict[str, Any]:
    started = time.monotonic()
    name = build_name(build)
    note = f": {resources.note}" if resources.note else ""
    context.reporter.info(f"building {name} on {build.table.qualified}{note}")
    try:
        _build_once(context, build, resources)
    except NoSharedMemory as short:
        resources = resources.without_workers()
        context.reporter.info(f"{short.what} ({short.actual}); going on without parallel workers")
        _build_once(context, build, resources)
    found = find_index(context.connection, build, name)
    return {
        "name": name,
        "table": build.table.qualified,
        "bytes": found.bytes if found else 0,
        "seconds": round(time.monotonic() - started, 3),
        "settings": {parameter.name: parameter.value for parameter in resources.parameters},
        "sql": sql_text(build),
    }


def _build_once(context: StepContext, build: IndexBuild, resources: Resources) -> None:
    name = build_name(build)
    _drop_invalid(context, find_index(context.connection, build, name))
    if build.concurrently:
        _build_concurrently(context, build, resources)
        return
    settings = {parameter.name: parameter.value for parameter in resources.parameters}

    def act() -> None:
        with context.fenced(lock_timeout_s=LOCK_TIMEOUT_S, is_long=True, settings=settings):
            create(context.connection, build)
            mark_restored(context.connection, schema=build.table.schema, name=name)

    def build_with_retries() -> None:
        with_lock_retries(context.connection, act, tables=[build.table], info=context.reporter.info)

    watched(
        context,
        build_with_retries,
        on=context.connection,
        table_oid=build.table.oid,
        what=f"index {name}",
        left="nothing of it is left",
    )


def _build_concurrently(context: StepContext, build: IndexBuild, resources: Resources) -> None:
    """The only statement that cannot share a transaction with its record: intent (the step is marked
    running), act, look into the catalog, record.

    Nor has it a transaction for its parameters: they are set for a session of its own, which ends with it.
    There are none behind a pooler, where the session would be another client's afterwards.
    """
    with context.connect() as own:

        def act() -> None:
            for parameter in resources.parameters:
                own.execute(sql_of(parameter))
            create(own, build)

        watched(
            context,
            act,
            on=own,
            table_oid=build.table.oid,
            what=f"index {build_name(build)}",
            left="what it left is invalid, and the next rebuild drops it",
        )
    mark_restored(context.connection, schema=build.table.schema, name=build_name(build))


def report_if_unsafe(context: StepContext, pgvector_version: str | None) -> None:
    """Parallel HNSW builds are unsafe in pgvector 0.6.0 to 0.8.1 (CVE-2026-3172)."""
    if pgvector_version is not None and version_of(pgvector_version) < SAFE_PARALLEL_PGVECTOR:
        context.info_once(
            f"pgvector {pgvector_version} is older than 0.8.2 (CVE-2026-3172): no parallel index build"
        )


def _drop_invalid(context: StepContext, index: IndexFacts | None) -> None:
    """A killed CREATE INDEX CONCURRENTLY leaves an invalid index, which `IF NOT EXISTS` would keep."""
    if index is not None and not index.is_valid:
        context.reporter.info(f"index {index.name} is invalid (an interrupted build): dropped and built anew")
        with context.fenced(lock_timeout_s=LOCK_TIMEOUT_S):
            context.connection.execute(sql_of(DropIndex(index)))


def watched(
    context: StepContext, work: Callable[[], None], *, on: Connection, table_oid: int, what: str, left: str
) -> None:
    """Run a long statement on a connection in a thread, show its progress, and cancel it on Ctrl-C.

    `left` says what such an end leaves behind.
    """
    errors: list[BaseException] = []

    def run_work() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 (raised again below, in the caller's thread)
            errors.append(error)

    thread = threading.Thread(target=run_work, name=what)
    thread.start()
    with context.connect() as observer:
        try:
            while thread.is_alive():
                _show(context, observer, table_oid, what)
                thread.join(POLL_S)
        except KeyboardInterrupt:
            on.cancel_safe()
            thread.join()
            raise Interrupted(
                f"stopped while building {what}; {left}", signal_number=context.stop.signal_number
            ) from None
        finally:
            context.reporter.end_progress()
    if errors:
        raise errors[0]


def _show(context: StepContext, observer: Connection, table_oid: int, what: str) -> None:
    progress = index_progress(observer, table_oid)
    if progress is not None:
        context.reporter.progress(
            what, progress.done, progress.total or None, f"{progress.unit}, {progress.phase}"
        )
    if context.ledger is not None:
        context.ledger.on(observer).renew()
