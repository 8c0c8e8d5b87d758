"""Count rows with a time budget: `ragops status` must not wait for a full scan.

What cannot be counted in time is estimated from the planner's statistics, and marked as an estimate.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psycopg

from ragops.facts import TableFacts
from ragops.playbook.tables import Tables
from ragops.postgres.connection import Connection, fetch_row, transaction
from ragops.postgres.queue import ItemStatus
from ragops.postgres.statements import Statement, identifiers_of, statement

# Raised by statement_timeout and by lock_timeout: the count is not worth waiting for, and nothing failed.
OUT_OF_TIME = (psycopg.errors.QueryCanceled, psycopg.errors.LockNotAvailable)


@dataclass(frozen=True, slots=True)
class QueueCounts:
    """Items by status. None: neither counted nor ever analyzed."""

    items: Mapping[str, int | None]
    is_estimated: bool
    """At least one of the counts is an estimate."""

    def to_json(self) -> dict[str, object]:
        return dict(self.items)


@dataclass(frozen=True, slots=True)
class ParsedFilesCounts:
    """Rows of the table of parsed files, and distinct files. None: neither counted nor ever analyzed."""

    total: int | None
    unique_files: int | None
    is_estimated: bool

    def to_json(self) -> dict[str, object]:
        return {"total": self.total, "unique_files": self.unique_files, "estimated": self.is_estimated}


@dataclass(frozen=True, slots=True)
class DocumentCounts:
    """Documents, and those with a vector. None: neither counted nor ever analyzed."""

    total: int | None
    with_embedding: int | None
    bytes: int
    is_estimated: bool

    def to_json(self) -> dict[str, object]:
        return {
            "total": self.total,
            "with_embedding": self.with_embedding,
            "bytes": self.bytes,
            "estimated": self.is_estimated,
        }


class Counter:
    """Runs counting statements that share `budget_s` seconds; None lets each take as long as it takes.

    The limits are local to a transaction, so that they work behind a transaction pooler.
    """

    def __init__(self, connection: Connection, *, budget_s: float | None) -> None:
        self._connection = connection
        self._until = None if budget_s is None else time.monotonic() + budget_s
        # The fewest rows, as estimated, of a table that was not counted in time.
        self._too_many: int | None = None

    def count(
        self, query: Statement, *, share: float, table: TableFacts | None = None
    ) -> tuple[tuple[Any, ...], ...] | None:
        """Return the statement's rows; None if it takes longer than `share` of the time that is left.

        `table` is the table that the statement scans: after one that took too long, no larger one is tried.
        """
        if self._until is None:
            # The role may have a limit, and --exact means to wait.
            return self._run(query, {"statement_timeout": "0", "idle_in_transaction_session_timeout": "0"})
        timeout_ms = int((self._until - time.monotonic()) * 1000 * share)
        # To the server a timeout of 0 means no limit.
        if timeout_ms <= 0:
            return None
        if table and self._too_many is not None:
            rows = estimated_rows(self._connection, table)
            if rows is not None and rows >= self._too_many:
                return None
        try:
            return self._run(query, {"statement_timeout": f"{timeout_ms}ms"})
        except OUT_OF_TIME:
            # The time may run out at COMMIT, which leaves an aborted transaction open.
            self._connection.rollback()
            rows = estimated_rows(self._connection, table) if table else None
            if rows is not None:
                self._too_many = rows if self._too_many is None else min(rows, self._too_many)
            return None

    def _run(self, query: Statement, limits: Mapping[str, str]) -> tuple[tuple[Any, ...], ...]:
        # JIT compilation of a count takes longer than it saves, and comes out of the budget.
        settings = {"transaction_read_only": "on", "jit": "off", **limits}
        with transaction(self._connection, settings=settings):
            return tuple(self._connection.execute(query).fetchall())


class Progress:
    """Counts of the mapped tables of one database.

    The order of the calls matters: a table is counted in a share of the time that earlier ones left.
    """

    def __init__(self, connection: Connection, tables: Tables, *, counter: Counter) -> None:
        self._connection = connection
        self._tables = tables
        self._counter = counter
        self._identifiers = identifiers_of(tables)

    def queue(self, table: TableFacts) -> QueueCounts:
        """Return the items by status, every status included."""
        none: dict[str, int | None] = {status.value: 0 for status in ItemStatus}
        # The larger part of the time, because this is what operators look at while a campaign runs.
        query = statement("queue", "counts", self._identifiers)
        counted = self._counter.count(query, share=2 / 3, table=table)
        if counted is not None:
            return QueueCounts({**none, **dict(counted)}, is_estimated=False)
        rows = estimated_rows(self._connection, table)
        if rows == 0:
            return QueueCounts(none, is_estimated=True)
        shares = common_values(self._connection, table, self._tables.files_queue.columns.status)
        items = _shared_out(rows, shares)
        # Counting open items is quick where an index holds these alone.
        for status in (ItemStatus.PROCESSING, ItemStatus.PENDING):
            counted = self._counter.count(self._sql(status.value), share=1 / 3)
            if counted is not None:
                items[status.value] = int(counted[0][0])
        if rows is not None and shares:
            # Open items become completed ones, so the difference to outdated statistics belongs there.
            others = sum(count or 0 for status, count in items.items() if status != ItemStatus.COMPLETED)
            items[ItemStatus.COMPLETED.value] = max(0, rows - others)
        return QueueCounts(items, is_estimated=True)

    def unread_queue(self, table: TableFacts | None) -> QueueCounts:
        """Return the items of a queue that cannot be read now, from the planner's statistics."""
        if table is None:
            return QueueCounts(_shared_out(None, {}), is_estimated=True)
        shares = common_values(self._connection, table, self._tables.files_queue.columns.status)
        return QueueCounts(_shared_out(table.rows or None, shares), is_estimated=True)

    def parsed_files(self, table: TableFacts | None) -> ParsedFilesCounts:
        """Return rows and distinct files; zeros if the playbook does not map the table."""
        if table is None:
            return ParsedFilesCounts(0, 0, is_estimated=False)
        counted = self._counter.count(self._sql("parsed_files"), share=1 / 2, table=table)
        if counted is not None:
            total, unique = counted[0]
            return ParsedFilesCounts(total, unique, is_estimated=False)
        rows = estimated_rows(self._connection, table)
        column = self._tables.columns_of("parsed_files")["file_id"]
        statistics = column_statistics(self._connection, table, column)
        unique = None if rows is None else statistics.values(rows)
        return ParsedFilesCounts(rows, unique, is_estimated=True)

    def documents(self, table: TableFacts) -> DocumentCounts:
        """Return rows, rows with a vector, and the size of the documents table."""
        counted = self._counter.count(self._sql("documents"), share=1, table=table)
        if counted is not None:
            total, embedded = counted[0]
            return DocumentCounts(total, embedded, table.bytes, is_estimated=False)
        rows = estimated_rows(self._connection, table)
        statistics = column_statistics(self._connection, table, self._tables.columns_of("documents")["embedding"])
        embedded = None if rows is None else statistics.filled(rows)
        return DocumentCounts(rows, embedded, table.bytes, is_estimated=True)

    def _sql(self, name: str) -> Statement:
        return statement("progress", name, self._identifiers)


