"""Archived rows: copied into the schema `ragops` before a table is emptied, and copied back by undo.

Every function acts inside the transaction of its caller unless it says otherwise, so that rows, archive
and ledger commit together.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg import sql

from ragops.facts import TableFacts
from ragops.postgres.catalog import has_ragops_schema
from ragops.postgres.collisions import retry_collisions
from ragops.postgres.connection import Connection, fetch_row, set_parameter_sql
from ragops.postgres.ddl import archive_sql
from ragops.postgres.encodings import jsonb
from ragops.postgres.file_states import prune_states
from ragops.postgres.measured import prune_measured
from ragops.postgres.privacy import close_archive
from ragops.postgres.statements import Statement, statement

QUEUE = "files_queue"


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
    def is_queue(self) -> bool:
        return self.logical == QUEUE

    @property
    def statement(self) -> Statement:
        return archive_sql(self.name, self.table)


@dataclass(frozen=True, slots=True)
class Archive:
    """The rows of one emptied table, as the ledger knows them."""

    number: int
    campaign: int | None
    """None for `ragops tables empty`, and for rows that an undo removed."""
    logical: str
    schema: str
    table: str
    name: str
    """The archive's own name, in the schema `ragops`."""
    rows: int
    generation: int
    """The number of the first archive that was made in the same emptying."""
    table_oid: int | None
    """None for an archive of a version that did not keep it, or of a database that was restored from a dump."""
    queue_source: Mapping[str, Any] | None
    """For an archived queue `source`, what it was filled from, and what else was known of its filling."""
    undo: int | None
    """The undo that removed these rows."""
    is_restored: bool

    @property
    def is_queue(self) -> bool:
        return self.logical == QUEUE

    @property
    def qualified(self) -> str:
        return f"{self.schema}.{self.table}"


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
    schema: str
    generation: int
    undo: int | None


@dataclass(frozen=True, slots=True)
class UndoRow:
    """An undo, as the ledger has it."""

    id: int
    campaign: int | None
    generation: int | None
    rows: Mapping[str, int]
    """Restored rows by table."""
    removed: int | None
    """The generation of the rows that it removed; None if there were none."""
    is_finished: bool


def newest_undo(connection: Connection, campaigns: Collection[int]) -> UndoRow | None:
    """Return the undo that began last, of these campaigns or of `tables empty`; None without any, or a ledger."""
    if not has_ragops_schema(connection):
        return None
    row = connection.execute(statement("ledger", "newest_undo"), {"campaigns": list(campaigns)}).fetchone()
    return UndoRow(*row) if row else None


def begin_undo(
    connection: Connection, *, campaign: int | None, generation: int | None, rows: Mapping[str, int]
) -> int:
    """Record an undo, in the transaction that brings its rows back; return its id."""
    values = {"campaign": campaign, "generation": generation, "rows": jsonb(connection, rows)}
    return int(fetch_row(connection, statement("ledger", "insert_undo"), values)[0])


def record_restored(connection: Connection, undo: int, *, rows: Mapping[str, int], removed: int | None) -> None:
    """Record what an undo brought back and what it removed."""
    values = {"undo": undo, "rows": jsonb(connection, rows), "removed": removed}
    connection.execute(statement("ledger", "undo_restored"), values)


def finish_undo(connection: Connection, undo: int) -> None:
    """Record that an undo has nothing left to do."""
    connection.execute(statement("ledger", "finish_undo"), {"undo": undo})


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


def archive_rows(
    connection: Connection,
    archiving: Archiving,
    *,
    campaign: int | None,
    generation: int,
    undo: int | None = None,
) -> int:
    """Copy all rows of a table and record the copy, that of the queue with its filling; return their count.

    Raises psycopg's InsufficientPrivilege where row-level security would hide rows from the copy.
    """
    # With `row_security = off` the server refuses what policies would filter, instead of leaving rows out.
    connection.execute(set_parameter_sql("row_security", "off"))
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
        "generation": generation,
        "oid": archiving.table.oid,
        "is_queue": archiving.is_queue,
        "undo": undo,
    }
    connection.execute(statement("ledger", "record_archive"), record)
    return rows


def read_archives(connection: Connection) -> list[Archive]:
    """Return every archive, the oldest first; none without a ledger."""
    if not has_ragops_schema(connection):
        return []
    return [Archive(*row) for row in connection.execute(statement("ledger", "archives")).fetchall()]


def all_archives(connection: Connection) -> list[ArchiveRow]:
    """Return every archive with its size in bytes, the oldest first."""
    return [ArchiveRow(*row) for row in connection.execute(statement("ledger", "all_archives")).fetchall()]


def mark_archives_restored(connection: Connection, archives: Sequence[Archive]) -> None:
    """Record that the rows of these archives are back in their tables."""
    connection.execute(statement("ledger", "archives_restored"), {"ids": [archive.number for archive in archives]})


def drop_archives(connection: Connection, *, campaigns: Sequence[int] | None = None) -> int:
    """Drop the archives of some campaigns (None: all) and forget them; return their number.

    Acts in a transaction of its own.
    """
    values = {"campaigns": None if campaigns is None else list(campaigns)}

    def act() -> int:
        with connection.transaction():
            forgotten = connection.execute(statement("ledger", "forget_archives"), values).fetchall()
            for (name,) in forgotten:
                connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier("ragops", name)))
            prune_measured(connection)
            prune_states(connection)
        return len(forgotten)

    return retry_collisions(act)
