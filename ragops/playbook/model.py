"""The playbook as frozen models: types, limits and defaults. `loading` reads the YAML."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AliasChoices,
    BeforeValidator,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from ragops.errors import OverrideError
from ragops.playbook.endpoints import masked_url
from ragops.playbook.names import TableName
from ragops.playbook.problems import Inconsistent, Place, problems_of
from ragops.playbook.source_encoding import SourceEncoding
from ragops.playbook.steps import FILE_STEPS, ROW_STEPS, Embed, Step, row_order, wrong_order
from ragops.playbook.tables import Identifier, Section, Tables, TableText, VectorTable
from ragops.playbook.targets import RowTarget, work_tables

# `planned` is the older word. Playbooks use it, and so do the copies in the ledger of campaigns that an
# older version started, so it stays valid; the model holds `auto` only.
Auto = Annotated[
    Literal["auto"],
    BeforeValidator(lambda value: "auto" if value == "planned" else value),
    WithJsonSchema({"enum": ["auto", "planned"], "type": "string"}),
]
# Quoted variables expand to "" where they are unset: `"${RAGOPS_QUERY:-}"`. An empty pattern or statement
# would only fail later, at the corpus or the server.
NonEmptyText = Annotated[str, Field(min_length=1)]


class Database(Section):
    dsn: str | None = Field(default=None, repr=False)
    """`--dsn` and RAGOPS_DSN take precedence; null means the embedded server."""
    # libpq's default sslmode is `prefer`: it silently falls back to plain text, password exchange included.
    allow_plaintext: bool = False
    """Allow a connection to another machine without TLS."""
    connect_timeout_s: PositiveInt = 10
    max_outage_s: PositiveInt = 6 * 3600
    """How long a campaign waits for a database that is away, full or read-only before it ends with exit code 1."""


class Parameters(Section):
    """llama.cpp's parameters as the runbook lists them; `ragops verify` shows the effective ones."""

    # The incident's values. llama.cpp clamps n_batch=2048 to n_ctx=512; the larger number is kept so that it
    # can be compared with the backend's.
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
    attention: Literal["auto", "causal", "non-causal"] = "auto"
    """llama.cpp's attention_type: `auto` is what the model was trained with."""
    query_prefix: str = ""
    document_prefix: str = ""
    query_suffix: str = ""
    """Follows every query. Names of special tokens in it are those tokens, e.g. `<|endoftext|>`."""
    document_suffix: str = ""
    """Follows every chunk, as `query_suffix` does every query."""
    parameters: Parameters = Parameters()


class Build(Section):
    """Requirements on the workers' build, compared with what the loaded library reports.

    Requested flags are not effective flags: with GGML_NATIVE=OFF the unlisted GGML_F16C and GGML_BMI2 default
    to ON, and GCC's -mf16c implies AVX.
    """

    version: str | None = None
    """Exact version of llama-cpp-python; null accepts any."""
    features: dict[str, bool] = Field(default_factory=dict)
    """Effective features by llama.cpp's names, e.g. `AVX2: false`."""
    use: str | None = None
    """Name of a build made by `ragops build install`; the workers run under its interpreter."""
    accept: Literal["identical", "equivalent"] = "equivalent"
    """The worst verdict against `reference:` with which a campaign continues."""
    # Measured: honest builds of one model differ by at most 6e-4; F16 against Q8_0 weights by 2e-3;
    # CLS against mean pooling by 0.5 on average.
    max_drift: PositiveFloat = 1e-3
    """Largest cosine distance between two spaces that still counts as equivalent."""
    min_overlap: Annotated[float, Field(ge=0, le=1)] = 0.99
    """Smallest share of common neighbours at 10 that still counts as equivalent."""


class OpenAIReference(Section):
    """An OpenAI-compatible endpoint: llama-server, llama_cpp.server, Ollama, TEI and others."""

    url: str = Field(pattern=r"^https?://")
    """Without the final `/embeddings`, e.g. `http://backend:8080/v1`."""
    model: str = "default"
    api_key_env: str | None = None
    """Name of the environment variable that holds the key; the key itself is stored nowhere."""
    allow_plaintext: bool = False
    """Allow the key to be sent to another machine without TLS."""
    timeout_s: PositiveFloat = 30.0


class DebugPaths(Section):
    """Paths to the compared figures in a debug endpoint's JSON, keys joined by dots."""

    dimensions: str = "backend_embedding_dims"
    distance_min: str = "comparison_stats.distance_min"
    distance_max: str = "comparison_stats.distance_max"
    distance_avg: str = "comparison_stats.distance_avg"


