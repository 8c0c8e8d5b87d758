"""Facts of rows that stay: a table with its key and the vector column that a campaign writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ragops.facts import READABLE_TYPE, ColumnFacts, IndexFacts, StructureFacts, TableFacts, TriggerFacts


@dataclass(frozen=True, slots=True)
class DependentFacts:
    """Something of the database that refers to the vector column."""

    kind: str
    """`view`, `materialized view`, `rule`, `function`, `policy`, `generated column`, `default`, `constraint`,
    `trigger`, `statistics` or `publication`; `function by its text` for one whose body names table and column."""
    name: str
    """Qualified and quoted as SQL needs it."""
    definition: str = ""
    """The statement that makes it again, with the names of now; empty where none does."""


@dataclass(frozen=True, slots=True)
class TargetFacts:
    """One target of the playbook, as the catalog has it."""

    number: int
    """Its place in the playbook's `targets:`, from 1; work items begin with it."""
    table: TableFacts
    key: tuple[ColumnFacts, ...]
    """The columns that identify a row, each NOT NULL and together unique; empty if there are none."""
    embedding: str
    """Name of the vector column that the application reads."""
    filled: str
    """Name of the column that the campaign writes: that one, or a second one beside it until the cutover."""
    structure: StructureFacts = field(default_factory=StructureFacts)
    around: tuple[IndexFacts, ...] = ()
    """Of a target that is written beside: all indexes that depend on the vector column, whatever their method."""
    fired: tuple[TriggerFacts, ...] = ()
    """The triggers of users that an UPDATE of the vector column fires, in the way that the campaign writes it."""
    dependents: tuple[DependentFacts, ...] = ()
    column_storage: str = ""
    """Of the vector column: `plain`, `external`, `extended` or `main`."""
    column_statistics: int | None = None
    column_comment: str | None = None
    column_grants: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Privileges on the vector column alone, by role."""
    is_row_security_active: bool = False
    """Policies hide rows from the connected role."""
    selected: int | None = None
    """Rows that belong to the target and have a text; None: not counted."""
    without_text: int | None = None
    """Rows that belong to the target and have no text, which are left alone; None: not counted."""
    silences_triggers: bool = False
    """Every transaction that writes the vector column runs with `SET LOCAL session_replication_role = replica`."""
    rules: tuple[str, ...] = ()
    """Rules on UPDATE of the table, which rewrite the statement that writes the vectors."""
    foreign_partitions: tuple[str, ...] = ()
    partial_publications: tuple[str, ...] = ()
    """Publications that replicate some rows or columns of the table alone, with what they leave out."""
    unreadable: frozenset[str] = frozenset()
    """Columns that the role may not SELECT."""
    may_update: bool = True
    """The role may update the column that the campaign writes."""
    may_use_temp: bool = True
    """The role may create temporary tables in the database."""
    has_fixed_columns: bool = False
    """The table is a partition or of a composite type, so that no column can be added to it alone."""

    def column(self, name: str) -> ColumnFacts | None:
        """Return a column of the table; None if it does not exist."""
        return self.table.columns.get(name)

    @property
    def kind(self) -> str:
        """The type of the vector column without its schema and dimensions, e.g. `halfvec`."""
        return self._typed("kind") or ""

    @property
    def dimensions(self) -> int | None:
        """The declared dimensions of the vector column; None if it declares none."""
        declared = self._typed("dimensions")
        return int(declared) if declared else None

    def _typed(self, group: str) -> str | None:
        found = self.column(self.filled) or self.column(self.embedding)
        match = READABLE_TYPE.fullmatch(found.stored_type) if found else None
        return match[group] if match else None
