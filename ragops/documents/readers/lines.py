"""Collect the text of a document in its order, with frames inside a paragraph put behind it."""

from __future__ import annotations

import re

from ragops.documents.errors import Unreadable

# As in `parse_child`.
MOST_CHARACTERS = 64 * 1024 * 1024
_BLANKS = re.compile(r"[ \t\xa0]+\n")
_EMPTY_LINES = re.compile(r"\n{3,}")


class Lines:
    """A text under construction: paragraphs are lines; cells of a row are separated by tabs."""

    def __init__(self) -> None:
        self._room = MOST_CHARACTERS
        self._parts: list[str] = []
        self._behind: list[str] = []
        # What is set aside while a frame or a cell is collected.
        self._outer: list[tuple[list[str], list[str]]] = []

    def add(self, text: str) -> None:
        """Append to the line. Raises Unreadable for a text that no document has: a decompression bomb."""
        if text:
            self._room -= len(text)
            if self._room < 0:
                raise Unreadable(f"more than {MOST_CHARACTERS} characters of text")
            self._parts.append(text)

    def end_line(self) -> None:
        """End the line if it has begun, and put behind it what stands beside it."""
        if self._parts and not self._parts[-1].endswith("\n"):
            self._parts.append("\n")
        if self._behind:
            self._parts += self._behind
            self._behind.clear()

    def beside(self, text: str) -> None:
        """Put a text on a separate line, behind the line that is being written."""
        if text.strip():
            self._behind.append(text.strip() + "\n")

    def open(self) -> None:
        """Begin a part that is collected apart: a frame, a note or a cell."""
        self._outer.append((self._parts, self._behind))
        self._parts, self._behind = [], []

    def close(self) -> str:
        """End the part that was begun last, and return its text."""
        self.end_line()
        text = "".join(self._parts)
        self._parts, self._behind = self._outer.pop()
        return text

    def text(self) -> str:
        """Return what was collected."""
        self.end_line()
        text = _BLANKS.sub("\n", "".join(self._parts))
        return _EMPTY_LINES.sub("\n\n", text).strip("\n")
