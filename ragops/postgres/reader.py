"""Read stored vectors: counts, samples, distances under thresholds, exact and indexed neighbours."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from psycopg import sql

from ragops.facts import IndexFacts, TableFacts
from ragops.playbook.tables import Tables
from ragops.postgres.connection import Connection, fetch_row, transaction
from ragops.postgres.encodings import server_encoding
from ragops.postgres.statements import Statement, identifiers_of, statement
from ragops.postgres.vector_type import operator, vector_schema, vector_words
from ragops.postgres.vector_values import Vector, array_of

# pgvector's distance operators; <#> is the negative inner product, so that smaller is nearer for all of them.
OPERATORS = {"cosine": "<=>", "l2": "<->", "ip": "<#>", "l1": "<+>"}
# hnsw.ef_search must be at least the number of rows asked for, or the index returns fewer; its default is 40 and
# its maximum 1000 (https://github.com/pgvector/pgvector#query-options).
MIN_EF_SEARCH, MAX_EF_SEARCH = 40, 1000


@dataclass(frozen=True, slots=True)
class StoredRow:
    """A stored text with its vector, shape (dimensions,)."""

    id: Any
    """A document's id, or a chunk's index within its document."""
    text: str
    vector: NDArray[np.float32]
    group: Any = None
    """The id of a chunk's document; None for a document."""
    path: str | None = None
    """Of a document, where it is stored."""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """One document near a query."""

    id: Any
    distance: float
    text: str
    """The first 300 characters."""


@dataclass(frozen=True, slots=True)
class DistanceStats:
    """Cosine distances of one query to all stored vectors. Minimum, maximum and mean are of the finite ones."""

    total: int
    """Rows."""
    compared: int
    """Rows with a vector."""
    finite: int
    minimum: float | None
    maximum: float | None
    mean: float | None
    under: tuple[int, ...]
    """Number of rows under each threshold."""


@dataclass(frozen=True, slots=True)
class VectorCounts:
    """Counts of a table's vectors."""

    total: int
    with_embedding: int
    zero: int
    """Rows whose vector is zero, which makes their cosine distances NaN."""
    dimensions: tuple[int, ...]
    """The distinct dimensions, ascending."""
    missing: int = 0
    """Rows without a vector although their text is not empty."""


