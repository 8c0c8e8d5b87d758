"""empty_tables: archive, truncate and delete in one transaction, then give the space back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ragops.campaign.privileges import privilege_problems
from ragops.campaign.steps.base import PlanFacts, PlannedStep, Run
from ragops.facts import DatabaseFacts, TableFacts
from ragops.findings import PlanProblem
from ragops.playbook.steps import DropIndexes, EmptyTables
from ragops.postgres.archive import Archiving, archive_rows, take_numbers
from ragops.postgres.catalog import table_bytes
from ragops.postgres.connection import execute_within_timeout
from ragops.postgres.ddl import delete_sql, lock_sql, truncate_sql, vacuum_sql
from ragops.postgres.locks import LOCK_TIMEOUT_S, with_lock_retries
from ragops.postgres.statements import Statement, quoted, text_of

LIST_BEFORE = "empty_tables must list it before, as rows are deleted in that order"


@dataclass(frozen=True, slots=True)
class Emptying:
    """The statements that empty some tables, in order; VACUUM cannot run in the others' transaction."""

    archives: tuple[Archiving, ...]
    removals: tuple[Statement, ...]
    vacuums: tuple[TableFacts, ...]

    @property
    def statements(self) -> tuple[Statement, ...]:
        archives = (archiving.statement for archiving in self.archives)
        return (*archives, *self.removals, *map(vacuum_sql, self.vacuums))


@dataclass(frozen=True, slots=True)
class EmptiedTable:
    table: str
    rows: int
    bytes_before: int
    bytes_after: int | None = None
    """None until the space was given back."""

    def to_json(self) -> dict[str, object]:
        after = {} if self.bytes_after is None else {"bytes_after": self.bytes_after}
        return {"table": self.table, "rows": self.rows, "bytes_before": self.bytes_before, **after}


@dataclass(frozen=True, slots=True)
class EmptyResult:
    tables: tuple[EmptiedTable, ...]
    archived: int
    """Rows copied into archives."""
    sql: tuple[str, ...]

    @property
    def rows(self) -> int:
        return sum(table.rows for table in self.tables)

    @property
    def bytes_freed(self) -> int | None:
        """Bytes given back; None until every table was looked at again."""
        freed = [t.bytes_before - t.bytes_after for t in self.tables if t.bytes_after is not None]
        return sum(freed) if len(freed) == len(self.tables) else None

    def to_json(self) -> dict[str, object]:
        freed = {} if self.bytes_freed is None else {"bytes_freed": self.bytes_freed}
        return {
            "tables": [table.to_json() for table in self.tables],
            "rows": self.rows,
            "archived": self.archived,
            "sql": list(self.sql),
            **freed,
        }


@dataclass(frozen=True, slots=True)
class EmptyTablesStep:
    settings: EmptyTables

    def problems(self, facts: PlanFacts) -> Iterator[PlanProblem | str]:
        for entry in self.settings.tables:
            if entry.table not in facts.database.tables:
                yield f"empty_tables names {entry.table}, which tables: sets to null"
        yield from self._foreign_keys(facts.database)
        server = facts.database.server
        if self.settings.archive and not server.may_archive:
            yield PlanProblem(
                f"role {server.role} lacks CREATE on schema ragops, where rows are archived (or --no-archive)",
                f"GRANT USAGE, CREATE ON SCHEMA ragops TO {quoted(server.role)}",
            )
        for entry in self.settings.tables:
            yield from privilege_problems(facts.database, entry.table, entry.method.upper())

    def _foreign_keys(self, facts: DatabaseFacts) -> Iterator[str]:
        """Yield the tables that reference an emptied one and stand in its way: nothing cascades here."""
        entries = self.settings.tables
        methods: dict[str, str] = {entry.table: entry.method for entry in entries}
        places: dict[str, int] = {entry.table: place for place, entry in enumerate(entries)}
        logical_names = {t.qualified: logical for logical, t in facts.tables.items() if t}
        for entry in entries:
            table = facts.tables.get(entry.table)
            for key in table.referenced_by if table else ():
                other = logical_names.get(key.table, "")
                remedy = _remedy(entry.method, methods.get(other), key.on_delete)
                # Rows are deleted in the order of the list.
                is_earlier = other in places and places[other] < places[entry.table]
                if table and remedy and not (remedy == LIST_BEFORE and is_earlier):
                    yield (
                        f"{key.table} references {table.qualified} (foreign key {key.name}, "
                        f"ON DELETE {key.on_delete}): {remedy}"
                    )

    def plan(self, facts: PlanFacts, number: int) -> PlannedStep:
        tables = [facts.table(entry.table) for entry in self.settings.tables]
        # Earlier steps of the same plan take the numbers before.
        earlier = [step for step in facts.before(number) if isinstance(step, EmptyTables)]
        taken = sum(len(step.tables) for step in earlier if _is_archived(step, _chosen(facts.database, step)))
        first = facts.next_archive + taken
        archiving = range(first, first + len(tables))
        # The step before has dropped the indexes: their bytes are not freed twice.
        indexed = sum(index.bytes for table in tables for index in table.indexes if index.method == "hnsw")
        dropped = indexed if any(isinstance(step, DropIndexes) for step in facts.playbook.steps) else 0
        reached = {key.table for table in tables for key in table.referenced_by}
        return PlannedStep(
            number,
            self.settings.step,
            f"empty {len(tables)} table{'s' if len(tables) != 1 else ''}",
            self.settings,
            statements=emptying(facts.database, self.settings, numbers=archiving).statements,
            rows=sum(table.rows for table in tables),
            bytes=sum(table.bytes for table in tables) - dropped,
            tables=tuple(dict.fromkeys([table.qualified for table in tables] + sorted(reached))),
            notes=(
                "the rows are copied into the schema ragops first (`ragops undo` restores them)"
                if self.settings.archive
                else "no archive: `ragops undo` cannot restore these rows",
            ),
        )

    def run(self, run: Run) -> EmptyResult:
        """Empty the tables. Raises PlanStale when they are not those of the plan, or hold more rows."""
        session = run.session
        tables = _chosen(session.facts(exact=True), self.settings)

        def act() -> tuple[Emptying, EmptyResult]:
            with run.transaction(lock_timeout_s=LOCK_TIMEOUT_S, is_long=True):
                session.connection.execute(lock_sql(tables))
                # Counted under the lock: nothing that the plan did not show is wiped.
                now = session.facts(exact=True)
                run.check_unchanged(now)
                archived = _is_archived(self.settings, _chosen(now, self.settings))
                numbers = take_numbers(session.connection, len(tables)) if archived else ()
                composed = emptying(now, self.settings, numbers=numbers)
                result = EmptyResult(
                    tuple(EmptiedTable(t.qualified, t.rows, t.bytes) for t in _chosen(now, self.settings)),
                    _empty(run, composed),
                    tuple(map(text_of, composed.statements)),
                )
                run.record(result)
            return composed, result

        composed, result = with_lock_retries(session.connection, act, tables=tables, reporter=session.reporter)
        return _give_space_back(run, composed, result)


