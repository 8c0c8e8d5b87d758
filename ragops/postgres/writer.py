"""Write batches: complete their claims, then COPY the rows, in one transaction.

Vectors are stored if and only if their item is completed. Completing comes first: it matches the claim's id, and
a short count rolls everything back before a row is written.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from psycopg import Rollback, errors, sql

from ragops.documents.reading import Partial, UnknownTokens
from ragops.documents.states import FileChange
from ragops.errors import PlanRefused
from ragops.facts import ColumnFacts, TableFacts, quoted
from ragops.findings import PlanProblem
from ragops.playbook.tables import Tables
from ragops.postgres.column_checks import check_contents, check_file_ids, without_domains, written_columns
from ragops.postgres.connection import Connection, fetch_row, transaction
from ragops.postgres.copy_binary import (
    HEADER,
    TRAILER,
    Column,
    encode_rows,
    fields_of,
    has_fields,
    is_text,
    plain_type,
    text_limit,
)
from ragops.postgres.copy_text import encode_text_rows
from ragops.postgres.file_states import note_changes
from ragops.postgres.measured import Measure, partial_json, record_measured
from ragops.postgres.queue import Claim, Queue
from ragops.postgres.refusals import ValueRefused, refusal_of
from ragops.postgres.statements import literal, statement

UUID_CHARACTERS = 36
# A store sends its statements one after the other.
IDLE_S = 60


@dataclass(frozen=True, slots=True)
class ChunkRow:
    """A chunk with its vector, shape (dimensions,), float32, unit length."""

    index: int
    text: str
    vector: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class DocumentRow:
    """A document to store; `vector` is the normalised mean of its chunks' vectors."""

    item_id: Any
    """Id of its item in the queue."""
    location: str
    text: str
    content_hash: str
    characters: int
    metadata: Mapping[str, object]
    vector: NDArray[np.float32]
    chunks: tuple[ChunkRow, ...]
    partial: Partial | None = None
    """What is missing in `text`."""
    unknown: UnknownTokens | None = None
    change: FileChange | None = None
    """How its file differs from when it was queued."""
    version: bytes | None = None
    """Of a row that stays: a hash of the vector that it had when its text was read."""


