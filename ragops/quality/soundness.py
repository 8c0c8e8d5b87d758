"""Decide from the vectors of a few different texts whether a model makes vectors that can be stored at all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ragops.quality.drift import cosine_distances
from ragops.quality.vectors import Floats, check_vectors

# Different texts lie 0.3 and more apart in most models. A causal model that pools its first token has one vector
# for all of them, apart from rounding: with the length of the batch it moves by 2e-3 (median, Gemma 3 Q4_K_M).
LEAST_SPREAD = 5e-3
# Of a text that is named.
_SHOWN = 40


def unsound(vectors: Floats, texts: Sequence[str]) -> str | None:
    """Return what is wrong with the raw vectors (n, d) of different texts: not finite, zero, or all the same.

    None if nothing is. Raises ValueError for other shapes.
    """
    rows = np.asarray(vectors)
    faults = check_vectors(rows, dimensions=rows.shape[1])
    if faults:
        first = faults[0]
        if len(texts) == 1:
            return f"the vector of {shown(texts[0])} is unusable: {first.reason}"
        return (
            f"{len(faults)} of {len(texts)} test texts have an unusable vector; the first is that of "
            f"{shown(texts[first.index])}: {first.reason}"
        )
    if len(set(texts)) < 2:
        return None
    spread = float(np.median(cosine_distances(np.repeat(rows[:1], len(rows) - 1, axis=0), rows[1:])))
    if spread <= LEAST_SPREAD:
        return f"{len(texts)} different test texts have the same vector (median distance {spread:.1g})"
    return None


def shown(text: str) -> str:
    """Return a text as a message names it."""
    return repr(text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…")
