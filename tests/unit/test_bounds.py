"""What a sample tells about all rows."""

from __future__ import annotations

import pytest

from ragops.quality.bounds import bound_in_words, upper_bound


@pytest.mark.parametrize(
    ("hits", "of", "bound"),
    # Of 0 of n: 1 - 0.05 ** (1 / n). With the others so few are seen with a probability of 0.05.
    [(0, 1, 0.95), (0, 50, 0.0581551), (0, 300, 0.0099362), (1, 10, 0.3941633), (5, 50, 0.1988330), (50, 50, 1.0)],
)
def test_the_bound_is_exact(hits: int, of: int, bound: float) -> None:
    assert upper_bound(hits, of) == pytest.approx(bound, abs=1e-5)


def test_words_round_up() -> None:
    assert bound_in_words(0, 50) == "fewer than 6 % of all rows at 95 % confidence"
    assert bound_in_words(0, 300) == "fewer than 1.0 % of all rows at 95 % confidence"
    assert bound_in_words(0, 5000, confidence=0.99) == "fewer than 0.1 % of all rows at 99 % confidence"


@pytest.mark.parametrize(("hits", "of"), [(0, 0), (3, 2), (-1, 5)])
def test_no_sample_has_no_bound(hits: int, of: int) -> None:
    with pytest.raises(ValueError):
        upper_bound(hits, of)
