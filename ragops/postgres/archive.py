"""Archived rows: copied into the schema `ragops` before a table is emptied, and copied back by undo.

Every function acts inside the transaction of its caller unless it says otherwise, so that rows, archive
and ledger commit together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from psycopg import sql

from ragops.facts import TableFacts
from ragops.postgres.catalog import has_ragops_schema
from ragops.postgres.connection import Connection
from ragops.postgres.ddl import archive_sql, restore_rows_sql
from ragops.postgres.privacy import close_archive
from ragops.postgres.statements import Statement, statement


@dataclass(frozen=True, slots=True)
class Archiving:
    """One table's copy, composed and numbered but not made yet."""

    number: int
    logical: str
    table: TableFacts

    @property
    def name(self) -> str:
        """The archive's name in the schema `ragops`."""
        return f"archive_{self.number}_{self.logical}"

    @property
    def statement(self) -> Statement:
        return archive_sql(self.name, self.table)


@dataclass(frozen=True, slots=True)
class ArchivedTable:
    """The rows of one emptied table, as the ledger knows them."""

    campaign: int | None
    logical: str
    schema: str
    table: str
    archive_table: str
    rows: int


@dataclass(frozen=True, slots=True)
class ArchiveRow:
    """One archive with its size, for people."""

    id: int
    campaign: int | None
    table: str
    rows: int
    bytes: int
    created_at: datetime
    restored_at: datetime | None


def expected_number(connection: Connection) -> int:
    """Return the number that the next archive gets, without taking it; 1 where the ledger is not readable yet."""
    if not has_ragops_schema(connection):
        return 1
    row = connection.execute(statement("ledger", "expected_archive")).fetchone()
    return int(row[0]) if row and row[0] else 1


def take_numbers(connection: Connection, count: int) -> list[int]:
    """Take numbers for `count` archives. A transaction that rolls back leaves a gap."""
    rows = connection.execute(statement("ledger", "next_archives"), {"count": count}).fetchall()
    return [int(row[0]) for row in rows]


def archive_rows(connection: Connection, archiving: Archiving, *, campaign: int | None) -> int:
    """Copy all rows of a table and record the copy; returns their count."""
    rows = connection.execute(archiving.statement).rowcount
    close_archive(connection, archiving.name, of=archiving.table)
    record = {
        "id": archiving.number,
        "campaign": campaign,
        "logical": archiving.logical,
        "schema": archiving.table.schema,
        "table": archiving.table.name,
        "archive_table": archiving.name,
        "rows": rows,
    }
    connection.execute(statement("ledger", "record_archive"), record)
    return rows


def restore_rows(connection: Connection, table: TableFacts, *, archive_table: str) -> int:
    """Insert the archived rows into `table`; returns their count."""
    return connection.execute(restore_rows_sql(table, archive_table)).rowcount


def newest_archives(connection: Connection) -> list[ArchivedTable]:
    """Return the tables that were emptied together last and not restored yet."""
    return [ArchivedTable(*row) for row in connection.execute(statement("ledger", "newest_archives")).fetchall()]


def all_archives(connection: Connection) -> list[ArchiveRow]:
    """Return every archive with its size in bytes, the oldest first."""
    return [ArchiveRow(*row) for row in connection.execute(statement("ledger", "all_archives")).fetchall()]


def mark_archives_restored(connection: Connection, archives: Sequence[ArchivedTable]) -> None:
    names = [archive.archive_table for archive in archives]
    connection.execute(statement("ledger", "archives_restored"), {"names": names})


def drop_archives(connection: Connection) -> int:
    """Drop every archive of this database and forget it, in a transaction of its own; returns their number."""
    with connection.transaction():
        dropped = 0
        for (name,) in connection.execute(statement("ledger", "archive_tables")).fetchall():
            connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier("ragops", name)))
            dropped += 1
        connection.execute(statement("ledger", "forget_archives"))
    return dropped
