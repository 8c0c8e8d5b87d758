"""The playbook as frozen models: types, limits and defaults. `loading` reads the YAML."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    WithJsonSchema,
    model_validator,
)

from ragops.errors import OverrideError
from ragops.playbook.names import TableName
from ragops.playbook.problems import Inconsistent, Place, problems_of
from ragops.playbook.steps import DropIndexes, Embed, EmptyTables, ReseedQueue, Step
from ragops.playbook.tables import Identifier, Section, Tables, TableText, VectorTable


def _as_auto(value: object) -> object:
    return "auto" if value == "planned" else value


# `planned` is the older word. Playbooks use it, and so do the copies in the ledger of campaigns that an
# older version started, so it stays valid; the model holds `auto` only.
Auto = Annotated[
    Literal["auto"],
    BeforeValidator(_as_auto),
    WithJsonSchema({"enum": ["auto", "planned"], "type": "string"}),
]
# Quoted variables expand to "" where they are unset: `"${RAGOPS_QUERY:-}"`. An empty pattern or statement
# would only fail later, at the corpus or the server.
NonEmptyText = Annotated[str, Field(min_length=1)]


class Database(Section):
    dsn: str | None = Field(default=None, repr=False)
    """`--dsn` and RAGOPS_DSN come first; null means the embedded server."""
    allow_plaintext: bool = False
    """Allow a connection to another machine without TLS."""
    connect_timeout_s: PositiveInt = 10


class Parameters(Section):
    """llama.cpp's parameters as the procedure lists them; `ragops verify` shows the effective ones."""

    n_ctx: PositiveInt = 512
    n_batch: PositiveInt = 2048
    n_ubatch: PositiveInt = 2048
    n_threads: PositiveInt | Auto | Literal["cpu_count"] = "auto"
    low_vram: bool = False
    f16_kv: bool = True
    verbose: bool = False


class Model(Section):
    file: Path | None = None
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-fA-F]{64}$")
    dimensions: PositiveInt | None = None
    pooling: Literal["auto", "mean", "cls", "last"] = "auto"
    query_prefix: str = ""
    document_prefix: str = ""
    parameters: Parameters = Parameters()


class Build(Section):
    """What the workers' build must be, as the loaded library reports it."""

    version: str | None = None
    """Exact version of llama-cpp-python; null accepts any."""
    features: dict[str, bool] = Field(default_factory=dict)
    """Effective features by llama.cpp's names, e.g. `AVX2: false`."""
    use: str | None = None
    """Name of a build made by `ragops build install`; the workers run under its interpreter."""
    accept: Literal["identical", "equivalent"] = "equivalent"
    """The worst verdict against `reference:` that lets a campaign go on."""
    max_drift: PositiveFloat = 1e-3
    """Largest cosine distance between two spaces that still counts as equivalent."""
    min_overlap: Annotated[float, Field(ge=0, le=1)] = 0.99
    """Smallest share of common neighbours at 10 that still counts as equivalent."""


class OpenAIReference(Section):
    """An OpenAI-compatible endpoint: llama-server, llama_cpp.server, Ollama, TEI and others."""

    url: str = Field(pattern=r"^https?://")
    """Up to and without `/embeddings`, e.g. `http://backend:8080/v1`."""
    model: str = "default"
    api_key_env: str | None = None
    """Name of the environment variable that holds the key; the key itself stands nowhere."""
    timeout_s: PositiveFloat = 30.0


class DebugPaths(Section):
    """Where a debug endpoint's JSON holds what is compared, keys joined by dots."""

    dimensions: str = "backend_embedding_dims"
    distance_min: str = "comparison_stats.distance_min"
    distance_max: str = "comparison_stats.distance_max"
    distance_avg: str = "comparison_stats.distance_avg"


