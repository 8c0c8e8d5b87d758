"""What a database holds, read past everything that the torture breaks, and reduced to what can be compared."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray

Rows = list[tuple[Any, ...]]
Vectors = NDArray[np.float64]
Admin = psycopg.Connection[tuple[Any, ...]]
TABLES = ("documents", "document_chunks", "parsed_files", "ingestion_metrics", "files_queue")
INDEXES = """
SELECT format('%s valid=%s ready=%s', pg_get_indexdef(i.indexrelid), i.indisvalid, i.indisready)
  FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = 'public' ORDER BY 1
"""


@dataclass(frozen=True, slots=True)
class Chunk:
    index: int
    text: str
    vector: int
    """Its row in the matrix of the state's chunk vectors."""


@dataclass(frozen=True, slots=True)
class Document:
    """One stored row, whatever its id."""

    path: str
    text: str
    vector: int
    chunks: tuple[Chunk, ...]
    parsed: tuple[tuple[Any, ...], ...]
    """Hash, characters and chunks of its rows in parsed_files."""


@dataclass(frozen=True, slots=True)
class State:
    """The five tables and the catalog of one database."""

    documents: tuple[Document, ...]
    vectors: Vectors
    chunk_vectors: Vectors
    queue: dict[str, int]
    """Items by location: how often each is there."""
    statuses: dict[str, int]
    held: int
    """Items with a claim or a lease."""
    measured: int
    """Documents that the batches in ingestion_metrics count."""
    strays: int
    """Chunks and parsed files that belong to no document or item."""
    uncompleted: int
    """Documents whose item is not completed."""
    indexes: tuple[str, ...] = field(default=())


def query(connection: Admin, text: str) -> Rows:
    return connection.execute(text.encode()).fetchall()


def value(connection: Admin, text: str) -> Any:
    return query(connection, text)[0][0]


def read_state(connection: Admin) -> State:
    """Read everything in one snapshot."""
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        return _read(connection)


def _read(connection: Admin) -> State:
    chunks: dict[Any, list[Chunk]] = {}
    cut = query(
        connection,
        "SELECT document_id, chunk_index, content, embedding::text FROM document_chunks ORDER BY 1, 2",
    )
    for number, (document, index, text, _) in enumerate(cut):
        chunks.setdefault(document, []).append(Chunk(index, text, number))
    parsed: dict[Any, list[tuple[Any, ...]]] = {}
    for file, *rest in query(connection, "SELECT file_id, content_hash, characters, chunks FROM parsed_files"):
        parsed.setdefault(file, []).append(tuple(rest))
    stored = query(
        connection, "SELECT id, file_id, file_path, content, embedding::text FROM documents ORDER BY file_path, id"
    )
    documents = tuple(
        Document(path, text, number, tuple(chunks.pop(id, ())), tuple(sorted(parsed.get(file, ()), key=repr)))
        for number, (id, file, path, text, _) in enumerate(stored)
    )
    files = {row[1] for row in stored}
    strays = sum(map(len, chunks.values())) + sum(len(rows) for file, rows in parsed.items() if file not in files)
    return State(
        documents,
        _matrix([row[4] for row in stored]),
        _matrix([row[3] for row in cut]),
        Counter(row[0] for row in query(connection, "SELECT file_path FROM files_queue")),
        dict(query(connection, "SELECT status, count(*) FROM files_queue GROUP BY 1")),
        value(
            connection,
            "SELECT count(*) FROM files_queue WHERE claim_id IS NOT NULL OR lease_until IS NOT NULL",
        ),
        int(value(connection, "SELECT coalesce(sum(documents), 0) FROM ingestion_metrics")),
        strays,
        value(
            connection,
            "SELECT count(*) FROM documents d LEFT JOIN files_queue q ON q.id = d.file_id"
            " AND q.file_path = d.file_path WHERE q.status IS DISTINCT FROM 'completed'",
        ),
        read_indexes(connection),
    )


def read_indexes(connection: Admin) -> tuple[str, ...]:
    return tuple(row[0] for row in query(connection, INDEXES))


def _matrix(texts: list[str | None]) -> Vectors:
    """Vectors from pgvector's texts; a missing one is all zeros, which no distance takes for equal."""
    widest = max((text.count(",") + 1 for text in texts if text), default=1)
    matrix = np.zeros((len(texts), widest))
    for row, text in zip(matrix, texts, strict=True):
        if text:
            row[: text.count(",") + 1] = np.fromstring(text[1:-1], sep=",")
    return matrix


def distances(one: Vectors, other: Vectors) -> Vectors:
    """The cosine distance of each row of one to that of the other; NaN for a zero vector."""
    if one.shape[1:] != other.shape[1:]:
        return np.full(len(one), np.nan)
    norms = np.sqrt((one * one).sum(axis=1) * (other * other).sum(axis=1))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(1 - (one * other).sum(axis=1) / norms)


def checksum(connection: Admin, table: str) -> tuple[int, int]:
    """How many rows a table holds, and a sum over them that their order does not change."""
    text = f"SELECT count(*), coalesce(sum(hashtextextended(t::text, 0)::numeric), 0)::text FROM {table} t"
    count, total = query(connection, text)[0]
    return int(count), int(total)


def checksums(connection: Admin) -> dict[str, tuple[int, int]]:
    return {table: checksum(connection, table) for table in TABLES}
