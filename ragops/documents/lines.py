"""Put the pieces of a document's text together: white space as a browser lays it out, one line a block."""

from __future__ import annotations

import re

_SPACES = re.compile(r"[ \t\n\r\f]+")


class Lines:
    """Collects text in its order: a line for each block, a blank line after a paragraph, a tab between cells."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._newlines = 0
        self._gap = ""

    def add(self, text: str) -> None:
        """Add running text, in which all white space is one space."""
        words = _SPACES.sub(" ", text)
        if words.startswith(" "):
            self.space()
        stripped = words.strip(" ")
        if not stripped:
            return
        self._append(stripped)
        if words.endswith(" "):
            self.space()

    def add_preformatted(self, text: str) -> None:
        """Add text whose white space stays as it is."""
        if text:
            self._append(text)

    def space(self) -> None:
        """Keep what comes next apart from what stands before it."""
        self._gap = self._gap or " "

    def next_cell(self) -> None:
        """Begin another cell of the same row."""
        self._gap = "\t"

    def end_line(self) -> None:
        """Begin a line, unless one has just begun."""
        self._newlines = max(self._newlines, 1)

    def end_paragraph(self) -> None:
        """Begin a paragraph, unless one has just begun."""
        self._newlines = 2

    def stay_on_line(self) -> None:
        """Take back the end of a line that nothing has followed yet."""
        if self._newlines:
            self._newlines = 0
            self.space()

    def text(self) -> str:
        """Return all of it, without white space at both ends."""
        return "".join(self._parts).strip(" \t\n\r\f")

    def _append(self, text: str) -> None:
        if self._parts:
            self._parts.append("\n" * self._newlines or self._gap)
        self._newlines, self._gap = 0, ""
        self._parts.append(text)
