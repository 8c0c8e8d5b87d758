"""How far two vector spaces of the same texts lie apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ragops.quality.vectors import SMALLEST_NORM, Floats

_BLOCK_ROWS = 1024
# Copies of one vector must tie, although a matrix product may round each a little differently.
_TIE_DECIMALS = 10


@dataclass(frozen=True, slots=True)
class Drift:
    """Cosine distances (0 to 2) between two spaces, row by row; NaN where no row could be compared."""

    max: float
    mean: float
    median: float
    p95: float
    count: int
    """Rows given, those that could not be compared included."""
    nan_count: int
    """Rows without a distance: a zero vector or one that is not finite on either side."""


def cosine_distances(a: Floats, b: Floats) -> NDArray[np.float64]:
    """Cosine distances (n,), 0 to 2, between the rows of `a` and those of `b`, both (n, d).

    NaN for a row that is zero or not finite on either side. Raises ValueError for unlike shapes.
    """
    left, right = _pair(a, b)
    # Half the squared distance of unit vectors equals 1 - cos, and stays exact where the spaces
    # nearly agree: there 1 - cos loses every digit to rounding.
    distances = 0.5 * np.square(_units(left) - _units(right)).sum(axis=1)
    return np.asarray(np.minimum(distances, 2.0), dtype=np.float64)


def measure_drift(a: Floats, b: Floats) -> Drift:
    """The distances of `cosine_distances` summed up; raises ValueError for unlike shapes."""
    distances = cosine_distances(a, b)
    known = distances[~np.isnan(distances)]
    count, nan_count = len(distances), len(distances) - len(known)
    if not len(known):
        nan = float("nan")
        return Drift(max=nan, mean=nan, median=nan, p95=nan, count=count, nan_count=nan_count)
    return Drift(
        max=float(known.max()),
        mean=float(known.mean()),
        median=float(np.median(known)),
        p95=float(np.percentile(known, 95)),
        count=count,
        nan_count=nan_count,
    )


def neighbour_overlap(a: Floats, b: Floats, k: int = 10) -> float:
    """Mean share (0 to 1) of common k nearest neighbours, each row's within its own space.

    A row is not its own neighbour; rows that are zero or not finite on either side are left out;
    k is at most the number of other rows. The dimensions of `a` (n, d) and `b` (n, e) may differ.
    NaN where fewer than two rows remain. Raises ValueError for unlike row counts or k below 1.
    """
    if k < 1 or len(a) != len(b):
        raise ValueError(f"k={k}, {len(a)} and {len(b)} rows: needed k >= 1 and equal counts")
    left, right = _units(np.asarray(a, dtype=np.float64)), _units(np.asarray(b, dtype=np.float64))
    is_known = ~(np.isnan(left).any(axis=1) | np.isnan(right).any(axis=1))
    left, right = left[is_known], right[is_known]
    k = min(k, len(left) - 1)
    if k < 1:
        return float("nan")
    common = 0
    for start in range(0, len(left), _BLOCK_ROWS):
        ours = _neighbours(left, start, k)
        theirs = _neighbours(right, start, k)
        common += sum(len(np.intersect1d(x, y)) for x, y in zip(ours, theirs, strict=True))
    return common / (len(left) * k)


def _neighbours(units: NDArray[np.float64], start: int, k: int) -> NDArray[np.intp]:
    """Row numbers (block, k) of the nearest others for one block of rows."""
    block = units[start : start + _BLOCK_ROWS]
    similarity = np.round(block @ units.T, _TIE_DECIMALS)
    similarity[np.arange(len(block)), start + np.arange(len(block))] = -np.inf
    return np.argsort(-similarity, axis=1, kind="stable")[:, :k]


def _pair(a: Floats, b: Floats) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    left, right = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if left.ndim != 2 or left.shape != right.shape:
        raise ValueError(f"vectors of shapes {left.shape} and {right.shape}, needed (n, d) twice")
    return left, right


def _units(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows of length 1 in float64; NaN for those without a direction."""
    with np.errstate(invalid="ignore", over="ignore"):
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
    norms[~np.isfinite(norms) | (norms < SMALLEST_NORM)] = np.nan
    with np.errstate(invalid="ignore"):
        units: NDArray[np.float64] = rows / norms
    return units
