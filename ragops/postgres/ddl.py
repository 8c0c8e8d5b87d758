"""Changes of structure: indexes dropped, built and restored; tables archived, emptied and refilled.

Every function acts inside the transaction of its caller unless it says otherwise, so that effect and
ledger commit together. Locks are asked for briefly and again, never queued for: a DDL statement that
waits behind one idle reader makes every later query wait behind it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import psycopg
from psycopg import sql

from ragops.actions import (
    Action,
    AnalyzeTable,
    ArchiveTable,
    CreateIndex,
    DeleteRows,
    DropIndex,
    RestoreIndex,
    SetParameter,
    TruncateTables,
    VacuumTable,
)
from ragops.errors import RagopsError
from ragops.facts import IndexFacts, TableFacts
from ragops.playbook.model import Index
from ragops.postgres.connection import Connection, set_parameter_sql
from ragops.postgres.statements import statement
from ragops.retry import Backoff

LOCK_TIMEOUT_S = 2.0
OPERATOR_CLASSES = {"cosine": "vector_cosine_ops", "l2": "vector_l2_ops", "ip": "vector_ip_ops"}

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Blocker:
    """A session that holds a lock on a table."""

    pid: int
    application: str
    state: str
    transaction_s: int
    query: str

    def __str__(self) -> str:
        name = f" ({self.application})" if self.application else ""
        return f"pid {self.pid}{name}, {self.state}, in a transaction for {self.transaction_s} s: {self.query}"


def with_lock_retries(
    connection: Connection,
    act: Callable[[], Result],
    *,
    tables: Sequence[TableFacts],
    backoff: Backoff = Backoff(first_s=0.5, longest_s=5.0, total_s=60.0),  # noqa: B008 (a frozen value)
    info: Callable[[str], None] = lambda _: None,
    sleep: Callable[[float], None] = time.sleep,
) -> Result:
    """Run `act` (a whole transaction with a lock timeout) until it gets its locks.

    Raises RagopsError that lists the blocking sessions when the backoff is used up.
    """
    delays = backoff.delays()
    while True:
        try:
            return act()
        except psycopg.errors.LockNotAvailable as error:
            blockers = find_blockers(connection, tables)
            delay = next(delays, None)
            listed = "\n".join(map(str, blockers)) or "no session holds a lock any more"
            if delay is None:
                raise RagopsError(
                    "a lock could not be had; nothing was changed",
                    where=", ".join(table.qualified for table in tables),
                    actual=listed,
                    expected="an exclusive lock for a moment",
                    hint="end those transactions (SELECT pg_terminate_backend(PID)), then run the command again",
                ) from error
            info(f"waiting for a lock on {', '.join(t.qualified for t in tables)}: {listed}")
            sleep(delay)


def find_blockers(connection: Connection, tables: Iterable[TableFacts]) -> list[Blocker]:
    """Sessions other than this one that hold a lock on one of the tables."""
    oids = [table.oid for table in tables]
    return [Blocker(*row) for row in connection.execute(statement("catalog", "blockers"), {"oids": oids})]


def sql_of(action: Action) -> sql.SQL | sql.Composed:
    """The statement of an action: what a plan prints and a step executes."""
    match action:
        case DropIndex(index):
            return sql.SQL("DROP INDEX {}").format(sql.Identifier(index.schema, index.name))
        case ArchiveTable(logical, table):
            return archive_sql(f"archive_…_{logical}", table)
        case TruncateTables(tables):
            # Named together, tables that reference each other need no CASCADE.
            return sql.SQL("TRUNCATE TABLE {}").format(sql.SQL(", ").join(map(table_identifier, tables)))
        case DeleteRows(table):
            return sql.SQL("DELETE FROM {}").format(table_identifier(table))
        case VacuumTable(table):
            return sql.SQL("VACUUM {}").format(table_identifier(table))
        case AnalyzeTable(table):
            return sql.SQL("ANALYZE {}").format(table_identifier(table))
        case SetParameter(name, value, is_local):
            return set_parameter_sql(name, value, is_local=is_local)
        case RestoreIndex(_, _, definition, concurrently):
            return sql.SQL(make_concurrent(definition) if concurrently else definition)
        case CreateIndex(index, table, column, concurrently):
            return _create_index_sql(index, table, column, concurrently)


def sql_text(action: Action) -> str:
    """The statement of an action for people to read."""
    return sql_of(action).as_string(None)


def table_identifier(table: TableFacts) -> sql.Identifier:
    return sql.Identifier(table.schema, table.name)


def _create_index_sql(index: Index, table: TableFacts, column: str, concurrently: bool) -> sql.Composed:
    return sql.SQL("CREATE INDEX {how}{name} ON {table} USING hnsw ({column} {ops}) WITH ({options})").format(
        how=sql.SQL("CONCURRENTLY " if concurrently else ""),
        name=sql.Identifier(index.name),
        table=table_identifier(table),
        column=sql.Identifier(column),
        ops=sql.Identifier(OPERATOR_CLASSES[index.metric]),
        options=sql.SQL("m = {m}, ef_construction = {ef}").format(
            m=sql.Literal(index.m), ef=sql.Literal(index.ef_construction)
        ),
    )


def make_concurrent(definition: str) -> str:
    """A definition as `pg_get_indexdef` prints it, with CONCURRENTLY."""
    return definition.replace("CREATE INDEX ", "CREATE INDEX CONCURRENTLY ", 1)


def journal_and_drop(connection: Connection, index: IndexFacts, *, campaign: int | None) -> None:
    """Write the definition into the journal, then drop the index, in the caller's transaction."""
    row = {
        "campaign": campaign,
        "schema": index.schema,
        "name": index.name,
        "table": index.table,
        "definition": index.definition,
        "bytes": index.bytes,
    }
    connection.execute(statement("ledger", "journal_index"), row)
    connection.execute(sql_of(DropIndex(index)))


