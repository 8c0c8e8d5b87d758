"""Judge what was measured in the database: measurements in, checks and a verdict out.

The decisive check embeds stored texts again and compares. The runbook's own criterion ("the distance is
a number and at least one row lies under 0.7") also holds for vectors of another space, so it is shown
and counted, but passing it proves nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal

import numpy as np

from ragops.quality.checks import Check as Check
from ragops.quality.checks import CheckStatus
from ragops.quality.row_validation import RowMeasure, row_checks

SELF_RETRIEVAL_AT = (1, 10)


@dataclass(frozen=True, slots=True)
class ColumnMeasure:
    """Counts of one table's vector column."""

    table: str
    total: int
    with_embedding: int
    zero: int
    dimensions: tuple[int, ...]
    """The distinct dimensions that are stored."""
    missing: int | None = None
    """Rows without a vector although their text is not empty; None: not counted apart from those without text."""


@dataclass(frozen=True, slots=True)
class QueryMeasure:
    """Cosine distances of one query to all stored documents; None if no distance is a number."""

    query: str
    total: int
    finite: int
    minimum: float | None
    maximum: float | None
    mean: float | None
    under: tuple[int, ...]
    """Number of rows under each threshold."""
    rank: int | None = None
    """Exact rank of the document that the query was taken from."""
    without_vector: int = 0
    """Rows that have no vector, and so no distance."""

    @property
    def not_a_number(self) -> int:
        """Number of vectors whose distance is no number."""
        return self.total - self.without_vector - self.finite

    def to_json(self) -> dict[str, object]:
        """Return what `ragops validate --json` prints in the list `queries`."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Measurements:
    """Everything that `judge` needs."""

    dimensions: int
    """Of the model."""
    columns: tuple[ColumnMeasure, ...]
    """That of the documents first."""
    queue: Mapping[str, int]
    """Number of items by status."""
    agreement: tuple[float, ...]
    """Cosine distances between stored vectors and their texts embedded again; NaN for a zero vector."""
    thresholds: tuple[float, ...]
    queries: tuple[QueryMeasure, ...]
    is_sampled: bool
    """Queries were taken from stored documents, so that `rank` is meaningful."""
    unlike: tuple[str, ...] = ()
    """Ids of the rows that disagree, the worst first."""
    repeated_ids: tuple[str, ...] = ()
    """Those ids of sampled documents that several rows have."""
    has_queue: bool = True
    """The queue could be read."""
    queued_twice: int | None = None
    """Items whose location another item has already; None: not counted."""
    stored_twice: int | None = None
    """Documents whose path another document has already; None: not counted."""
    partial: int | None = None
    """Stored documents that lack text; None: not known."""
    partial_examples: tuple[str, ...] = ()
    unknown_tokens: str | None = None
    """The share of tokens that the model does not know, in words; None: not measured."""
    knows_script: bool = True
    """The model knows the signs that the corpus is written in, by and large."""
    changed: tuple[str, ...] = ()
    """What the playbook changes of how the stored texts were cut: they were compared as they were cut."""
    changed_affixes: tuple[tuple[str, str, str], ...] = ()
    """Prefix and suffix that the playbook changes: the setting, what was embedded and compared, the playbook's."""
    rows: RowMeasure | None = None
    """Of rows that stay; None for documents."""

    @property
    def documents(self) -> int:
        """The number of documents, or of the rows of all targets."""
        return self.columns[0].total if self.rows is None else self.rows.rows

    @property
    def is_comparable(self) -> bool:
        """Whether stored vectors, if there are any, can be compared with a query's."""
        return self.columns[0].dimensions in ((), (self.dimensions,))


@dataclass(frozen=True, slots=True)
class ValidationLimits:
    """The limits of `validation:` in the playbook."""

    max_distance: float
    """Largest cosine distance between a stored vector and the same text embedded again."""
    criterion: float
    max_failed_share: float
    """Largest share (0 to 1) of failed items among those processed."""
    max_partial_share: float = 1.0
    """Largest share (0 to 1) of partial documents among those stored."""


