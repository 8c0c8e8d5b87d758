"""The screen of the queue: counts, failures, and what keeps vacuum from cleaning up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from rich.console import Group, RenderableType
from rich.text import Text

from ragops.postgres.queue import FailedItem
from ragops.postgres.vacuum_blockers import VacuumBlocker
from ragops.report.terminal import table
from ragops.report.units import estimate


@dataclass(frozen=True, slots=True)
class QueueStatus:
    counts: Mapping[str, int | None]
    """Items by status; None: unknown."""
    failures: Sequence[FailedItem]
    """The first ones."""
    blocker: VacuumBlocker | None
    is_estimated: bool = False
    """The counts are the planner's, because the queue cannot be read now."""
    notes: Sequence[str] = ()
    """What could not be read, and why."""

    def percent(self, status: str) -> float:
        total = sum(count or 0 for count in self.counts.values())
        return round(100 * (self.counts[status] or 0) / total, 2) if total else 0.0

    def to_json(self) -> dict[str, object]:
        blocker = self.blocker
        return {
            "queue": dict(self.counts),
            "percent": {status: self.percent(status) for status in self.counts},
            "estimated": self.is_estimated,
            "notes": list(self.notes),
            "failures": [{"location": item.location, "reason": item.reason} for item in self.failures],
            "holder": blocker and {**asdict(blocker), "summary": str(blocker), "remedy": blocker.remedy},
        }


def queue_screen(status: QueueStatus) -> RenderableType:
    rows = [
        [name, estimate(count, is_estimated=status.is_estimated), f"{status.percent(name):.2f}%"]
        for name, count in status.counts.items()
    ]
    parts: list[RenderableType] = [table("status", "items", "share", rows=rows, right=(1, 2))]
    if status.failures:
        parts.append(table("failed", "reason", rows=[[i.location, i.reason or ""] for i in status.failures]))
        parts.append("next: fix them, then: ragops queue retry")
    if status.blocker is not None:
        # As text: a query may hold brackets, which Rich would take for markup.
        parts.append(Text(f"vacuum is held back, so that the tables grow: {status.blocker}"))
        parts.append(Text(f"next: {status.blocker.remedy}"))
    return Group(*parts)
