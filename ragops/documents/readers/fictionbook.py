"""Read FictionBook (FB2): title, authors and annotation, then the bodies with their notes."""

from __future__ import annotations

import re

from ragops.documents.readers.lines import Lines
from ragops.documents.readers.package import handle
from ragops.documents.readers.result import Read

MEDIA_TYPE = "application/x-fictionbook+xml"
_SPACES = re.compile(r"\s+")
_SKIPPED = frozenset(
    {
        "binary",
        "stylesheet",
        "document-info",
        "custom-info",
        "src-title-info",
        "genre",
        "lang",
        "src-lang",
        "output",
    }
)
_LINES = frozenset(
    {
        *("p", "v", "subtitle", "text-author", "date", "book-title", "author", "translator", "keywords", "tr"),
        *("empty-line", "publisher", "city", "year", "isbn", "sequence", "book-name"),
    }
)
_WORDS = frozenset({"first-name", "middle-name", "last-name", "nickname", "td", "th"})


def read_fiction_book(data: bytes) -> Read:
    """Return the text of a book. Raises Unreadable for what is no well-formed XML."""
    book = _Book()
    handle(data, "book", book)
    return Read(book.lines.text(), MEDIA_TYPE)


class _Book:
    def __init__(self) -> None:
        self.lines = Lines()
        self._skipped = 0

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._skipped += name in _SKIPPED
        if name in _LINES:
            self.lines.end_line()
        if name == "image" and not self._skipped:
            self.lines.beside(attributes.get("alt", ""))
            self.lines.beside(attributes.get("title", ""))

    def end(self, name: str) -> None:
        self._skipped -= name in _SKIPPED
        if name in _LINES:
            self.lines.end_line()
        elif name in _WORDS:
            self.lines.add(" ")

    def characters(self, text: str) -> None:
        if not self._skipped and text:
            self.lines.add(_SPACES.sub(" ", text))
