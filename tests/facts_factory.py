"""Facts as values: the five tables as `ragops db init` makes them, of any size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ragops.facts import (
    ColumnFacts,
    DatabaseFacts,
    ForeignKeyFacts,
    IndexFacts,
    ModelFacts,
    ServerFacts,
    ServerHost,
    ServerLimits,
    TableFacts,
)
from ragops.playbook.tables import LogicalTable

MB = 1024 * 1024
OIDS: dict[LogicalTable, int] = {
    "documents": 16401,
    "document_chunks": 16402,
    "parsed_files": 16403,
    "ingestion_metrics": 16404,
    "files_queue": 16405,
}
_COLUMNS: dict[LogicalTable, str] = {
    "documents": "id=bigint file_id=bigint file_path=text content=text metadata=jsonb embedding=vector(768)",
    "document_chunks": "document_id=bigint chunk_index=integer content=text embedding=vector(768)",
    "parsed_files": "file_id=bigint content_hash=text characters=integer chunks=integer parsed_at=timestamp",
    "ingestion_metrics": "id=bigint worker=text fingerprint=text documents=integer chunks=integer tokens=bigint "
    "milliseconds=bigint",
    "files_queue": "id=bigint file_path=text status=text attempts=integer phase=smallint claim_id=uuid "
    "claimed_by=text lease_until=timestamp last_error=text",
}
# The incident: rows and bytes, where they are known.
INCIDENT: dict[LogicalTable, tuple[int, int]] = {
    "documents": (930_394, 9_468 * MB),
    "document_chunks": (0, 0),
    "parsed_files": (930_950, 580 * MB),
    "ingestion_metrics": (13_653, 2 * MB),
    "files_queue": (1_139_250, 214 * MB),
}
CHUNKS_KEY = ForeignKeyFacts("document_chunks_document_id_fkey", "public.document_chunks", "NO ACTION")


def column(name: str, type: str = "text", **changes: Any) -> ColumnFacts:
    """A nullable column without default, unless `changes` say otherwise."""
    facts = ColumnFacts(name, type, is_nullable=True, has_default=False, is_identity=False, is_generated=False)
    return replace(facts, **changes)


def table(logical: LogicalTable, *, schema: str = "public", **changes: Any) -> TableFacts:
    """The default table of that logical name; empty unless `changes` say otherwise."""
    columns = [column(*pair.split("=")) for pair in _COLUMNS[logical].split()]
    facts = TableFacts(
        schema=schema,
        name=logical,
        oid=OIDS[logical],
        columns={c.name: c for c in columns},
        rows=0,
        bytes=0,
        is_unlogged=False,
        referenced_by=(CHUNKS_KEY,) if logical == "documents" else (),
    )
    return replace(facts, **changes)


def with_column(facts: TableFacts, added: ColumnFacts) -> TableFacts:
    return replace(facts, columns={**facts.columns, added.name: added})


def without_column(facts: TableFacts, name: str) -> TableFacts:
    return replace(facts, columns={key: c for key, c in facts.columns.items() if key != name})


def hnsw(name: str, *, on: LogicalTable = "documents", **changes: Any) -> IndexFacts:
    """A valid HNSW index that the catalog would print with m = 16, ef_construction = 64."""
    facts = IndexFacts(
        name=name,
        schema="public",
        table=f"public.{on}",
        method="hnsw",
        column="embedding",
        definition=definition(name, on=on),
        is_valid=True,
        bytes=0,
    )
    return replace(facts, **changes)


def definition(name: str, *, on: LogicalTable = "documents", m: int = 16, ef: int = 64) -> str:
    """As `pg_get_indexdef` spells it."""
    return (
        f"CREATE INDEX {name} ON public.{on} USING hnsw (embedding vector_cosine_ops) "
        f"WITH (m='{m}', ef_construction='{ef}')"
    )


def server(**changes: Any) -> ServerFacts:
    facts = ServerFacts(
        database="rag",
        database_oid=5,
        pgvector_version="0.8.2",
        is_read_only=False,
        max_connections=100,
        connections_in_use=5,
    )
    return replace(facts, **changes)


def limits(**changes: Any) -> ServerLimits:
    """PostgreSQL's defaults, on a machine that is not this one."""
    facts = ServerLimits(
        maintenance_work_mem=64 * MB,
        max_parallel_maintenance_workers=2,
        max_parallel_workers=8,
        max_worker_processes=8,
    )
    return replace(facts, **changes)


def server_host(memory_mb: int, *, shared_mb: int | None = None, cores: int = 4) -> ServerHost:
    """The server's machine, if it is this one."""
    return ServerHost(memory_mb * MB, None if shared_mb is None else shared_mb * MB, cores)


def database(
    tables: Mapping[LogicalTable, TableFacts | None] | None = None,
    *,
    server_facts: ServerFacts | None = None,
    **rates: Any,
) -> DatabaseFacts:
    """All five tables, with those in `tables` put over them."""
    every: dict[LogicalTable, TableFacts | None] = {logical: table(logical) for logical in OIDS}
    return DatabaseFacts(
        server=server_facts or server(),
        tables={str(k): v for k, v in (every | dict(tables or {})).items()},
        **rates,
    )


def incident(*, indexes: tuple[IndexFacts, ...] = (), **rates: Any) -> DatabaseFacts:
    """The incident's database: 930,394 documents in 9,468 MB, no chunks, a queue of 1,139,250 rows."""
    sized = {logical: table(logical, rows=rows, bytes=size) for logical, (rows, size) in INCIDENT.items()}
    for index in indexes:
        logical = next(name for name, facts in sized.items() if facts.qualified == index.table)
        sized[logical] = replace(sized[logical], indexes=(*sized[logical].indexes, index))
    return database(sized, **rates)


def model(**changes: Any) -> ModelFacts:
    facts = ModelFacts(
        path="model.gguf",
        file_bytes=1,
        architecture="bert",
        name="model",
        description="bert 33M Q8_0",
        dimensions=768,
        n_ctx_train=512,
        n_vocab=30_522,
        n_params=33_000_000,
        pooling="mean",
        is_decoder=False,
        max_tokens=512,
        requested={},
        effective={},
    )
    return replace(facts, **changes)
