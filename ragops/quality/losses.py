"""Confidence bounds of a mean loss, and what they decide."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, stdev
from typing import Literal

Decision = Literal["GO", "NO-GO", "INCONCLUSIVE"]
# More queries than anybody would embed: the loss is at the limit itself.
MOST_QUERIES = 1_000_000


@dataclass(frozen=True, slots=True)
class Bounds:
    """A mean loss per query with its bounds, each of which holds with `confidence`."""

    mean: float
    lower: float
    upper: float
    queries: int
    deviation: float
    confidence: float
    population: int | None = None
    """How many queries there are in all, if that is known: a sample of all of them has no error."""

    def decide(self, max_loss: float) -> Decision:
        """Return GO if the loss is certainly within the limit, NO-GO if it is certainly beyond it."""
        if self.upper <= max_loss:
            return "GO"
        return "NO-GO" if self.lower > max_loss else "INCONCLUSIVE"

    def queries_needed(self, max_loss: float) -> int | None:
        """Return about how many queries decide if losses go on like this; None if no number does."""
        needed = None
        gap = abs(max_loss - self.mean)
        if gap > 0 and 0 < max_loss < 1:
            z = NormalDist().inv_cdf(self.confidence)
            spread = math.ceil((z * self.deviation / gap) ** 2)
            # Near the limit, a mean of few queries would promise too few.
            needed = max(spread, fewest_queries(max_loss, self.confidence), self.queries + 1)
        if self.population is not None and (needed is None or needed > self.population):
            # All of them decide, whatever they say.
            needed = self.population
        return needed if needed is not None and self.queries < needed <= MOST_QUERIES else None

    def to_json(self) -> dict[str, object]:
        return {
            "mean": self.mean,
            "lower": self.lower,
            "upper": self.upper,
            "queries": self.queries,
            "confidence": self.confidence,
        }


def loss_bounds(losses: Sequence[float], *, confidence: float, population: int | None = None) -> Bounds:
    """Return the bounds of the mean of losses, at most 1 each, one per query.

    Student's t over the queries, never tighter than what as many queries without any loss allow: a sample in which
    nothing was lost has no spread, and 1 of 100 may still be lost. `population` narrows both as the sample nears
    it. Raises ValueError for no losses.
    """
    count = len(losses)
    if count == 0:
        raise ValueError("no losses to bound")
    mean = fmean(losses)
    is_census = population is not None and count >= population
    if is_census:
        return Bounds(mean, mean, mean, count, stdev(losses) if count > 1 else 0.0, confidence, population)
    if count == 1:
        return Bounds(mean, -1.0 if min(losses) < 0 else 0.0, 1.0, 1, 0.0, confidence, population)
    finite = 1.0 if population is None else math.sqrt((population - count) / (population - 1))
    deviation = stdev(losses)
    half = student_t(confidence, count - 1) * deviation / math.sqrt(count) * finite
    unseen = (1 - (1 - confidence) ** (1 / count)) * finite
    lower, upper = mean - half, mean + half
    if mean < 0.5:
        upper = max(upper, unseen)
    else:
        lower = min(lower, 1 - unseen)
    lowest = -1.0 if min(losses) < 0 else 0.0
    return Bounds(mean, max(lower, lowest), min(upper, 1.0), count, deviation, confidence, population)


def fewest_queries(max_loss: float, confidence: float) -> int:
    """Return how many queries without any loss show that the mean loss is within `max_loss`, which is above 0."""
    if max_loss >= 1:
        return 1
    return math.ceil(math.log(1 - confidence) / math.log(1 - max_loss) - 1e-9)


def overall(decisions: Sequence[Decision]) -> Decision:
    """Return NO-GO if any says so, else INCONCLUSIVE if any does, else GO; INCONCLUSIVE for none."""
    if not decisions or ("INCONCLUSIVE" in decisions and "NO-GO" not in decisions):
        return "INCONCLUSIVE"
    return "NO-GO" if "NO-GO" in decisions else "GO"


def student_t(confidence: float, freedom: int) -> float:
    """Return the one-sided quantile of Student's t; within 0.5 % of the tables from 3 degrees of freedom on."""
    if freedom == 1:
        return math.tan(math.pi * (confidence - 0.5))
    if freedom == 2:
        return (2 * confidence - 1) / math.sqrt(2 * confidence * (1 - confidence))
    # Cornish and Fisher's expansion (Abramowitz and Stegun 26.7.5): no library for one number.
    z, n = NormalDist().inv_cdf(confidence), freedom
    return (
        z
        + (z**3 + z) / (4 * n)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * n**3)
        + (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / (92160 * n**4)
    )