def writing_fingerprints(connection: Connection, tables: Tables, table: TableFacts | None) -> set[str]:
    """Return the fingerprints of the workers that wrote the batches on record; empty if they are not recorded."""
    if table is None or "fingerprint" not in tables.columns_of("ingestion_metrics"):
        return set()
    query = statement("progress", "writing_fingerprints", identifiers_of(tables))
    return {str(row[0]) for row in connection.execute(query).fetchall()}


def _shared_out(rows: int | None, shares: Mapping[str, float]) -> dict[str, int | None]:
    """Return the items by status, from the shares of the statistics; None where there are none."""
    if rows is None or not shares:
        return {status.value: None for status in ItemStatus}
    none: dict[str, int | None] = {status.value: 0 for status in ItemStatus}
    return {**none, **{status: round(rows * share) for status, share in shares.items()}}


@dataclass(frozen=True, slots=True)
class ColumnStatistics:
    """The planner's statistics of one column. Shares are of the rows, 0 to 1; None: never analyzed."""

    is_not_null: bool
    null_share: float | None
    distinct: float | None
    """As `pg_stats.n_distinct`: a number of values, or if below 0, minus their share of the rows."""

    def filled(self, rows: int) -> int | None:
        """Return how many of `rows` rows have a value."""
        if self.is_not_null:
            return rows
        return None if self.null_share is None else round(rows * (1 - self.null_share))

    def values(self, rows: int) -> int | None:
        """Return the number of distinct values in `rows` rows."""
        if self.distinct is None:
            return None
        return round(-self.distinct * rows if self.distinct < 0 else self.distinct)


def estimated_rows(connection: Connection, table: TableFacts) -> int | None:
    """Estimate the row count as the planner does; None if the table was never analyzed since it has rows."""
    try:
        # It reads the size of the table, which takes a lock.
        with transaction(connection, lock_timeout_s=0.2):
            values = {"oid": table.oid}
            rows: int | None = fetch_row(connection, statement("progress", "estimated_rows"), values)[0]
    except psycopg.errors.LockNotAvailable:
        return None
    return rows


def column_statistics(connection: Connection, table: TableFacts, column: str) -> ColumnStatistics:
    """Return the statistics of one column, which must exist."""
    values = {"oid": table.oid, "column": column}
    return ColumnStatistics(*fetch_row(connection, statement("progress", "column_statistics"), values))


def common_values(connection: Connection, table: TableFacts, column: str) -> dict[str, float]:
    """Return the share of the rows by value, for a column of few values; empty if it was never analyzed."""
    values = {"oid": table.oid, "column": column}
    return dict(connection.execute(statement("progress", "common_values"), values).fetchall())
