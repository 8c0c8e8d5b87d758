"""Read the charts and diagrams of OOXML: what is written in them, and the values that they show."""

from __future__ import annotations

from ragops.documents.readers.lines import Lines
from ragops.documents.readers.package import events, local

_SKIPPED = frozenset({"numFmt", "externalData", "Fallback", "f"})


def chart_text(data: bytes, part: str, *, values: bool = True) -> str:
    """Return titles, labels, and with `values` what the series show (a workbook has these in its cells)."""
    lines = Lines()
    skipped = 0
    for event, element in events(data, part):
        name = local(element.tag)
        if name in _SKIPPED:
            skipped += 1 if event == "start" else -1
        elif skipped or event == "start":
            continue
        elif name == "t":
            lines.add(element.text or "")
        elif name in ("v", "pt") and values and (element.text or "").strip():  # newer charts have no `v` in `pt`
            lines.add(f"{element.text}\t")
        elif name in ("p", "strCache", "numCache", "strLit", "numLit"):
            lines.end_line()
    return lines.text()


def diagram_text(data: bytes, part: str) -> str:
    """Return the texts of a SmartArt diagram, one a line."""
    lines = Lines()
    for event, element in events(data, part):
        name = local(element.tag)
        if event == "end" and name == "t" and element.text:
            lines.add(element.text)
        elif event == "end" and name == "p":
            lines.end_line()
    return lines.text()