class Reader:
    """Queries on the mapped `documents` and `document_chunks`, over one connection.

    `timeout_s` limits each scan of a table; None lets it take as long as it needs.
    """

    def __init__(self, connection: Connection, tables: Tables, *, timeout_s: float | None = None) -> None:
        self._connection = connection
        self._timeout_s = timeout_s
        self._identifiers = identifiers_of(tables)

    @cached_property
    def _schema(self) -> str:
        """The schema of pgvector."""
        # A fact of the catalog, asked once: connections opened elsewhere have no place for it.
        return vector_schema(self._connection) or "public"

    def _begin(self) -> None:
        """Prepare a transaction, before its first query."""

    def _sql(self, name: str, table: str = "documents", **more: sql.Composable) -> Statement:
        known = self._identifiers
        own: dict[str, sql.Composable] = {
            "table": known[table],
            "content": known[f"{table}_content"],
            "embedding": known[f"{table}_embedding"],
            "id": known["documents_id" if table == "documents" else "document_chunks_document_id"],
        }
        for word in ("text", "start"):
            part = statement("reader", word, own)
            own[word] = statement("reader", "bytes", {"part": part}) if self._has_bytes else part
        return statement("reader", name, {**own, **vector_words(self._schema), **more})

    @property
    def _has_bytes(self) -> bool:
        """Texts are read as bytes: the database does not know their encoding."""
        return server_encoding(self._connection) == "SQL_ASCII"

    def _scan(self, query: Statement, values: Mapping[str, object] | None = None) -> tuple[Any, ...]:
        """Run a query that reads the whole table; return its only row."""
        limit = {} if self._timeout_s is None else {"statement_timeout": f"{int(self._timeout_s * 1000)}ms"}
        with transaction(self._connection, is_long=self._timeout_s is None, settings=limit):
            self._begin()
            return fetch_row(self._connection, query, values)

    def counts(self, table: str = "documents") -> VectorCounts:
        """Count the vectors of `documents` or `document_chunks`."""
        total, with_embedding, zero, dimensions, missing = self._scan(self._sql("counts", table))
        return VectorCounts(total, with_embedding, zero, tuple(sorted(dimensions or ())), missing)

    def documents_without_chunks(self) -> int:
        """Return the number of documents that no chunk belongs to."""
        query = statement("reader", "documents_without_chunks", self._identifiers)
        return int(self._scan(query)[0])

    def repeated_paths(self) -> int:
        """Return the number of documents whose path another document has already."""
        query = self._sql("repeated_paths", path=self._identifiers["documents_file_path"])
        return int(self._scan(query)[0])

    def sample(self, *, size: int, seed: float, with_paths: bool = False) -> list[StoredRow]:
        """Return random documents among those with a vector; `seed` (−1 to 1) makes the draw repeatable.

        `with_paths`: the table has the mapped column.
        """
        column = sql.SQL("d.{}::text").format(self._identifiers["documents_file_path"]) if with_paths else None
        with transaction(self._connection, is_long=True):
            self._begin()
            self._connection.execute(self._sql("set_seed"), {"seed": seed})
            rows = self._connection.execute(
                self._sql("sample", path=column or sql.NULL), {"size": size}
            ).fetchall()
        return [
            StoredRow(id, text_of(text), array_of(vector), path=None if path is None else text_of(path))
            for id, text, vector, path in rows
        ]

    def repeated_ids(self, ids: Sequence[Any]) -> list[Any]:
        """Return those of the ids that several documents have."""
        rows = self._connection.execute(self._sql("repeated_ids"), {"ids": list(ids)}).fetchall()
        return [row[0] for row in rows]

    def chunks_of(self, ids: Sequence[Any]) -> list[StoredRow]:
        """Return the chunks of some documents, by document and index."""
        query = self._sql("chunks_of", "document_chunks", number=self._identifiers["document_chunks_chunk_index"])
        rows = self._connection.execute(query, {"ids": list(ids)}).fetchall()
        return [StoredRow(index, text_of(text), array_of(vector), group) for index, text, vector, group in rows]

    def distance_stats(self, vector: NDArray[np.float32], *, thresholds: Sequence[float]) -> DistanceStats:
        """Return statistics of one query's distances to every stored document, by a full scan."""
        parts = [self._sql("under", threshold=sql.Literal(threshold)) for threshold in thresholds]
        query = self._sql("distance_stats", under=sql.SQL(", ").join(parts))
        *numbers, under = self._scan(query, {"vector": Vector(vector)})
        total, compared, finite, minimum, maximum, mean = numbers
        return DistanceStats(total, compared, finite, minimum, maximum, mean, tuple(under))

    def rank_of(self, vector: NDArray[np.float32], document_id: Any) -> int | None:
        """Return the exact rank (1 = nearest) of a document for a query; None without a finite distance."""
        rank: int | None = self._scan(self._sql("rank_of"), {"vector": Vector(vector), "id": document_id})[0]
        return rank

    def rank_of_location(self, vector: NDArray[np.float32], location: str) -> int | None:
        """Return the exact rank of the document from a location; None if it is not stored."""
        query = self._sql("id_of_path", path=self._identifiers["documents_file_path"])
        row = self._connection.execute(query, {"path": location}).fetchone()
        return self.rank_of(vector, row[0]) if row else None

    def nearest(
        self,
        vector: NDArray[np.float32],
        *,
        limit: int,
        through_index: bool,
        metric: str = "cosine",
        kind: str = "vector",
        is_mixed: bool = False,
    ) -> list[Neighbour]:
        """Return the nearest documents: as an index finds them, or exactly, by a full scan.

        `kind` is the column's type; `is_mixed` leaves out vectors of other lengths than the query's.
        """
        query, values = self._nearest(vector, limit=limit, metric=metric, kind=kind, is_mixed=is_mixed)
        with transaction(self._connection, is_long=True, settings=_search_settings(limit, through_index)):
            self._begin()
            rows = self._connection.execute(query, values).fetchall()
        return [Neighbour(id, distance, text_of(start)) for id, distance, start in rows]

    def uses_index(
        self, index: str, vector: NDArray[np.float32], *, limit: int, metric: str, kind: str, is_mixed: bool
    ) -> bool:
        """Return whether the server takes that index for such a query; not if it has a predicate, for example."""
        query, values = self._nearest(vector, limit=limit, metric=metric, kind=kind, is_mixed=is_mixed)
        explain = statement("reader", "explain", {"query": query})
        with transaction(self._connection, settings=_search_settings(limit, True)):
            self._begin()
            (plan,) = fetch_row(self._connection, explain, values)
        return f'"Index Name": {json.dumps(index)}' in json.dumps(plan)

    def _nearest(
        self, vector: NDArray[np.float32], *, limit: int, metric: str, kind: str, is_mixed: bool
    ) -> tuple[Statement, Mapping[str, object]]:
        same = self._sql("same_dimensions", dimensions=sql.Literal(int(vector.size))) if is_mixed else sql.SQL("")
        query = self._sql(
            "nearest",
            distance=operator(OPERATORS[metric], self._schema),
            kind=sql.Identifier(self._schema, kind),
            same_dimensions=same,
        )
        return query, {"vector": Vector(vector), "limit": limit}


def _search_settings(limit: int, through_index: bool) -> Mapping[str, str]:
    if not through_index:
        return {"enable_indexscan": "off"}
    ef_search = max(MIN_EF_SEARCH, min(limit, MAX_EF_SEARCH))
    return {"enable_seqscan": "off", "hnsw.ef_search": str(ef_search)}


def usable_indexes(table: TableFacts, column: str) -> list[IndexFacts]:
    """Return the valid indexes on the vector column, HNSW before IVFFlat."""
    return sorted(
        (i for i in table.indexes if i.is_valid and i.column == column), key=lambda i: i.method != "hnsw"
    )


def metric_of(index: IndexFacts) -> str:
    """Return the metric of an index by its operator class; cosine for any other class."""
    # Without the type's name in front: pgvector has vector_l2_ops, halfvec_l2_ops and others.
    for metric, word in (("l2", "_l2_ops"), ("ip", "_ip_ops"), ("l1", "_l1_ops")):
        if word in index.definition:
            return metric
    return "cosine"


def text_of(value: str | bytes | None) -> str:
    """Return a text; bytes of it that are no UTF-8 become U+FFFD."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value or ""
