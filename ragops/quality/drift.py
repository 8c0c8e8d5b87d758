"""Measure the distance between two vector spaces of the same texts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ragops.quality.vectors import SMALLEST_NORM, Floats


def cosine_distances(a: Floats, b: Floats) -> NDArray[np.float64]:
    """Return the cosine distances (n,), 0 to 2, between the rows of `a` and those of `b`, both (n, d).

    NaN for a row that is zero or not finite on either side. Raises ValueError for different shapes.
    """
    left, right = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if left.ndim != 2 or left.shape != right.shape:
        raise ValueError(f"expected two arrays of one shape (n, d), got {left.shape} and {right.shape}")
    # Half of the squared distance of unit vectors equals 1 - cos, and stays exact where the spaces nearly
    # agree: there 1 - cos cancels, e.g. to two digits at a distance of 1e-14.
    distances = 0.5 * np.square(_units(left) - _units(right)).sum(axis=1)
    return np.asarray(np.minimum(distances, 2.0), dtype=np.float64)


def _units(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the rows scaled to length 1; NaN for those without a direction."""
    with np.errstate(invalid="ignore", over="ignore"):
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
    norms[~np.isfinite(norms) | (norms < SMALLEST_NORM)] = np.nan
    with np.errstate(invalid="ignore"):
        units: NDArray[np.float64] = rows / norms
    return units
