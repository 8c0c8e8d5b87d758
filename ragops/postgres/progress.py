"""The procedure's three progress queries: counted while that is quick, estimated beyond."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from ragops.facts import TableFacts
from ragops.playbook.tables import Tables
from ragops.postgres.connection import Connection, transaction
from ragops.postgres.queue import ItemStatus
from ragops.postgres.statements import identifiers_of, statement

Counts = dict[str, int | None]
"""Items by status; None: unknown, neither counted nor ever analysed."""
OUT_OF_TIME = (psycopg.errors.QueryCanceled, psycopg.errors.LockNotAvailable)


class Progress:
    """Looks at the mapped tables of one database.

    Ask for the queue first: what it leaves of the counter's time is the others'.
    """

    def __init__(self, connection: Connection, tables: Tables, *, counter: Counter) -> None:
        self._connection = connection
        self._tables = tables
        self._counter = counter
        self._identifiers = identifiers_of(tables)

    def queue(self, table: TableFacts) -> tuple[Counts, bool]:
        """Items by status, every status there; and whether any of them is an estimate."""
        nothing: Counts = {status.value: 0 for status in ItemStatus}
        query = statement("queue", "counts", self._identifiers)
        # The larger part of the time: this is what operators look at while a campaign runs.
        counted = self._counter.count(query, share=2 / 3, table=table)
        if counted is not None:
            return {**nothing, **dict(counted)}, False
        rows = estimated_rows(self._connection, table)
        if rows == 0:
            return nothing, True
        shares = common_values(self._connection, table, self._tables.files_queue.columns.status)
        found: Counts = dict.fromkeys(nothing)
        if rows is not None and shares:
            found = {**nothing, **{status: round(rows * share) for status, share in shares.items()}}
        found.update(self._open_items())
        if rows is not None and shares:
            # Completed items are what the open ones become, so they make up for statistics of yesterday.
            others = sum(count or 0 for status, count in found.items() if status != ItemStatus.COMPLETED)
            found[ItemStatus.COMPLETED.value] = max(0, rows - others)
        return found, True

    def _open_items(self) -> dict[str, int]:
        """Items that are processed or pending, where an index of these alone makes counting quick."""
        found = {}
        for status in (ItemStatus.PROCESSING.value, ItemStatus.PENDING.value):
            counted = self._counter.count(self._sql(status), share=1 / 3)
            if counted is not None:
                found[status] = int(counted[0][0])
        return found

    def parsed_files(self, table: TableFacts | None) -> dict[str, Any]:
        """Rows and distinct files; zeros where the playbook has no such table."""
        if table is None:
            return {"total": 0, "unique_files": 0, "estimated": False}
        counted = self._counter.count(self._sql("parsed_files"), share=1 / 2, table=table)
        if counted is not None:
            return {"total": counted[0][0], "unique_files": counted[0][1], "estimated": False}
        rows = estimated_rows(self._connection, table)
        column = self._tables.columns_of("parsed_files")["file_id"]
        statistics = column_statistics(self._connection, table, column)
        unique = None if rows is None else statistics.values(rows)
        return {"total": rows, "unique_files": unique, "estimated": True}

    def documents(self, table: TableFacts) -> dict[str, Any]:
        """Rows, rows with an embedding, bytes of the documents table."""
        counted = self._counter.count(self._sql("documents"), share=1, table=table)
        if counted is not None:
            total, filled = counted[0]
            return {"total": total, "with_embedding": filled, "bytes": table.bytes, "estimated": False}
        rows = estimated_rows(self._connection, table)
        statistics = column_statistics(self._connection, table, self._tables.documents.columns.embedding)
        embedded = None if rows is None else statistics.filled(rows)
        return {"total": rows, "with_embedding": embedded, "bytes": table.bytes, "estimated": True}

    def _sql(self, name: str) -> sql.Composed:
        return statement("progress", name, self._identifiers)


def writing_fingerprints(connection: Connection, tables: Tables, table: TableFacts | None) -> set[str]:
    """The fingerprints of the workers that wrote what is stored, as the metrics have them."""
    column = tables.columns_of("ingestion_metrics").get("fingerprint") if table is not None else None
    if table is None or column is None:
        return set()
    query = sql.SQL("SELECT DISTINCT {c} FROM {t} WHERE {c} IS NOT NULL").format(
        c=sql.Identifier(column), t=sql.Identifier(table.schema, table.name)
    )
    return {str(row[0]) for row in connection.execute(query).fetchall()}


class Counter:
    """Runs counting statements that share `budget_s` seconds; None: each takes as long as it takes.

    The limits are local to a transaction of their own, so they work behind a transaction pooler.
    """

    def __init__(
        self, connection: Connection, *, budget_s: float | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._connection = connection
        self._clock = clock
        self._until = None if budget_s is None else clock() + budget_s
        self._too_many: int | None = None
        """The fewest rows, as estimated, of a table that was not counted in time."""

    def count(
        self, query: sql.Composed, *, share: float, table: TableFacts | None = None
    ) -> tuple[tuple[Any, ...], ...] | None:
        """The statement's rows, or None when that takes longer than `share` of the time that is left.

        `table` is the table that it scans: after one that took too long, no larger one is tried.
        """
        if self._until is None:
            return self._run(query, {"statement_timeout": "0", "idle_in_transaction_session_timeout": "0"})
        timeout_ms = int((self._until - self._clock()) * 1000 * share)
        if timeout_ms <= 0 or (table and self._is_hopeless(table)):
            return None
        try:
            return self._run(query, {"statement_timeout": f"{timeout_ms}ms"})
        except OUT_OF_TIME:
            # The time may run out at COMMIT, which leaves an aborted transaction open.
            self._connection.rollback()
            if table:
                self._remember(table)
            return None

    def _run(self, query: sql.Composed, limits: dict[str, str]) -> tuple[tuple[Any, ...], ...]:
        # Compiling such a statement takes longer than it saves.
        settings = {"transaction_read_only": "on", "jit": "off", **limits}
        with transaction(self._connection, settings=settings):
            return tuple(self._connection.execute(query).fetchall())

    def _is_hopeless(self, table: TableFacts) -> bool:
        if self._too_many is None:
            return False
        rows = estimated_rows(self._connection, table)
        return rows is not None and rows >= self._too_many

    def _remember(self, table: TableFacts) -> None:
        rows = estimated_rows(self._connection, table)
        if rows is not None:
            self._too_many = rows if self._too_many is None else min(rows, self._too_many)


@dataclass(frozen=True, slots=True)
class ColumnStatistics:
    """Shares are of the table's rows, 0 to 1; None: the column was never analysed."""

    is_not_null: bool
    null_share: float | None
    distinct: float | None
    """As `pg_stats.n_distinct`: a number of values, or below 0 minus their share of the rows."""

    def filled(self, rows: int) -> int | None:
        """Rows of `rows` whose value is not null."""
        if self.is_not_null:
            return rows
        return None if self.null_share is None else round(rows * (1 - self.null_share))

    def values(self, rows: int) -> int | None:
        """Different values in `rows` rows."""
        if self.distinct is None:
            return None
        return round(-self.distinct * rows if self.distinct < 0 else self.distinct)


def estimated_rows(connection: Connection, table: TableFacts) -> int | None:
    """Rows by the planner's own reckoning; None when the table was never analysed since it has rows."""
    row = connection.execute(statement("progress", "estimated_rows"), {"oid": table.oid}).fetchone()
    return row[0] if row else None


def column_statistics(connection: Connection, table: TableFacts, column: str) -> ColumnStatistics:
    """The statistics of one column, which must exist."""
    values = {"oid": table.oid, "column": column}
    row = connection.execute(statement("progress", "column_statistics"), values).fetchone()
    assert row is not None
    return ColumnStatistics(*row)


def common_values(connection: Connection, table: TableFacts, column: str) -> dict[str, float]:
    """Share of the rows by value, for a column of few values; empty when it was never analysed."""
    values = {"oid": table.oid, "column": column}
    return dict(connection.execute(statement("progress", "common_values"), values).fetchall())