def _is_archived(settings: EmptyTables, tables: Sequence[TableFacts]) -> bool:
    """Whether the tables are archived: all or none, since what was emptied together is restored together."""
    return settings.archive and any(table.rows for table in tables)


def emptying(facts: DatabaseFacts, settings: EmptyTables, *, numbers: Sequence[int]) -> Emptying:
    """Compose: archive all, truncate together, delete in the step's order, vacuum what was deleted from.

    `numbers` are those of the archives, one a table.
    """
    chosen = [(entry, table) for entry in settings.tables if (table := facts.tables.get(entry.table)) is not None]
    is_archived = _is_archived(settings, [table for _, table in chosen])
    numbered = zip(numbers, chosen, strict=True) if is_archived else ()
    archives = tuple(Archiving(number, entry.table, table) for number, (entry, table) in numbered)
    truncated = [table for entry, table in chosen if entry.method == "truncate"]
    deleted = tuple(table for entry, table in chosen if entry.method == "delete")
    return Emptying(
        archives,
        (*([truncate_sql(truncated)] if truncated else []), *map(delete_sql, deleted)),
        deleted,
    )


def _chosen(facts: DatabaseFacts, settings: EmptyTables) -> list[TableFacts]:
    return [table for entry in settings.tables if (table := facts.tables.get(entry.table)) is not None]


def _empty(run: Run, composed: Emptying) -> int:
    """Archive and remove the rows, in the caller's transaction; returns the number of archived rows."""
    session, archived = run.session, 0
    for archiving in composed.archives:
        table = archiving.table
        session.reporter.info(f"archiving {table.rows:,} rows of {table.qualified}")
        archived += archive_rows(session.connection, archiving, campaign=run.campaign)
    for removal in composed.removals:
        session.connection.execute(removal)
    return archived


def _give_space_back(run: Run, composed: Emptying, result: EmptyResult) -> EmptyResult:
    """VACUUM returns the pages of deleted rows to the system; then record how much was freed."""
    session = run.session
    for table in composed.vacuums:
        if not execute_within_timeout(session.connection, vacuum_sql(table)):
            session.reporter.info(f"VACUUM of {table.qualified} timed out; autovacuum gives the space back later")
    tables = {table.qualified: table for table in session.tables().values()}
    result = replace(
        result,
        tables=tuple(
            replace(entry, bytes_after=table_bytes(session.connection, tables[entry.table]))
            for entry in result.tables
        ),
    )
    run.record(result)
    return result


def _remedy(method: str, other: str | None, on_delete: str) -> str | None:
    """What must change so that one table can be emptied although another references it."""
    if method == "truncate":
        return None if other == "truncate" else "empty_tables must truncate both, or delete from both"
    if other is None:
        return "empty_tables must list it too"
    return LIST_BEFORE if other == "delete" and on_delete in ("NO ACTION", "RESTRICT") else None
