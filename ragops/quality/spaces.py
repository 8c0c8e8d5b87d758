"""Are two sets of vectors of the same texts one vector space? Pure: numpy in, figures and a verdict out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ragops.quality.drift import cosine_distances
from ragops.quality.vectors import normalize

Verdict = Literal["identical", "equivalent", "divergent"]
NEIGHBOURS = 10


@dataclass(frozen=True, slots=True)
class Limits:
    """What still counts as one space."""

    max_drift: float = 1e-3
    """Largest cosine distance between the two vectors of one text."""
    min_overlap: float = 0.99
    """Smallest mean share of common neighbours."""


@dataclass(frozen=True, slots=True)
class SpaceDrift:
    """Cosine distances between the two vectors of each text, and the overlap of the neighbour lists."""

    texts: int
    max: float | None
    mean: float | None
    median: float | None
    p95: float | None
    top10_overlap: float | None
    not_a_number: int
    """Texts without a distance: a zero vector on one side."""
    is_bitwise_equal: bool


def measure_spaces(a: NDArray[np.float32], b: NDArray[np.float32], *, tie_tolerance: float) -> SpaceDrift:
    """Drift between `a` (n, d) and `b` (n, d), row by row vectors of the same n texts.

    Raises ValueError for other shapes.
    """
    if a.shape != b.shape or a.ndim != 2:
        raise ValueError(f"two matrices of one shape are needed, found {a.shape} and {b.shape}")
    distances = cosine_distances(a, b)
    known = ~np.isnan(distances)
    finite = distances[known]
    if not len(finite):
        return SpaceDrift(len(a), None, None, None, None, None, len(a), is_bitwise_equal=False)
    return SpaceDrift(
        texts=len(a),
        max=float(finite.max()),
        mean=float(finite.mean()),
        median=float(np.median(finite)),
        p95=float(np.quantile(finite, 0.95)),
        top10_overlap=tolerant_overlap(a[known], b[known], k=NEIGHBOURS, tolerance=tie_tolerance),
        not_a_number=int(len(a) - len(finite)),
        is_bitwise_equal=bool(np.array_equal(a, b)),
    )


def tolerant_overlap(a: NDArray[np.float32], b: NDArray[np.float32], *, k: int, tolerance: float) -> float | None:
    """Mean share of common k nearest neighbours, where a tie may fall either way.

    A neighbour of `a` counts as kept when its distance in `b` is at most that of `b`'s k-th neighbour
    plus `tolerance`: with few texts the tenth and the eleventh neighbour often lie closer together than
    any two honest builds, and their order says nothing. None for fewer than two rows.
    """
    if len(a) < 2:
        return None
    k = min(k, len(a) - 1)
    first, second = _distances(a), _distances(b)
    wanted = np.argsort(first, axis=1, kind="stable")[:, :k]
    bound = np.sort(second, axis=1)[:, k - 1] + tolerance
    kept = np.take_along_axis(second, wanted, axis=1) <= bound[:, None]
    return float(kept.mean())


def verdict_of(drift: SpaceDrift, limits: Limits) -> Verdict:
    """identical: bit for bit; equivalent: within the limits; divergent: anything else."""
    if drift.is_bitwise_equal and not drift.not_a_number:
        return "identical"
    if drift.max is None or drift.not_a_number:
        return "divergent"
    overlap = 1.0 if drift.top10_overlap is None else drift.top10_overlap
    is_within = drift.max <= limits.max_drift and overlap >= limits.min_overlap
    return "equivalent" if is_within else "divergent"


def _distances(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """Cosine distances (n, n) among the rows; a row's distance to itself is infinite."""
    units = normalize(vectors).astype(np.float64)
    distances = 1.0 - units @ units.T
    np.fill_diagonal(distances, np.inf)
    return distances
