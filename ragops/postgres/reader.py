"""Reads of stored vectors: samples, distances under thresholds, exact and indexed neighbours, progress."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pgvector import Vector
from psycopg import sql

from ragops.facts import IndexFacts, TableFacts
from ragops.playbook.tables import Tables
from ragops.postgres.connection import Connection, transaction
from ragops.postgres.statements import fill_in, identifiers_of

OPERATORS = {"cosine": "<=>", "l2": "<->", "ip": "<#>"}


@dataclass(frozen=True, slots=True)
class StoredRow:
    """A stored text with its vector, shape (dimensions,)."""

    id: Any
    text: str
    vector: NDArray[np.float32]
    group: Any = None
    """A chunk's document."""


@dataclass(frozen=True, slots=True)
class Neighbour:
    id: Any
    distance: float
    text: str


@dataclass(frozen=True, slots=True)
class DistanceStats:
    """Cosine distances of one query to all stored vectors."""

    total: int
    finite: int
    minimum: float | None
    maximum: float | None
    mean: float | None
    under: tuple[int, ...]
    """Rows under each threshold asked for."""


@dataclass(frozen=True, slots=True)
class VectorCounts:
    """What a table's vector column holds."""

    total: int
    with_embedding: int
    zero: int
    dimensions: tuple[int, ...]
    """The distinct dimensions, ascending."""


