"""Facts of second vector columns: how the first one is made, what refers to it, and how far the second one is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

# A second column goes from filling by way of cut_over to finished, and back from cut_over to rolled_back.
UNSWAPPED = ("filling", "ready", "rolled_back")
OPEN = (*UNSWAPPED, "cut_over")
# What is made again by a statement of its own after a column was renamed; everything else is refused.
MADE_AGAIN = ("view", "function", "trigger", "policy")
# PostgreSQL cuts longer names.
LONGEST_NAME = 63


@dataclass(frozen=True, slots=True)
class CutoverRow:
    """A second column as the ledger has it."""

    id: int
    campaign: int | None
    target: int
    """The number of the second column in `ragops.target`, whatever it is called."""
    old_column: str
    """The name that the application reads."""
    new_column: str
    """The second column's name while it is filled."""
    state: str
    definition: Mapping[str, Any]
    changed_at: datetime
    relation: str
    """The table's name as the ledger has it, quoted."""
    oid: int
    key: tuple[str, ...]

    @property
    def retired(self) -> str:
        """The name of the first column after the cutover."""
        return str(self.definition.get("retired", f"{self.old_column}_old"))

    @property
    def is_swapped(self) -> bool:
        return self.state in ("cut_over", "finished")

    @property
    def is_asked(self) -> bool:
        """Somebody has typed `ragops cutover run`."""
        return bool(self.definition.get("asked"))

    @property
    def is_not_null(self) -> bool:
        """The application's column is to be NOT NULL, once it has no NULL."""
        return bool(self.definition.get("not_null"))

    @property
    def is_hooked(self) -> bool:
        """The commands that follow the cutover have run."""
        return bool(self.definition.get("hooked"))

    @property
    def bound(self) -> int:
        """The newest note at the cutover; later ones are of rows that the old column has no vector of."""
        return int(self.definition.get("bound") or 0)

    @property
    def until(self) -> int | None:
        """The newest note at the rollback; None if the last cutover was not taken back."""
        return self.definition.get("until")

    @property
    def was_swapped(self) -> bool:
        """The application has read the second column, and perhaps written into it."""
        return self.definition.get("bound") is not None

    @property
    def filled(self) -> str:
        """The present name of the column that the campaign writes."""
        return self.old_column if self.is_swapped else self.new_column

    @property
    def trigger(self) -> str:
        """The trigger's name. Triggers fire in the order of their names: it comes last."""
        return f"zz_ragops_capture_{self.id}"

    @property
    def function(self) -> str:
        return f"capture_{self.id}"

    @property
    def check(self) -> str:
        """The name of the constraint that shows that no NULL is left."""
        return f"ragops_filled_{self.id}"


@dataclass(frozen=True, slots=True)
class Traits:
    """What a column is beside its name."""

    number: int
    type: str
    is_not_null: bool = False
    default: str | None = None
    storage: str | None = None
    """None: the type's own."""
    statistics: int | None = None
    comment: str | None = None
    grants: tuple[tuple[str, str, bool], ...] = ()
    """Role (empty for PUBLIC), privilege, and whether the role may grant it."""


@dataclass(frozen=True, slots=True)
class ViewTraits:
    """What belongs to a view beside its query."""

    options: tuple[str, ...] = ()
    owner: str = ""
    comment: str | None = None
    columns: tuple[str, ...] = ()
    shows_vectors: bool = False
    grants: tuple[tuple[str, str, bool], ...] = ()
    comments: Mapping[str, str] = field(default_factory=dict)
    has_column_grants: bool = False
    is_used: bool = False
    """Something other than a view depends on it, so that it cannot be dropped and made again."""


@dataclass(frozen=True, slots=True)
class Dependent:
    """Something that refers to the column by its number."""

    kind: str
    name: str
    """Quoted as SQL needs it."""
    depth: int
    """1: it refers to the column itself; more: to a view that does."""
    definition: str | None
    """The statement, or the view's query, that makes it again; None: it cannot be made again."""
    what: str
    """The kind in words; of a trigger its state, of a constraint its definition."""
    view: ViewTraits | None = None


@dataclass(frozen=True, slots=True)
class BesideFacts:
    """One target that is written beside."""

    number: int
    """Its place in the playbook's `targets:`, from 1."""
    old: Traits
    """Of the column that the application reads."""
    new: Traits | None
    """Of the second column; None: there is none."""
    new_type: str
    """Type of the second column without its dimensions, as SQL writes it."""
    retired: str
    """The name of the first column after the cutover."""
    dependents: tuple[Dependent, ...] = ()
    published: tuple[str, ...] = ()
    """Publications that send the vector column to subscribers."""
    row: CutoverRow | None = None
    """The newest of the ledger for these two columns."""
    left_behind: int = 0
    """Rows outside of the target that have a vector, which the exchange would take from the application.

    Only counted where a plan or a cutover needs it."""
    is_added: bool = False
    """The campaign that is planned has added the second column already."""
    expected_id: int = 1
    """The number that a second column which is added now will probably have."""

    def expected(self, table: str, oid: int, key: tuple[str, ...], *, old: str, new: str) -> CutoverRow:
        """Return the row of the ledger, or what it will be once the column is added."""
        if self.row is not None and self.is_added:
            return self.row
        return CutoverRow(
            self.expected_id,
            None,
            0,
            old,
            new,
            "filling",
            {"retired": self.retired},
            datetime.min,
            table,
            oid,
            key,
        )


def short_name(name: str, ending: str) -> str:
    """Return a name with an ending, cut as PostgreSQL needs it."""
    most = LONGEST_NAME - len(ending.encode())
    return name.encode()[:most].decode(errors="ignore") + ending
