"""The indexes of a second vector column with those of the first, whose names they take at the cutover. Pure."""

from __future__ import annotations

from ragops.facts import IndexFacts
from ragops.indexes.beside import copies_of, second_column
from ragops.row_facts import TargetFacts


def index_pairs(facts: TargetFacts) -> list[tuple[IndexFacts, IndexFacts | None]]:
    """Return each valid index over the first column with the one over the second that takes its place.

    None: there is none, or it is invalid. Indexes of partitions come before that of their partitioned table.
    """
    if facts.column(facts.filled) is None:
        return []
    pairs = []
    for copy in copies_of(facts, second_column(facts)):
        is_usable = copy.present is not None and copy.present.is_valid
        pairs.append((copy.old, copy.present if is_usable else None))
    return pairs