@dataclass(frozen=True, slots=True)
class BatchMetrics:
    """Who embedded a batch, with what, and how fast."""

    worker: str
    fingerprint: str
    tokens: int
    milliseconds: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Items of one claim that are finished: documents to store, and failed items with their reasons."""

    claim: Claim
    documents: tuple[DocumentRow, ...]
    failures: tuple[tuple[Any, str], ...]
    metrics: BatchMetrics = field(default_factory=lambda: BatchMetrics("", "", 0, 0))


@dataclass(frozen=True, slots=True)
class Stored:
    """What became of the items of stored batches, where that is not what their batch says."""

    returned: frozenset[Any] = frozenset()
    """Back in the queue: their row changed meanwhile, or another session has locked it."""
    dropped: frozenset[Any] = frozenset()
    """No items any more: their row is gone, or has no text."""
    refused: frozenset[Any] = frozenset()
    """Failed: their row does not take the vector, or is never as it was read."""


NOTHING_ELSE = Stored()


class DocumentWriter(Protocol):
    """Stores the documents of claims together with the completion of their items."""

    def write(self, connection: Connection, *batches: Batch) -> Stored:
        """Store all batches, or none of them. Raises FenceLost, with nothing written."""

    def is_written(self, connection: Connection, *batches: Batch, worker: str) -> bool:
        """Return whether the worker has stored all of these batches already, in a transaction before."""

    def accepts(self, connection: Connection, batch: Batch) -> bool:
        """Return whether the tables still take documents that they took before."""


class Writer:
    """Writes batches into the mapped tables."""

    def __init__(self, tables: Tables, facts: dict[str, TableFacts]) -> None:
        """Take the facts of the mapped tables.

        Raises PlanRefused if ragops cannot make ids for new documents, or if a column cannot hold what belongs
        into it, whatever the document.
        """
        self._tables = tables
        self.lock_timeout_s: float | None = 0
        """How long `write` waits for a lock; 0: for ever, None: as long as the caller's transaction does."""
        self._facts = facts
        self._id_column = tables.columns_of("documents")["id"]
        self._id_type = facts["documents"].columns[self._id_column].stored_type
        check_id_column(without_domains(facts["documents"]), self._id_column)
        check_file_ids(tables, facts)
        check_contents(tables, facts)

    def write(self, connection: Connection, *batches: Batch) -> Stored:
        """Store all batches, or none of them.

        Raises FenceLost, with nothing written, if one of them no longer holds its items.
        """
        queue = Queue(connection, self._tables)
        # A role's timeouts would end the run for a lock that is waited for. Between two statements a store waits
        # for nothing: a process that is suspended, or lost behind a proxy, must not keep its locks.
        settings = {"idle_in_transaction_session_timeout": f"{IDLE_S}s"}
        with transaction(connection, lock_timeout_s=self.lock_timeout_s, is_long=True, settings=settings):
            for batch in batches:
                queue.complete(batch.claim, [document.item_id for document in batch.documents])
                queue.fail(batch.claim, batch.failures)
            self.store(connection, *batches)
            record_batches(connection, self._tables, batches)
        return NOTHING_ELSE

    def is_written(self, connection: Connection, *batches: Batch, worker: str) -> bool:
        """Return whether the worker has stored all of these batches already, in a transaction before."""
        ids = [document.item_id for batch in batches for document in batch.documents]
        ids += [id for batch in batches for id, _ in batch.failures]
        return Queue(connection, self._tables).finished(ids, worker=worker) == len(ids)

    def store(self, connection: Connection, *batches: Batch) -> Sequence[Any]:
        """Copy the rows of the batches' documents, in the caller's transaction; return the documents' ids."""
        documents = [document for batch in batches for document in batch.documents]
        if not documents:
            return []
        ids = self._new_ids(connection, len(documents))
        self._copy(connection, "documents", lambda: document_columns(documents, ids))
        self._copy(connection, "document_chunks", lambda: chunk_columns(documents, ids))
        self._copy(connection, "parsed_files", lambda: parsed_columns(documents))
        self._copy(connection, "ingestion_metrics", lambda: metrics_columns(batches))
        return ids

    def accepts(self, connection: Connection, batch: Batch) -> bool:
        """Return whether the tables still take documents that they took before: store them and roll back.

        A document that is stored already may be refused as a duplicate, which shows that its row was fine.
        """
        try:
            with transaction(connection):
                self.store(connection, batch)
                connection.execute(sql.SQL("SET CONSTRAINTS ALL IMMEDIATE"))
                raise Rollback()
        except errors.UniqueViolation:
            return True
        except Exception as error:
            if refusal_of(error) is None:
                raise
            return False
        return True

    def _new_ids(self, connection: Connection, count: int) -> Sequence[Any]:
        """Return ids for new documents, which their chunks refer to before any row is stored."""
        if self._id_type == "uuid" or is_text(self._id_type):
            return [uuid.uuid4() for _ in range(count)]
        facts = self._facts["documents"]
        by_column = {"oid": facts.oid, "column": self._id_column}
        # check_id_column() has refused a column without identity and default, so there is an expression. It is the
        # catalog's own spelling, which is why it needs no quoting.
        (next_value,) = fetch_row(connection, statement("catalog", "next_value"), by_column)
        placeholders = {"next_value": sql.SQL(next_value), "count": sql.Literal(count)}
        return [row[0] for row in connection.execute(statement("catalog", "next_values", placeholders)).fetchall()]

    def _copy(self, connection: Connection, logical: str, make: Callable[[], dict[str, Column]]) -> None:
        """Copy rows into a mapped table; `make` returns its columns, and is not called for a table without any."""
        facts = self._facts.get(logical)
        columns = written_columns(self._tables, logical, facts) if facts else {}
        if facts is None or not columns:
            return
        values = make()
        named = {facts.columns[column]: values[word] for word, column in columns.items()}
        is_binary = all(
            has_fields(column.stored_type, is_vector=isinstance(rows, np.ndarray))
            for column, rows in named.items()
        )
        query = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT {})").format(
            sql.Identifier(facts.schema, facts.name),
            sql.SQL(", ").join(sql.Identifier(column.name) for column in named),
            sql.SQL("BINARY" if is_binary else "TEXT"),
        )
        if is_binary:
            fields = [_fields(facts, column, rows) for column, rows in named.items()]
            data = HEADER + encode_rows(fields) + TRAILER
        else:
            data = encode_text_rows(list(named.values()))
        with connection.cursor() as cursor, cursor.copy(query) as copy:
            copy.write(data)


def record_batches(
    connection: Connection, tables: Tables, batches: Sequence[Batch], *, without: frozenset[Any] = frozenset()
) -> None:
    """Record what was measured of the documents, in the caller's transaction; not of the items `without`."""
    documents = [document for batch in batches for document in batch.documents if document.item_id not in without]
    failed = [id for batch in batches for id, _ in batch.failures]
    record_measured(
        connection,
        tables,
        [Measure(document.item_id, document.partial, document.unknown) for document in documents],
        finished=[*(document.item_id for document in documents), *failed],
        writer=batches[0].metrics.worker if batches else "",
    )
    changes = {document.location: document.change for document in documents if document.change is not None}
    note_changes(connection, tables, changes)


def _fields(table: TableFacts, column: ColumnFacts, values: Column) -> list[bytes]:
    """Encode a column. Raises ValueRefused for a value that it cannot hold."""
    try:
        return fields_of(values, column.stored_type)
    except UnicodeError:
        raise
    except (OverflowError, ValueError, TypeError, AttributeError) as error:
        given = str(error) if isinstance(error, OverflowError) else repr(str(values[0]))
        raise ValueRefused(
            "a value does not fit its column",
            where=f"{table.qualified}.{column.name}",
            actual=given,
            expected=f"values of type {column.type}",
            hint="change the column's type, or map another column in the playbook's tables",
        ) from error