def archive_sql(name: str, table: TableFacts) -> sql.Composed:
    return sql.SQL("CREATE TABLE {} AS TABLE {}").format(sql.Identifier("ragops", name), table_identifier(table))


def archive_rows(connection: Connection, table: TableFacts, *, logical: str, campaign: int | None) -> int:
    """Copy all rows into a new table of the schema `ragops`, in the caller's transaction; returns their count."""
    row = connection.execute(statement("ledger", "next_archive")).fetchone()
    assert row is not None
    archive = f"archive_{row[0]}_{logical}"
    result = connection.execute(archive_sql(archive, table))
    record = {
        "id": row[0],
        "campaign": campaign,
        "logical": logical,
        "schema": table.schema,
        "table": table.name,
        "archive_table": archive,
        "rows": result.rowcount,
    }
    connection.execute(statement("ledger", "record_archive"), record)
    return result.rowcount


def restore_rows(connection: Connection, table: TableFacts, *, archive_table: str) -> int:
    """Insert the archived rows into `table` (generated columns excepted); returns their count."""
    columns = [sql.Identifier(c.name) for c in table.columns.values() if not c.is_generated]
    listed = sql.SQL(", ").join(columns)
    query = sql.SQL("INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {}").format(
        table_identifier(table), listed, listed, sql.Identifier("ragops", archive_table)
    )
    return connection.execute(query).rowcount


def lock_tables(connection: Connection, tables: Sequence[TableFacts]) -> None:
    """ACCESS EXCLUSIVE on all tables at once, so that the archive and the emptying see the same rows."""
    listed = sql.SQL(", ").join(map(table_identifier, tables))
    connection.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(listed))


def vacuum(connection: Connection, action: VacuumTable) -> bool:
    """VACUUM one table; False when the role's `statement_timeout` ended it (it cannot be lifted here)."""
    try:
        connection.execute(sql_of(action))
    except psycopg.errors.QueryCanceled:
        return False
    return True


def drop_archives(connection: Connection) -> int:
    """Drop every archive of this database and forget it, in one transaction; returns their number."""
    with connection.transaction():
        dropped = 0
        for (name,) in connection.execute("SELECT archive_table FROM ragops.archive").fetchall():
            connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier("ragops", name)))
            dropped += 1
        connection.execute("DELETE FROM ragops.archive")
    return dropped
