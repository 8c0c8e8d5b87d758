"""Vectors before they are written: finite, of the right dimension, with a direction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

SMALLEST_NORM = 1e-12

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class VectorFault:
    """A vector that must not be written; `index` is its row in what was checked."""

    index: int
    reason: str


def normalize(vectors: Floats) -> NDArray[np.float32]:
    """Rows (n, d) scaled to Euclidean length 1, as float32 (n, d).

    A row shorter than `SMALLEST_NORM` becomes zero and one that is not finite becomes NaN, so that
    `check_vectors` finds both. Raises ValueError unless the array has two axes.
    """
    rows = _rows(vectors)
    # float64 inside: the squares of large float32 components overflow.
    with np.errstate(invalid="ignore", over="ignore"):
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        scaled = np.divide(rows, norms, out=np.zeros_like(rows), where=~(norms < SMALLEST_NORM))
    scaled[~np.isfinite(rows).all(axis=1)] = np.nan
    result: NDArray[np.float32] = scaled.astype(np.float32)
    return result


def check_vectors(vectors: Floats, *, dimensions: int) -> list[VectorFault]:
    """The faults of rows (n, d), at most one a row, in the order of the rows; empty where all is well.

    A wrong dimension is a fault of every row. Raises ValueError unless the array has two axes.
    """
    rows = _rows(vectors)
    if rows.shape[1] != dimensions:
        reason = f"{rows.shape[1]} dimensions, needed {dimensions}"
        return [VectorFault(index=index, reason=reason) for index in range(len(rows))]
    is_finite = np.isfinite(rows)
    with np.errstate(invalid="ignore", over="ignore"):
        norms = np.linalg.norm(rows, axis=1)
    suspects = np.flatnonzero(~is_finite.all(axis=1) | (norms < SMALLEST_NORM))
    return [
        VectorFault(index=int(index), reason=_reason(rows[index], is_finite[index], float(norms[index])))
        for index in suspects
    ]


def mean_vector(vectors: Floats) -> NDArray[np.float32]:
    """The normalised mean (d,) of the normalised rows (n, d): a document from its chunks.

    Zero where the rows cancel each other out, NaN where one is not finite. Raises ValueError for
    no rows at all.
    """
    if len(vectors) == 0:
        raise ValueError("the mean of no vectors is not defined")
    mean = normalize(vectors).astype(np.float64).mean(axis=0, keepdims=True)
    # Rows that cancel out leave a rest of rounding, which is no direction.
    if np.linalg.norm(mean) < np.finfo(np.float32).eps:
        mean = np.zeros_like(mean)
    unit: NDArray[np.float32] = normalize(mean)[0]
    return unit


def _rows(vectors: Floats) -> NDArray[np.float64]:
    rows = np.asarray(vectors, dtype=np.float64)
    if rows.ndim != 2:
        raise ValueError(f"vectors of shape {rows.shape}, needed (n, d)")
    return rows


def _reason(row: NDArray[np.float64], is_finite: NDArray[np.bool_], norm: float) -> str:
    if is_finite.all():
        return f"zero vector (norm {norm:.3g})"
    position = int(np.flatnonzero(~is_finite)[0])
    kind = "NaN" if np.isnan(row[position]) else "Inf"
    others = int(np.count_nonzero(~is_finite)) - 1
    return f"{kind} at position {position}" + (f" and {others} more not finite" if others else "")
