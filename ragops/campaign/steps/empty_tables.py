"""empty_tables: archive, truncate and delete in one transaction, then give the space back.

Readers go on while the rows are counted and copied; only the truncation shuts them out, for a moment.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ragops.campaign.privileges import QUEUE, privilege_problems
from ragops.campaign.steps.base import NOTHING_DONE, PlanFacts, PlannedStep, Run
from ragops.campaign.steps.emptying import (
    archive_bytes,
    foreign_key_problems,
    notes_of,
    source_problems,
    space_problems,
    truncates_first,
)
from ragops.errors import RagopsError
from ragops.facts import DatabaseFacts, TableFacts, quoted
from ragops.findings import PlanProblem
from ragops.playbook.steps import DropIndexes, EmptyTables
from ragops.postgres.archive import Archiving, archive_rows, take_numbers
from ragops.postgres.catalog import table_bytes
from ragops.postgres.connection import execute_within_timeout
from ragops.postgres.ddl import delete_sql, truncate_sql, vacuum_sql
from ragops.postgres.filling import adopt_filling, end_filling
from ragops.postgres.journal import journaled_indexes
from ragops.postgres.locks import LOCK_TIMEOUT_S, close_to_readers, lock_tables, with_lock_retries
from ragops.postgres.statements import Statement, text_of


@dataclass(frozen=True, slots=True)
class Emptying:
    """The statements that empty some tables, in order; VACUUM cannot run in the others' transaction."""

    archives: tuple[Archiving, ...]
    truncated: tuple[TableFacts, ...]
    deleted: tuple[TableFacts, ...]

    @property
    def truncation(self) -> tuple[Statement, ...]:
        return (truncate_sql(self.truncated),) if self.truncated else ()

    @property
    def removals(self) -> tuple[Statement, ...]:
        deletions = tuple(map(delete_sql, self.deleted))
        if truncates_first(self.truncated, self.deleted):
            return (*self.truncation, *deletions)
        return (*deletions, *self.truncation)

    @property
    def statements(self) -> tuple[Statement, ...]:
        archives = (archiving.statement for archiving in self.archives)
        return (*archives, *self.removals, *map(vacuum_sql, self.deleted))


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
        yield from source_problems(facts, self.settings)
        yield from foreign_key_problems(facts.database, self.settings)
        yield from space_problems(facts, self.settings)
        server = facts.database.server
        if self.settings.archive and not server.may_archive:
            yield PlanProblem(
                f"role {server.role} lacks CREATE on schema ragops, where rows are archived (or --no-archive)",
                f"GRANT USAGE, CREATE ON SCHEMA ragops TO {quoted(server.role)}",
            )
        for entry in self.settings.tables:
            yield from privilege_problems(facts.database, entry.table, entry.method.upper())

    def plan(self, facts: PlanFacts, number: int) -> PlannedStep:
        tables = [facts.table(entry.table) for entry in self.settings.tables]
        # Earlier steps of the same plan take the numbers before.
        earlier = [step for step in facts.before(number) if isinstance(step, EmptyTables)]
        taken = sum(len(step.tables) for step in earlier if step.archive)
        first = facts.next_archive + taken
        archiving = range(first, first + len(tables))
        # The step before has dropped the indexes: their bytes are not freed twice.
        indexed = sum(index.bytes for table in tables for index in table.indexes)
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
            notes=tuple(notes_of(facts, self.settings, number)),
            writes_bytes=archive_bytes(facts, self.settings),
        )

    def run(self, run: Run) -> EmptyResult:
        """Empty the tables. Raises PlanStale when they are not those of the plan, or hold more rows."""
        session = run.session
        tables = _chosen(session.facts(exact=True), self.settings)

        def act() -> tuple[Emptying, EmptyResult]:
            with run.transaction(lock_timeout_s=LOCK_TIMEOUT_S, is_long=True):
                # Readers go on, writers wait. It conflicts with itself, so that two of these never wait for each
                # other when they shut the readers out.
                lock_tables(session.connection, tables, "SHARE ROW EXCLUSIVE")
                # Counted under the lock: nothing that the plan did not show is wiped.
                now = session.facts(exact=True)
                names = [entry.table for entry in self.settings.tables]
                run.check_unchanged(now, names, done=_what_was_done(run))
                adopt_filling(session.connection, session.playbook.tables)
                numbers = take_numbers(session.connection, len(tables)) if self.settings.archive else ()
                composed = emptying(now, self.settings, numbers=numbers)
                emptied = _chosen(now, self.settings)
                result = EmptyResult(
                    tuple(EmptiedTable(t.qualified, t.rows, t.bytes) for t in emptied),
                    _empty(run, composed),
                    tuple(map(text_of, composed.statements)),
                )
                # After the archive, which keeps what is known of the filling.
                queue = now.tables.get(QUEUE)
                if queue is not None and queue in emptied:
                    end_filling(session.connection, queue)
                run.record(result)
            return composed, result

        composed, result = with_lock_retries(session.connection, act, tables=tables, reporter=session.reporter)
        return _give_space_back(run, composed, result)


