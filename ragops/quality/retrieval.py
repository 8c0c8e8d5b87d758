"""Exact neighbours of many queries in one pass over the stored vectors, and what is measured against them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]
# The server adds in another order than numpy: distances that differ by less are the same.
ABSOLUTE, RELATIVE = 1e-6, 1e-5


@dataclass(frozen=True, slots=True)
class Found:
    """The nearest rows of one query, the nearest first."""

    keys: tuple[str, ...]
    distances: tuple[float, ...]


def distances(queries: Matrix, rows: Matrix, *, metric: str) -> NDArray[np.float64]:
    """Return the distances (queries, rows) as pgvector's operators rank them; infinite where there is none."""
    left, right = queries.astype(np.float64), rows.astype(np.float64)
    if metric == "l1":
        # One query at a time: all differences at once would take queries × rows × dimensions.
        return np.stack([np.abs(right - query).sum(axis=1) for query in left])
    products: NDArray[np.float64] = left @ right.T
    if metric == "ip":
        return -products
    if metric == "l2":
        squares = (left**2).sum(axis=1)[:, None] + (right**2).sum(axis=1)[None, :] - 2 * products
        roots: NDArray[np.float64] = np.sqrt(np.maximum(squares, 0.0))
        return roots
    norms = np.linalg.norm(left, axis=1)[:, None] * np.linalg.norm(right, axis=1)[None, :]
    with np.errstate(divide="ignore", invalid="ignore"):
        cosine: NDArray[np.float64] = 1 - products / norms
    # A zero vector has no cosine distance, and is in no cosine index.
    cosine[~np.isfinite(cosine)] = np.inf
    return cosine


class ExactSearch:
    """Collects the `k` nearest rows of each query while all rows pass by in blocks."""

    def __init__(
        self, queries: Matrix, *, metric: str, k: int, sources: Sequence[str | None] | None = None
    ) -> None:
        """`sources` are the keys of the rows that the queries were drawn from; those do not find themselves."""
        self._queries = queries
        self._metric = metric
        self._k = k
        self._sources = sources
        self._distances = np.full((len(queries), k), np.inf)
        self._rows = np.full((len(queries), k), -1, dtype=np.int64)
        self._keys: dict[int, str] = {}
        self._seen = 0

    def add(self, keys: Sequence[str], rows: Matrix) -> None:
        """Let a block of rows, of the queries' dimensions, pass by."""
        if not len(keys) or not len(self._queries):
            return
        found = distances(self._queries, rows, metric=self._metric)
        if self._sources is not None:
            place = {key: number for number, key in enumerate(keys)}
            for query, source in enumerate(self._sources):
                if source is not None and source in place:
                    found[query, place[source]] = np.inf
        numbers = np.arange(self._seen, self._seen + len(keys))
        self._seen += len(keys)
        all_distances = np.concatenate([self._distances, found], axis=1)
        all_rows = np.concatenate([self._rows, np.broadcast_to(numbers, found.shape)], axis=1)
        chosen = np.argpartition(all_distances, self._k - 1, axis=1)[:, : self._k]
        self._distances = np.take_along_axis(all_distances, chosen, axis=1)
        self._rows = np.take_along_axis(all_rows, chosen, axis=1)
        kept = set(self._rows.ravel().tolist())
        first = self._seen - len(keys)
        self._keys = {n: self._keys[n] if n < first else keys[n - first] for n in kept if n >= 0}

    def found(self) -> list[Found]:
        """Return the neighbours of each query; fewer than `k` where there are no more."""
        result = []
        for own_distances, own_rows in zip(self._distances, self._rows, strict=True):
            order = [n for n in np.lexsort((own_rows, own_distances)) if math.isfinite(own_distances[n])]
            result.append(
                Found(
                    tuple(self._keys[int(own_rows[n])] for n in order),
                    tuple(float(own_distances[n]) for n in order),
                )
            )
        return result


class Ranks:
    """Counts the rows that are nearer to each query than the row that it was drawn from."""

    def __init__(self, queries: Matrix, sources: Matrix, *, metric: str) -> None:
        """`sources` are the vectors of those rows, one per query."""
        self._queries = queries
        self._metric = metric
        own = [distances(q[None], s[None], metric=metric)[0, 0] for q, s in zip(queries, sources, strict=True)]
        self._own = np.asarray(own, dtype=np.float64)
        self._nearer = np.zeros(len(queries), dtype=np.int64)

    def add(self, rows: Matrix) -> None:
        if not len(rows) or not len(self._queries):
            return
        found = distances(self._queries, rows, metric=self._metric)
        limit = self._own - ABSOLUTE - RELATIVE * np.abs(np.where(np.isfinite(self._own), self._own, 0))
        self._nearer += (found < limit[:, None]).sum(axis=1)

    def ranks(self) -> list[int]:
        """Return the ranks, 1 for the nearest row."""
        return [int(nearer) + 1 for nearer in self._nearer]


def recall(exact: Found, approximate: Found, *, k: int) -> float | None:
    """Return the share of the `k` nearest rows that an index finds; None where there is no row at all.

    Of rows that are equally far any is right: which of them are among the first `k` is chance.
    """
    expected = exact.keys[:k]
    if not expected:
        return None
    farthest = exact.distances[len(expected) - 1]
    limit = farthest + ABSOLUTE + RELATIVE * abs(farthest)
    known = set(expected)
    pairs = zip(approximate.keys[:k], approximate.distances[:k], strict=True)
    hits = sum(1 for key, distance in pairs if key in known or distance <= limit)
    return min(hits, len(expected)) / len(expected)


def overlap(one: Found, other: Found, *, k: int) -> float | None:
    """Return the share of neighbours that two searches have in common; None where one has none."""
    size = min(k, len(one.keys), len(other.keys))
    return len(set(one.keys[:size]) & set(other.keys[:size])) / size if size else None


def ndcg(keys: Sequence[str], relevance: Mapping[str, float], *, k: int) -> float:
    """Return the normalised discounted cumulative gain of a ranking at `k`, with linear gains (as trec_eval)."""
    ideal = sorted((gain for gain in relevance.values() if gain > 0), reverse=True)[:k]
    best = sum(gain / math.log2(place + 2) for place, gain in enumerate(ideal))
    got = sum(max(0.0, relevance.get(key, 0.0)) / math.log2(place + 2) for place, key in enumerate(keys[:k]))
    return got / best if best else 0.0


def percentile(values: Sequence[float], share: float) -> float | None:
    """Return the smallest value that `share` of them do not exceed; None for no values."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
