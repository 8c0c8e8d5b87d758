"""Facts of a survey: what a database holds that a playbook could be written for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ragops.facts import StructureFacts, TableFacts, quoted

SUPPORTED_KINDS = ("vector", "halfvec")
# Types of JSON, whose values may hold a text.
JSON_TYPES = ("json", "jsonb")


@dataclass(frozen=True, slots=True)
class VectorColumn:
    """One column of a type that pgvector can index, of a table or of something that reads like one."""

    schema: str
    relation: str
    relation_kind: str
    """`table`, `partitioned table`, `view`, `materialized view` or `foreign table`."""
    name: str
    type: str
    """As `format_type` prints it."""
    kind: str
    """Without schema and dimensions: `vector`, `halfvec`, `sparsevec` or `bit`."""
    dimensions: int | None
    rows: int | None
    """The planner's estimate; None if the table was never analyzed."""
    may_read: bool = True

    @property
    def is_supported(self) -> bool:
        """Return whether ragops can write it."""
        return self.kind in SUPPORTED_KINDS and self.relation_kind in ("table", "partitioned table")

    @property
    def table(self) -> str:
        """Return the qualified name of its table, quoted as SQL needs it."""
        return quoted(self.schema, self.relation)

    @property
    def quoted(self) -> str:
        """Return the qualified name, quoted as SQL needs it."""
        return quoted(self.schema, self.relation, self.name)


@dataclass(frozen=True, slots=True)
class JsonKey:
    """One key of the objects in a JSON column whose values are texts, in the sampled rows."""

    name: str
    share: float
    """Of the sampled rows."""
    average_length: float


@dataclass(frozen=True, slots=True)
class ColumnSurvey:
    """One column with what some of its rows hold."""

    name: str
    type: str
    base_type: str
    """The type without a domain around it and without a modifier."""
    is_text: bool = False
    is_generated: bool = False
    may_read: bool = True
    null_share: float = 0.0
    average_length: float = 0.0
    """Characters, of the values that are not NULL."""
    distinct: int = 0
    """Different values in the sampled rows."""
    different: float | None = None
    """Different values in the table as the planner estimates them, negative as a share of the rows."""
    example: str = ""
    """The beginning of a value."""
    keys: tuple[JsonKey, ...] = ()

    @property
    def is_json(self) -> bool:
        """Return whether the values are JSON."""
        return self.base_type in JSON_TYPES


@dataclass(frozen=True, slots=True)
class KeySurvey:
    """A unique index, or a set of columns that could identify a row."""

    columns: tuple[str, ...]
    is_primary: bool
    is_usable: bool
    """All columns are NOT NULL, and the index is neither partial nor on an expression."""


@dataclass(frozen=True, slots=True)
class Group:
    """The rows that share one value of a column with few different values."""

    column: str
    value: str | None
    rows: int
    label: str
    """What people call it: the name of a collection, else the value."""
    where: str
    """The condition for its rows."""
    dimensions: tuple[int, ...] = ()
    """Of its vectors; empty: not looked at, or none."""


@dataclass(frozen=True, slots=True)
class VectorSurvey:
    """What some rows hold in the vector column."""

    sampled: int = 0
    missing: int = 0
    broken: int = 0
    """Zero or not finite."""
    dimensions: Mapping[int, int] = field(default_factory=dict)
    """Dimensions → sampled rows that have them."""


@dataclass(frozen=True, slots=True)
class IndexSurvey:
    """A vector index of the column."""

    name: str
    method: str
    metric: str
    """`cosine`, `l2`, `ip`, `l1`, … after its operator class."""
    is_valid: bool


@dataclass(frozen=True, slots=True)
class NodeSurvey:
    """How LlamaIndex composes the text that it embeds, as `_node_content` of some rows has it."""

    metadata_template: str = "{key}: {value}"
    separator: str = "\n"
    text_template: str = "{metadata_str}\n\n{content}"
    variants: int = 1
    """Different sets of templates among the sampled rows."""
    has_nested: bool = False
    """A value of the metadata is a list or an object."""


@dataclass(frozen=True, slots=True)
class VectorizerSurvey:
    """The configuration of a pgai vectorizer that fills the table."""

    model: str = ""
    template: str = "$chunk"
    source: str = ""
    """The table that its texts come from, quoted."""
    source_key: tuple[str, ...] = ()
    """The columns of its primary key, which the store has under the same names."""


@dataclass(frozen=True, slots=True)
class Survey:
    """One table, with all that helps to find out which text its vectors are made of."""

    table: TableFacts
    vectors: tuple[VectorColumn, ...]
    columns: Mapping[str, ColumnSurvey]
    sampled: int = 0
    """Rows that were looked at for the columns' values."""
    keys: tuple[KeySurvey, ...] = ()
    relations: frozenset[str] = frozenset()
    """Names of the tables and views in the table's schema."""
    functions: frozenset[str] = frozenset()
    """Names of the functions in the table's schema."""
    views: tuple[str, ...] = ()
    """Views that read the table, quoted."""
    structure: StructureFacts = field(default_factory=StructureFacts)
    is_row_security_active: bool = False
    node: NodeSurvey | None = None
    vectorizer: VectorizerSurvey | None = None

    def has(self, *names: str) -> bool:
        """Return whether the table has all these columns."""
        return all(name in self.columns for name in names)

    def different(self, column: str) -> float | None:
        """Return the planner's estimate of a column's different values; None if it has none."""
        found = self.columns[column].different
        return found if found is None or found >= 0 else -found * self.table.rows

    @property
    def key(self) -> tuple[str, ...]:
        """Return the columns of the primary key, else of the smallest usable unique index; empty without one."""
        usable = [key for key in self.keys if key.is_usable]
        best = min(usable, key=lambda key: (not key.is_primary, len(key.columns)), default=None)
        return best.columns if best else ()
