"""Find a column that tells the rows of one writer from the others."""

from __future__ import annotations

from collections.abc import Sequence

from ragops.forensics.findings import Group
from ragops.forensics.sample import Row
from ragops.postgres.statements import literal

# A group of fewer rows says nothing.
ROWS = 3
# Of a group's rows: with this share or more it belongs to a writer, with at most the rest it does not.
BELONGS = 0.9


def groups_of(rows: Sequence[Row], writers: Sequence[int], count: int) -> list[Group]:
    """Return every group of rows; `writers` has each row's writer, or `count` for none of the `count` writers."""
    found: dict[tuple[str, str | None], list[int]] = {}
    for place, row in enumerate(rows):
        for column, value in row.labels.items():
            found.setdefault((column, value), []).append(place)
    return [
        Group(
            column,
            value,
            len(places),
            tuple(sorted({len(rows[place].vector) for place in places})),
            tuple(sum(writers[place] == writer for place in places) for writer in range(count + 1)),
        )
        for (column, value), places in found.items()
    ]


def condition_for(groups: Sequence[Group], writer: int) -> tuple[str, str] | None:
    """Return the column that tells a writer's rows from all others, and the condition for them; None for none."""
    by_column: dict[str, list[Group]] = {}
    for group in groups:
        by_column.setdefault(group.column, []).append(group)
    for column, own in sorted(by_column.items(), key=lambda item: len(item[1])):
        shares = {group.value: group.writers[writer] / group.rows for group in own if group.rows >= ROWS}
        yes = [value for value, share in shares.items() if share >= BELONGS]
        no = [value for value, share in shares.items() if share <= 1 - BELONGS]
        if yes and no and len(yes) + len(no) == len(own):
            return column, _condition(column, yes)
    return None


def _condition(column: str, values: Sequence[str | None]) -> str:
    known = sorted(value for value in values if value is not None)
    parts = []
    if len(known) == 1:
        parts.append(f"{column} = {literal(known[0])}")
    elif known:
        parts.append(f"{column} IN ({', '.join(map(literal, known))})")
    if None in values:
        parts.append(f"{column} IS NULL")
    return " OR ".join(parts)