def judge(measured: Measurements, limits: ValidationLimits) -> list[Check]:
    """Return all checks, the decisive one first."""
    failed, completed = measured.queue.get("failed", 0), measured.queue.get("completed", 0)
    documents = measured.columns[0].total
    counts = f"{documents:,} documents"
    if not measured.has_queue:
        count_check = Check("documents", "info", f"{counts}, the queue was not read", "")
    elif documents and not sum(measured.queue.values()):
        # The queue may have been cleared since the documents were embedded.
        count_check = Check("documents", "info", f"{counts}, the queue is empty", "")
    else:
        expected = f"{completed:,}, as many as completed items" if documents else "at least 1"
        count_check = _check("documents", 0 < documents == completed, counts, expected)
    share = failed / (failed + completed) if failed + completed else 0.0
    failed_check = _check(
        "failed_items",
        share <= limits.max_failed_share,
        f"{failed:,} failed items, {share:.1%} of those processed",
        f"≤ {limits.max_failed_share:.1%}",
    )
    if measured.rows is not None:
        return [*_rows(measured, measured.rows, limits, failed_check)]
    checks = [_agreement(measured, limits), count_check, failed_check]
    if not measured.has_queue:
        checks.pop()
    checks += _texts(measured, limits, completed=completed)
    if measured.changed:
        cut = f"stored texts were cut with {'; '.join(measured.changed)}"
        checks.append(Check("cutting", "info", cut, "they were compared as they were cut"))
    for setting, before, now in measured.changed_affixes:
        checks.append(Check(setting, "fail", f"stored texts were embedded with {before!r}", repr(now)))
    if measured.repeated_ids:
        repeated = ", ".join(measured.repeated_ids[:3])
        count = len(measured.repeated_ids)
        checks.append(
            Check(
                "documents_ids_unique", "fail", f"{count} sampled ids stand in several rows (e.g. {repeated})", "0"
            )
        )
    checks += _doubled(measured)
    for column in measured.columns:
        checks += _column(column, measured.dimensions)
    queries = measured.queries
    broken = sum(query.not_a_number for query in queries)
    total = sum(query.total - query.without_vector for query in queries)
    near = sum(1 for query in queries if query.minimum is not None and query.minimum < limits.criterion)
    if not measured.is_comparable:
        # The database refuses to compare vectors of different lengths, so that no query was measured.
        shown = " and ".join(map(str, measured.columns[0].dimensions))
        needed = f"{measured.dimensions} dimensions in every row"
        checks.append(
            Check("distances_are_numbers", "fail", f"not measured: {shown} dimensions are stored", needed)
        )
        return checks
    checks += [
        # JSON writers turn a distance of NaN into null: that is how the incident showed itself.
        _check(
            "distances_are_numbers",
            broken == 0 and total > 0,
            f"{broken:,} of {total:,} distances are not a number",
            "0 (a zero vector makes NaN)",
        ),
        _check(
            "procedure_criterion",
            near > 0,
            f"{near} of {len(queries)} queries have a row under {limits.criterion:g}",
            "at least 1 (a wrong space passes this too)",
        ),
    ]
    return checks + _retrieval(measured)


def _rows(
    measured: Measurements, rows: RowMeasure, limits: ValidationLimits, failed_check: Check
) -> Iterator[Check]:
    """Yield the checks of rows that stay."""
    completed = measured.queue.get("completed", 0) if measured.has_queue else None
    own = [*row_checks(rows, limit=limits.max_distance, dimensions=measured.dimensions, completed=completed)]
    yield own[0]
    if measured.has_queue:
        yield failed_check
    yield from own[1:]
    # A row's text is whole.
    yield from _texts(replace(measured, partial=None), limits, completed=completed or 0)
    if measured.changed:
        cut = f"rows were cut with {'; '.join(measured.changed)}"
        yield Check("cutting", "info", cut, "they were compared as they were cut")
    for setting, before, now in measured.changed_affixes:
        yield Check(setting, "fail", f"rows were embedded with {before!r}", repr(now))
    broken = sum(query.not_a_number for query in measured.queries)
    total = sum(query.total - query.without_vector for query in measured.queries)
    if measured.queries:
        status: CheckStatus = "pass" if broken == 0 else "info" if rows.is_running else "fail"
        said = f"{broken:,} of {total:,} distances are not a number"
        yield Check("distances_are_numbers", status, said, "0 (a zero vector makes NaN)")
    yield from _retrieval(measured)


def validation_verdict(checks: Sequence[Check]) -> Literal["pass", "fail"]:
    """Return `fail` if any check failed."""
    return "fail" if any(check.status == "fail" for check in checks) else "pass"


def comparison_stats(query: QueryMeasure, thresholds: Sequence[float]) -> dict[str, float]:
    """Return the statistics under the debug endpoint's keys; distances that are NaN are left out."""
    stats: dict[str, float] = {"total_docs": query.total}
    for name, value in (("min", query.minimum), ("max", query.maximum), ("avg", query.mean)):
        if value is not None:
            stats[f"distance_{name}"] = value
    if query.not_a_number:
        stats["distance_not_a_number"] = query.not_a_number
    if query.without_vector:
        stats["docs_without_embedding"] = query.without_vector
    stats |= {f"count_threshold_{t:g}": n for t, n in zip(thresholds, query.under, strict=True)}
    return stats


def _check(id: str, is_good: bool, measured: str, expected: str) -> Check:
    return Check(id, "pass" if is_good else "fail", measured, expected)


