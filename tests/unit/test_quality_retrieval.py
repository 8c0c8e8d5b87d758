"""Counts under thresholds and self-retrieval."""

from __future__ import annotations

import pytest

from ragops.quality.validation import self_retrieval


def test_self_retrieval() -> None:
    assert self_retrieval([1, 1, 3, None], [1, 5]) == {1: 0.5, 5: 0.75}
    assert self_retrieval([None], [1]) == {1: 0.0}
    assert self_retrieval([1], []) == {}


@pytest.mark.parametrize(("ranks", "at"), [([], [1]), ([0], [1]), ([1], [0])])
def test_ranks_count_from_one(ranks: list[int | None], at: list[int]) -> None:
    with pytest.raises(ValueError):
        self_retrieval(ranks, at)
