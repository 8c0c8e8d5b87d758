"""Screens of `ragops status` and `ragops search`."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import indent

from rich.console import Group, RenderableType
from rich.text import Text

from ragops.campaign.row_status import TargetState
from ragops.facts import quoted
from ragops.indexes.search import SearchResult
from ragops.postgres.ledger import ChangeRow
from ragops.postgres.progress import QueueCounts
from ragops.postgres.reader import Neighbour
from ragops.report.indexes import indexes_table
from ragops.report.queue import partial_lines, unknown_lines
from ragops.report.terminal import table
from ragops.report.units import estimate, number, percent, size
from ragops.status import Status

SHOWN_PARTIAL = 3
ESTIMATED = (
    "≈ is an estimate, and unknown was never analyzed: counting takes longer than this command may. "
    "next: ragops status --exact"
)


def status_screen(status: Status) -> RenderableType:
    """The runbook's three progress queries as one screen."""
    documents, parsed, campaign = status.documents, status.parsed_files, status.campaign
    parts: list[RenderableType] = [Text(status.database, style="bold")]
    if campaign is not None:
        step = f", step {campaign.step}" if campaign.step else ""
        parts.append(Text(f"campaign {campaign.id} ({campaign.name}): {campaign.status}{step}"))
        if campaign.holder and campaign.is_held:
            parts.append(Text(f"  held by {campaign.holder}"))
        elif campaign.holder:
            parts.append(Text(f"  its controller {campaign.holder} is gone; to go on: ragops reset --resume"))
        if campaign.error:
            parts.append(Text(indent(campaign.error, "  "), style="red"))
        parts += [Text(f"  {_change(change)}") for change in campaign.changes]
    if status.targets:
        parts += [Text(_target(target)) for target in status.targets]
    else:
        total = estimate(documents.total, is_estimated=documents.is_estimated)
        embedded = estimate(documents.with_embedding, is_estimated=documents.is_estimated)
        parts.append(Text(f"documents  {total}, {embedded} with embedding, {size(documents.bytes)}"))
        total = estimate(parsed.total, is_estimated=parsed.is_estimated)
        unique = estimate(parsed.unique_files, is_estimated=parsed.is_estimated)
        parts.append(Text(f"parsed     {total}, {unique} unique files"))
    parts.append(_queue_table(status.queue))
    if status.queue.is_estimated or documents.is_estimated or parsed.is_estimated:
        parts.append(Text(ESTIMATED, style="dim"))
    if status.measured is not None:
        completed = status.queue.items["completed"]
        parts += partial_lines(status.measured, completed=completed, shown=SHOWN_PARTIAL)
        parts += unknown_lines(status.measured, shown=0)
    parts += [Text(note) for note in status.notes]
    present = [index for index in status.indexes if index.state in ("valid", "invalid")]
    absent = [index for index in status.indexes if index not in present]
    parts.append(indexes_table([*present, *absent]))
    return Group(*parts)


def _target(target: TargetState) -> str:
    """Return the counts of one target in words."""
    rows = estimate(target.rows, is_estimated=target.is_estimated)
    embedded = estimate(target.with_embedding, is_estimated=target.is_estimated)
    details = [f"{embedded} with embedding"]
    if target.missing is not None and target.zero is not None:
        details.append(f"{number(target.missing)} missing")
        details += [f"{number(target.zero)} zero"] if target.zero else []
    if target.dimensions:
        details.append(f"{' and '.join(map(str, target.dimensions))} dimensions")
    column = f"{target.table}.{quoted(target.column)}"
    return f"{column}  {rows} rows, {', '.join(details)}, {size(target.bytes)}"


def _change(change: ChangeRow) -> str:
    """Return in words what an operator changed of the campaign, when and who."""
    when = f"{change.at:%Y-%m-%d %H:%M} by {change.by}"
    if change.setting != "exclude":
        return f"{change.setting}: {change.before} before, {change.after} since {when}"
    if change.after is None:
        return f"taken in again: {change.before['items']:,} excluded items, {when}"
    found = change.after
    return f"excluded: {found['failed']:,} failed, {found['pending']:,} pending ({found['pattern']}), {when}"


def _queue_table(queue: QueueCounts) -> RenderableType:
    known = [count for count in queue.items.values() if count is not None]
    # A share of an unknown total would mislead.
    total = sum(known) if len(known) == len(queue.items) else 0
    rows = [
        [
            name,
            estimate(count, is_estimated=queue.is_estimated),
            percent(count / total) if count is not None and total else "–",
        ]
        for name, count in queue.items.items()
    ]
    return table("queue", "items", "share", rows=rows, right=(1, 2))


def search_screen(result: SearchResult) -> RenderableType:
    """The neighbours by a full scan, those that the index finds, and how many of the former it finds."""
    parts: list[RenderableType] = [] if result.target is None else [Text(result.target, style="bold")]
    parts.append(_neighbours("exact", result.exact))
    if result.index is None and result.notes:
        parts.append(Text("indexed: no index that serves"))
    elif result.index is None and result.target is not None:
        parts.append(Text("indexed: no vector index over this column is valid (ragops index status)"))
    elif result.index is None:
        parts.append(Text("indexed: no valid HNSW index; next: ragops index rebuild"))
    else:
        parts.append(_neighbours("indexed", result.indexed))
    if result.recall is not None:
        parts.append(Text(f"the index finds {result.recall:.0%} of the exact neighbours"))
    parts += [Text(note) for note in result.notes]
    parts += [search_screen(other) for other in result.others]
    return Group(*parts)


def _neighbours(title: str, neighbours: Sequence[Neighbour]) -> RenderableType:
    rows = [
        [
            str(row.id),
            f"{row.distance:.4f}" if row.distance == row.distance else "NaN",
            " ".join(row.text.split())[:90],
        ]
        for row in neighbours
    ]
    return table("id", "distance", "text", rows=rows, title=title, right=(1,))
