"""Rich screens for the results that `--json` prints as objects. Each takes the same dictionary."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from textwrap import indent
from typing import Any, Literal

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from ragops.errors import Interrupted, NothingToReset, RagopsError
from ragops.report.units import duration, estimate, number, percent, size

_STYLES = {"pass": "green", "match": "green", "done": "green", "fail": "red", "mismatch": "red", "failed": "red"}
ESTIMATED = (
    "≈ is estimated, and unknown was never analysed: counting takes longer than a look. "
    "next: ragops status --exact"
)


def out() -> Console:
    """The console for data; plain text when stdout is no terminal (`NO_COLOR` is honoured by Rich)."""
    console = Console(highlight=False)
    # A pipe has no width: nothing may be cut there.
    return console if console.is_terminal else Console(highlight=False, width=160)


def show(renderable: RenderableType) -> None:
    out().print(renderable)


def table(
    *headers: str, rows: Iterable[Sequence[str]], title: str | None = None, right: Sequence[int] = ()
) -> Table:
    """A plain table; `right` are the columns that hold numbers."""
    grid = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 2))
    for place, header in enumerate(headers):
        justify: Literal["left", "right"] = "right" if place in right else "left"
        # Folded, never cut: in a narrow window two names would look alike.
        grid.add_column(header, justify=justify, header_style="dim", overflow="fold")
    for row in rows:
        grid.add_row(*[Text(cell) for cell in row])
    return grid


def error_text(error: RagopsError) -> Text:
    """What, where, actual against expected, next: each on a line of its own."""
    text = Text()
    if isinstance(error, (Interrupted, NothingToReset)):
        text.append(error.what, style="bold yellow")
    else:
        text.append("error: ", style="bold red")
        text.append(error.what)
    for label, value in (
        ("where", error.where),
        ("found", error.actual),
        ("needed", error.expected),
        ("next", error.hint),
    ):
        if value:
            lines = str(value).splitlines()
            text.append(f"\n  {label + ':':8}", style="bold")
            text.append(f"\n{'':10}".join(lines))
    return text


def verdict(word: str) -> Text:
    return Text(word.upper(), style=f"bold {_STYLES.get(word, 'yellow')}")


def plan_screen(plan: Mapping[str, Any]) -> RenderableType:
    """Every step with its SQL, rows, bytes, tables and estimate."""
    parts: list[RenderableType] = [Text(f"plan {plan['name']} on database {plan['database']}", style="bold")]
    for step in plan["steps"]:
        facts = []
        if step["rows"] is not None:
            facts.append(f"{number(step['rows'])} rows")
        if step["bytes"]:
            facts.append(size(step["bytes"]))
        if step["estimate_s"] is not None:
            facts.append(f"about {duration(step['estimate_s'])}")
        parts.append(Text(f"{step['number']:>2}. {step['title']}" + (f"  ({', '.join(facts)})" if facts else "")))
        parts += [Text(f"      {line};", style="cyan") for line in step["sql"]]
        if step["tables"] and step["verb"] in ("empty_tables", "rebuild_indexes", "drop_indexes"):
            parts.append(Text(f"      tables: {', '.join(step['tables'])}", style="dim"))
        parts += [Text(f"      {note}", style="dim") for note in step["notes"]]
    return Group(*parts)


def campaign_screen(result: Mapping[str, Any]) -> RenderableType:
    head = Text.assemble(f"campaign {result['campaign']}: ", verdict(result["status"]))
    if result.get("verdict"):
        head = Text.assemble(head, ", validation ", verdict(result["verdict"]))
    counts = (
        f"{number(result['completed'])} of {number(result['seeded'])} documents embedded, "
        f"{number(result['failed'])} failed; {size(result.get('bytes_freed'))} freed"
    )
    rows = [[str(s["number"]), s["name"], s["status"], duration(s["seconds"])] for s in result["steps"]]
    return Group(head, Text(counts), table("#", "step", "status", "time", rows=rows, right=(0, 3)))


def validation_screen(effect: Mapping[str, Any]) -> RenderableType:
    rows = []
    for check in effect["checks"]:
        rows.append((Text(check["status"], style=_STYLES.get(check["status"], "dim")), check))
    grid = Table(box=None, pad_edge=False, padding=(0, 2))
    for header in ("", "check", "measured", "expected"):
        grid.add_column(header, header_style="dim", overflow="fold")
    for status, check in rows:
        grid.add_row(status, check["id"], Text(check["measured"]), Text(check["expected"]))
    head = Text.assemble(
        "validation ", verdict(effect["verdict"]), f" over {number(effect['documents'])} documents"
    )
    return Group(head, grid)


def findings_text(findings: Sequence[Mapping[str, Any]]) -> list[RenderableType]:
    """Each finding with its severity and what to do next."""
    return [
        Text.assemble(
            (f"{f['severity']}: ", "bold"), f["message"], *([f"\n  next: {f['hint']}"] if f["hint"] else [])
        )
        for f in findings
    ]


def status_screen(status: Mapping[str, Any]) -> RenderableType:
    """The procedure's three progress queries as one screen."""
    documents, parsed, queue = status["documents"], status["parsed_files"], status["queue"]
    parts: list[RenderableType] = [Text(status["database"], style="bold")]
    campaign = status.get("campaign")
    if campaign:
        line = f"campaign {campaign['id']} ({campaign['name']}): {campaign['status']}"
        parts.append(Text(line + (f", step {campaign['step']}" if campaign.get("step") else "")))
        if campaign.get("error"):
            parts.append(Text(indent(campaign["error"], "  "), style="red"))
    total, embedded = (_count(documents[key], documents) for key in ("total", "with_embedding"))
    parts.append(Text(f"documents  {total}, {embedded} with embedding, {size(documents['bytes'])}"))
    total, unique = (_count(parsed[key], parsed) for key in ("total", "unique_files"))
    parts.append(Text(f"parsed     {total}, {unique} unique files"))
    parts.append(_queue_table(queue, is_estimated=status["queue_estimated"]))
    if status["queue_estimated"] or documents["estimated"] or parsed["estimated"]:
        parts.append(Text(ESTIMATED, style="dim"))
    parts.append(indexes_table([*status["indexes"], *status["absent_indexes"]]))
    return Group(*parts)


