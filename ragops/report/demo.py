"""The demo's closing screen: the procedure's before/after table and what to type next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from ragops.report.terminal import campaign_screen, table
from ragops.report.units import duration, number, size

NEXT = (
    "ragops status",
    'ragops search "how to open a file"',
    "ragops validate --after {gate}",
    "ragops embed --workers 3",
    "ragops index rebuild",
    "ragops reset --playbook realign.yaml --dry-run",
    "ragops db stop",
)


def demo_screen(result: Mapping[str, Any]) -> RenderableType:
    before, after = result["before"], result["after"]
    rows = [
        [
            f"rows under {threshold} a query",
            f"{before['rows_under'][threshold]:,.1f}",
            f"{after['rows_under'][threshold]:,.1f}",
        ]
        for threshold in before["rows_under"]
    ]
    for place in ("at_1", "at_10"):
        label = f"finds itself {place.replace('_', ' ')}"
        rows.append([label, f"{before['self_retrieval'][place]:.0%}", f"{after['self_retrieval'][place]:.0%}"])
    rows.append(["ragops validate", result["before_verdict"], str(result["verdict"])])
    figures = (
        f"{number(result['completed'])} documents embedded again at {result['docs_per_s']:.1f} documents/s, "
        f"{size(result['bytes_freed'])} freed; the whole demo took {duration(result['seconds'])}"
    )
    gate = next((s["effect"]["documents"] for s in result["steps"] if s["name"] == "validate"), 100)
    commands = "\n".join("  " + line.format(gate=gate) for line in NEXT)
    title = f"{result['before']['queries']} queries: first words of a document"
    return Group(
        campaign_screen(result),
        Text(),
        table(title, "before", "after", rows=rows, right=(1, 2)),
        Text(figures),
        Text(f"\nnext, on this database:\n{commands}"),
    )