class DebugReference(Section):
    """A debug endpoint like the runbook's: it returns the backend's distances of a query to the stored rows."""

    url: str = Field(pattern=r"^https?://")
    """With `{query}` in place of the query, e.g. `http://backend/api/v3/debug/compare-rag-embedding?query={query}`."""
    query: str = "test urbanisme"
    token_env: str | None = None
    """Name of the environment variable that holds a bearer token."""
    allow_plaintext: bool = False
    """Allow the token to be sent to another machine without TLS."""
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
            raise ValueError(f"only one reference may be set, found {' and '.join(given)}")
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
    """Another interpreter with llama_cpp installed, e.g. of an aligned build."""
    # Heartbeats renew a lease long before it ends; two minutes only decide how soon the items of a worker
    # that was killed are embedded by another one.
    lease_s: PositiveInt = 120
    # The slowest measured setup embeds 3 documents per second; five minutes for one request is a hang.
    request_deadline_s: PositiveInt = 300


class Chunking(Section):
    max_tokens: PositiveInt | None = None
    """Longest chunk in the model's own tokens, including separators and prefix; null: the model's context."""
    overlap_tokens: NonNegativeInt = 0


class Source(Section):
    """Source of the documents: exactly one of folder, table, query or manifest."""

    folder: Path | None = None
    include: tuple[NonEmptyText, ...] = Field(
        default=("**/*",),
        min_length=1,
        # `patterns` is the older word. Playbooks use it, and so do the copies in the ledger.
        validation_alias=AliasChoices("include", "patterns"),
    )
    exclude: tuple[NonEmptyText, ...] = ()
    hidden: bool = False
    """Whether files and folders are taken whose names begin with a dot."""
    follow_links: bool = False
    """Whether symbolic links are followed whose target lies inside the folder."""
    unreadable: Literal["skip", "refuse"] = "skip"
    """What becomes of folders that cannot be listed, names that cannot be stored and links that lead nowhere."""
    text_suffixes: tuple[NonEmptyText, ...] = ()
    """Ends of names (`.debian`), and patterns of whole names, that are read as plain text."""
    encoding: SourceEncoding = None
    """Encoding of the texts that are not UTF-8 and declare none: a label, or labels by patterns."""
    changed: Literal["read", "fail", "ignore"] = "read"
    """What becomes of a file that is not as it was when it was queued."""
    table: TableText | None = None
    id_column: Identifier = "id"
    text_column: Identifier = "content"
    query: NonEmptyText | None = None
    """SELECT with the row's id as its first column and its text as the second."""
    manifest: Path | None = None
    root: Path | None = None
    """Base folder of the manifest's lines; null: the manifest's own folder."""
    incomplete: Literal["partial", "fail"] = "partial"
    """A document of which less text was read than it has: store what there is and record what is missing, or fail
    its item."""

    @property
    def is_named(self) -> bool:
        """Whether the playbook names a source at all."""
        return any(getattr(self, kind) is not None for kind in ("folder", "table", "query", "manifest"))

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        given = [kind for kind in ("folder", "table", "query", "manifest") if getattr(self, kind) is not None]
        if len(given) > 1:
            raise ValueError(f"one source only, found {' and '.join(given)}")
        return self


class Index(Section):
    """An HNSW index to create if none was journaled. The limits of m and ef_construction are pgvector's."""

    name: Identifier
    table: VectorTable
    metric: Literal["cosine", "l2", "ip"] = "cosine"
    m: Annotated[int, Field(ge=2, le=100)] = 16
    ef_construction: Annotated[int, Field(ge=4, le=1000)] = 64

    @model_validator(mode="after")
    def _wide_enough(self) -> Self:
        # pgvector refuses this too ("ef_construction must be greater than or equal to 2 * m"), but only
        # after the tables were emptied and filled again.
        if self.ef_construction < 2 * self.m:
            raise ValueError(
                f"ef_construction must be at least 2 × m = {2 * self.m}, found {self.ef_construction}"
            )
        return self


class Validation(Section):
    sample: PositiveInt = 50
    """Number of stored rows, drawn at random, whose text is embedded again."""
    max_distance: PositiveFloat = 1e-3
    """Largest cosine distance between a stored vector and the same text embedded again."""
    thresholds: tuple[PositiveFloat, ...] = (0.3, 0.5, 0.7, 0.9)
    # Reported, never decisive: vectors of another space meet it too. Over 1,000 documents embedded with
    # the wrong pooling, 90 % of the queries still had a row under 0.69.
    criterion: PositiveFloat = 0.7
    """The runbook's criterion: at least one row under this distance."""
    queries: tuple[str, ...] = ()
    """Sample queries; if empty, the first eight words of sampled documents."""
    sampled_queries: PositiveInt = 8
    max_failed_share: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Largest allowed share of failed items among those processed."""
    # As for failed items: a corpus of whole documents has none, and a vector of half a text misleads in silence.
    max_partial_share: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Largest allowed share of partial documents among those stored."""


