"""Read stored vectors: counts, samples, distances under thresholds, exact and indexed neighbours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pgvector import Vector
from psycopg import sql

from ragops.facts import IndexFacts, TableFacts
from ragops.playbook.tables import Tables
from ragops.postgres.connection import Connection, fetch_row, transaction
from ragops.postgres.statements import Statement, identifiers_of, statement

# pgvector's distance operators; <#> is the negative inner product, so that smaller is nearer for all three.
OPERATORS = {"cosine": "<=>", "l2": "<->", "ip": "<#>"}
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


class Reader:
    """Queries on the mapped `documents` and `document_chunks`, over one connection.

    `timeout_s` limits each scan of a table; None lets it take as long as it needs.
    """

    def __init__(self, connection: Connection, tables: Tables, *, timeout_s: float | None = None) -> None:
        self._connection = connection
        self._timeout_s = timeout_s
        self._identifiers = identifiers_of(tables)

    def _sql(self, name: str, table: str = "documents", **more: sql.Composable) -> Statement:
        known = self._identifiers
        own = {
            "table": known[table],
            "content": known[f"{table}_content"],
            "embedding": known[f"{table}_embedding"],
            "id": known["documents_id" if table == "documents" else "document_chunks_document_id"],
        }
        return statement("reader", name, {**own, **more})

    def _scan(self, query: Statement, values: Mapping[str, object] | None = None) -> tuple[Any, ...]:
        """Run a query that reads the whole table; return its only row."""
        limit = {} if self._timeout_s is None else {"statement_timeout": f"{int(self._timeout_s * 1000)}ms"}
        with transaction(self._connection, is_long=self._timeout_s is None, settings=limit):
            return fetch_row(self._connection, query, values)

    def counts(self, table: str = "documents") -> VectorCounts:
        """Count the vectors of `documents` or `document_chunks`."""
        total, with_embedding, zero, dimensions = self._scan(self._sql("counts", table))
        return VectorCounts(total, with_embedding, zero, tuple(sorted(dimensions or ())))

    def documents_without_chunks(self) -> int:
        """Return the number of documents that no chunk belongs to."""
        query = statement("reader", "documents_without_chunks", self._identifiers)
        return int(self._scan(query)[0])

    def sample(self, *, size: int, seed: float) -> list[StoredRow]:
        """Return random documents among those with a vector; `seed` (−1 to 1) makes the draw repeatable."""
        with transaction(self._connection, is_long=True):
            self._connection.execute(self._sql("set_seed"), {"seed": seed})
            rows = self._connection.execute(self._sql("sample"), {"size": size}).fetchall()
        return [StoredRow(id, text or "", _array(vector)) for id, text, vector in rows]

    def chunks_of(self, ids: Sequence[Any]) -> list[StoredRow]:
        """Return the chunks of some documents, by document and index."""
        query = self._sql("chunks_of", "document_chunks", number=self._identifiers["document_chunks_chunk_index"])
        rows = self._connection.execute(query, {"ids": list(ids)}).fetchall()
        return [StoredRow(index, text or "", _array(vector), group) for index, text, vector, group in rows]

    def distance_stats(self, vector: NDArray[np.float32], *, thresholds: Sequence[float]) -> DistanceStats:
        """Return statistics of one query's distances to every stored document, by a full scan."""
        parts = [self._sql("under", threshold=sql.Literal(threshold)) for threshold in thresholds]
        query = self._sql("distance_stats", under=sql.SQL(", ").join(parts))
        total, finite, minimum, maximum, mean, under = self._scan(query, {"vector": Vector(vector)})
        return DistanceStats(total, finite, minimum, maximum, mean, tuple(under))

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
    ) -> list[Neighbour]:
        """Return the nearest documents: as an index finds them, or exactly, by a full scan."""
        settings = {"enable_seqscan": "off"} if through_index else {"enable_indexscan": "off"}
        if through_index:
            settings["hnsw.ef_search"] = str(max(MIN_EF_SEARCH, min(limit, MAX_EF_SEARCH)))
        query = self._sql("nearest", distance=sql.SQL(OPERATORS[metric]))
        with transaction(self._connection, is_long=True, settings=settings):
            rows = self._connection.execute(query, {"vector": Vector(vector), "limit": limit}).fetchall()
        return [Neighbour(*row) for row in rows]


def usable_index(table: TableFacts, column: str) -> IndexFacts | None:
    """Return the valid HNSW index on the vector column; None if there is none."""
    return next((i for i in table.indexes if i.is_valid and i.method == "hnsw" and i.column == column), None)


def metric_of(index: IndexFacts) -> str:
    """Return the metric of an index by its operator class; cosine for any other class."""
    # Without the type's name in front: pgvector has vector_l2_ops, halfvec_l2_ops and others.
    for metric, word in (("l2", "_l2_ops"), ("ip", "_ip_ops")):
        if word in index.definition:
            return metric
    return "cosine"


def _array(value: Any) -> NDArray[np.float32]:
    return np.asarray(value.to_numpy(), dtype=np.float32)