def document_columns(documents: Sequence[DocumentRow], ids: Sequence[Any]) -> dict[str, Column]:
    """Return one row per document, as columns by their logical names."""
    return {
        "id": ids,
        "file_id": [document.item_id for document in documents],
        "file_path": [document.location for document in documents],
        "content": [document.text for document in documents],
        "metadata": [json.dumps(document.metadata) for document in documents],
        "embedding": np.stack([document.vector for document in documents]),
    }


def chunk_columns(documents: Sequence[DocumentRow], ids: Sequence[Any]) -> dict[str, Column]:
    """Return one row per chunk of the documents, as columns by their logical names."""
    chunks = [chunk for document in documents for chunk in document.chunks]
    return {
        "document_id": [id for document, id in zip(documents, ids, strict=True) for _ in document.chunks],
        "chunk_index": [chunk.index for chunk in chunks],
        "content": [chunk.text for chunk in chunks],
        "embedding": np.stack([chunk.vector for chunk in chunks]),
    }


def parsed_columns(documents: Sequence[DocumentRow]) -> dict[str, Column]:
    """Return one row per parsed file, as columns by their logical names."""
    return {
        "file_id": [document.item_id for document in documents],
        "content_hash": [document.content_hash for document in documents],
        "characters": [document.characters for document in documents],
        "chunks": [len(document.chunks) for document in documents],
        "partial": [partial_json(document.partial) for document in documents],
    }


def metrics_columns(batches: Sequence[Batch]) -> dict[str, Column]:
    """Return one row per batch that stores a document, as columns by their logical names."""
    batches = [batch for batch in batches if batch.documents]
    return {
        "worker": [batch.metrics.worker for batch in batches],
        "fingerprint": [batch.metrics.fingerprint for batch in batches],
        "documents": [len(batch.documents) for batch in batches],
        "chunks": [sum(len(document.chunks) for document in batch.documents) for batch in batches],
        "tokens": [batch.metrics.tokens for batch in batches],
        "milliseconds": [batch.metrics.milliseconds for batch in batches],
    }


def check_id_column(documents: TableFacts, column: str) -> None:
    """Raise PlanRefused unless ragops can make ids for new rows of the documents table."""
    problem = id_problem(documents, column)
    if problem is not None:
        raise PlanRefused(
            "ragops cannot make ids for new documents",
            where=f"{documents.qualified}.{column}",
            problems=[problem],
            hint=problem.cure,
        )


def id_problem(documents: TableFacts, column: str) -> PlanProblem | None:
    """Return why ragops cannot make ids for new rows of the documents table; None if it can."""
    facts = documents.columns[column]
    name, table = quoted(column), documents.quoted
    what = f"column {documents.quoted}.{column}, the id of documents, "
    limit = text_limit(facts.type)
    if plain_type(facts.type) == "character":
        # A blank-padded id would be another one in the chunks that refer to it.
        fits = limit == UUID_CHARACTERS
    else:
        fits = is_text(facts.type) and (limit is None or limit >= UUID_CHARACTERS)
    if facts.type == "uuid" or fits:
        return None
    if is_text(facts.type):
        return PlanProblem(
            f"{what}has type {facts.type}, and a new id is a uuid of {UUID_CHARACTERS} characters",
            f"ALTER TABLE {table} ALTER COLUMN {name} TYPE text",
        )
    fills_itself = facts.is_identity or facts.has_default
    if facts.type in ("bigint", "integer") and fills_itself:
        return None
    cures = []
    if facts.type == "smallint":
        what += "has type smallint, which ends at 32,767"
    elif facts.type in ("bigint", "integer"):
        what += f"has type {facts.type} without an identity or a sequence, so nothing makes new ids"
    else:
        what += f"has type {facts.type}, for which ragops makes no ids (bigint, integer, uuid or text)"
    if facts.type not in ("bigint", "integer"):
        if facts.has_default and facts.type != "smallint":
            cures.append(f"ALTER TABLE {table} ALTER COLUMN {name} DROP DEFAULT")
        using = "" if facts.type == "smallint" else f" USING {name}::text::bigint"
        cures.append(f"ALTER TABLE {table} ALTER COLUMN {name} TYPE bigint{using}")
    if not facts.is_identity and not (facts.type == "smallint" and facts.has_default):
        cures += [
            f"ALTER TABLE {table} ALTER COLUMN {name} SET NOT NULL",
            f"ALTER TABLE {table} ALTER COLUMN {name} ADD GENERATED BY DEFAULT AS IDENTITY",
            behind_sequence_cure(documents, column),
        ]
    return PlanProblem(what, "; ".join(cures))


def behind_sequence_cure(table: TableFacts, column: str) -> str:
    """Return the SQL that puts a column's sequence behind the column's largest value."""
    name, relation = quoted(column), table.quoted
    # Its parameters are texts: the first one is parsed as SQL parses a name, the second one is not.
    sequence = f"pg_get_serial_sequence({literal(relation)}, {literal(column)})"
    return f"SELECT setval({sequence}, coalesce((SELECT max({name}) FROM {relation}), 0) + 1, false)"
