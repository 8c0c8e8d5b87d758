"""Counts under thresholds and self-retrieval."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ragops.quality.retrieval import ThresholdCounts, count_thresholds, self_retrieval


def test_counts_are_strictly_below() -> None:
    found = count_thresholds(np.array([0.2, 0.5, 0.6, np.nan, 1.1]), [0.3, 0.5, 0.7, 0.9])
    assert found == ThresholdCounts(
        minimum=0.2, maximum=1.1, average=0.6, under={0.3: 1, 0.5: 1, 0.7: 3, 0.9: 3}, count=5, nan_count=1
    )


def test_no_distance_at_all() -> None:
    for distances in (np.array([]), np.array([np.nan, np.nan])):
        found = count_thresholds(distances, [0.7])
        assert math.isnan(found.minimum) and math.isnan(found.average)
        assert found.under == {0.7: 0} and found.nan_count == len(distances)


def test_self_retrieval() -> None:
    assert self_retrieval([1, 1, 3, None], [1, 5]) == {1: 0.5, 5: 0.75}
    assert self_retrieval([None], [1]) == {1: 0.0}
    assert self_retrieval([1], []) == {}


@pytest.mark.parametrize(("ranks", "at"), [([], [1]), ([0], [1]), ([1], [0])])
def test_ranks_count_from_one(ranks: list[int | None], at: list[int]) -> None:
    with pytest.raises(ValueError):
        self_retrieval(ranks, at)