class Hooks(Section):
    """Commands that `cut_over` runs on this machine, one after the other; each is run by a shell."""

    before_cut_over: tuple[NonEmptyText, ...] = ()
    """A command that fails stops the cutover before anything was changed."""
    after_cut_over: tuple[NonEmptyText, ...] = ()
    """What makes the application use the new vectors; a failure is reported, with the way back."""
    timeout_s: PositiveFloat = 300.0


DEFAULT_INDEXES = (
    Index(name="idx_documents_embedding_hnsw", table="documents"),
    Index(name="idx_document_chunks_embedding_hnsw", table="document_chunks"),
)


class Playbook(Section):
    """A validated playbook: the single source of what a campaign does and with which values."""

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
    targets: tuple[RowTarget, ...] = ()
    """Vector columns of rows that stay; empty: the five tables are filled from `source`."""
    tables: Tables = Field(default=Tables(), validate_default=True)
    indexes: tuple[Index, ...] = Field(default=DEFAULT_INDEXES, validate_default=True)
    hooks: Hooks = Hooks()
    validation: Validation = Validation()
    steps: tuple[Step, ...] = Field(min_length=1)

    @field_validator("tables", mode="after")
    @classmethod
    def _own_queue(cls, tables: Tables, info: ValidationInfo) -> Tables:
        """Give a playbook with targets ragops' own queue; `tables:` belongs to those without."""
        own = work_tables()
        if not info.data.get("targets"):
            return tables
        if tables not in (Tables(), own):
            raise Inconsistent([(("tables",), "a playbook has either `targets:` or `tables:`")])
        return own

    @field_validator("indexes", mode="after")
    @classmethod
    def _no_default_indexes(cls, indexes: tuple[Index, ...], info: ValidationInfo) -> tuple[Index, ...]:
        return () if info.data.get("targets") and indexes == DEFAULT_INDEXES else indexes

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        problems = [*wrong_order(self.steps), *self._target_problems()]
        mapped = self.tables.mapped()
        for i, index in enumerate(self.indexes):
            # Without documents nothing else is worth a line.
            if index.table not in mapped and "documents" in mapped:
                place: Place = ("indexes", i)
                problems.append((place, f"{index.name} is on {index.table}, which tables: sets to null"))
        first: dict[TableName, str] = {}
        for logical, name in mapped.items():
            if name in first:
                message = f"{name} is mapped twice, as {first[name]} and as {logical}"
                problems.append((("tables", logical), message))
            first.setdefault(name, logical)
            columns: dict[str, str] = {}
            for word, column in self.tables.columns_of(logical).items():
                if columns.setdefault(column, word) != word:
                    message = f"column {column} is mapped twice, as {columns[column]} and as {word}"
                    problems.append((("tables", logical, "columns", word), message))
        if problems:
            raise Inconsistent(problems)
        return self

    def _target_problems(self) -> Iterator[tuple[Place, str]]:
        """Yield what does not fit together with `targets:`, or without them."""
        has_targets = bool(self.targets)
        allowed, what = (ROW_STEPS, "a playbook with `targets:`") if has_targets else (FILE_STEPS, "one without")
        for i, step in enumerate(self.steps):
            if not isinstance(step, allowed):
                yield ("steps", i), f"{step.step} does not belong into {what}"
        if not has_targets:
            if self.tables.documents is None:
                yield ("tables", "documents"), "documents cannot be null without `targets:`"
            return
        if self.source.is_named:
            yield ("source",), "the texts of `targets:` are in their rows: a playbook has no `source:` beside them"
        if self.indexes:
            yield ("indexes",), "indexes of `targets:` are restored as they are; write indexes: []"
        has_beside = any(target.write == "beside" for target in self.targets)
        yield from row_order(self.steps, has_beside=has_beside)
        seen: dict[tuple[TableName, str], int] = {}
        for i, target in enumerate(self.targets):
            for column in {target.embedding, *([target.filled_column] if target.write == "beside" else [])}:
                place = (TableName.parse(target.table), column)
                other = seen.setdefault(place, i)
                # Two rows' conditions may share a column in place; a column beside belongs to one target.
                if other != i and "beside" in (target.write, self.targets[other].write):
                    yield ("targets", i), f"{target.table}.{column} is written by targets[{other}] already"

    def gates(self) -> tuple[int, ...]:
        """Return the item counts at which embedding stops, ascending; they divide the queue into phases."""
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

    def with_steps(self, steps: Sequence[object]) -> Playbook:
        """Return a validated copy with other steps, as models or mappings. Raises OverrideError."""
        try:
            return Playbook.model_validate({**dict(self), "steps": tuple(steps)})
        except ValidationError as error:
            raise OverrideError(problems_of(error)) from error

    def ledger_copy(self) -> dict[str, object]:
        """Return the playbook as JSON for the ledger, without the DSN and the keys in URLs."""
        copy = self.with_changes(database={"dsn": None}).model_dump(mode="json")
        for settings in copy["reference"].values():
            if isinstance(settings, dict):
                settings["url"] = masked_url(settings["url"])
        return copy
