"""Facts: frozen snapshots of the database, the build, the model and the host.

They are gathered once (by `postgres.catalog`, `embedder.client` and `host`) and passed on, so that planning
is a pure function of playbook and facts. Sizes are in bytes, counts in rows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

# format_type() prefixes the schema when pgvector is installed outside the search path, as on Supabase
# (`extensions.vector(768)`); a schema whose name needs quotes has them (`"My Schema".vector(768)`).
VECTOR_TYPE = re.compile(r"(?:(?:\w+|\"(?:[^\"]|\"\")+\")\.)?vector(?:\((\d+)\))?")


@dataclass(frozen=True, slots=True)
class BuildFacts:
    """The llama.cpp build that an interpreter effectively loads."""

    python: str
    """Path of the interpreter."""
    python_version: str
    package_version: str
    """Version of llama-cpp-python."""
    system_info: str
    """Output of `llama_print_system_info()`, verbatim."""
    features: Mapping[str, str]
    """`system_info` parsed, e.g. `{"AVX": "1", "AVX2": "1"}`; a feature that is absent is off."""
    platform: str


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """A GGUF model as the library loaded it, with the parameters that are in effect."""

    path: str
    file_bytes: int
    architecture: str
    name: str
    description: str
    """From `llama_model_desc`, e.g. `bert 33M Q8_0`."""
    dimensions: int
    n_ctx_train: int
    n_vocab: int
    n_params: int
    pooling: str
    """Effective: none, mean, cls, last or rank."""
    is_decoder: bool
    max_tokens: int
    """Length in tokens, separators included, up to which a text is embedded without being cut."""
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
    """Resources that this process may use: cores and memory."""

    cores: int
    """Physical cores within the CPU affinity and the container's quota; at least 1."""
    memory_bytes: int
    """Memory available without swapping, within the container's limit."""


@dataclass(frozen=True, slots=True)
class ColumnFacts:
    """One column of a table."""

    name: str
    type: str
    """As `format_type` prints it, e.g. `vector(384)`, `bigint`."""
    is_nullable: bool
    has_default: bool
    is_identity: bool
    is_generated: bool


@dataclass(frozen=True, slots=True)
class ForeignKeyFacts:
    """A foreign key of another table that references this one."""

    name: str
    table: str
    """The referencing table, schema-qualified."""
    on_delete: str
    """NO ACTION, RESTRICT, CASCADE, SET NULL or SET DEFAULT."""


@dataclass(frozen=True, slots=True)
class IndexFacts:
    """One vector index (HNSW or IVFFlat)."""

    name: str
    schema: str
    table: str
    """Schema-qualified."""
    method: str
    """Access method: `hnsw` or `ivfflat`."""
    column: str
    """Empty for an index on an expression."""
    definition: str
    """As `pg_get_indexdef` prints it."""
    is_valid: bool
    bytes: int


# SQL's privileges, and three that are not grants: COPY (row-level security does not apply to the role, under which
# COPY FROM fails), OWN (needed to drop or alter the table) and CREATE (on the table's schema, for an index).
ALL_PRIVILEGES = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "COPY", "OWN", "CREATE"})


@dataclass(frozen=True, slots=True)
class TableFacts:
    """One mapped table."""

    schema: str
    name: str
    oid: int
    columns: Mapping[str, ColumnFacts]
    rows: int
    """Counted or estimated, as the caller of `read_table` chose."""
    bytes: int
    """Heap, TOAST and indexes (`pg_total_relation_size`)."""
    is_unlogged: bool
    referenced_by: tuple[ForeignKeyFacts, ...] = ()
    indexes: tuple[IndexFacts, ...] = ()
    privileges: frozenset[str] = ALL_PRIVILEGES
    """Privileges of the connected role, a subset of ALL_PRIVILEGES."""

    @property
    def qualified(self) -> str:
        """Return `schema.name` unquoted, for messages; SQL uses `psycopg.sql.Identifier`."""
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True, slots=True)
class TriggerFacts:
    """A user's trigger that is enabled, of a table or of one of its partitions."""

    name: str
    table: str
    """The table that it is on, quoted as SQL needs it."""
    function: str
    """Name of its function, without schema."""
    when: str
    """BEFORE or AFTER."""
    events: tuple[str, ...]
    """Of INSERT, UPDATE, DELETE, TRUNCATE."""
    is_per_row: bool

    def __str__(self) -> str:
        return f"trigger {self.name} ({self.when} {' OR '.join(self.events)}) on {self.table}"


