"""The screen of the queue: counts, failures by reason, partial documents, and what holds vacuum back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from ragops.campaign.row_names import shown_location
from ragops.playbook.targets import RowTarget
from ragops.postgres.failures import FailedItem
from ragops.postgres.measured import Measured
from ragops.postgres.queue import EXCLUDED
from ragops.postgres.vacuum_blockers import VacuumBlocker
from ragops.report.printable import printable
from ragops.report.terminal import table
from ragops.report.units import estimate, number, percent
from ragops.status import QueueRead

# Reasons on the screen, about as many as fit on one.
GROUPS_SHOWN = 20


@dataclass(frozen=True, slots=True)
class QueueStatus:
    read: QueueRead
    blocker: VacuumBlocker | None
    lists_all: bool = False
    """The screen has every failed, excluded and partial item."""
    targets: Sequence[RowTarget] = ()
    """Of rows that stay, whose locations are shown as people name rows."""

    def shown(self, location: str) -> str:
        """Return what an item is called on the screen."""
        return printable(shown_location(self.targets, location) if self.targets else location)

    def _item(self, item: FailedItem) -> dict[str, object]:
        row = {"row": shown_location(self.targets, item.location)} if self.targets else {}
        return {"location": item.location, **row, "reason": item.reason}

    def percent(self, status: str) -> float:
        total = sum(count or 0 for count in self.read.counts.values())
        return round(100 * (self.read.counts[status] or 0) / total, 2) if total else 0.0

    def to_json(self) -> dict[str, object]:
        read, blocker = self.read, self.blocker
        return {
            "queue": dict(read.counts),
            "percent": {status: self.percent(status) for status in read.counts},
            "estimated": read.is_estimated,
            "notes": list(read.notes),
            "reasons": [group.to_json() for group in read.groups],
            "failures": [self._item(item) for item in read.failures],
            "excluded": [self._item(item) for item in read.excluded],
            "partial": read.measured and read.measured.partial_to_json(completed=read.counts["completed"]),
            "unknown_tokens": read.measured and read.measured.unknown_to_json(),
            "holder": blocker and {**asdict(blocker), "summary": str(blocker), "remedy": blocker.remedy},
        }


def queue_screen(status: QueueStatus) -> RenderableType:
    read = status.read
    rows = [
        [name, estimate(count, is_estimated=read.is_estimated), f"{status.percent(name):.2f}%"]
        for name, count in read.counts.items()
    ]
    parts: list[RenderableType] = [table("status", "items", "share", rows=rows, right=(1, 2))]
    parts += _reasons(status, shown=None if status.lists_all else GROUPS_SHOWN)
    if status.lists_all:
        parts += _items(status, "every failed item", read.failures)
    if read.groups:
        parts.append(Text("next: fix them, then: ragops queue retry"))
        if not status.lists_all:
            parts.append(Text("every one of them: ragops queue status --all"))
    parts += _items(status, f"excluded: {number(read.counts.get(EXCLUDED))} items", read.excluded)
    if read.excluded:
        parts.append(Text("next, to take them in again: ragops queue retry --excluded"))
    if read.measured is not None:
        parts += partial_lines(read.measured, completed=read.counts["completed"])
        parts += unknown_lines(read.measured)
    if status.blocker is not None:
        # As text: a query may hold brackets, which Rich would take for markup.
        parts.append(Text(f"vacuum is held back, so that the tables grow: {status.blocker}"))
        parts.append(Text(f"next: {status.blocker.remedy}"))
    return Group(*parts)


def _reasons(status: QueueStatus, *, shown: int | None) -> Iterator[RenderableType]:
    """Yield the failures by reason, each with the place of one."""
    groups = status.read.groups
    if not groups:
        return
    rows = [
        [number(group.items), f"{printable(group.reason)}\ne.g. {status.shown(group.location)}"]
        for group in groups[:shown]
    ]
    yield table("failed", "reason", rows=rows, right=(0,))
    left = groups[shown:] if shown is not None else ()
    if left:
        yield Text(f"and {number(sum(group.items for group in left))} with {len(left)} more reasons")


def _items(status: QueueStatus, title: str, items: Sequence[FailedItem]) -> Iterator[RenderableType]:
    """Yield items with their reasons, one a line: there may be a million, which no table takes."""
    if items:
        yield Text(title, style="bold")
        yield from (Text(f"  {status.shown(item.location)}: {printable(item.reason or '')}") for item in items)


def partial_lines(
    measured: Measured, *, completed: int | None, shown: int | None = None
) -> Iterator[RenderableType]:
    """Yield how many documents are partial, and the first of them with what is missing."""
    if not measured.partial:
        return
    of = f" of {number(completed)} stored, {percent(measured.partial / completed)}" if completed else ""
    yield Text(f"partial: {number(measured.partial)} documents{of}, lack text", style="bold")
    for document in measured.partial_documents[:shown]:
        yield Padding(Text(f"{printable(document.location)}: {printable(str(document.partial))}"), (0, 0, 0, 2))
    left = measured.partial - len(measured.partial_documents[:shown])
    if left:
        yield Text(f"  and {number(left)} more: ragops queue status --all")


def unknown_lines(measured: Measured, *, shown: int | None = None) -> Iterator[RenderableType]:
    """Yield the share of unknown tokens where it says something, and the documents that the model cannot read."""
    if not measured.knows_script:
        yield Text(f"the model does not know the script of these documents: {measured.words}", style="bold")
    elif measured.foreign:
        yield Text(f"unknown to the model: {measured.words}", style="bold")
    for document in measured.foreign_documents[:shown]:
        words = f"{percent(document.tokens.share)} of {number(document.tokens.tokens)} tokens"
        yield Padding(Text(f"{printable(document.location)}: {words}"), (0, 0, 0, 2))
    left = measured.foreign - len(measured.foreign_documents[:shown])
    if left:
        yield Text(f"  and {number(left)} more: ragops queue status --all")
