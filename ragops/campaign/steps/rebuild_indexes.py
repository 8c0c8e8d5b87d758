"""rebuild_indexes: restore the journaled vector indexes or create the playbook's, with progress."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ragops.campaign.index_rows import counted_once, embedded_before, rows_of, rows_of_targets
from ragops.campaign.privileges import privilege_problems, table_privilege_problems
from ragops.campaign.steps.base import PlanFacts, PlannedStep, Run
from ragops.campaign.steps.building import BuiltIndex, adopt, build_index
from ragops.facts import version_of
from ragops.findings import PlanProblem
from ragops.indexes.beside import column_analyses, copy_notes, copy_problems, is_beside
from ragops.indexes.builds import IndexBuild, JournalEntry, analyses
from ragops.indexes.concerned import droppable_indexes, indexes_over
from ragops.indexes.pairs import index_pairs
from ragops.indexes.plan import covered_indexes, index_builds, returned_indexes
from ragops.indexes.resources import SAFE_PARALLEL_PGVECTOR, Lists
from ragops.indexes.rewritten import reindexes
from ragops.playbook.names import TableName
from ragops.playbook.steps import DropIndexes, Embed, RebuildIndexes
from ragops.postgres.catalog import read_table
from ragops.postgres.connection import Connection, transaction
from ragops.postgres.journal import JournaledIndex, journaled_indexes
from ragops.postgres.statements import Statement, text_of


@dataclass(frozen=True, slots=True)
class Rebuilding:
    """The builds of one run with what each is given, and the indexes that are there already."""

    builds: tuple[IndexBuild, ...]
    present: tuple[str, ...]
    rows: int
    """Of the tables that get an index."""
    notes: tuple[str, ...] = ()
    returned: tuple[IndexBuild, ...] = ()
    """Journaled indexes that are there again: built by a run that was killed before it could record that."""
    first: tuple[Statement, ...] = ()
    """What runs before the first build."""

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
class RebuildResult:
    indexes: tuple[BuiltIndex, ...]
    present: tuple[str, ...]
    rows: int
    seconds: float
    earlier: tuple[Mapping[str, object], ...] = ()
    """Indexes that an interrupted run of the same step has built, as it had noted them."""

    def to_json(self) -> dict[str, object]:
        return {
            "indexes": [*self.earlier, *(index.to_json() for index in self.indexes)],
            "present": list(self.present),
            "rows": self.rows,
            "seconds": self.seconds,
        }


@dataclass(frozen=True, slots=True)
class Intended:
    """The indexes that a step is about to build. An undo takes those back that are not restored ones."""

    builds: tuple[IndexBuild, ...]
    earlier: tuple[Mapping[str, object], ...]

    def to_json(self) -> dict[str, object]:
        own = [
            {"name": build.name, "table": build.table.qualified, "restored": build.is_restored}
            for build in self.builds
        ]
        return {"indexes": [*self.earlier, *own]}


@dataclass(frozen=True, slots=True)
class RebuildIndexesStep:
    settings: RebuildIndexes

    def problems(self, facts: PlanFacts) -> Iterator[PlanProblem | str]:
        # Long statements lift a role's timeout in their transaction; a concurrent build cannot have one.
        timeout = facts.database.server.settings.get("statement_timeout", "0")
        beside = [target for target in facts.targets if is_beside(target)]
        if (self.settings.concurrently or beside) and timeout != "0":
            # What a second column gets is built concurrently whatever the playbook says.
            instead = "" if beside else ", or concurrently: false"
            yield (
                f"statement_timeout is {timeout}, which would end CREATE INDEX CONCURRENTLY: "
                f"ALTER ROLE … SET statement_timeout = 0{instead}"
            )
        concerned = [t for t in facts.targets if is_beside(t) or indexes_over(t, t.filled)]
        for target in concerned:
            yield from table_privilege_problems(target.table, facts.database.server.role, "OWN", "CREATE")
        for target in beside:
            yield from copy_problems(target, facts.playbook, dimensions=facts.dimensions)
        tables = [table for table in facts.database.tables.values() if table]
        valid = {index.name for table in tables for index in table.indexes if index.is_valid}
        are_dropped = any(isinstance(step, DropIndexes) for step in facts.playbook.steps)
        for index in facts.playbook.indexes:
            if are_dropped or index.name not in valid:
                yield from privilege_problems(facts.database, index.table, "OWN", "CREATE")

    def plan(self, facts: PlanFacts, number: int) -> PlannedStep:
        playbook, targets = facts.playbook, facts.targets
        existing, journal = droppable_indexes(facts.database, targets), list(facts.journal)
        if any(isinstance(step, DropIndexes) for step in facts.before(number)):
            journal += [JournalEntry(i.schema, i.name, i.table, i.definition, i.properties) for i in existing]
            existing = []
        server, concurrently = facts.database.server, self.settings.concurrently
        wanted = index_builds(
            playbook,
            facts.database,
            existing=existing,
            journal=journal,
            concurrently=concurrently,
            targets=targets,
            dimensions=facts.dimensions,
            is_ahead=True,
        )
        if any(isinstance(step, Embed) for step in facts.before(number)):
            wanted += reindexes(playbook, targets, existing=existing, concurrently=concurrently)
        builds = [
            build.equipped(rows=rows_of(facts, number, build), server=server, settings=self.settings)
            for build in wanted
        ]
        rows, rate = embedded_before(facts, number), facts.database.index_rows_per_s
        notes = [f"{build.name}: {build.resources.note}" for build in builds if build.resources.note]
        covered = covered_indexes(playbook, facts.database, existing=existing, journal=journal)
        notes += [*_covered_notes(covered), *copy_notes(targets)]
        first = column_analyses(targets, builds)
        later = facts.playbook.steps[number:]
        if any(isinstance(build.graph, Lists) for build in builds) and any(isinstance(s, Embed) for s in later):
            notes.append("IVFFlat lists are chosen from the rows that are there; later rows are sorted into them")
        return PlannedStep(
            number,
            self.settings.step,
            f"build {len(builds)} vector index{'es' if len(builds) != 1 else ''}",
            self.settings,
            statements=(
                *first,
                *(statement for build in builds for statement in build.statements),
                *analyses(builds),
            ),
            rows=rows if not targets else rows_of_targets(targets, builds),
            tables=tuple(dict.fromkeys(build.table.qualified for build in builds)),
            estimate_s=rows / rate if builds and rows and rate else None,
            notes=tuple(notes) if builds or notes else ("every index is present and valid: nothing to build",),
            writes_bytes=sum(b.graph.bytes(rows_of(facts, number, b) or 0) or 0 for b in builds) or None,
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
    for build in planned.returned:
        adopt(run, build)
    earlier = _made_earlier(run.noted(), planned.present)
    # Before the first build: a run that is killed in one, or before it can record its result, has made them too.
    run.note(Intended(planned.builds, earlier))
    for analysis in planned.first:
        with transaction(session.connection, is_long=True):
            session.connection.execute(analysis)
    built = tuple(build_index(run, build) for build in planned.builds)
    for analysis in analyses(planned.builds):
        with transaction(session.connection, is_long=True):
            session.connection.execute(analysis)
    seconds = round(time.monotonic() - started, 3)
    result = RebuildResult(built, planned.present, planned.rows, seconds, earlier)
    run.record(result)
    return result


def plan_rebuild(run: Run, settings: RebuildIndexes, *, names: Sequence[str] = ()) -> Rebuilding:
    """Return what `rebuild` would do now. Raises PlanRefused where that would be unsafe."""
    session = run.session
    facts, targets = session.facts(), session.targets()
    existing, journal = droppable_indexes(facts, targets), read_journal(session.connection)
    covered = covered_indexes(session.playbook, facts, existing=existing, journal=journal)
    all_builds = index_builds(
        session.playbook,
        facts,
        existing=existing,
        journal=journal,
        concurrently=settings.concurrently,
        named=names,
        targets=targets,
    )
    # Outside of a campaign nothing has replaced the vectors: a valid index stays as it is.
    if run.campaign is not None:
        all_builds += reindexes(session.playbook, targets, existing=existing, concurrently=settings.concurrently)
    builds = [build for build in all_builds if not names or build.name in names]
    wanted = {index.name for index in session.playbook.indexes} | {build.name for build in builds}
    version = facts.server.pgvector_version
    if builds and version is not None and version_of(version) < SAFE_PARALLEL_PGVECTOR:
        # Parallel HNSW builds are unsafe in pgvector 0.6.0 to 0.8.1.
        session.reporter.info_once(
            f"pgvector {version} is older than 0.8.2 (CVE-2026-3172): no parallel index build"
        )
    returned = [build for build in returned_indexes(facts, journal, targets) if not names or build.name in names]
    wanted |= {build.name for build in returned}
    wanted |= {copy.name for target in targets for _, copy in index_pairs(target) if copy is not None}
    again = {build.name for build in builds if build.is_reindex}
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
        tuple(i.name for i in existing if i.is_valid and i.name in wanted and i.name not in again),
        sum(rows[oid] for oid in counted_once([build.table for build in builds])),
        _covered_notes({name: other for name, other in covered.items() if name not in names}),
        tuple(returned),
        tuple(column_analyses(targets, builds)),
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


def _made_earlier(noted: Mapping[str, object], present: Sequence[str]) -> tuple[Mapping[str, object], ...]:
    """Return what an interrupted run of this step noted and has built since."""
    indexes = noted.get("indexes")
    entries = indexes if isinstance(indexes, list) else []
    return tuple(entry for entry in entries if isinstance(entry, dict) and entry.get("name") in present)
