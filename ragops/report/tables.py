"""Screens of emptied tables and of archives."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType

from ragops.campaign.steps.empty_tables import EmptyResult
from ragops.facts import quoted
from ragops.postgres.archive import ArchiveRow
from ragops.postgres.vector_archives import VectorArchiveRow
from ragops.report.terminal import table
from ragops.report.units import number, size


def emptied_screen(result: EmptyResult) -> RenderableType:
    """Rows and sizes of each table, before and after."""
    rows = [[t.table, number(t.rows), size(t.bytes_before), size(t.bytes_after)] for t in result.tables]
    rows.append(["freed", number(result.rows), size(result.bytes_freed), ""])
    return table("table", "rows", "before", "after", rows=rows, right=(1, 2, 3))


def archives_screen(archives: Sequence[ArchiveRow], vectors: Sequence[VectorArchiveRow] = ()) -> RenderableType:
    """Every archive of rows, then of vectors that were replaced in place, the oldest first."""
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
    parts: list[RenderableType] = []
    if rows or not vectors:
        heads = ("#", "generation", "by", "table", "rows", "size", "archived", "")
        parts.append(table(*heads, rows=rows, right=(0, 1, 4, 5)) if rows else "no archive")
    if vectors:
        columns = ("#", "by", "column", "vectors", "size", "archived", "")
        parts.append(table(*columns, rows=[_vectors(one) for one in vectors], right=(0, 3, 4)))
    return Group(*parts)


def _vectors(archive: VectorArchiveRow) -> list[str]:
    return [
        str(archive.id),
        f"campaign {archive.campaign}" if archive.campaign is not None else "",
        f"{archive.table}.{quoted(archive.column)}",
        "gone" if archive.rows is None else number(archive.rows),
        size(archive.bytes),
        f"{archive.created_at:%Y-%m-%d %H:%M}",
        "restored" if archive.restored_at else "",
    ]


def _origin(archive: ArchiveRow) -> str:
    if archive.undo is not None:
        return f"undo {archive.undo}"
    return "tables empty" if archive.campaign is None else f"campaign {archive.campaign}"