class DebugReference(Section):
    """A debug endpoint like the procedure's: the backend's own distances of a query to the stored rows."""

    url: str = Field(pattern=r"^https?://")
    """With `{query}` where the query goes, e.g. `http://backend/api/v3/debug/compare-rag-embedding?query={query}`."""
    query: str = "test urbanisme"
    token_env: str | None = None
    """Name of the environment variable that holds a bearer token."""
    timeout_s: PositiveFloat = 30.0
    paths: DebugPaths = DebugPaths()


class Reference(Section):
    """The source of truth for the vector space: at most one of a file, an endpoint, a debug endpoint."""

    fingerprint: Path | None = None
    openai: OpenAIReference | None = None
    debug: DebugReference | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        given = [kind for kind in ("fingerprint", "openai", "debug") if getattr(self, kind) is not None]
        if len(given) > 1:
            raise ValueError(f"one reference only, found {' and '.join(given)}")
        return self


class Workers(Section):
    count: PositiveInt | Auto = "auto"
    """`auto`: what `ragops tune` stored, else from physical cores, container quota and memory."""
    threads: PositiveInt | None = None
    """Threads per worker; null: chosen so that workers × threads ≤ cores."""
    batch_size: PositiveInt = 100
    """Documents per claim; a fast fleet claims several batches at once."""
    tokens_per_batch: PositiveInt | Auto = "auto"
    """Short texts share a llama.cpp batch of up to this many tokens; `auto`: the tuned value, else 256."""
    repack_weights: bool | None = None
    """Null: what `ragops tune` stored, else yes, except in builds with AMX, some of which crash on it."""
    cache_mib: NonNegativeInt = 2048
    """Vectors kept on this machine, so that a repeated campaign embeds nothing twice; 0: none."""
    python: Path | None = None
    """Another interpreter that holds llama_cpp, e.g. of an aligned build."""
    lease_s: PositiveInt = 120
    request_deadline_s: PositiveInt = 300


class Chunking(Section):
    max_tokens: PositiveInt | None = None
    """Longest chunk in the model's own tokens, separators and prefix included; null: the model's context."""
    overlap_tokens: NonNegativeInt = 0


class Source(Section):
    """Where the documents come from: exactly one of folder, table, query or manifest."""

    folder: Path | None = None
    patterns: tuple[NonEmptyText, ...] = Field(default=("**/*",), min_length=1)
    table: TableText | None = None
    id_column: Identifier = "id"
    text_column: Identifier = "content"
    query: NonEmptyText | None = None
    """SELECT whose first column is the row's id and whose second is its text."""
    manifest: Path | None = None
    root: Path | None = None
    """Folder that the manifest's lines are relative to; null: the manifest's own."""

    @property
    def is_named(self) -> bool:
        return any(getattr(self, kind) is not None for kind in ("folder", "table", "query", "manifest"))

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        given = [kind for kind in ("folder", "table", "query", "manifest") if getattr(self, kind) is not None]
        if len(given) > 1:
            raise ValueError(f"one source only, found {' and '.join(given)}")
        return self


class Index(Section):
    name: Identifier
    table: VectorTable
    metric: Literal["cosine", "l2", "ip"] = "cosine"
    m: Annotated[int, Field(ge=2, le=100)] = 16
    ef_construction: Annotated[int, Field(ge=4, le=1000)] = 64

    @model_validator(mode="after")
    def _wide_enough(self) -> Self:
        if self.ef_construction < 2 * self.m:
            needed = f"at least 2 × m = {2 * self.m}"
            raise ValueError(f"ef_construction must be {needed}, found {self.ef_construction}")
        return self


