"""The indexes of a second vector column with those of the first, whose names they take at the cutover. Pure."""

from __future__ import annotations

from ragops.facts import IndexFacts
from ragops.indexes.beside import Copy, copies_of, second_column
from ragops.indexes.builds import IndexBuild
from ragops.row_facts import TargetFacts


def index_pairs(facts: TargetFacts) -> list[tuple[IndexFacts, IndexFacts | None]]:
    """Return each valid index over the first column with the one over the second that takes its place.

    None: there is none, or it is invalid. Indexes of partitions come before that of their partitioned table.
    """
    pairs = []
    for copy in _copies(facts):
        is_usable = copy.present is not None and copy.present.is_valid
        pairs.append((copy.old, copy.present if is_usable else None))
    return pairs


def missing_copies(facts: TargetFacts) -> list[IndexBuild]:
    """Return what is not there yet, of indexes that a second column is to get."""
    return [copy.build for copy in _copies(facts) if copy.present is None]


def _copies(facts: TargetFacts) -> list[Copy]:
    return [] if facts.column(facts.filled) is None else copies_of(facts, second_column(facts))