def emptying(facts: DatabaseFacts, settings: EmptyTables, *, numbers: Sequence[int]) -> Emptying:
    """Compose: archive all, truncate together, delete in the step's order, vacuum what was deleted from.

    `numbers` are those of the archives, one a table. A table without rows is archived, too: `undo` leaves it as
    empty as it was.
    """
    chosen = [(entry, table) for entry in settings.tables if (table := facts.tables.get(entry.table)) is not None]
    numbered = zip(numbers, chosen, strict=True) if settings.archive else ()
    archives = tuple(Archiving(number, entry.table, table) for number, (entry, table) in numbered)
    return Emptying(
        archives,
        tuple(table for entry, table in chosen if entry.method == "truncate"),
        tuple(table for entry, table in chosen if entry.method == "delete"),
    )


def _chosen(facts: DatabaseFacts, settings: EmptyTables) -> list[TableFacts]:
    return [table for entry in settings.tables if (table := facts.tables.get(entry.table)) is not None]


def _empty(run: Run, composed: Emptying) -> int:
    """Archive and remove the rows, in the caller's transaction; returns the number of archived rows."""
    session, archived = run.session, 0
    for archiving in composed.archives:
        table = archiving.table
        session.reporter.info(f"archiving {table.rows:,} rows of {table.qualified}")
        copied = archive_rows(
            session.connection,
            archiving,
            campaign=run.campaign,
            generation=composed.archives[0].number,
        )
        if copied != table.rows:
            # The lock rules it out; were it possible, the rows that are missing would have no copy.
            raise RagopsError(
                f"the archive of {table.qualified} is not what was counted; nothing was emptied",
                actual=f"{copied:,} rows copied",
                expected=f"{table.rows:,} rows",
                hint="check whether row-level security or a rule changes what this role reads",
            )
        archived += copied
    for removal in composed.removals:
        if removal in composed.truncation:
            close_to_readers(session.connection, composed.truncated, reporter=session.reporter)
        session.connection.execute(removal)
    return archived


def _what_was_done(run: Run) -> str:
    """Say what the campaign did before this step, for an operator who must decide how to go on."""
    if run.campaign is None:
        return NOTHING_DONE
    dropped = [index for index in journaled_indexes(run.session.connection) if index.campaign == run.campaign]
    if not dropped:
        return NOTHING_DONE
    names = ", ".join(index.name for index in dropped)
    return f"no row was removed, but these indexes are dropped: {names} (`ragops undo` builds them again)"


def _give_space_back(run: Run, composed: Emptying, result: EmptyResult) -> EmptyResult:
    """VACUUM returns the pages of deleted rows to the system; then record how much was freed."""
    session = run.session
    for table in composed.deleted:
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
