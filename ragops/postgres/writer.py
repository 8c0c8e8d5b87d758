"""Writes one batch: complete the claim, then COPY, in one transaction.

Vectors exist if and only if their item is completed: completing comes first, matches on the claim's
id, and a short count rolls everything back before a row is written.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from psycopg import sql
from psycopg.types.json import Jsonb

from ragops.errors import PlanRefused
from ragops.facts import TableFacts
from ragops.playbook.tables import Tables
from ragops.postgres.connection import Connection, transaction
from ragops.postgres.queue import Claim, Queue
from ragops.postgres.statements import statement


@dataclass(frozen=True, slots=True)
class ChunkRow:
    """A chunk with its vector, shape (dimensions,), float32, unit length."""

    index: int
    text: str
    vector: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class DocumentRow:
    """A document ready to be stored; `vector` is the normalised mean of its chunks' vectors."""

    item_id: Any
    location: str
    text: str
    content_hash: str
    characters: int
    metadata: dict[str, Any]
    vector: NDArray[np.float32]
    chunks: tuple[ChunkRow, ...]


@dataclass(frozen=True, slots=True)
class BatchMetrics:
    worker: str
    fingerprint: str
    tokens: int
    milliseconds: int


@dataclass(frozen=True, slots=True)
class Batch:
    """What became of one claim: documents to store, items that failed with their reasons."""

    claim: Claim
    documents: tuple[DocumentRow, ...]
    failures: tuple[tuple[Any, str], ...]
    metrics: BatchMetrics = field(default_factory=lambda: BatchMetrics("", "", 0, 0))


class Writer:
    """Writes batches into the mapped tables."""

    def __init__(self, tables: Tables, facts: dict[str, TableFacts]) -> None:
        """`facts` are those of the mapped tables. Raises PlanRefused for an id type that cannot be made."""
        self._tables = tables
        self._facts = facts
        self._queue = Queue(tables)
        self._id_column = tables.columns_of("documents")["id"]
        self._id_type = facts["documents"].columns[self._id_column].type
        check_id_column(facts["documents"], self._id_column)

    def write(self, connection: Connection, batch: Batch) -> None:
        """Store a batch. Raises FenceLost, with nothing written, when its claim has passed on."""
        with transaction(connection):
            self._queue.complete(connection, batch.claim, [document.item_id for document in batch.documents])
            self._queue.fail(connection, batch.claim, batch.failures)
            if batch.documents:
                ids = self._new_ids(connection, len(batch.documents))
                self._copy(connection, "documents", self._document_rows(batch.documents, ids))
                self._copy(connection, "document_chunks", self._chunk_rows(batch.documents, ids))
                self._copy(connection, "parsed_files", self._parsed_rows(batch.documents))
                self._copy(connection, "ingestion_metrics", [self._metrics_row(batch)])

    def _new_ids(self, connection: Connection, count: int) -> Sequence[Any]:
        if self._id_type == "uuid":
            return [uuid.uuid4() for _ in range(count)]
        if _is_text(self._id_type):
            return [str(uuid.uuid4()) for _ in range(count)]
        facts = self._facts["documents"]
        row = connection.execute(
            statement("catalog", "next_value"), {"oid": facts.oid, "column": self._id_column}
        ).fetchone()
        assert row is not None, "check_id_column has refused a column without identity and default"
        # The catalog's own spelling of the column's default, evaluated for every row.
        query = sql.SQL("SELECT {} FROM generate_series(1, {})").format(sql.SQL(row[0]), sql.Literal(count))
        return [row[0] for row in connection.execute(query).fetchall()]

    def _document_rows(self, documents: Sequence[DocumentRow], ids: Sequence[Any]) -> Iterable[dict[str, Any]]:
        for document, document_id in zip(documents, ids, strict=True):
            yield {
                "id": document_id,
                "file_id": document.item_id,
                "file_path": document.location,
                "content": document.text,
                "metadata": Jsonb(document.metadata),
                "embedding": document.vector,
            }

    def _chunk_rows(self, documents: Sequence[DocumentRow], ids: Sequence[Any]) -> Iterable[dict[str, Any]]:
        for document, document_id in zip(documents, ids, strict=True):
            for chunk in document.chunks:
                yield {
                    "document_id": document_id,
                    "chunk_index": chunk.index,
                    "content": chunk.text,
                    "embedding": chunk.vector,
                }

    def _parsed_rows(self, documents: Sequence[DocumentRow]) -> Iterable[dict[str, Any]]:
        for document in documents:
            yield {
                "file_id": document.item_id,
                "content_hash": document.content_hash,
                "characters": document.characters,
                "chunks": len(document.chunks),
            }

    def _metrics_row(self, batch: Batch) -> dict[str, Any]:
        return {
            "worker": batch.metrics.worker,
            "fingerprint": batch.metrics.fingerprint,
            "documents": len(batch.documents),
            "chunks": sum(len(document.chunks) for document in batch.documents),
            "tokens": batch.metrics.tokens,
            "milliseconds": batch.metrics.milliseconds,
        }

    def _copy(self, connection: Connection, logical: str, rows: Iterable[dict[str, Any]]) -> None:
        columns = self._tables.columns_of(logical) if logical in self._facts else {}
        if not columns:
            return
        facts = self._facts[logical]
        query = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(
            sql.Identifier(facts.schema, facts.name),
            sql.SQL(", ").join(sql.Identifier(column) for column in columns.values()),
        )
        with connection.cursor() as cursor, cursor.copy(query) as copy:
            copy.set_types([_plain_type(facts.columns[column].type) for column in columns.values()])
            for row in rows:
                copy.write_row(
                    [_fitting(row[word], facts.columns[column].type) for word, column in columns.items()]
                )


def check_id_column(documents: TableFacts, column: str) -> None:
    """Raise PlanRefused unless ragops can make ids for the documents table."""
    facts = documents.columns[column]
    if facts.type == "uuid" or _is_text(facts.type):
        return
    if facts.type in ("bigint", "integer") and (facts.is_identity or facts.has_default):
        return
    raise PlanRefused(
        "ragops cannot make ids for new documents",
        where=f"{documents.qualified}.{column}",
        found=f"{facts.type} without identity or sequence",
        needed="bigint or integer with an identity or serial sequence, uuid, or text",
        hint=f'ALTER TABLE {documents.qualified} ALTER COLUMN "{column}" ADD GENERATED BY DEFAULT AS IDENTITY',
    )


def _plain_type(type_name: str) -> str:
    """`public.vector(384)` → `vector`: COPY needs the type without schema and modifier."""
    return type_name.split("(")[0].strip().rsplit(".", 1)[-1]


def _is_text(type_name: str) -> bool:
    return type_name == "text" or type_name.startswith("character varying")


def _fitting(value: Any, type_name: str) -> Any:
    """A user's `file_id` may be text where ours is a number; numbers and uuids have one spelling."""
    return str(value) if _is_text(type_name) and isinstance(value, (int, uuid.UUID)) else value