def _count(count: int | None, section: Mapping[str, Any]) -> str:
    return estimate(count, is_estimated=section["estimated"])


def _queue_table(queue: Mapping[str, int | None], *, is_estimated: bool) -> RenderableType:
    known = [count for count in queue.values() if count is not None]
    total = sum(known) if len(known) == len(queue) else 0
    rows = [
        [
            name,
            estimate(count, is_estimated=is_estimated),
            percent(count / total) if count is not None and total else "–",
        ]
        for name, count in queue.items()
    ]
    return table("queue", "items", "share", rows=rows, right=(1, 2))


def indexes_table(indexes: Sequence[Mapping[str, Any]]) -> RenderableType:
    if not indexes:
        return Text("no vector index")
    rows = [
        [
            i["name"],
            i["table"],
            i["state"],
            size(i["bytes"] or None),
            f"{i['share']:.0%}" if i.get("share") is not None else "–",
        ]
        for i in indexes
    ]
    return table("index", "table", "state", "size", "of its table", rows=rows, right=(3, 4))


def _distance(value: float | None) -> str:
    return "NaN" if value is None else f"{value:.4f}"


def search_screen(result: Mapping[str, Any]) -> RenderableType:
    parts: list[RenderableType] = []
    for name in ("exact", "indexed"):
        if name == "indexed" and result["index"] is None:
            parts.append(Text("indexed: no valid HNSW index; next: ragops index rebuild"))
            continue
        found = result[name]
        rows = [[str(row["id"]), _distance(row["distance"]), " ".join(row["text"].split())[:90]] for row in found]
        parts.append(table("id", "distance", "text", rows=rows, title=name, right=(1,)))
    if result.get("recall") is not None:
        parts.append(Text(f"the index finds {result['recall']:.0%} of the exact neighbours"))
    return Group(*parts)
