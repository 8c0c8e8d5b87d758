"""Draw rows that stand for a table: spread over time, and some of every group of a low-cardinality column."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ragops.postgres.stored_texts import GROUP_CHARACTERS, Place, StoredTexts

# Rows whose short columns are looked at, to find the columns that group rows.
LOOKED_AT = 1_000
# A column groups rows if it has this many values at most, each with this many rows on average at least.
MOST_VALUES, ROWS_PER_VALUE = 12, 4
# Rows of every group that are compared.
PER_GROUP = 4
MOST_GROUPINGS = 8


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One row of the sample."""

    place: Place
    vector: NDArray[np.float32]
    labels: Mapping[str, str | None]
    """Values of the columns that group rows, by SQL expression."""
    weight: int
    """Bytes of its texts, as they are stored."""
    is_extra: bool
    """Drawn for its group alone: it counts in no share."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Rows of a table with a vector."""

    rows: tuple[Row, ...]
    total: int
    """Rows of the table with a vector."""

    @property
    def counted(self) -> tuple[Row, ...]:
        """The rows that shares are of."""
        return tuple(row for row in self.rows if not row.is_extra)


def draw(stored: StoredTexts, text_columns: Sequence[str], *, size: int) -> Sample:
    """Return at most `size` rows spread over the table, and up to as many more from groups with few of them."""
    looked, total = stored.places(size=max(LOOKED_AT, size))
    labels = stored.labels(looked)
    names = groupings([labels[place] for place in looked])
    chosen = _evenly(looked, size)
    extra = _of_groups(looked, labels, names, chosen)[:size]
    places = [*chosen, *extra]
    vectors, weights = stored.vectors(places), stored.weights(text_columns, places)
    rows = [
        Row(
            place,
            vectors[place],
            {name: labels[place].get(name) for name in names},
            weights.get(place, 0),
            is_extra=place in extra,
        )
        # A row that was changed meanwhile is elsewhere now.
        for place in sorted(places)
        if place in vectors
    ]
    return Sample(tuple(rows), total)


def spread(rows: Sequence[Row], count: int) -> list[Row]:
    """Return rows from all over a sample, the shorter ones: a text's length decides what embedding it takes.

    Not the shortest, whose texts may be empty.
    """
    if len(rows) <= count:
        return list(rows)
    parts = np.array_split(np.arange(len(rows)), count)
    return [_lower_quartile([rows[place] for place in part]) for part in parts]


def groupings(labels: Sequence[Mapping[str, str | None]]) -> list[str]:
    """Return the expressions that divide rows into a few groups, those with the fewest groups first."""
    found = []
    for name in dict.fromkeys(name for row in labels for name in row):
        values = {row.get(name) for row in labels}
        is_short = all(value is None or len(value) <= GROUP_CHARACTERS for value in values)
        if is_short and 2 <= len(values) <= min(MOST_VALUES, len(labels) / ROWS_PER_VALUE):
            found.append((len(values), name))
    found.sort(key=lambda pair: pair[0])
    return [name for _, name in found[:MOST_GROUPINGS]]


def _lower_quartile(rows: Sequence[Row]) -> Row:
    return sorted(rows, key=lambda row: row.weight)[len(rows) // 4]


def _evenly(places: Sequence[Place], size: int) -> list[Place]:
    if len(places) <= size:
        return list(places)
    return [places[place] for place in np.linspace(0, len(places) - 1, size).round().astype(int)]


def _of_groups(
    looked: Sequence[Place],
    labels: Mapping[Place, Mapping[str, str | None]],
    names: Sequence[str],
    chosen: Sequence[Place],
) -> list[Place]:
    """Return further places, so that every group has some."""
    taken = set(chosen)
    counts = Counter((name, labels[place].get(name)) for place in chosen for name in names)
    extra = []
    for place in looked:
        groups = [(name, labels[place].get(name)) for name in names]
        if place not in taken and any(counts[group] < PER_GROUP for group in groups):
            extra.append(place)
            counts.update(groups)
    return extra
