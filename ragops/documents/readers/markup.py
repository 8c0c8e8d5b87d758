"""Read HTML and XML, which the controller has decoded to UTF-8 by what they declare."""

from __future__ import annotations

from ragops.documents.blank import is_blank
from ragops.documents.errors import Unreadable
from ragops.documents.formats import HTML
from ragops.documents.markup import MarkupText, read_markup
from ragops.documents.readers.result import Read

_MOST_NAMED = 10
_NOT_TEXT = ((b"<script", "script"), (b"<img", "picture"), (b"<frame ", "frame"), (b"<iframe", "frame"))
_MEDIA_TYPES = {".svg": "image/svg+xml", ".xhtml": "application/xhtml+xml", ".xht": "application/xhtml+xml"}


def read_markup_file(data: bytes, suffix: str) -> Read:
    """Return the text of HTML or XML with its words held against an independent count. Raises Unreadable."""
    is_html = suffix in HTML
    try:
        read = read_markup(data.decode("utf-8"), is_html=is_html)
    except ValueError as error:
        raise Unreadable(str(error)) from None
    if is_blank(read.text):
        raise Unreadable(_why_empty(data, is_html=is_html))
    media_type = _MEDIA_TYPES.get(suffix, "text/html" if is_html else "application/xml")
    return Read(read.text, media_type, read.found, read.expected, "words", _named(read))


def _why_empty(data: bytes, *, is_html: bool) -> str:
    """Return the reason for a page without text, with what it has instead."""
    if not is_html:
        return "empty document: no text in its elements"
    lowered = data.lower()
    counted = ((lowered.count(tag), what) for tag, what in _NOT_TEXT)
    parts = [f"{count} {what}{'s' if count > 1 else ''}" for count, what in counted if count]
    instead = f", but {', '.join(parts)}" if parts else ""
    return f"empty document: no text in the page{instead}"


def _named(read: MarkupText) -> tuple[str, ...]:
    """Return some of the words that are missing, as one entry, and the parts in other files."""
    words = ", ".join(word[:40] for word in read.missing[:_MOST_NAMED])
    return (*([f"words such as: {words}"] if words else []), *(part[:200] for part in read.elsewhere))
