"""What an operator should know before vectors are written into rows that stay. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from ragops.campaign.row_problems import column_of, place_of
from ragops.campaign.steps.base import PlanFacts
from ragops.facts import TriggerFacts, quoted
from ragops.playbook.steps import SelectRows
from ragops.playbook.targets import RowTarget
from ragops.row_facts import DependentFacts, TargetFacts

BY_TEXT = "function by its text"


def row_notes(facts: PlanFacts) -> Iterator[str]:
    """Yield, target by target, which rows are looked at, what is not touched, and what else happens."""
    for found in facts.targets:
        target = facts.playbook.targets[found.number - 1]
        yield rows_line(found)
        yield promise(target, found)
        yield from _events(target, found)
        yield from _readers(target, found)
        if target.write == "in_place" and _replaces(facts):
            yield (
                f"until the campaign ends, {column_of(found)} holds vectors of two spaces, which a search mixes "
                "(`write: beside` does not)"
            )


def rows_line(found: TargetFacts) -> str:
    """Return the rows of a target in words."""
    line = f"{place_of(found)}: {found.table.rows:,} rows"
    if found.selected is None or found.without_text is None:
        return line
    matching = found.selected + found.without_text
    if matching != found.table.rows:
        line += f", {matching:,} of which belong to the target"
    line += f", {found.selected:,} with a text"
    return f"{line}; {found.without_text:,} have none and are left alone" if found.without_text else line


def promise(target: RowTarget, found: TargetFacts) -> str:
    """Return what no step of the campaign touches."""
    others = [name for name in found.table.columns if name not in (found.filled, found.embedding)]
    if target.write == "beside":
        # Until the cutover, and then by its name alone.
        others.append(found.embedding)
    shown = ", ".join(map(quoted, others[:8])) + (", …" if len(others) > 8 else "")
    return (
        f"not touched: {shown} of {found.table.quoted}; no row is inserted, deleted or renumbered"
        if others
        else f"not touched: no row of {found.table.quoted} is inserted, deleted or renumbered"
    )


def _events(target: RowTarget, found: TargetFacts) -> Iterator[str]:
    """Yield what happens elsewhere when the column is written."""
    if target.triggers == "fire":
        yield from (_fires(found, trigger) for trigger in found.fired)
    elif found.silences_triggers:
        yield (
            f"triggers of {found.table.quoted} do not fire for what ragops writes (session_replication_role = "
            "replica, in its own transactions); they fire for everybody else"
        )
    publications = found.structure.published.get("UPDATE", ())
    if publications:
        names = ", ".join(publications)
        yield f"UPDATE of {found.table.quoted} goes to the subscribers of publication {names}, too"
    for publication in found.partial_publications:
        yield f"publication {publication} replicates a part of {found.table.quoted}"
    if found.table.is_unlogged:
        yield f"table {found.table.quoted} is UNLOGGED: a crash of the server empties it"
    for partition in found.structure.unlogged_partitions:
        yield f"partition {partition} of {found.table.quoted} is UNLOGGED: a crash of the server empties it"
    for index in found.structure.invalid_indexes:
        yield f"index {index} of {found.table.quoted} is invalid, a leftover of an interrupted build"


def _fires(found: TargetFacts, trigger: TriggerFacts) -> str:
    rows = "every row that is written" if found.selected is None else f"up to {found.selected:,} rows"
    if not trigger.is_per_row:
        return f"{trigger} fires once a statement"
    if trigger.assigns:
        return f"{trigger} sets {', '.join(trigger.assigns)} of {rows}"
    return f"{trigger} fires for {rows}"


def _readers(target: RowTarget, found: TargetFacts) -> Iterator[str]:
    """Yield what refers to the vector column and does not simply go on."""
    for one in found.dependents:
        if one.kind == BY_TEXT:
            if target.write == "beside":
                yield f"function {one.name} names {found.table.name} and {found.embedding} in its text: look at it"
        elif target.write == "beside":
            yield f"{one.kind} {one.name} refers to {column_of(found)}, and has to follow the cutover"
        else:
            yield from _in_place(found, one)


def _in_place(found: TargetFacts, one: DependentFacts) -> Iterator[str]:
    if one.kind == "materialized view":
        yield f"materialized view {one.name} shows the old vectors until REFRESH MATERIALIZED VIEW {one.name}"
    elif one.kind == "generated column":
        yield f"generated column {one.name} is computed again with {column_of(found)}"
    elif one.kind == "constraint":
        yield f"constraint {one.name} has to hold for the new vectors of {column_of(found)}"


def _replaces(facts: PlanFacts) -> bool:
    """Return whether vectors that a search finds today are replaced, and not only missing ones filled in."""
    kinds = {kind for step in facts.playbook.steps if isinstance(step, SelectRows) for kind in step.rows}
    return bool(kinds & {"all", "divergent"})
