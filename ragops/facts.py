"""Facts: frozen snapshots of the database, the build, the model and the host.

They are gathered once (by `postgres.catalog`, `embedder.client` and `host`) and passed on, so that planning
is a pure function of playbook and facts. Sizes are in bytes, counts in rows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

# format_type() prefixes the schema, quoted if need be, when pgvector is installed outside the search path, as on
# Supabase (`extensions.vector(768)`).
_SCHEMA = r'(?:(?P<schema>\w+|"(?:[^"]|"")+")\.)?'
VECTOR_TYPE = re.compile(rf"{_SCHEMA}vector(?:\((?P<dimensions>\d+)\))?")
# The types whose values can be read as vectors; ragops writes only `vector`.
READABLE_TYPE = re.compile(rf"{_SCHEMA}(?P<kind>vector|halfvec|sparsevec)(?:\((?P<dimensions>\d+)\))?")
_PLAIN_NAME = re.compile(r"[a-z_][a-z0-9_$]*")
# https://www.postgresql.org/docs/current/sql-keywords-appendix.html: those that are no name without quotes.
_RESERVED_WORDS = """
all analyse analyze and any array as asc asymmetric authorization binary both case cast check collate
collation column concurrently constraint create cross current_catalog current_date current_role
current_schema current_time current_timestamp current_user default deferrable desc distinct do else end
except false fetch for foreign freeze from full grant group having ilike in initially inner intersect
into is isnull join lateral leading left like limit localtime localtimestamp natural not notnull null
offset on only or order outer overlaps placing primary references returning right select session_user
similar some symmetric system_user table tablesample then to trailing true union unique user using
variadic verbose when where window with
"""
_RESERVED = frozenset(_RESERVED_WORDS.split())


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
    """Of the vectors that come out: the model's, or the fewer that the playbook cuts them to."""
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
    pooling_is_guessed: bool = False
    """Neither the playbook nor the file names a pooling."""
    attention: str = ""
    """Effective: causal or non-causal."""
    attention_is_changed: bool = False
    """The playbook asks for another attention than the model's."""
    end_token: str = ""
    """The special token that a text of this model should end with; empty if the vocabulary has none."""
    ends_with: str = ""
    """The special token that the tokenizer puts after every text by itself; empty for none."""
    suffix_tokens: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """The special tokens in the playbook's suffixes, by `document` and `query`."""
    unknown_token: int | None = None
    """Id of the token for what the vocabulary cannot spell; None where it spells every byte."""
    full_dimensions: int | None = None
    """The model's, where the playbook cuts its vectors to fewer (Matryoshka); None where it does not."""


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
    base_type: str = ""
    """What a domain stands for, down to a type that is no domain; empty if `type` is none."""

    @property
    def stored_type(self) -> str:
        """The type of the values, whatever domain is around it."""
        return self.base_type or self.type


@dataclass(frozen=True, slots=True)
class ForeignKeyFacts:
    """A foreign key of another table that references this one."""

    name: str
    table: str
    """The referencing table, schema-qualified."""
    on_delete: str
    """NO ACTION, RESTRICT, CASCADE, SET NULL or SET DEFAULT."""
    schema: str = "public"
    """Of the referencing table."""
    drop: str = ""
    """The statement that drops it."""
    add: str = ""
    """The statement that makes it again; rows that are there already are not checked."""

    @property
    def table_name(self) -> str:
        """Return the referencing table's name without its schema."""
        return self.table.removeprefix(f"{self.schema}.")


@dataclass(frozen=True, slots=True)
class IndexProperties:
    """What belongs to an index, but is not part of its definition as `pg_get_indexdef` prints it."""

    tablespace: str | None = None
    """None: the database's own."""
    comment: str | None = None
    statistics: Mapping[str, int] = field(default_factory=dict)
    """Statistics target by number of the index's column, where it has one."""
    parent: str | None = None
    """The index of the partitioned table that this one is attached to, schema-qualified; None without one."""

    @classmethod
    def from_json(cls, stored: Mapping[str, Any] | None) -> IndexProperties:
        """Return what the journal stored; the defaults for an entry of an older version (None)."""
        return cls(**(stored or {}))

    def to_json(self) -> dict[str, object]:
        return asdict(self)


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
    """Of this index alone: 0 for that of a partitioned table, whose partitions have indexes of their own."""
    table_oid: int = 0
    properties: IndexProperties = field(default_factory=IndexProperties)
    reads: tuple[str, ...] = ()
    """The columns that its key reads: that one, or those of an expression."""
    mentions: frozenset[str] = frozenset()
    """The columns that it depends on, those of a predicate included."""

    @property
    def is_attached(self) -> bool:
        """Return whether it is a part of a partitioned table's index, which alone can be dropped."""
        return self.properties.parent is not None


@dataclass(frozen=True, slots=True)
class PartitionFacts:
    """One partition of a partitioned table, at any level below it."""

    schema: str
    name: str
    oid: int
    depth: int
    """1 for a partition of the table itself."""


@dataclass(frozen=True, slots=True)
class TriggerState:
    """Whether a trigger that a user made fires, on a table or on one of its partitions."""

    schema: str
    table: str
    name: str
    state: str
    """As `pg_trigger.tgenabled` has it: O fires as usual, R only on a replica, A always, D never."""


