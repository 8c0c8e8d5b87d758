"""Judge the vectors of rows that stay: measurements in, checks out.

While a campaign runs, only the rows that it has written decide: the others still have what they had before.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ragops.facts import quoted
from ragops.quality.checks import Check, CheckStatus


@dataclass(frozen=True, slots=True)
class TargetMeasure:
    """One target, and how a sample of its rows agrees with their texts embedded again."""

    table: str
    column: str
    total: int
    """Rows that belong to it."""
    with_embedding: int
    zero: int
    missing: int
    """Rows with a text and without a vector."""
    dimensions: tuple[int, ...]
    written: tuple[float, ...] = ()
    """Distances of rows that the queue has as completed; NaN for one without a distance."""
    others: tuple[float, ...] = ()
    """Distances of other rows."""
    edited: int = 0
    """How many of the others the campaign has written, and have another text since."""
    unlike: tuple[str, ...] = ()
    """Rows that disagree, the worst first, as `schema.table (key)`."""

    @property
    def name(self) -> str:
        return f"{self.table}.{quoted(self.column)}"

    def to_json(self, *, limit: float) -> dict[str, object]:
        """Return what `ragops validate --json` prints in the list `targets`."""
        return {
            "table": self.table,
            "column": self.column,
            "rows": self.total,
            "with_embedding": self.with_embedding,
            "zero": self.zero,
            "missing": self.missing,
            "dimensions": list(self.dimensions),
            "written": {"rows": len(self.written), "disagreeing": disagreeing(self.written, limit)},
            "others": {"rows": len(self.others), "disagreeing": disagreeing(self.others, limit)},
            "edited": self.edited,
            "disagreeing": list(self.unlike),
        }


@dataclass(frozen=True, slots=True)
class RowMeasure:
    """What a validation of rows knows beside the measurements of every validation."""

    targets: tuple[TargetMeasure, ...]
    is_running: bool
    """A campaign is on its way, so that rows which it has not written may be anything."""

    @property
    def rows(self) -> int:
        return sum(target.total for target in self.targets)

    def distances(self, *, written: bool) -> tuple[float, ...]:
        """Return the distances of all targets."""
        return tuple(d for one in self.targets for d in (one.written if written else one.others))


def disagreeing(distances: Sequence[float], limit: float) -> int:
    """Return how many distances are no number or above the limit."""
    # Not `distance > limit`: NaN compares false with everything, and must count.
    return sum(1 for distance in distances if not distance <= limit)


def bound(sampled: int) -> str:
    """Return in words how many rows may differ although none of a sample did, at 95 % confidence."""
    # The "rule of three", exact: (1 - p) ** n = 0.05.
    return f"fewer than {1 - 0.05 ** (1 / sampled):.1%} of the rows at 95 % confidence" if sampled else ""


def row_checks(measured: RowMeasure, *, limit: float, dimensions: int, completed: int | None) -> Iterator[Check]:
    """Yield the checks of rows: those that a campaign wrote first, then the others, then each column."""
    running, written = measured.is_running, measured.distances(written=True)
    others = measured.distances(written=False)
    expected = f"cosine distance ≤ {limit:g} for every sampled row"
    decisive = written if running else (*written, *others)
    unlike = [name for target in measured.targets for name in target.unlike]
    wrong = disagreeing(decisive, limit)
    if not decisive and running and completed == 0:
        # Where no row had to be written, nothing is wrong.
        yield Check("stored_vectors_agree", "info", "this campaign has written no row", expected)
    elif not decisive:
        yield Check("stored_vectors_agree", "fail", "no stored row to embed again", expected)
    else:
        yield Check(
            "stored_vectors_agree", "fail" if wrong else "pass", _agreement(decisive, limit, unlike), expected
        )
    if running and others:
        wrong = disagreeing(others, limit)
        yield Check(
            "other_vectors_agree",
            "info",
            f"{wrong} of {len(others)} sampled rows that this campaign has not written disagree",
            "they are as they were before",
        )
    edited = sum(target.edited for target in measured.targets)
    if edited:
        yield Check(
            "edited_since",
            "info",
            f"{edited} of {len(written) + edited} sampled rows have another text than was embedded, and perhaps "
            "still its vector",
            "writers that embed what they change; or another campaign with select_rows: stale",
        )
    queued = "the queue was not read" if completed is None else f"{completed:,} items completed"
    tables = len(measured.targets)
    yield Check(
        "rows", "info", f"{measured.rows:,} rows in {tables} target{'s' if tables != 1 else ''}, {queued}", ""
    )
    for target in measured.targets:
        yield from _column(target, dimensions, is_running=running)


def _agreement(distances: Sequence[float], limit: float, unlike: Sequence[str]) -> str:
    finite = sorted(distance for distance in distances if not math.isnan(distance))
    worst, median = (f"{finite[-1]:.2g}", f"{finite[len(finite) // 2]:.2g}") if finite else ("–", "–")
    wrong = disagreeing(distances, limit)
    summary = f"max {worst}, median {median}, {wrong} of {len(distances)} rows disagree"
    if len(finite) < len(distances):
        summary += (
            f", {len(distances) - len(finite)} of them without a distance "
            "(a zero vector, other dimensions or too long a text)"
        )
    if wrong:
        return f"{summary} (e.g. {', '.join(unlike[:3])})" if unlike else summary
    return f"{summary}: {bound(len(distances))}"


def _column(target: TargetMeasure, dimensions: int, *, is_running: bool) -> Iterator[Check]:
    """Yield what a column holds; while a campaign runs, rows that it has not reached may lack a vector."""
    nulls = target.total - target.with_embedding
    without = f"{target.missing:,} rows without embedding"
    if nulls > target.missing:
        without += f", and {nulls - target.missing:,} more without text"
    found = {
        "no_null": (target.missing == 0, without, "0"),
        "no_zero_vector": (target.zero == 0, f"{target.zero:,} zero vectors", "0"),
        "dimensions": (
            target.dimensions in ((dimensions,), ()),
            ", ".join(map(str, target.dimensions)) or "none",
            f"{dimensions}, the model's",
        ),
    }
    for id, (is_good, said, expected) in found.items():
        status: CheckStatus = "pass" if is_good else "info" if is_running else "fail"
        yield Check(f"{target.name}_{id}", status, said, expected)
