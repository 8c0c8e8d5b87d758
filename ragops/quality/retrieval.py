"""Whether a search finds what it should."""

from __future__ import annotations

from collections.abc import Sequence


def self_retrieval(ranks: Sequence[int | None], at: Sequence[int]) -> dict[int, float]:
    """The share (0 to 1) of documents that a search for their own text finds among the first k.

    `ranks` are 1 for the first hit, None where the document was not found; `at` are the k.
    Raises ValueError for no ranks at all, and for a rank or k below 1.
    """
    if not ranks:
        raise ValueError("self-retrieval of no documents is not defined")
    found = [rank for rank in ranks if rank is not None]
    if min([*found, *at], default=1) < 1:
        raise ValueError("ranks and cut-offs count from 1")
    return {k: sum(rank <= k for rank in found) / len(ranks) for k in at}
