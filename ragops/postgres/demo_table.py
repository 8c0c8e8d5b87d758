"""The table of the demo's application: made, filled, and queried as an application does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from psycopg import sql

from ragops.postgres.connection import Connection, fetch_row, transaction
from ragops.postgres.statements import Statement, statement
from ragops.postgres.vector_type import vector_schema, vector_words
from ragops.postgres.vector_values import Vector

TABLE = "public.demo_articles"


def is_foreign(connection: Connection) -> bool:
    """Return whether a table of that name is there that no demo has made."""
    return bool(fetch_row(connection, statement("demo", "is_foreign"))[0])


def fill_table(connection: Connection, texts: Sequence[str], vectors: NDArray[np.float32]) -> None:
    """Make the table anew with these rows and an index, and forget what ragops knew of an earlier one."""
    with transaction(connection, is_long=True):
        for name in ("drop_table", "forget_captured", "forget_cutovers", "forget_rows"):
            connection.execute(statement("demo", name))
        connection.execute(_sql(connection, "create_table", dimensions=sql.Literal(int(vectors.shape[1]))))
        connection.execute(statement("demo", "comment_table"))
        rows = [
            {"id": id, "content": text, "vector": Vector(vector)}
            for id, (text, vector) in enumerate(zip(texts, vectors, strict=True), start=1)
        ]
        with connection.cursor() as cursor:
            cursor.executemany(statement("demo", "insert"), rows)
        connection.execute(_sql(connection, "create_index"))


class Searches:
    """Asks the table over one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._query = _sql(connection, "nearest")

    def nearest(self, vector: NDArray[np.float32]) -> list[int]:
        """Return the ids of the ten nearest rows."""
        rows = self._connection.execute(self._query, {"vector": Vector(vector)}).fetchall()
        return [row[0] for row in rows]


def _sql(connection: Connection, name: str, **more: sql.Composable) -> Statement:
    return statement("demo", name, {**vector_words(vector_schema(connection)), **more})
