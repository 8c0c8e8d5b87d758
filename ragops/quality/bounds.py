"""Say what a sample tells about all rows: exact binomial bounds."""

from __future__ import annotations

import math

CONFIDENCE = 0.95


def upper_bound(hits: int, of: int, *, confidence: float = CONFIDENCE) -> float:
    """Return the share of all rows that is not exceeded at this confidence, where `hits` rows of a sample are so.

    Source: C. Clopper and E. Pearson, one-sided. Raises ValueError without a sample.
    """
    if not 0 <= hits <= of or of == 0:
        raise ValueError(f"{hits} of {of} is no sample")
    if hits == of:
        return 1.0
    low, high = hits / of, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        # The more rows there are, the less likely it is to see so few in the sample.
        if _at_most(hits, of, middle) > 1 - confidence:
            low = middle
        else:
            high = middle
    return high


def bound_in_words(hits: int, of: int, *, confidence: float = CONFIDENCE) -> str:
    """Return e.g. `fewer than 6 % of all rows at 95 % confidence`: the share that `hits` of a sample stand for."""
    percent = 100 * upper_bound(hits, of, confidence=confidence)
    # Rounded up: a bound that is rounded down would not hold.
    shown = f"{math.ceil(percent * 10) / 10:.1f}" if percent < 2 else f"{math.ceil(percent)}"
    return f"fewer than {shown} % of all rows at {100 * confidence:g} % confidence"


def _at_most(hits: int, of: int, share: float) -> float:
    """Return the probability of `hits` or fewer in a sample, where this share of all rows has it."""
    if share <= 0.0:
        return 1.0
    if share >= 1.0:
        return 0.0
    logs = [
        math.lgamma(of + 1)
        - math.lgamma(k + 1)
        - math.lgamma(of - k + 1)
        + k * math.log(share)
        + (of - k) * math.log1p(-share)
        for k in range(hits + 1)
    ]
    largest = max(logs)
    return min(1.0, math.exp(largest) * sum(math.exp(one - largest) for one in logs))
