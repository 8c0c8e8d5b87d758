"""Screens of vector indexes: their states, what was dropped, planned and built."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType
from rich.text import Text

from ragops.campaign.steps.drop_indexes import DropResult
from ragops.campaign.steps.rebuild_indexes import Rebuilding, RebuildResult
from ragops.postgres.statements import text_of
from ragops.report.terminal import table
from ragops.report.units import duration, size
from ragops.status import IndexState


def indexes_table(indexes: Sequence[IndexState]) -> RenderableType:
    """Every index with its state and size."""
    if not indexes:
        return Text("no vector index")
    rows = [
        [
            index.name,
            index.table,
            index.state,
            size(index.bytes or None),
            f"{index.share:.0%}" if index.share is not None else "–",
        ]
        for index in indexes
    ]
    return table("index", "table", "state", "size", "of its table", rows=rows, right=(3, 4))


def dropped_screen(result: DropResult) -> str:
    if not result.dropped:
        return "nothing to drop"
    return f"dropped {', '.join(result.dropped)} ({size(result.bytes)}); definitions are in the journal"


def rebuilding_screen(planned: Rebuilding) -> str:
    """The statements of each build, and why it is given what it is given."""
    lines = []
    for build in planned.builds:
        note = f": {build.resources.note}" if build.resources.note else ""
        lines.append(f"{build.name} on {build.table.qualified}{note}")
        lines += [f"  {text_of(statement)};" for statement in build.statements]
    lines += [f"{name}: already present" for name in planned.present]
    return "\n".join(lines) or "no index to build"


def rebuilt_screen(result: RebuildResult) -> str:
    lines = [
        f"{index.build.name} on {index.build.table.qualified}: {size(index.bytes)} in {duration(index.seconds)}"
        for index in result.indexes
    ]
    lines += [f"{name}: already present" for name in result.present]
    return "\n".join(lines) or "no index to build"
