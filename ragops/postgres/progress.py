"""The procedure's three progress queries: counted while that is quick, estimated beyond."""

from __future__ import annotations

from typing import Any

from psycopg import sql

from ragops.facts import TableFacts
from ragops.playbook.tables import Tables
from ragops.postgres.connection import Connection
from ragops.postgres.counting import Counter
from ragops.postgres.estimates import column_statistics, common_values, estimated_rows
from ragops.postgres.queue import ItemStatus
from ragops.postgres.statements import identifiers_of, statement

Counts = dict[str, int | None]
"""Items by status; None: unknown, neither counted nor ever analysed."""


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
