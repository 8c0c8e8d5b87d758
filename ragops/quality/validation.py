"""From measurements to a verdict. Pure: what was measured comes in, checks come out.

The decisive check embeds stored texts again and compares. The procedure's own criterion ("a distance
is a number and at least one row lies under 0.7") also holds for vectors of another space, so it is
shown and counted, but passing it proves nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

CheckStatus = Literal["pass", "fail", "info"]
SELF_RETRIEVAL_AT = (1, 10)


@dataclass(frozen=True, slots=True)
class Check:
    """One check; `info` is shown and decides nothing."""

    id: str
    status: CheckStatus
    measured: str
    expected: str


@dataclass(frozen=True, slots=True)
class ColumnMeasure:
    """What one table's vector column holds."""

    table: str
    total: int
    with_embedding: int
    zero: int
    dimensions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class QueryMeasure:
    """Cosine distances of one query to all stored documents."""

    query: str
    total: int
    finite: int
    minimum: float | None
    maximum: float | None
    mean: float | None
    under: tuple[int, ...]
    """Rows under each threshold."""
    rank: int | None = None
    """Exact rank of the document that the query was taken from."""


@dataclass(frozen=True, slots=True)
class Measurements:
    dimensions: int
    """Of the model."""
    columns: tuple[ColumnMeasure, ...]
    queue: Mapping[str, int]
    agreement: tuple[float, ...]
    """Cosine distances between stored vectors and their texts embedded again; NaN for a zero vector."""
    thresholds: tuple[float, ...]
    queries: tuple[QueryMeasure, ...]
    is_sampled: bool
    """Queries were taken from stored documents, so `rank` says something."""
    unlike: tuple[str, ...] = field(default=())
    """Ids of the worst rows."""


@dataclass(frozen=True, slots=True)
class Limits:
    max_distance: float
    criterion: float
    max_failed_share: float


def judge(found: Measurements, limits: Limits) -> list[Check]:
    """All checks, the decisive one first."""
    documents = found.columns[0]
    checks = [_agreement(found, limits), _counts(documents, found.queue), _failures(found.queue, limits)]
    for column in found.columns:
        checks += _column(column, found.dimensions)
    checks.append(_finite(found.queries))
    checks.append(_criterion(found, limits))
    checks += _retrieval(found)
    return checks


def verdict_of(checks: Sequence[Check]) -> Literal["pass", "fail"]:
    return "fail" if any(check.status == "fail" for check in checks) else "pass"


def comparison_stats(query: QueryMeasure, thresholds: Sequence[float]) -> dict[str, Any]:
    """The procedure's shape; a distance that is no number stays away instead of becoming null."""
    stats: dict[str, Any] = {"total_docs": query.total}
    for name, value in (("min", query.minimum), ("max", query.maximum), ("avg", query.mean)):
        if value is not None:
            stats[f"distance_{name}"] = value
    if query.finite < query.total:
        stats["distance_not_a_number"] = query.total - query.finite
    stats |= {f"count_threshold_{t:g}": n for t, n in zip(thresholds, query.under, strict=True)}
    return stats


def _check(id: str, is_good: bool, measured: str, expected: str) -> Check:
    return Check(id, "pass" if is_good else "fail", measured, expected)


def _agreement(found: Measurements, limits: Limits) -> Check:
    expected = f"cosine distance ≤ {limits.max_distance:g} for every sampled row"
    if not found.agreement:
        return Check("stored_vectors_agree", "fail", "no stored row to embed again", expected)
    distances = np.asarray(found.agreement, dtype=np.float64)
    wrong = int(np.count_nonzero(~(distances <= limits.max_distance)))
    finite = distances[~np.isnan(distances)]
    worst = f"{distances.max():.2g}" if finite.size == distances.size else "NaN"
    median = f"{np.median(finite):.2g}" if finite.size else "NaN"
    measured = f"max {worst}, median {median}, {wrong} of {len(distances)} rows disagree"
    if wrong:
        measured += f" (e.g. {', '.join(found.unlike[:3])})" if found.unlike else ""
    return _check("stored_vectors_agree", wrong == 0, measured, expected)


