"""How far a vector moves because other texts share its batch, by the length of the text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# A sample of texts shows less than a corpus: the largest drift of 300 words was 1.2 to 2 times that of 50, and 4
# times the median (MiniLM Q8_0, SmolLM2 Q4_1). A few texts show still less: 24 documents moved by up to 3 times
# what the 3 test texts of their length did.
MARGIN_OF_MAX, MARGIN_OF_FEW, MARGIN_OF_MEDIAN = 2.0, 8.0, 5.0
# Upper ends of the classes, in tokens.
CLASSES = (4, 8, 16, 32, 64, 128)
# Nobody measures closer than this: a vector is stored as float32.
SMALLEST_LIMIT = 1e-6


@dataclass(frozen=True, slots=True)
class LengthDrift:
    """Drift of the texts of one class of lengths, as cosine distances from the same texts embedded alone."""

    tokens: int
    """Upper end of the class; without one, the length of the longest text."""
    texts: int
    max: float
    median: float

    @property
    def bound(self) -> float:
        """What a whole corpus of such texts is expected to stay below; NaN if a text has no distance."""
        margin = MARGIN_OF_MAX + MARGIN_OF_FEW / self.texts
        return max(self.max * margin, self.median * MARGIN_OF_MEDIAN)


def drifts_by_length(lengths: Sequence[int], distances: NDArray[np.float64]) -> list[LengthDrift]:
    """Return the drift of each class that has texts, the shortest first."""
    return list(_classes(np.asarray(lengths), distances))


def _classes(lengths: NDArray[np.int64], distances: NDArray[np.float64]) -> Iterator[LengthDrift]:
    least = 0
    for end in (*CLASSES, max(int(lengths.max(initial=0)), CLASSES[-1] + 1)):
        chosen = (lengths > least) & (lengths <= end)
        if chosen.any():
            found = distances[chosen]
            yield LengthDrift(end, int(chosen.sum()), float(found.max()), float(np.median(found)))
        least = end


def longest_over(drifts: Sequence[LengthDrift], *, limit: float) -> int:
    """Return the length in tokens up to which texts may move by more than `limit`; 0 if none does."""
    # Not `bound > limit`: a NaN is over it, too.
    return max((drift.tokens for drift in drifts if not drift.bound <= limit), default=0)


def proposed_limit(drift: float) -> float:
    """Return the next of 1, 2, 5, 10, … times a power of ten above a drift, for a playbook."""
    power = 10.0 ** np.floor(np.log10(max(drift, SMALLEST_LIMIT)))
    return next(float(f"{step * power:.0e}") for step in (1, 2, 5, 10, 20) if step * power >= drift)
