"""Screens of emptied tables and of archives."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType

from ragops.campaign.steps.empty_tables import EmptyResult
from ragops.postgres.archive import ArchiveRow
from ragops.report.terminal import table
from ragops.report.units import number, size


def emptied_screen(result: EmptyResult) -> RenderableType:
    """Rows and sizes of each table, before and after."""
    rows = [[t.table, number(t.rows), size(t.bytes_before), size(t.bytes_after)] for t in result.tables]
    rows.append(["freed", number(result.rows), size(result.bytes_freed), ""])
    return table("table", "rows", "before", "after", rows=rows, right=(1, 2, 3))


def archives_screen(archives: Sequence[ArchiveRow]) -> RenderableType:
    """Every archive, the oldest first."""
    rows = [
        [
            str(archive.id),
            str(archive.generation),
            _origin(archive),
            f"{archive.schema}.{archive.table}",
            number(archive.rows),
            size(archive.bytes),
            f"{archive.created_at:%Y-%m-%d %H:%M}",
            "restored" if archive.restored_at else "",
        ]
        for archive in archives
    ]
    if not rows:
        return "no archive"
    return table("#", "generation", "by", "table", "rows", "size", "archived", "", rows=rows, right=(0, 1, 4, 5))


def _origin(archive: ArchiveRow) -> str:
    if archive.undo is not None:
        return f"undo {archive.undo}"
    return "tables empty" if archive.campaign is None else f"campaign {archive.campaign}"