def _counts(documents: ColumnMeasure, queue: Mapping[str, int]) -> Check:
    completed = queue.get("completed", 0)
    if documents.total == 0:
        return Check("documents", "fail", "0 documents", "at least 1")
    if sum(queue.values()) == 0:
        return Check("documents", "info", f"{documents.total:,} documents, the queue is empty", "")
    return _check(
        "documents",
        documents.total == completed,
        f"{documents.total:,} documents",
        f"{completed:,}, as many as completed items",
    )


def _failures(queue: Mapping[str, int], limits: Limits) -> Check:
    failed, completed = queue.get("failed", 0), queue.get("completed", 0)
    share = failed / (failed + completed) if failed + completed else 0.0
    measured = f"{failed:,} failed items, {share:.1%} of those processed"
    return _check("failed_items", share <= limits.max_failed_share, measured, f"≤ {limits.max_failed_share:.1%}")


def _column(column: ColumnMeasure, dimensions: int) -> list[Check]:
    nulls = column.total - column.with_embedding
    shown = ", ".join(map(str, column.dimensions)) or "none"
    return [
        _check(f"{column.table}_no_null", nulls == 0, f"{nulls:,} rows without embedding", "0"),
        _check(f"{column.table}_no_zero_vector", column.zero == 0, f"{column.zero:,} zero vectors", "0"),
        _check(
            f"{column.table}_dimensions",
            column.dimensions in ((dimensions,), ()),
            shown,
            f"{dimensions}, the model's",
        ),
    ]


def _finite(queries: Sequence[QueryMeasure]) -> Check:
    broken = sum(query.total - query.finite for query in queries)
    total = sum(query.total for query in queries)
    measured = f"{broken:,} of {total:,} distances are no number"
    return _check("distances_are_numbers", broken == 0 and total > 0, measured, "0 (a zero vector makes NaN)")


def _criterion(found: Measurements, limits: Limits) -> Check:
    near = sum(1 for q in found.queries if q.minimum is not None and q.minimum < limits.criterion)
    measured = f"{near} of {len(found.queries)} queries have a row under {limits.criterion:g}"
    return _check("procedure_criterion", near > 0, measured, "at least 1 (a wrong space passes this too)")


def _retrieval(found: Measurements) -> list[Check]:
    checks = []
    for place, threshold in enumerate(found.thresholds):
        mean = math.fsum(q.under[place] for q in found.queries) / max(1, len(found.queries))
        empty = sum(1 for q in found.queries if q.under[place] == 0)
        measured = f"{mean:,.1f} rows a query on average, {empty} of {len(found.queries)} queries find none"
        checks.append(Check(f"rows_under_{threshold:g}", "info", measured, ""))
    if found.is_sampled and found.queries:
        found_at = self_retrieval([q.rank for q in found.queries], SELF_RETRIEVAL_AT)
        shares = [f"{share:.0%} at {at}" for at, share in found_at.items()]
        checks.append(Check("self_retrieval", "info", ", ".join(shares), ""))
    return checks


def self_retrieval(ranks: Sequence[int | None], at: Sequence[int]) -> dict[int, float]:
    """The share (0 to 1) of documents that a search for their own text finds among the first k.

    `ranks` are 1 for the first hit, None where the document was not found; `at` are the k.
    Raises ValueError for no ranks at all, and for a rank or k below 1.
    """
    if not ranks:
        raise ValueError("self-retrieval of no documents is not defined")
    found = [rank for rank in ranks if rank is not None]
    if min([*found, *at], default=1) < 1:
        raise ValueError("ranks and cut-offs count from 1")
    return {k: sum(rank <= k for rank in found) / len(ranks) for k in at}
