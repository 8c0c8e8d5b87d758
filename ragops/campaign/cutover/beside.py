"""The targets of a playbook that are written beside, and what stands in the way of their second columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ragops.beside_facts import MADE_AGAIN, OPEN, BesideFacts, CutoverRow, Dependent
from ragops.errors import RagopsError
from ragops.facts import READABLE_TYPE, ModelFacts, TableFacts, quoted
from ragops.findings import PlanProblem
from ragops.playbook.model import Playbook
from ragops.playbook.targets import RowTarget
from ragops.postgres.cutover_columns import count_left_behind, read_beside
from ragops.postgres.cutover_ddl import are_views_dropped
from ragops.row_facts import TargetFacts
from ragops.session import Session

# Why something that refers to a column by its number cannot follow an exchange of names.
_WHY = {
    "materialized view": "it keeps the column that it was made of, and would have to be filled again",
    "view of another role": "only its owner can make it again",
    "function of another role": "only its owner can make it again",
    "rule": "a rule keeps the column that it was made of",
    "generated column": "a generated column keeps the column that it is made of, and cannot be changed in place",
    "constraint": "a constraint stays with its column",
    "statistics": "extended statistics stay with their columns",
}


@dataclass(frozen=True, slots=True)
class Beside:
    """One target that is written beside."""

    target: RowTarget
    facts: TargetFacts
    beside: BesideFacts

    @property
    def table(self) -> TableFacts:
        return self.facts.table

    @property
    def row(self) -> CutoverRow:
        """The second column as the ledger has it. Raises RagopsError if it has none."""
        row = self.beside.row
        if row is None:
            raise RagopsError(
                f"{self.label} has no second column",
                expected="a column that a campaign with `write: beside` has added and filled",
                hint="ragops reset --playbook reembed.yaml",
            )
        return row

    @property
    def label(self) -> str:
        return f"{self.table.quoted}.{quoted(self.target.embedding)}"

    @property
    def planned(self) -> CutoverRow:
        """The row of the ledger, or what it will be once the column is added."""
        table = self.table
        key = tuple(column.name for column in self.facts.key)
        old, new = self.target.embedding, self.target.filled_column
        return self.beside.expected(table.quoted, table.oid, key, old=old, new=new)


def besides(
    session: Session, targets: Sequence[TargetFacts] | None = None, *, is_added: bool = False
) -> tuple[Beside, ...]:
    """Return the playbook's targets that are written beside, as they are now."""
    found = session.targets() if targets is None else targets
    pairs = [(session.playbook.targets[facts.number - 1], facts) for facts in found]
    chosen = [(target, facts) for target, facts in pairs if target.write == "beside"]
    return tuple(
        Beside(target, facts, read_beside(session.connection, target, facts, is_added=is_added, place=place))
        for place, (target, facts) in enumerate(chosen)
    )


def with_rows_left(session: Session, one: Beside) -> Beside:
    """Return the same, with a look whether rows outside of the target have a vector."""
    left = 0 if one.target.where is None else count_left_behind(session.connection, one.target, one.table)
    return replace(one, beside=replace(one.beside, left_behind=left))


def matched(
    playbook: Playbook, targets: Sequence[TargetFacts], facts: Sequence[BesideFacts]
) -> tuple[Beside, ...]:
    """Return the same from facts that were read before."""
    by_number = {one.number: one for one in targets}
    return tuple(Beside(playbook.targets[one.number - 1], by_number[one.number], one) for one in facts)


def new_dimensions(playbook: Playbook, model: ModelFacts | None) -> int | None:
    """Return the dimensions of the second columns: those that the playbook cuts to, else the model's."""
    return playbook.model.dimensions or (model.dimensions if model else None)


