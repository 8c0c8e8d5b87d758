"""The screen of `ragops init`."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ragops.introspection.outcome import Decision, InitResult
from ragops.report.printable import printable

_SHOWN_TEXT = 100


def init_screen(result: InitResult) -> RenderableType:
    """What is certain, what was guessed, what was measured, what stays as it is, and what to type next."""
    parts: list[RenderableType] = [Text(f"{result.column}\n{result.database}", style="bold")]
    if result.client:
        parts.append(Text(f"recognised: {result.client}"))
    guessed = [one for one in result.decisions if one.certainty == "guess"]
    certain = [one for one in result.decisions if one.certainty != "guess"]
    parts += _decisions("sure", certain)
    parts += _decisions("guessed", guessed)
    parts += _lines("measured", result.measured_lines)
    shown = [" ".join((text or "(no text)").split())[:_SHOWN_TEXT] for text in result.texts[:3]]
    parts += _lines("texts that would be embedded", shown)
    parts += _lines("stays as it is", result.untouched)
    parts += _lines("to know", result.warnings)
    parts += _lines("also to be changed", result.also)
    if result.problems:
        count = len(result.problems)
        parts += _lines(f"{count} problem{'s' if count != 1 else ''} of the plan", list(map(str, result.problems)))
    steps = " → ".join(result.steps)
    state = "planned without a problem" if result.planned else "valid; not planned, as no model is named"
    parts.append(Text(f"\nwritten: {result.file} ({'with problems' if result.problems else state}: {steps})"))
    parts.append(Text(f"next: {result.next}", style="bold"))
    return Group(*parts)


def _decisions(title: str, decisions: Sequence[Decision]) -> list[RenderableType]:
    if not decisions:
        return []
    rows = [
        [one.what, one.value, f"{one.certainty}: {one.why}" if one.why else one.certainty] for one in decisions
    ]
    grid = Table.grid(padding=(0, 2))
    for _ in range(3):
        grid.add_column(overflow="fold")
    for row in rows:
        grid.add_row(*[Text(printable(cell)) for cell in row])
    return [Text(f"\n{title}", style="bold"), Padding(grid, (0, 0, 0, 2))]


def _lines(title: str, lines: Sequence[str]) -> list[RenderableType]:
    return [Text(f"\n{title}", style="bold"), *(Text(f"  {line}") for line in lines)] if lines else []
