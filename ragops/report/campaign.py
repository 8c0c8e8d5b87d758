"""Screens of campaigns: the plan, the result, what was embedded, validated and undone."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ragops.campaign.cutover.results import CutOverResult
from ragops.campaign.plan import Plan
from ragops.campaign.run import CampaignResult
from ragops.campaign.steps.embed import EmbedReport
from ragops.campaign.steps.validate import ValidationResult
from ragops.campaign.undo import UndoResult
from ragops.postgres.statements import text_of
from ragops.report.comparison import comparison_screen
from ragops.report.cutover import cut_over_screen
from ragops.report.queue import partial_lines
from ragops.report.terminal import STYLES, error_text, table, verdict
from ragops.report.units import duration, number, rate, size
from ragops.status import SHOWN

# These list tables that the operator would not expect to be touched, e.g. by a foreign key.
SHOWS_TABLES = ("empty_tables", "rebuild_indexes", "drop_indexes")


def plan_screen(plan: Plan) -> RenderableType:
    """Every step with its SQL, rows, bytes, tables and estimate."""
    parts: list[RenderableType] = [Text(f"plan {plan.name} on database {plan.database}", style="bold")]
    for step in plan.steps:
        facts = []
        if step.rows is not None:
            facts.append(f"{number(step.rows)} rows")
        if step.bytes:
            facts.append(size(step.bytes))
        if step.estimate_s is not None:
            facts.append(f"about {duration(step.estimate_s)}")
        parts.append(Text(f"{step.number:>2}. {step.title}" + (f"  ({', '.join(facts)})" if facts else "")))
        parts += [Text(f"      {text_of(statement)};", style="cyan") for statement in step.statements]
        if step.tables and step.verb in SHOWS_TABLES:
            parts.append(Text(f"      tables: {', '.join(step.tables)}", style="dim"))
        parts += [Text(f"      {note}", style="dim") for note in step.notes]
    if plan.notes:
        parts.append(Text("to know before it starts:", style="bold"))
        parts += [Text(f"    {note}") for note in plan.notes]
    return Group(*parts)


def campaign_screen(result: CampaignResult) -> RenderableType:
    """The verdict, what was embedded, and the time of each step."""
    if result.nothing_to_reset is not None:
        return error_text(result.nothing_to_reset)
    head = Text.assemble(f"campaign {result.campaign}: ", verdict(result.status))
    if result.verdict:
        head = Text.assemble(head, ", validation ", verdict(result.verdict))
    counts = (
        f"{number(result.completed)} of {number(result.seeded)} documents embedded, "
        f"{number(result.failed)} failed"
        + (f", {number(result.excluded)} excluded" if result.excluded else "")
        + f"; {size(result.bytes_freed)} freed"
    )
    is_waiting = result.waiting_for is not None
    rows = [
        [
            str(step.number),
            step.verb,
            "waiting" if is_waiting and step.verb == "cut_over" else step.status,
            duration(step.seconds),
        ]
        for step in result.steps
    ]
    steps = table("#", "step", "status", "time", rows=rows, right=(0, 3))
    ends = [comparison_screen(s.effect) for s in result.steps if s.verb == "compare" and s.effect]
    exchanged = [s.effect for s in result.steps if s.verb == "cut_over" and s.status == "done" and s.effect]
    ends += [cut_over_screen(CutOverResult.from_json(effect)) for effect in exchanged]
    if result.waiting_for is not None:
        ends.append(Text(f"waiting for: {result.waiting_for}", style="bold"))
    return Group(head, Text(counts), steps, *ends)


def embed_screen(report: EmbedReport) -> str:
    """What was embedded, and the queue afterwards."""
    result = report.result
    lines = ["nothing to embed"]
    if result.completed or result.failed:
        speed = f", {rate(result.completed, result.seconds)}" if result.completed else ""
        # Of a few long documents their number says little.
        speed += f", {number(result.tokens / result.seconds)} tokens/s" if result.seconds and result.tokens else ""
        failed = f"; {number(result.failed)} failed (ragops queue status)" if result.failed else ""
        chunks, seconds = number(result.chunks), duration(result.seconds)
        lines = [f"{number(result.completed)} documents ({chunks} chunks) embedded in {seconds}{speed}{failed}"]
        if result.reused:
            lines.append(f"{number(result.reused)} of the chunks needed no embedding: their text was known")
    lines.append("queue: " + ", ".join(f"{number(n)} {status}" for status, n in result.queue.items()))
    if report.gate:
        lines.append(report.gate)
    return "\n".join(lines)


def validation_screen(result: ValidationResult) -> RenderableType:
    """The verdict, and each check with what was measured and expected."""
    grid = Table(box=None, pad_edge=False, padding=(0, 2))
    for header in ("", "check", "measured", "expected"):
        grid.add_column(header, header_style="dim", overflow="fold")
    for check in result.checks:
        status = Text(check.status, style=STYLES.get(check.status, "dim"))
        grid.add_row(status, check.id, Text(check.measured), Text(check.expected))
    what = "rows" if result.measurements.rows is not None else "documents"
    head = Text.assemble("validation ", verdict(result.verdict), f" over {number(result.documents)} {what}")
    completed = result.measurements.queue.get("completed")
    lines = partial_lines(result.recorded, completed=completed, shown=SHOWN) if result.recorded else ()
    return Group(head, grid, *lines)


def undo_screen(result: UndoResult) -> RenderableType:
    """The restored rows of each table, the indexes, and where the removed rows are."""
    if result.was_undone:
        name = "what was emptied last" if result.campaign is None else f"campaign {result.campaign}"
        return Text(
            f"{name} is undone already; nothing was changed.\n"
            "An earlier one: ragops undo --campaign N   the rows of any emptying: ragops archive status"
        )
    parts: list[RenderableType] = []
    if result.rows:
        rows = [(name, f"{count:,}") for name, count in result.rows.items()]
        parts.append(table("restored", "rows", rows=rows, right=(1,)))
    if result.vectors:
        counts = [
            (f"{v.table}.{v.column}", number(v.restored), number(v.changed), number(v.deleted))
            for v in result.vectors
        ]
        heads = ("column", "vectors back", "changed since", "deleted since")
        parts.append(table(*heads, rows=counts, right=(1, 2, 3)))
        for one in result.vectors:
            parts += [Text(f"left: {one.table} {row.key}, {row.why} since", style="dim") for row in one.left]
    if result.indexes:
        parts.append(Text(f"built again: {', '.join(result.indexes)}"))
    if result.removed is not None:
        parts.append(Text(f"the removed rows are kept: ragops undo --generation {result.removed}"))
    return Group(*(parts or [Text("nothing was left to do")]))
