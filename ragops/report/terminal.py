"""The console for data, and the parts that every screen is made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from ragops.errors import Interrupted, NothingToReset, RagopsError
from ragops.findings import Finding
from ragops.report.printable import printable

STYLES = {"pass": "green", "match": "green", "done": "green", "fail": "red", "mismatch": "red", "failed": "red"}


class SafeConsole(Console):
    """A console that prints no control character of what it is given; those of its own styles remain."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render, with harmful characters of the text as visible escapes."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(printable(segment.text), segment.style)


def out() -> Console:
    """The console for data; plain text when stdout is no terminal (`NO_COLOR` is honoured by Rich)."""
    console = SafeConsole(highlight=False)
    # A pipe has no width: nothing may be cut there.
    return console if console.is_terminal else SafeConsole(highlight=False, width=160)


def err() -> Console:
    """The console for notices, errors and questions."""
    return SafeConsole(stderr=True, highlight=False)


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
        # Here, before the columns are measured.
        grid.add_row(*[Text(printable(cell)) for cell in row])
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
    return Text(word.upper(), style=f"bold {STYLES.get(word, 'yellow')}")


def findings_text(findings: Sequence[Finding]) -> list[RenderableType]:
    """Each finding with its severity and what to do next."""
    return [
        Text.assemble((f"{f.severity}: ", "bold"), f.message, *([f"\n  next: {f.hint}"] if f.hint else []))
        for f in findings
    ]