def _doubled(measured: Measurements) -> Iterator[Check]:
    """Check that nothing was queued or stored twice: a doubled corpus agrees with itself in every other check."""
    if measured.queued_twice is not None:
        summary = f"{measured.queued_twice:,} locations are queued more than once"
        yield _check("queue_locations_unique", measured.queued_twice == 0, summary, "0")
    if measured.stored_twice is not None:
        summary = f"{measured.stored_twice:,} documents have the path of another one"
        if sum(measured.queue.values()):
            yield _check("documents_paths_unique", measured.stored_twice == 0, summary, "0")
        else:
            # Another program may store a file as several documents.
            yield Check("documents_paths_unique", "info", f"{summary}, the queue is empty", "")


def _texts(measured: Measurements, limits: ValidationLimits, *, completed: int) -> Iterator[Check]:
    """Check that the stored texts are whole; show how much of them the model knows."""
    if measured.partial is not None:
        share = measured.partial / completed if completed else 0.0
        examples = f" (e.g. {measured.partial_examples[0]})" if measured.partial_examples else ""
        yield _check(
            "partial_documents",
            share <= limits.max_partial_share,
            f"{measured.partial:,} documents lack text, {share:.1%} of those stored{examples}",
            f"≤ {limits.max_partial_share:.1%}",
        )
    if measured.unknown_tokens is not None:
        strange = "" if measured.knows_script else ": the model does not know the script of this corpus"
        yield Check("unknown_tokens", "info", f"{measured.unknown_tokens}{strange}", "")


def _agreement(measured: Measurements, limits: ValidationLimits) -> Check:
    """Check stored vectors against the same texts embedded again."""
    expected = f"cosine distance ≤ {limits.max_distance:g} for every sampled row"
    if not measured.agreement:
        return Check("stored_vectors_agree", "fail", "no stored row to embed again", expected)
    distances = np.asarray(measured.agreement, dtype=np.float64)
    # Not `distances > limit`: NaN (a zero vector) compares false with everything and must count as wrong.
    wrong = int(np.count_nonzero(~(distances <= limits.max_distance)))
    finite = distances[~np.isnan(distances)]
    worst, median = (f"{finite.max():.2g}", f"{np.median(finite):.2g}") if finite.size else ("–", "–")
    summary = f"max {worst}, median {median}, {wrong} of {len(distances)} rows disagree"
    without = distances.size - finite.size
    if without:
        # A zero vector has no distance, nor has a vector of another length or a text that the model cannot embed.
        summary += f", {without} of them without a distance (a zero vector, other dimensions or too long a text)"
    if wrong:
        summary += f" (e.g. {', '.join(measured.unlike[:3])})" if measured.unlike else ""
    return _check("stored_vectors_agree", wrong == 0, summary, expected)


def _column(column: ColumnMeasure, dimensions: int) -> list[Check]:
    """Check one vector column for NULLs, zero vectors and other dimensions than the model's."""
    nulls = column.total - column.with_embedding
    without = f"{nulls:,} rows without embedding"
    if column.missing is not None and column.missing < nulls:
        # A row without text has nothing to embed.
        without = f"{column.missing:,} rows without embedding, and {nulls - column.missing:,} more without text"
        nulls = column.missing
    shown = ", ".join(map(str, column.dimensions)) or "none"
    return [
        _check(f"{column.table}_no_null", nulls == 0, without, "0"),
        _check(f"{column.table}_no_zero_vector", column.zero == 0, f"{column.zero:,} zero vectors", "0"),
        _check(
            f"{column.table}_dimensions",
            column.dimensions in ((dimensions,), ()),
            shown,
            f"{dimensions}, the model's",
        ),
    ]


def _retrieval(measured: Measurements) -> list[Check]:
    """Return the figures that operators know from the debug endpoint; they decide nothing."""
    queries = measured.queries
    checks = []
    for i, threshold in enumerate(measured.thresholds):
        mean = math.fsum(query.under[i] for query in queries) / max(1, len(queries))
        empty = sum(1 for query in queries if query.under[i] == 0)
        summary = f"{mean:,.1f} rows per query on average, {empty} of {len(queries)} queries find no row"
        checks.append(Check(f"rows_under_{threshold:g}", "info", summary, ""))
    if measured.is_sampled and queries:
        shares = self_retrieval([query.rank for query in queries], SELF_RETRIEVAL_AT)
        summary = ", ".join(f"{share:.0%} at {k}" for k, share in shares.items())
        checks.append(Check("self_retrieval", "info", summary, ""))
    return checks


def self_retrieval(ranks: Sequence[int | None], at: Sequence[int]) -> dict[int, float]:
    """Return the share (0 to 1) of documents that a search for their own text finds among the first k.

    `ranks` are 1 for the first hit and None if the document was not found; `at` are the k.
    Raises ValueError for no ranks, and for a rank or k below 1.
    """
    if not ranks:
        raise ValueError("self-retrieval of no documents is not defined")
    hits = [rank for rank in ranks if rank is not None]
    if min([*hits, *at], default=1) < 1:
        raise ValueError("ranks and cut-offs count from 1")
    return {k: sum(rank <= k for rank in hits) / len(ranks) for k in at}
