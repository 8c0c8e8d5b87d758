"""Bounds of a loss, and what they decide: never more certain than the number of queries allows."""

from __future__ import annotations

import numpy as np
import pytest

from ragops.quality.losses import Decision, fewest_queries, loss_bounds, overall, student_t

# https://www.itl.nist.gov/div898/handbook/eda/section3/eda3672.htm
TABLE = [
    (0.95, 1, 6.314),
    (0.95, 2, 2.920),
    (0.95, 3, 2.353),
    (0.95, 10, 1.812),
    (0.99, 5, 3.365),
    (0.9, 60, 1.296),
]


@pytest.mark.parametrize(("confidence", "freedom", "expected"), TABLE)
def test_students_t_is_that_of_the_tables(confidence: float, freedom: int, expected: float) -> None:
    assert student_t(confidence, freedom) == pytest.approx(expected, rel=0.005)


def test_a_sample_without_a_loss_promises_no_more_than_its_size() -> None:
    assert fewest_queries(0.02, 0.95) == 149
    assert loss_bounds([0.0] * 148, confidence=0.95).decide(0.02) == "INCONCLUSIVE"
    assert loss_bounds([0.0] * 149, confidence=0.95).decide(0.02) == "GO"
    assert loss_bounds([0.0] * 148, confidence=0.95).queries_needed(0.02) == 149


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([0.0] * 200, "GO"),
        ([0.1] * 10 + [0.0] * 190, "GO"),
        ([0.1] * 60 + [0.0] * 140, "NO-GO"),
        ([0.1] * 40 + [0.0] * 160, "INCONCLUSIVE"),
        ([1.0] * 200, "NO-GO"),
        ([0.5], "INCONCLUSIVE"),
        ([-0.1, 0.1] * 100, "GO"),
    ],
)
def test_the_verdict_follows_the_bounds(losses: list[float], expected: Decision) -> None:
    assert loss_bounds(losses, confidence=0.95).decide(0.02) == expected


def test_all_queries_that_there_are_have_no_error() -> None:
    losses = [0.1] * 9 + [0.0] * 41
    assert loss_bounds(losses, confidence=0.95, population=50).decide(0.02) == "GO"
    assert loss_bounds(losses, confidence=0.95, population=60).decide(0.02) == "INCONCLUSIVE"
    assert loss_bounds(losses, confidence=0.95, population=60).queries_needed(0.02) == 60
    assert loss_bounds([0.1], confidence=0.95, population=1).decide(0.02) == "NO-GO"


def test_as_many_queries_as_are_named_decide() -> None:
    bounds = loss_bounds([0.1] * 34 + [0.0] * 166, confidence=0.95)
    needed = bounds.queries_needed(0.02)
    assert bounds.decide(0.02) == "INCONCLUSIVE" and needed is not None and needed > 200
    lost = round(1.02 * needed * 0.17)
    assert loss_bounds([0.1] * lost + [0.0] * (round(1.02 * needed) - lost), confidence=0.95).decide(0.02) == "GO"
    assert loss_bounds([0.1, 0.0, 0.0, 0.0, 0.0] * 40, confidence=0.95).queries_needed(0.02) is None


def test_the_true_loss_lies_outside_as_seldom_as_promised() -> None:
    """Drawn from losses whose mean is known: a GO for a loss beyond the limit, and the other way round."""
    drawn = np.random.default_rng(12)
    wrong_go = wrong_no_go = 0
    for _ in range(400):
        # Ten neighbours, each lost with the probability of the limit.
        bounds = loss_bounds((drawn.binomial(10, 0.021, size=200) / 10).tolist(), confidence=0.95)
        wrong_go += bounds.decide(0.02) == "GO"
        bounds = loss_bounds((drawn.binomial(10, 0.019, size=200) / 10).tolist(), confidence=0.95)
        wrong_no_go += bounds.decide(0.02) == "NO-GO"
    assert wrong_go <= 400 * 0.06 and wrong_no_go <= 400 * 0.06


def test_the_worst_decision_counts() -> None:
    assert overall(["GO", "INCONCLUSIVE", "NO-GO"]) == "NO-GO"
    assert overall(["GO", "INCONCLUSIVE"]) == "INCONCLUSIVE"
    assert (overall(["GO", "GO"]), overall([])) == ("GO", "INCONCLUSIVE")
