"""Frozen snapshots of what is: tables, indexes, server, build, model, host.

Facts are gathered once (by `postgres.catalog` and `llama.embedder`) and passed on, so that
planning is a pure function of playbook and facts. Sizes are bytes, counts are rows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

# With its schema where the search path does not reach it.
VECTOR_TYPE = re.compile(r"(?:\w+\.)?vector(?:\((\d+)\))?")


@dataclass(frozen=True, slots=True)
class BuildFacts:
    """The llama.cpp build that an interpreter effectively loads."""

    python: str
    """Path of the interpreter."""
    python_version: str
    package_version: str
    """Version of llama-cpp-python."""
    system_info: str
    """What `llama_print_system_info()` says, verbatim."""
    features: Mapping[str, str]
    """`system_info` taken apart, e.g. `{"AVX": "1", "AVX2": "1"}`; what is absent is off."""
    platform: str


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """A GGUF model as the library loaded it, with the parameters that are in effect."""

    path: str
    file_bytes: int
    architecture: str
    name: str
    description: str
    """llama.cpp's own words, e.g. `bert 33M Q8_0`."""
    dimensions: int
    n_ctx_train: int
    n_vocab: int
    n_params: int
    pooling: str
    """Effective: none, mean, cls, last or rank."""
    is_decoder: bool
    max_tokens: int
    """Longest text, in tokens with separators, that is embedded without being cut."""
    requested: Mapping[str, int | bool | str]
    effective: Mapping[str, int | bool | str]
    """Parameters after clamping: n_ctx, n_batch, n_ubatch, n_threads, n_seq_max, pooling, ..."""
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class HostFacts:
    """The machine that a command runs on."""

    name: str
    system: str
    cpu: str
    features: tuple[str, ...]
    physical_cores: int
    logical_cores: int
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class HostLimits:
    """What a process may use of its machine now."""

    cores: int
    """Physical cores, less what CPU affinity and a container's quota take away; at least 1."""
    memory_bytes: int
    """Memory that can be had without swapping, within a container's limit."""


@dataclass(frozen=True, slots=True)
class ColumnFacts:
    name: str
    type: str
    """As `format_type` spells it, e.g. `vector(384)`, `bigint`."""
    is_nullable: bool
    has_default: bool
    is_identity: bool
    is_generated: bool


@dataclass(frozen=True, slots=True)
class ForeignKeyFacts:
    """A foreign key of another table that points at this one."""

    name: str
    table: str
    """The referencing table, schema-qualified."""
    on_delete: str


@dataclass(frozen=True, slots=True)
class IndexFacts:
    name: str
    schema: str
    table: str
    """Schema-qualified."""
    method: str
    column: str
    definition: str
    is_valid: bool
    bytes: int


ALL_RIGHTS = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "COPY", "OWN", "CREATE"})


@dataclass(frozen=True, slots=True)
class TableFacts:
    schema: str
    name: str
    oid: int
    columns: Mapping[str, ColumnFacts]
    primary_key: tuple[str, ...]
    rows: int
    rows_are_estimated: bool
    bytes: int
    """Heap, TOAST and indexes (`pg_total_relation_size`)."""
    is_unlogged: bool
    referenced_by: tuple[ForeignKeyFacts, ...] = ()
    indexes: tuple[IndexFacts, ...] = ()
    rights: frozenset[str] = ALL_RIGHTS
    """What the role may do: SQL's words; COPY (no row-level security applies), OWN, CREATE (in the schema)."""

    @property
    def qualified(self) -> str:
        """`schema.name`, for people; SQL goes through `psycopg.sql.Identifier`."""
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True, slots=True)
class ServerHost:
    """The server's machine, where that is this one."""

    memory_bytes: int
    """Memory that can be had without swapping, within the server's own control group."""
    shared_bytes: int | None
    """Free space for dynamic shared memory; None where nothing but memory bounds it."""
    cores: int


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """What the server lets an index build take, in bytes and processes."""

    maintenance_work_mem: int
    max_parallel_maintenance_workers: int
    max_parallel_workers: int
    max_worker_processes: int
    shared_buffers: int | None = None
    """None: PostgreSQL's default, which says nothing of the machine."""
    effective_cache_size: int | None = None
    """None: as for shared_buffers."""
    host: ServerHost | None = None
    """None: another machine, or one that cannot be told from another."""


@dataclass(frozen=True, slots=True)
class ServerFacts:
    database: str
    database_oid: int
    server_version: int
    """As `server_version_num`, e.g. 180000."""
    pgvector_version: str | None
    is_read_only: bool
    max_connections: int
    connections_in_use: int
    settings: Mapping[str, str] = field(default_factory=dict)
    role: str = ""
    may_archive: bool = True
    """The role may make tables in the schema `ragops`, or that schema."""
    limits: ServerLimits | None = None
    """None: not read."""
    is_direct: bool = True
    """No pooler stands between: settings of a session stay with it, and end with it."""


@dataclass(frozen=True, slots=True)
class DatabaseFacts:
    """Server and the playbook's tables, keyed by their logical name (`documents`, `files_queue`, ...)."""

    server: ServerFacts
    tables: Mapping[str, TableFacts | None]
    """None: the table does not exist."""
    docs_per_s: float | None = None
    """Measured rate of earlier batches, where there were any."""
    index_rows_per_s: float | None = None
    """Measured rate of earlier index builds, where there were any."""


def vector_dimensions(table: TableFacts, column: str) -> int | None:
    """The declared dimensions of a vector column; None when the column declares none."""
    match = VECTOR_TYPE.fullmatch(table.columns[column].type)
    return int(match.group(1)) if match and match.group(1) else None


def version_of(text: str) -> tuple[int, ...]:
    """`0.8.2` → (0, 8, 2)."""
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])
