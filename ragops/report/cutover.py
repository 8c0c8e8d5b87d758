"""Screens of second columns: their states, what the application must use, what was exchanged and dropped."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from ragops.campaign.cutover.ending import EndResult
from ragops.campaign.cutover.results import CutOverResult, InUse, RollbackResult
from ragops.campaign.cutover.status import CutoverStatus
from ragops.report.terminal import table
from ragops.report.units import number


def status_screen(status: CutoverStatus) -> RenderableType:
    """Every column with its state, what is left, and the next command."""
    if not status.columns:
        return Text("no target is written beside (targets[].write in the playbook)")
    parts: list[RenderableType] = []
    for one in status.columns:
        lines = [f"{one.column}: {one.state.replace('_', ' ')}"]
        if one.other:
            lines.append(f"  beside it: {one.other}")
        if one.rows or one.filled:
            lines.append(f"  {number(one.filled)} of {number(one.rows)} rows with a text have a new vector")
        if one.waiting:
            lines.append(f"  {number(one.waiting)} rows were written and wait for their vector")
        if one.written_since:
            lines.append(f"  {number(one.written_since)} rows were written since the cutover")
        if one.indexes_ready:
            lines.append(f"  indexes ready: {', '.join(one.indexes_ready)}")
        if one.indexes_missing:
            lines.append(f"  indexes missing: {', '.join(one.indexes_missing)}")
        if one.next:
            lines.append(f"  next: {one.next}")
        parts.append(Text("\n".join(lines)))
    return Group(*parts)


def cut_over_screen(result: CutOverResult) -> RenderableType:
    """How long the exchange took, and what the application must use from now on."""
    lines = [f"cut over; the tables were locked for {1000 * result.locked_s:,.0f} ms"]
    if result.drained.embedded:
        lines.append(f"{number(result.drained.embedded)} rows that were written around it were embedded after it")
    lines += [f"{column} has rows without a vector, so it is not NOT NULL yet" for column in result.nullable]
    return Group(Text("\n".join(lines)), in_use_table(result.in_use), Text(_NEXT))


_NEXT = "to go back: ragops cutover rollback   to drop the old vectors: ragops cutover finish"


def in_use_table(used: InUse) -> RenderableType:
    """What the application must use from now on."""
    rows = [
        ("model", used.model),
        ("SHA-256", used.sha256),
        ("dimensions", str(used.dimensions)),
        ("pooling", used.pooling),
    ]
    named = (
        ("prefix of a query", used.query_prefix),
        ("prefix of a document", used.document_prefix),
        ("suffix of a query", used.query_suffix),
        ("suffix of a document", used.document_suffix),
    )
    rows += [(name, repr(value)) for name, value in named if value]
    for column in used.columns:
        indexes = f", {', '.join(column.metrics)}" if column.metrics else ", without an index"
        rows.append(("column", f"{column.column} {column.type}{indexes}; the former one is {column.former}"))
    return table("the application must use", "", rows=rows)


def rollback_screen(result: RollbackResult) -> RenderableType:
    """How long the exchange took, and which rows have no vector of the old model."""
    lines = [f"rolled back; the tables were locked for {1000 * result.locked_s:,.0f} ms"]
    for one in result.written:
        lines.append(
            f"{one.column}: {number(len(one.keys))} rows were written since the cutover, and have no old vector, "
            "or that of an earlier text (--json lists their keys)"
        )
        lines.append(
            "  next: ragops reset --playbook repair.yaml   with the old model, and in its step select_rows:\n"
            f"    rows: [all]\n    where: {one.where!r}"
        )
    lines += [f"{column} has rows without a vector, so it is not NOT NULL yet" for column in result.nullable]
    lines.append("again: ragops cutover run   to drop the new vectors: ragops undo")
    return Text("\n".join(lines))


def end_screen(result: EndResult) -> RenderableType:
    """What was dropped."""
    return Text(f"{result.state}: dropped {', '.join(result.columns)} with its trigger and notes")
