"""Check and scale vectors before they are stored: finite, of the right dimension, not zero."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Far below the norm of any embedding and far above float32's smallest number (1e-38): a shorter vector is a
# zero vector with rounding. pgvector gives NaN for the cosine distance to a zero vector and leaves it out
# of a cosine HNSW index without a warning.
SMALLEST_NORM = 1e-12

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class VectorFault:
    """A vector that must not be stored; `index` is its row in the checked array."""

    index: int
    reason: str


def normalize(vectors: Floats) -> NDArray[np.float32]:
    """Return the rows (n, d) scaled to Euclidean length 1, as float32.

    A row shorter than `SMALLEST_NORM` becomes zero and one that is not finite becomes NaN, so that
    `check_vectors` finds both. Raises ValueError unless the array has two axes.
    """
    # float64, because the squares of float32 components above 1.8e19 overflow.
    rows = _rows(vectors)
    with np.errstate(invalid="ignore", over="ignore"):
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        scaled = np.divide(rows, norms, out=np.zeros_like(rows), where=~(norms < SMALLEST_NORM))
    scaled[~np.isfinite(rows).all(axis=1)] = np.nan
    result: NDArray[np.float32] = scaled.astype(np.float32)
    return result


def check_vectors(vectors: Floats, *, dimensions: int) -> list[VectorFault]:
    """Return the faults of the rows (n, d), at most one per row, in their order; [] if all are valid.

    A wrong dimension is a fault of every row. Raises ValueError unless the array has two axes.
    """
    rows = _rows(vectors)
    if rows.shape[1] != dimensions:
        reason = f"{rows.shape[1]} dimensions, expected {dimensions}"
        return [VectorFault(index=index, reason=reason) for index in range(len(rows))]
    is_finite = np.isfinite(rows)
    with np.errstate(invalid="ignore", over="ignore"):
        norms = np.linalg.norm(rows, axis=1)
    faults = []
    for index in np.flatnonzero(~is_finite.all(axis=1) | (norms < SMALLEST_NORM)):
        wrong = np.flatnonzero(~is_finite[index])
        if len(wrong):
            kind = "NaN" if np.isnan(rows[index, wrong[0]]) else "Inf"
            more = f" and {len(wrong) - 1} more not finite" if len(wrong) > 1 else ""
            reason = f"{kind} at position {wrong[0]}{more}"
        else:
            reason = f"zero vector (norm {norms[index]:.3g})"
        faults.append(VectorFault(index=int(index), reason=reason))
    return faults


def mean_vector(vectors: Floats) -> NDArray[np.float32]:
    """Return the normalised mean (d,) of the normalised rows (n, d): a document's vector from its chunks'.

    Zero if the rows cancel each other out, NaN if one is not finite. Raises ValueError for no rows.
    """
    if len(vectors) == 0:
        raise ValueError("the mean of no vectors is not defined")
    mean = normalize(vectors).astype(np.float64).mean(axis=0, keepdims=True)
    # Rows that cancel out leave a remainder of float32 rounding; normalised, it would be a random direction.
    if np.linalg.norm(mean) < np.finfo(np.float32).eps:
        mean = np.zeros_like(mean)
    unit: NDArray[np.float32] = normalize(mean)[0]
    return unit


def _rows(vectors: Floats) -> NDArray[np.float64]:
    rows = np.asarray(vectors, dtype=np.float64)
    if rows.ndim != 2:
        raise ValueError(f"expected vectors of shape (n, d), got {rows.shape}")
    return rows