def column_problems(one: Beside, dimensions: int | None) -> Iterator[PlanProblem]:
    """Yield what stands in the way of adding the second column."""
    table, row, facts = one.table, one.beside.row, one.beside
    new = one.target.filled_column
    if "OWN" not in table.privileges:
        yield PlanProblem(
            f"only the owner of {table.quoted} may add a column and a trigger to it (or run ragops as its owner)",
            f"ALTER TABLE {table.quoted} OWNER TO …",
        )
    if facts.is_added:
        return
    if row is not None and row.state == "cut_over":
        yield PlanProblem(
            f"the cutover of {one.label} is not finished: its former vectors are still in {quoted(row.retired)}",
            "ragops cutover finish   or, to go back to them: ragops cutover rollback",
        )
    elif facts.new is not None and row is not None and row.state in OPEN:
        yield PlanProblem(
            f"the column {table.quoted}.{quoted(new)} belongs to an earlier campaign ({row.state})",
            "ragops undo   (it drops the column)",
        )
    elif facts.new is not None:
        yield PlanProblem(
            f"the column {table.quoted}.{quoted(new)} exists already, and ragops has not added it",
            f"ALTER TABLE {table.quoted} RENAME COLUMN {quoted(new)} TO …; or another name: "
            f"targets[{facts.number - 1}].new_column",
        )
    yield from exchange_problems(one, dimensions)


def exchange_problems(one: Beside, dimensions: int | None) -> Iterator[PlanProblem]:
    """Yield what cannot follow a column that is renamed: known before hours of embedding, not after them."""
    facts, table = one.beside, one.table
    second = second_type(facts, dimensions)
    for dependent in facts.dependents:
        if dependent.kind not in MADE_AGAIN or dependent.definition is None:
            what = dependent.what if dependent.kind in ("view", "function") else dependent.kind
            yield PlanProblem(
                f"{what} {dependent.name} refers to {one.label}: {_WHY.get(what, 'it stays with its column')}",
                "drop it before the campaign, and create it again after the cutover",
            )
    views = [dependent for dependent in facts.dependents if dependent.view is not None]
    if second is not None and are_views_dropped(views, facts.old.type, second):
        for view in views:
            yield from _view_problems(view, one, second)
    if facts.left_behind:
        yield PlanProblem(
            f"{facts.left_behind:,} rows of {table.quoted} have a vector and do not belong to "
            f"targets[{facts.number - 1}] (where: {one.target.where}); the exchange is of whole columns, and "
            "would leave these without one",
            f"leave out targets[{facts.number - 1}].where, or write: in_place",
        )
    default = facts.old.default
    if default is not None and second != facts.old.type:
        yield PlanProblem(
            f"{one.label} has the default {default}, which the new column of another type cannot take over",
            f"ALTER TABLE {table.quoted} ALTER COLUMN {quoted(one.target.embedding)} DROP DEFAULT",
        )
    for publication in facts.published:
        yield PlanProblem(
            f"the publication {publication} sends {one.label} to subscribers, which would stop at a column that "
            "they do not have",
            f"ALTER PUBLICATION {quoted(publication)} …   with a list of columns without the vectors, and let the "
            "subscribers embed their own",
        )


def _view_problems(dependent: Dependent, one: Beside, second: str) -> Iterator[PlanProblem]:
    """Yield why a view cannot be dropped and made again, which another type of its column needs."""
    view = dependent.view
    if view is not None and (view.is_used or view.has_column_grants):
        why = "other objects depend on it" if view.is_used else "it has privileges on single columns"
        yield PlanProblem(
            f"view {dependent.name} shows {one.label}, whose type changes from {one.beside.old.type} to {second}; "
            f"it must be made again for that, and {why}",
            "drop it before the campaign, and create it again after the cutover",
        )


def second_type(facts: BesideFacts, dimensions: int | None) -> str | None:
    """Return the type of the second column as the catalog spells it; None while its dimensions are unknown."""
    if facts.new is not None and facts.row is not None:
        return facts.new.type
    return None if dimensions is None else f"{facts.new_type}({dimensions})"


def dimensions_of(type: str) -> int | None:
    """Return the dimensions that a type of a vector column declares."""
    match = READABLE_TYPE.fullmatch(type)
    return int(match["dimensions"]) if match and match["dimensions"] else None
