"""Read a sample of any table's rows: stored vectors, texts as expressions over the columns, values of columns.

Nothing is written: every transaction is read-only, whatever the operator's expressions call.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg import sql

from ragops.errors import RagopsError, first_line
from ragops.facts import READABLE_TYPE, ColumnFacts, TableFacts, quoted
from ragops.playbook.targets import RowTarget
from ragops.postgres.connection import Connection, transaction
from ragops.postgres.encodings import server_encoding
from ragops.postgres.row_relation import condition, text_expression
from ragops.postgres.statements import literal, statement
from ragops.postgres.vector_type import vector_schema, vector_words
from ragops.postgres.vector_values import array_of

# Longer texts are not read: their chunks alone would take minutes to embed.
MOST_BYTES = 256 * 1024
# Of a value by which rows may be grouped; names of tenants, models and collections are shorter.
GROUP_CHARACTERS = 64
# Of a column's value, enough to tell a text from an identifier.
START_CHARACTERS = 2_000
JSON_TYPES = ("json", "jsonb")
# Types whose values group nothing, or are large.
_NOT_GROUPABLE = re.compile(
    r"jsonb?|bytea|xml|tsvector|tsquery|timestamp.*|date|time.*|interval|real|double precision|numeric.*|.*\[\]"
)


class UnreadableText(RagopsError):
    """An expression over the columns that the server refuses."""


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where a row is stored: its table or partition, and its place there."""

    part: int
    ctid: str


@dataclass(frozen=True, slots=True)
class StoredTexts:
    """Rows of one table with a vector, over one connection."""

    connection: Connection
    table: TableFacts
    column: str
    """The vector column."""
    where: str | None = None

    def target(self, *, text: str | None = None, expression: str | None = None) -> RowTarget:
        """Return the target of a playbook that would read this text."""
        return RowTarget(
            table=self.table.quoted, text=text, sql=expression, where=self.where, embedding=self.column
        )

    def places(self, *, size: int) -> tuple[list[Place], int]:
        """Return places spread over the table, at most `size`, in physical order, and the count of all rows."""
        words = {
            "table": self._table,
            "embedding": sql.Identifier(self.column),
            "condition": condition(self.target(expression="NULL")),
        }
        with self._reading():
            rows = self.connection.execute(statement("forensics", "places", words), {"size": size}).fetchall()
        return [Place(part, ctid) for part, ctid, _ in rows], rows[0][2] if rows else 0

    def vectors(self, places: Sequence[Place]) -> dict[Place, NDArray[np.float32]]:
        """Return the stored vectors, those of halfvec and sparsevec as float32, too."""
        words = vector_words(vector_schema(self.connection) or "public")
        value = sql.SQL("{}::{}vector").format(sql.Identifier(self.column), words["ext"])
        return {place: array_of(vector) for place, vector in self._values(value, places) if vector is not None}

    def texts(self, target: RowTarget, places: Sequence[Place]) -> dict[Place, str | None]:
        """Return the texts of rows exactly as a campaign reads them; rows whose text is too long are left out.

        Raises UnreadableText if the server refuses the expression.
        """
        value = text_expression(target)
        text: sql.Composable = sql.SQL("q.v")
        if server_encoding(self.connection) == "SQL_ASCII":
            text = statement("reader", "bytes", {"part": text})
        words = {"value": value, "text": text, "most": sql.Literal(MOST_BYTES)}
        found = self._values(statement("forensics", "capped", words), places)
        return {
            place: bytes(text).decode("utf-8", "replace") if isinstance(text, bytes | memoryview) else text
            for place, text, size in found
            if text is not None or size is None
        }

    def weights(self, columns: Sequence[str], places: Sequence[Place]) -> dict[Place, int]:
        """Return how many bytes some columns of each row take, compressed as they are."""
        sizes = [statement("forensics", "size", {"column": sql.Identifier(name)}) for name in columns]
        return dict(self._values(sql.SQL(" + ").join(sizes), places)) if sizes else dict.fromkeys(places, 0)

    def starts(self, columns: Sequence[str], places: Sequence[Place]) -> list[dict[str, str | None]]:
        """Return the starts of columns as text, one mapping a row; of JSON objects the starts of their values."""
        found = self._each(columns, places, sql.Literal(START_CHARACTERS))
        return [dict(zip(columns, row, strict=True)) for row in found.values()] if columns else []

    def labels(self, places: Sequence[Place]) -> dict[Place, dict[str, str | None]]:
        """Return the values by which rows could be grouped, by SQL expression: short columns, keys of JSON."""
        columns = [column for column in self.table.columns.values() if _is_groupable(column)]
        names = [column.name for column in columns]
        found = self._each(names, places, sql.Literal(GROUP_CHARACTERS + 1)) if names else {}
        labels: dict[Place, dict[str, str | None]] = {
            place: {quoted(name): value for name, value in zip(names, found.get(place, ()), strict=False)}
            for place in places
        }
        for column in self.table.columns.values():
            if column.stored_type in JSON_TYPES:
                for place, keys in self._scalars(column.name, places).items():
                    labels[place] |= {f"{quoted(column.name)}->>{literal(k)}": v for k, v in keys.items()}
        return labels

    def _scalars(self, column: str, places: Sequence[Place]) -> dict[Place, dict[str, str]]:
        words = {"column": sql.Identifier(column), "most": sql.Literal(GROUP_CHARACTERS)}
        found = self._values(statement("forensics", "scalars", words), places)
        return {place: value if isinstance(value, dict) else json.loads(value) for place, value in found if value}

    def _each(
        self, columns: Sequence[str], places: Sequence[Place], most: sql.Composable
    ) -> dict[Place, tuple[Any, ...]]:
        starts = [self._start(name, most) for name in columns]
        return {place: tuple(row) for place, *row in self._values(sql.SQL(", ").join(starts), places)}

    def _start(self, column: str, most: sql.Composable) -> sql.Composable:
        is_json = self.table.columns[column].stored_type in JSON_TYPES
        words = {"column": sql.Identifier(column), "most": most}
        return statement("forensics", "digest" if is_json else "start", words)

    def _values(self, value: sql.Composable, places: Sequence[Place]) -> Iterator[tuple[Any, ...]]:
        """Yield each row's place and values."""
        wanted = set(places)
        query = statement("forensics", "values", {"table": self._table, "value": value})
        try:
            with self._reading():
                rows = self.connection.execute(query, {"places": sorted({p.ctid for p in wanted})}).fetchall()
        except (psycopg.OperationalError, psycopg.InterfaceError):
            raise
        except psycopg.Error as error:
            # Whatever the expression does; one that writes among it, which a transaction that only reads refuses.
            raise UnreadableText(
                "the server cannot read these rows", where=self.table.quoted, actual=first_line(error)
            ) from None
        for part, ctid, *values in rows:
            place = Place(part, ctid)
            if place in wanted:
                yield (place, *values)

    @property
    def _table(self) -> sql.Identifier:
        return sql.Identifier(self.table.schema, self.table.name)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        with transaction(self.connection, is_long=True, settings={"transaction_read_only": "on"}):
            yield


def _is_groupable(column: ColumnFacts) -> bool:
    kind = column.stored_type
    return READABLE_TYPE.fullmatch(kind) is None and _NOT_GROUPABLE.fullmatch(kind) is None