@dataclass(frozen=True, slots=True)
class UniqueFacts:
    """A unique index of a table, perhaps that of a constraint."""

    name: str
    is_constraint: bool
    columns: tuple[str, ...]
    """Empty text for an expression."""


@dataclass(frozen=True, slots=True)
class SequenceFacts:
    """A sequence that fills a column."""

    column: str
    name: str
    """Quoted as SQL needs it."""
    is_usable: bool
    """The role has USAGE on it."""
    is_identity: bool


@dataclass(frozen=True, slots=True)
class StructureFacts:
    """What is attached to a table and can stand in the way of a write. Names of relations are quoted for SQL."""

    children: tuple[str, ...] = ()
    """Tables that inherit from it; partitions are none of these."""
    unlogged_partitions: tuple[str, ...] = ()
    invalid_indexes: tuple[str, ...] = ()
    triggers: tuple[TriggerFacts, ...] = ()
    published: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Events (UPDATE, DELETE, TRUNCATE) → the publications that replicate them."""
    without_identity: tuple[str, ...] = ()
    """The table, or those of its partitions, that lack a replica identity."""
    generated: Mapping[str, str] = field(default_factory=dict)
    """Generated columns: `s` for stored ones, `v` for virtual ones."""
    defaults: Mapping[str, str] = field(default_factory=dict)
    """Expressions of the columns' defaults."""
    sequences: tuple[SequenceFacts, ...] = ()
    uniques: tuple[UniqueFacts, ...] = ()
    mentions: tuple[str, ...] = ()
    """Columns of other tables that seem to hold this table's ids, without a foreign key."""


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """How many connections the role may still open, and what limits them."""

    free: int
    limit: int
    what: str
    """`server`, `role` or `database`: the one that leaves the fewest."""


@dataclass(frozen=True, slots=True)
class ServerHost:
    """Resources of the server's machine, known only if ragops runs on the same one."""

    memory_bytes: int
    """Memory available without swapping, within the server's control group."""
    shared_bytes: int | None
    """Free space for dynamic shared memory; None if only memory limits it."""
    cores: int


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """Server settings that limit an index build, in bytes and processes."""

    maintenance_work_mem: int
    max_parallel_maintenance_workers: int
    max_parallel_workers: int
    max_worker_processes: int
    shared_buffers: int | None = None
    """None: PostgreSQL's default, which does not reflect the machine."""
    effective_cache_size: int | None = None
    """None: as for shared_buffers."""
    host: ServerHost | None = None
    """None: the server runs on another machine, or it is unknown whether it does."""


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """The server and the database, as the connected role sees them."""

    database: str
    database_oid: int
    pgvector_version: str | None
    """None: the extension is not installed in this database."""
    is_read_only: bool
    """The database is read-only or a standby in recovery."""
    max_connections: int
    connections_in_use: int
    settings: Mapping[str, str] = field(default_factory=dict)
    """The role's `statement_timeout`, as SHOW prints it."""
    role: str = ""
    may_archive: bool = True
    """The role may create tables in the schema `ragops`, or create that schema."""
    limits: ServerLimits | None = None
    """None: not read."""
    is_direct: bool = True
    """No pooler is in between, so the settings of a session stay with it and end with it."""


@dataclass(frozen=True, slots=True)
class DatabaseFacts:
    """The server, and the playbook's tables by logical name (`documents`, `files_queue`, …)."""

    server: ServerFacts
    tables: Mapping[str, TableFacts | None]
    """None: the table does not exist."""
    docs_per_s: float | None = None
    """Documents per second per worker in recent batches; None if no batch is recorded."""
    index_rows_per_s: float | None = None
    """Rows per second of the last index build; None if no build is recorded."""


def vector_dimensions(table: TableFacts, column: str) -> int | None:
    """Return the declared dimensions of a vector column; None if it declares no dimensions."""
    match = VECTOR_TYPE.fullmatch(table.columns[column].type)
    return int(match.group(1)) if match and match.group(1) else None


def version_of(text: str) -> tuple[int, ...]:
    """Parse a version: `0.8.2` → (0, 8, 2)."""
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])