class Validation(Section):
    sample: PositiveInt = 50
    """Stored rows, drawn at random, whose text is embedded again."""
    max_distance: PositiveFloat = 1e-3
    """Largest cosine distance between a stored vector and the same text embedded again."""
    thresholds: tuple[PositiveFloat, ...] = (0.3, 0.5, 0.7, 0.9)
    criterion: PositiveFloat = 0.7
    """The procedure's own criterion: at least one row under this distance."""
    queries: tuple[str, ...] = ()
    """Sample queries; empty: the first eight words of sampled documents."""
    sampled_queries: PositiveInt = 8
    max_failed_share: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Largest share of failed items among the processed ones."""


DEFAULT_INDEXES = (
    Index(name="idx_documents_embedding_hnsw", table="documents"),
    Index(name="idx_document_chunks_embedding_hnsw", table="document_chunks"),
)


class Playbook(Section):
    """A validated playbook."""

    version: Literal[1]
    name: str = Field(min_length=1)
    description: str = ""
    database: Database = Database()
    model: Model = Model()
    build: Build = Build()
    reference: Reference = Reference()
    workers: Workers = Workers()
    chunking: Chunking = Chunking()
    source: Source = Source()
    tables: Tables = Tables()
    indexes: tuple[Index, ...] = DEFAULT_INDEXES
    validation: Validation = Validation()
    steps: tuple[Step, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        problems = [*_wrong_order(self.steps), *_wrong_tables(self)]
        if problems:
            raise Inconsistent(problems)
        return self

    def gates(self) -> tuple[int, ...]:
        """The item counts at which embedding stops, ascending; they cut the queue into phases."""
        return tuple(step.until for step in self.steps if isinstance(step, Embed) and step.until is not None)

    def with_changes(self, **sections: Mapping[str, object]) -> Playbook:
        """Return a validated copy with some keys of some sections replaced, e.g. `workers={"count": 2}`.

        Raises OverrideError with every value that the playbook's own validators refuse.
        """
        data: dict[str, object] = dict(self)
        for name, values in sections.items():
            data[name] = {**dict(getattr(self, name)), **values}
        try:
            # Not `model_copy(update=…)`, which skips every validator. Unchanged parts are passed on as the
            # models that they are: a dump would lose what it excludes and turn paths into text.
            return Playbook.model_validate(data)
        except ValidationError as error:
            raise OverrideError(problems_of(error)) from error

    def ledger_copy(self) -> dict[str, Any]:
        """Return the playbook as JSON for the ledger, without the DSN: passwords are stored nowhere."""
        return self.with_changes(database={"dsn": None}).model_dump(mode="json")


def _wrong_order(steps: tuple[Step, ...]) -> Iterator[tuple[Place, str]]:
    reached: float = 0
    for i, step in enumerate(steps):
        if not isinstance(step, Embed):
            continue
        # Without `until` everything is embedded: nothing is left for a later gate.
        limit = step.until or float("inf")
        if limit <= reached:
            yield ("steps", i), "every embed needs a larger `until` than the one before; only the last has none"
        reached = max(reached, limit)
    drops, embeds = _places(steps, DropIndexes), _places(steps, Embed)
    reseeds, empties = _places(steps, ReseedQueue), _places(steps, EmptyTables)
    if drops and empties and empties[0] < drops[0]:
        yield ("steps", empties[0]), "drop_indexes must come before empty_tables (an index belongs to its vectors)"
    if embeds and reseeds and embeds[0] < reseeds[-1]:
        yield ("steps", reseeds[-1]), "reseed_queue must come before the first embed"
    if embeds and empties and embeds[0] < empties[-1]:
        yield ("steps", empties[-1]), "empty_tables must come before the first embed (it removes what is embedded)"
    if reseeds and empties and reseeds[0] < empties[-1]:
        yield ("steps", empties[-1]), "empty_tables must come before reseed_queue (it empties the queue)"


def _places(steps: tuple[Step, ...], kind: type[Section]) -> list[int]:
    return [i for i, step in enumerate(steps) if isinstance(step, kind)]


def _wrong_tables(playbook: Playbook) -> Iterator[tuple[Place, str]]:
    mapped = playbook.tables.mapped()
    for i, index in enumerate(playbook.indexes):
        if index.table not in mapped:
            yield ("indexes", i), f"{index.name} is on {index.table}, which tables: sets to null"
    first: dict[TableName, str] = {}
    for logical, name in mapped.items():
        if name in first:
            yield ("tables", logical), f"{name} is mapped twice, as {first[name]} too"
        first.setdefault(name, logical)
