"""What a comparison of two vector columns found, and what it decides."""

from __future__ import annotations

from dataclasses import dataclass, field

from ragops.quality.losses import Bounds, Decision, overall

# The criteria that decide.
RECALL, NDCG, INDEX = "index_recall", "ndcg", "index"


@dataclass(frozen=True, slots=True)
class Criterion:
    """One loss, with its bounds; `note` is in place of bounds where something else decides."""

    name: str
    decision: Decision
    loss: Bounds | None = None
    needed: int | None = None
    """About how many queries would decide; None where it is decided, or no number would."""
    note: str = ""

    def to_json(self) -> dict[str, object]:
        return {
            "name": self.name,
            "decision": self.decision,
            "loss": self.loss and self.loss.to_json(),
            "queries_needed": self.needed,
            "note": self.note,
        }


@dataclass(frozen=True, slots=True)
class Side:
    """One column, searched in its own vector space."""

    column: str
    queries: str
    """What it was asked, in words."""
    metric: str
    index: str | None
    """The index that its queries use; None: they use none."""
    vectors: int
    recall: float | None = None
    """Mean recall at k of the index against exact search; None without an index."""
    p50_ms: float | None = None
    p99_ms: float | None = None
    ndcg: float | None = None
    """Mean, where queries are judged; None where this side cannot be asked."""

    def to_json(self) -> dict[str, object]:
        return {
            "column": self.column,
            "queries": self.queries,
            "metric": self.metric,
            "index": self.index,
            "vectors": self.vectors,
            "recall": self.recall,
            "p50_ms": self.p50_ms,
            "p99_ms": self.p99_ms,
            "ndcg": self.ndcg,
        }


@dataclass(frozen=True, slots=True)
class TargetComparison:
    """One target: both columns, and how they differ."""

    table: str
    queries: int
    drawn: int
    """How many of the queries were drawn from the corpus."""
    judged: int
    old: Side
    new: Side
    criteria: tuple[Criterion, ...]
    overlap: float | None = None
    """Mean share of common neighbours of the drawn rows, each found in its own space."""
    at_first: float | None = None
    """Share of the drawn queries whose own row is the nearest one of the new column."""
    within_k: float | None = None
    ranks: tuple[int, ...] = ()
    """The exact ranks of those rows."""
    old_ranks: tuple[int, ...] = ()
    """The same in the old column; empty where its model cannot be asked."""
    notes: tuple[str, ...] = field(default=())

    @property
    def decision(self) -> Decision:
        return overall([criterion.decision for criterion in self.criteria])

    def to_json(self) -> dict[str, object]:
        return {
            "table": self.table,
            "decision": self.decision,
            "queries": self.queries,
            "drawn": self.drawn,
            "judged": self.judged,
            "old": self.old.to_json(),
            "new": self.new.to_json(),
            "overlap": self.overlap,
            "source_row": {"at_1": self.at_first, "at_k": self.within_k, "old_ranks": list(self.old_ranks)}
            | {"ranks": list(self.ranks)},
            "criteria": [criterion.to_json() for criterion in self.criteria],
            "notes": list(self.notes),
        }


@dataclass(frozen=True, slots=True)
class CompareResult:
    """The comparison of all targets that are written beside."""

    targets: tuple[TargetComparison, ...]
    k: int
    max_loss: float
    confidence: float
    seconds: float

    @property
    def verdict(self) -> Decision:
        return overall([target.decision for target in self.targets])

    def to_json(self) -> dict[str, object]:
        return {
            "verdict": self.verdict,
            "k": self.k,
            "max_loss": self.max_loss,
            "confidence": self.confidence,
            "targets": [target.to_json() for target in self.targets],
            "seconds": self.seconds,
        }
