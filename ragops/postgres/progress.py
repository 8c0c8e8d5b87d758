"""The procedure's three progress queries, counted within a budget of time and estimated beyond it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import psycopg
from psycopg import sql

from ragops.facts import TableFacts
from ragops.playbook.tables import Tables
from ragops.postgres.connection import Connection, transaction
from ragops.postgres.estimates import column_statistics, common_values, estimated_rows
from ragops.postgres.queue import ItemStatus
from ragops.postgres.statements import identifiers_of, statement

BUDGET_S = 0.4
"""For all counts of one look at the progress together: the look as a whole stays below a second."""

Counts = dict[str, int | None]
"""Numbers of rows; None: unknown, neither counted nor ever analysed."""


class Budget:
    """Time that several statements share; `seconds` None: each takes as long as it takes."""

    def __init__(self, seconds: float | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until = None if seconds is None else clock() + seconds

    def share_ms(self, parts: int = 1) -> int | None:
        """An equal part of what is left, in milliseconds, 0 when nothing is; None without a limit."""
        return None if self._until is None else max(0, int((self._until - self._clock()) * 1000 / parts))


class Progress:
    """Looks at one database's mapped tables; all counts share one budget."""

    def __init__(self, connection: Connection, tables: Tables, *, budget: Budget) -> None:
        self._connection = connection
        self._tables = tables
        self._budget = budget
        self._identifiers = identifiers_of(tables)

    def queue(self, table: TableFacts) -> tuple[Counts, bool]:
        """Items by status, every status there; and whether any of them is an estimate."""
        found: Counts = {status.value: 0 for status in ItemStatus}
        # Half the budget: this is what operators look at while a campaign runs.
        counted = self._count(statement("queue", "counts", self._identifiers), parts=2)
        if counted is not None:
            return {**found, **dict(counted)}, False
        return {**found, **self._estimated_queue(table)}, True

    def _estimated_queue(self, table: TableFacts) -> Counts:
        """Estimates by status; open items are counted all the same where an index makes that cheap."""
        rows = estimated_rows(self._connection, table)
        shares = common_values(self._connection, table, self._tables.files_queue.columns.status)
        if rows == 0:
            return {}
        found: Counts = {status.value: None for status in ItemStatus}
        if rows is not None and shares:
            found = {**dict.fromkeys(found, 0), **{value: round(rows * share) for value, share in shares.items()}}
        for status in (ItemStatus.PROCESSING, ItemStatus.PENDING):
            counted = self._count(self._sql(status.value), parts=4)
            if counted is not None:
                found[status.value] = counted[0][0]
        if rows is not None and shares:
            # Completed items are the bulk: they make up for what the statistics do not know yet.
            others = sum(count or 0 for name, count in found.items() if name != ItemStatus.COMPLETED)
            found[ItemStatus.COMPLETED.value] = max(0, rows - others)
        return found

    def parsed_files(self, table: TableFacts | None) -> dict[str, Any]:
        """Rows and distinct files; zeros where the playbook has no such table."""
        if table is None:
            return {"total": 0, "unique_files": 0, "estimated": False}
        counted = self._count(self._sql("parsed_files"), parts=2)
        if counted is not None:
            return {"total": counted[0][0], "unique_files": counted[0][1], "estimated": False}
        rows = estimated_rows(self._connection, table)
        column = self._tables.columns_of("parsed_files")["file_id"]
        statistics = column_statistics(self._connection, table, column)
        unique = None if rows is None else statistics.values(rows)
        return {"total": rows, "unique_files": unique, "estimated": True}

    def documents(self, table: TableFacts) -> dict[str, Any]:
        """Rows, rows with an embedding, bytes of the documents table."""
        counted = self._count(self._sql("documents"), parts=1)
        if counted is not None:
            total, filled = counted[0]
            return {"total": total, "with_embedding": filled, "bytes": table.bytes, "estimated": False}
        rows = estimated_rows(self._connection, table)
        statistics = column_statistics(self._connection, table, self._tables.documents.columns.embedding)
        embedded = None if rows is None else statistics.filled(rows)
        return {"total": rows, "with_embedding": embedded, "bytes": table.bytes, "estimated": True}

    def _sql(self, name: str) -> sql.Composed:
        return statement("progress", name, self._identifiers)

    def _count(self, query: sql.Composed, *, parts: int) -> list[tuple[Any, ...]] | None:
        """The rows of a counting statement, or None when it took longer than its part of the budget."""
        timeout_ms = self._budget.share_ms(parts)
        if timeout_ms == 0:
            return None
        # Compiling the statement takes longer than the count; a count changes nothing.
        settings = {"transaction_read_only": "on", "jit": "off"}
        if timeout_ms is not None:
            settings["statement_timeout"] = f"{timeout_ms}ms"
        try:
            with transaction(self._connection, is_long=timeout_ms is None, settings=settings):
                return self._connection.execute(query).fetchall()
        except (psycopg.errors.QueryCanceled, psycopg.errors.LockNotAvailable):
            if timeout_ms is None:
                raise
            return None


def writing_fingerprints(connection: Connection, tables: Tables, table: TableFacts | None) -> set[str]:
    """The fingerprints of the workers that wrote what is stored, as the metrics have them."""
    column = tables.columns_of("ingestion_metrics").get("fingerprint") if table is not None else None
    if table is None or column is None:
        return set()
    query = sql.SQL("SELECT DISTINCT {c} FROM {t} WHERE {c} IS NOT NULL").format(
        c=sql.Identifier(column), t=sql.Identifier(table.schema, table.name)
    )
    return {str(row[0]) for row in connection.execute(query).fetchall()}
