"""Whether a search finds what it should: counts under thresholds, and self-retrieval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ragops.quality.vectors import Floats


@dataclass(frozen=True, slots=True)
class ThresholdCounts:
    """Cosine distances of a query to its candidates, summed up; NaN where there is no distance."""

    minimum: float
    maximum: float
    average: float
    under: Mapping[float, int]
    """For each threshold the number of distances below it."""
    count: int
    """Distances given, NaN included."""
    nan_count: int


def count_thresholds(distances: Floats, thresholds: Sequence[float]) -> ThresholdCounts:
    """Counts of `distances` (n,) strictly below each threshold; NaN is below none."""
    values = np.asarray(distances, dtype=np.float64).ravel()
    known = values[~np.isnan(values)]
    return ThresholdCounts(
        minimum=float(known.min()) if len(known) else float("nan"),
        maximum=float(known.max()) if len(known) else float("nan"),
        average=float(known.mean()) if len(known) else float("nan"),
        under={limit: int(np.count_nonzero(known < limit)) for limit in thresholds},
        count=len(values),
        nan_count=len(values) - len(known),
    )


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
