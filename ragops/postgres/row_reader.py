"""Read the stored vectors of rows that stay, one target at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from psycopg import sql

from ragops.errors import PlanRefused
from ragops.playbook.model import Playbook
from ragops.playbook.tables import Tables
from ragops.playbook.targets import RowTarget
from ragops.postgres.catalog import Rows
from ragops.postgres.connection import Connection, transaction
from ragops.postgres.encodings import server_encoding
from ragops.postgres.reader import Reader, StoredRow, VectorCounts, text_of
from ragops.postgres.row_relation import location_of, row_relation
from ragops.postgres.row_source import pin_text_form
from ragops.postgres.row_work import matching, row_words
from ragops.postgres.statements import statement
from ragops.postgres.targets import find_targets
from ragops.postgres.vector_type import vector_words
from ragops.postgres.vector_values import array_of
from ragops.row_facts import TargetFacts


def reader_of(connection: Connection, playbook: Playbook, *, timeout_s: float | None = None) -> Reader:
    """Return the reader of the documents, or of the first target: a debug endpoint answers for one table.

    Raises PlanRefused for a target that does not fit the database.
    """
    if not playbook.targets:
        return Reader(connection, playbook.tables, timeout_s=timeout_s)
    target = playbook.targets[0]
    found, problems = find_targets(connection, [target], rows=Rows.CATALOG_ONLY)
    if not found:
        raise PlanRefused("the first target cannot be read", where=target.table, problems=problems)
    column = found[0].filled if found[0].column(found[0].filled) else found[0].embedding
    return RowReader(connection, target, found[0], column=column, timeout_s=timeout_s)


class RowReader(Reader):
    """Queries on one target, over one connection. Ids are keys as text; `column` is the one that is filled."""

    def __init__(
        self,
        connection: Connection,
        target: RowTarget,
        facts: TargetFacts,
        *,
        column: str | None = None,
        timeout_s: float | None = None,
    ) -> None:
        super().__init__(connection, Tables(documents=None), timeout_s=timeout_s)
        self._target, self._facts = target, facts
        self._column = column or facts.filled
        self._identifiers = {
            "documents": row_relation(target, facts, column=self._column, places=True),
            "documents_id": sql.Identifier("id"),
            "documents_content": sql.Identifier("content"),
            "documents_embedding": sql.Identifier("embedding"),
        }

    def _begin(self) -> None:
        pin_text_form(self._connection)

    def repeated_ids(self, ids: Sequence[object]) -> list[object]:
        """Return nothing: a key identifies one row."""
        return []

    def draw_completed(self, *, size: int) -> list[StoredRow]:
        """Return rows at random among the completed items of the queue, those that have a text and a vector."""
        values = {"prefix": f"{self._facts.number}:%", "size": size}
        with transaction(self._connection, is_long=True):
            rows = self._connection.execute(statement("rows", "draw_completed"), values).fetchall()
        return self.rows_of([row[0] for row in rows])

    def completed(self, rows: Sequence[StoredRow]) -> set[str]:
        """Return the ids of those rows that are completed items of the queue."""
        locations = [location_of(self._facts.number, row.id) for row in rows]
        found = self._connection.execute(statement("rows", "completed"), {"locations": locations}).fetchall()
        return {row[0].partition(":")[2] for row in found}

    def edited(self, rows: Sequence[StoredRow]) -> set[str]:
        """Return the ids of those rows that have another text than the one ragops has embedded."""
        values = {
            "relation": self._facts.table.quoted,
            "column": self._column,
            "keys": [row.id for row in rows],
        }
        found: dict[str, bytes] = dict(
            self._connection.execute(statement("rows", "text_hashes"), values).fetchall()
        )
        now = {row.id: hashlib.sha256(row.text.encode()).digest() for row in rows if row.id in found}
        return {id for id, digest in now.items() if digest != found[id]}

    def rows_of(self, locations: Sequence[str]) -> list[StoredRow]:
        """Return rows by their places in the queue, those that have a text and a vector."""
        words = {**row_words(self._target, self._facts, self._schema), "filled": sql.Identifier(self._column)}
        words |= {"match": matching(self._facts, "w"), "bytes": self._shown("r.content")}
        with transaction(self._connection, is_long=True):
            self._begin()
            self._connection.execute(statement("rows", "plan_by_key"))
            query = statement("rows", "stored", words)
            rows = self._connection.execute(query, {"locations": list(locations)}).fetchall()
        return [
            StoredRow(place.partition(":")[2], text_of(text), array_of(vector)) for place, text, vector in rows
        ]

    def some_texts(self, *, size: int) -> list[str]:
        """Return texts of rows at random, with or without a vector."""
        relation = self._identifiers["documents"]
        query = statement("rows", "some_texts", {"relation": relation, "bytes": self._shown("r.content")})
        with transaction(self._connection, is_long=True):
            self._begin()
            rows = self._connection.execute(query, {"size": size}).fetchall()
        return [text_of(row[0]) for row in rows]

    def counts(self, table: str = "documents") -> VectorCounts:
        """Count the vectors; a row whose text is blank needs none."""
        words = {"relation": self._identifiers["documents"], **vector_words(self._schema)}
        total, with_embedding = self._scan(statement("rows", "target_counts", words))
        missing, zero, dimensions = self._scan(statement("rows", "target_details", words))
        return VectorCounts(total, with_embedding, zero, tuple(sorted(dimensions or ())), missing)

    def _shown(self, text: str) -> sql.Composable:
        """Return a text as it can be read: as bytes where the database does not know its encoding."""
        if server_encoding(self._connection) != "SQL_ASCII":
            return sql.SQL(text)
        return statement("reader", "bytes", {"part": sql.SQL(text)})