class Reader:
    """Queries on the mapped `documents` and `document_chunks`, over one connection."""

    def __init__(self, connection: Connection, tables: Tables) -> None:
        self._connection = connection
        self._identifiers = identifiers_of(tables)

    def _format(self, query: str, table: str = "documents") -> sql.Composed:
        known = self._identifiers
        words = {"t": known[table], "e": known[f"{table}_embedding"], "content": known[f"{table}_content"]}
        words |= {"id": known["documents_id"] if table == "documents" else known["document_chunks_document_id"]}
        if table == "document_chunks":
            words["number"] = known["document_chunks_chunk_index"]
        return fill_in(query, words)

    def counts(self, table: str = "documents") -> VectorCounts:
        query = """
            SELECT count(*), count({e}), count(*) FILTER (WHERE vector_norm({e}) = 0),
                   array_agg(DISTINCT vector_dims({e})) FILTER (WHERE {e} IS NOT NULL)
              FROM {t}"""
        with transaction(self._connection, is_long=True):
            row = self._connection.execute(self._format(query, table)).fetchone()
        assert row is not None
        return VectorCounts(row[0], row[1], row[2], tuple(sorted(row[3] or ())))

    def sample(self, *, size: int, seed: float) -> list[StoredRow]:
        """Documents drawn at random among those with a vector; `seed` (−1 to 1) makes it repeatable."""
        # A random order over ids alone: texts and vectors are fetched for the drawn rows only.
        query = """
            SELECT d.{id}, d.{content}, d.{e} FROM {t} d
              JOIN (SELECT {id} AS id FROM {t} WHERE {e} IS NOT NULL ORDER BY random() LIMIT %(size)s) s
                ON s.id = d.{id} ORDER BY d.{id}"""
        with transaction(self._connection, is_long=True):
            self._connection.execute("SELECT setseed(%s)", [seed])
            rows = self._connection.execute(self._format(query), {"size": size}).fetchall()
        return [StoredRow(r[0], r[1] or "", _array(r[2])) for r in rows]

    def chunks_of(self, ids: Sequence[Any]) -> list[StoredRow]:
        """The chunks of some documents, by document and index."""
        query = """
            SELECT {number}, {content}, {e}, {id} FROM {t}
             WHERE {id} = ANY(%(ids)s) AND {e} IS NOT NULL ORDER BY {id}, {number}"""
        rows = self._connection.execute(self._format(query, "document_chunks"), {"ids": list(ids)}).fetchall()
        return [StoredRow(r[0], r[1] or "", _array(r[2]), r[3]) for r in rows]

    def distance_stats(self, vector: NDArray[np.float32], *, thresholds: Sequence[float]) -> DistanceStats:
        """Distances of one query to every stored document, by a full scan."""
        # NaN sorts above every number in PostgreSQL, so it is kept out of min, max and avg by hand.
        counts = "".join(f", count(*) FILTER (WHERE x.d < %(t{i})s)" for i in range(len(thresholds)))
        query = f"""
            SELECT count(*), count(*) FILTER (WHERE x.d <> 'NaN'), min(x.d) FILTER (WHERE x.d <> 'NaN'),
                   max(x.d) FILTER (WHERE x.d <> 'NaN'), avg(x.d) FILTER (WHERE x.d <> 'NaN'){counts}
              FROM (SELECT {{e}} <=> %(vector)s AS d FROM {{t}}) x"""
        values: dict[str, Any] = {"vector": Vector(vector)}
        values |= {f"t{i}": threshold for i, threshold in enumerate(thresholds)}
        with transaction(self._connection, is_long=True):
            row = self._connection.execute(self._format(query), values).fetchone()
        assert row is not None
        return DistanceStats(row[0], row[1], row[2], row[3], row[4], tuple(row[5:]))

    def rank_of(self, vector: NDArray[np.float32], document_id: Any) -> int | None:
        """The exact rank (1 = nearest) of a document for a query; None without a finite distance."""
        query = """
            WITH own AS (SELECT {e} <=> %(vector)s AS d FROM {t} WHERE {id} = %(id)s)
            SELECT CASE WHEN (SELECT d FROM own) = 'NaN' THEN NULL ELSE
                   (SELECT count(*) + 1 FROM {t} WHERE {e} <=> %(vector)s < (SELECT d FROM own)) END"""
        with transaction(self._connection, is_long=True):
            row = self._connection.execute(
                self._format(query), {"vector": Vector(vector), "id": document_id}
            ).fetchone()
        return row[0] if row else None

    def rank_of_location(self, vector: NDArray[np.float32], location: str) -> int | None:
        """The exact rank of the document of a location; None when it is not stored."""
        known = self._identifiers
        words = {"id": known["documents_id"], "t": known["documents"], "path": known["documents_file_path"]}
        query = fill_in("SELECT {id} FROM {t} WHERE {path} = %s", words)
        row = self._connection.execute(query, [location]).fetchone()
        return self.rank_of(vector, row[0]) if row else None

    def nearest(
        self,
        vector: NDArray[np.float32],
        *,
        limit: int,
        through_index: bool,
        metric: str = "cosine",
    ) -> list[Neighbour]:
        """The nearest documents: by a full scan, or as the index finds them."""
        query = f"""
            SELECT {{id}}, {{e}} {OPERATORS[metric]} %(vector)s AS distance, left({{content}}, 300) FROM {{t}}
             WHERE {{e}} IS NOT NULL ORDER BY {{e}} {OPERATORS[metric]} %(vector)s LIMIT %(limit)s"""
        plan = {"enable_seqscan": "off"} if through_index else {"enable_indexscan": "off"}
        if through_index:
            plan["hnsw.ef_search"] = str(max(40, min(limit, 1000)))
        with transaction(self._connection, is_long=True, settings=plan):
            rows = self._connection.execute(
                self._format(query), {"vector": Vector(vector), "limit": limit}
            ).fetchall()
        return [Neighbour(*row) for row in rows]


def usable_index(table: TableFacts, column: str) -> IndexFacts | None:
    """The valid HNSW index on the vector column, if there is one."""
    return next((i for i in table.indexes if i.is_valid and i.method == "hnsw" and i.column == column), None)


def metric_of(index: IndexFacts) -> str:
    """The metric of an index by its operator class; cosine when it is none that is known."""
    for metric, word in (("l2", "_l2_ops"), ("ip", "_ip_ops")):
        if word in index.definition:
            return metric
    return "cosine"


def _array(value: Any) -> NDArray[np.float32]:
    return np.asarray(value.to_numpy(), dtype=np.float32)