# SQL's privileges, and four that are not the table's: COPY (row-level security does not apply to the role, under
# which COPY FROM fails), OWN (needed to drop or alter the table), and USAGE and CREATE (on the table's schema, to
# name anything in it, and for an index).
ALL_PRIVILEGES = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "COPY", "OWN", "USAGE", "CREATE"})


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
    """Heap, TOAST and indexes (`pg_total_relation_size`), those of partitions included."""
    is_unlogged: bool
    referenced_by: tuple[ForeignKeyFacts, ...] = ()
    indexes: tuple[IndexFacts, ...] = ()
    privileges: frozenset[str] = ALL_PRIVILEGES
    """Privileges of the connected role, a subset of ALL_PRIVILEGES."""
    is_partitioned: bool = False
    partitions: tuple[PartitionFacts, ...] = ()
    locked_by: str | None = None
    """Who holds or awaits a lock that keeps readers out; read only where a command must not wait for it."""

    @property
    def qualified(self) -> str:
        """Return `schema.name` unquoted, by which journal and archives name a table."""
        return f"{self.schema}.{self.name}"

    @property
    def quoted(self) -> str:
        """Return `schema.name` with the quotes that SQL needs, for messages and for SQL that people paste."""
        return quoted(self.schema, self.name)


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """A source of documents that is a table or a query."""

    rows: int
    with_id: int
    """Rows whose id is not NULL."""
    distinct: int
    """Distinct ids, compared as text."""
    seconds: float
    """How long one scan took."""
    repeated: tuple[tuple[str, int], ...] = ()
    """Some ids that several rows have, and the number of those rows."""
    lost: tuple[str, str] | None = None
    """An id that does not find its row again, and what is found instead, in words."""
    longest: int = 0
    """Characters of the longest id."""
    is_unique: bool = False
    """A unique index keeps the ids apart, so that they were counted only."""
    reads: Mapping[int, str] = field(default_factory=dict)
    """By the oid of a mapped table that the source reads: the relation that the source names."""


@dataclass(frozen=True, slots=True)
class SpaceFacts:
    """Space that an archive needs, and what is free on the server's disks."""

    table_bytes: Mapping[int, int]
    """Rows of a table with TOAST, without indexes, by the table's oid."""
    max_wal_bytes: int
    """`max_wal_size`: about as much WAL stays before a checkpoint recycles it."""
    free: int | None = None
    """Free bytes on the disk where new tables go; None if the server runs elsewhere, or that is unknown."""
    folder: str | None = None
    """A folder of that disk."""
    wal_free: int | None = None
    """Free bytes on the disk of the WAL, where that is another one; else None."""


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
    assigns: tuple[str, ...] = ()
    """Columns of the new row that its function's text assigns; read only where a plan names them."""

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
    vector_schema: str | None = None
    """The schema that pgvector is installed in; None: not read, or not installed."""
    may_use_vector: bool = True
    """The role has USAGE on that schema, without which it can use no operator of pgvector."""


@dataclass(frozen=True, slots=True)
class DatabaseFacts:
    """The server, and the playbook's tables by logical name (`documents`, `files_queue`, …)."""

    server: ServerFacts
    tables: Mapping[str, TableFacts | None]
    """None: the table does not exist."""
    not_tables: Mapping[str, str] = field(default_factory=dict)
    """What a name stands for that is not a table's: logical name → `view`, `foreign table` and so on."""
    docs_per_s: float | None = None
    """Documents per second per worker in recent batches; None if no batch is recorded."""
    index_rows_per_s: float | None = None
    """Rows per second of the last index build; None if no build is recorded."""


def vector_dimensions(table: TableFacts, column: str) -> int | None:
    """Return the declared dimensions of a vector column; None if it declares no dimensions."""
    match = READABLE_TYPE.fullmatch(table.columns[column].type)
    return int(match["dimensions"]) if match and match["dimensions"] else None


def vector_kind(table: TableFacts, column: str) -> str:
    """Return the type of a vector column without its schema: `vector`, `halfvec` or `sparsevec`."""
    match = READABLE_TYPE.fullmatch(table.columns[column].type)
    return match["kind"] if match else "vector"


def shown_vector_schema(table: TableFacts, column: str) -> str | None:
    """Return pgvector's schema if a name of pgvector needs it; None if the search path finds the type."""
    found = table.columns.get(column)
    match = READABLE_TYPE.fullmatch(found.type) if found else None
    schema = match["schema"] if match else None
    if schema is None or not schema.startswith('"'):
        return schema
    return schema[1:-1].replace('""', '"')


def quoted(*parts: str) -> str:
    """Return a name as SQL needs it, part by part: in quotes unless it is a plain lower-case word."""
    return ".".join(
        part if _PLAIN_NAME.fullmatch(part) and part not in _RESERVED else '"' + part.replace('"', '""') + '"'
        for part in parts
    )


def version_of(text: str) -> tuple[int, ...]:
    """Parse a version: `0.8.2` → (0, 8, 2)."""
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])
