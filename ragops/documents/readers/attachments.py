"""Read what is attached to a mail: documents with their text, everything else by its name."""

from __future__ import annotations

from collections.abc import Callable

from ragops.documents.encodings import decode_markup, decode_text
from ragops.documents.errors import Unreadable
from ragops.documents.formats import HTML, Kind, format_of
from ragops.documents.markup import text_of_html
from ragops.documents.readers.result import Read
from ragops.documents.xml_text import text_of_xml

_NAMED_ONLY = frozenset({Kind.PICTURE, Kind.MEDIA, Kind.BINARY, Kind.UNKNOWN})


class Attachments:
    """Reads attachments with `read`, the reader of all documents; names those that it cannot read."""

    def __init__(self, read: Callable[[bytes, str], Read | None]) -> None:
        self._read = read
        self.missing: list[str] = []

    def fork(self) -> Attachments:
        """Return another one of the same kind that has missed nothing yet."""
        return Attachments(self._read)

    def text(self, name: str, content: Callable[[], bytes], media_type: str = "") -> str:
        """Return the line that names an attachment, and its text below it if it is a document."""
        shown = name or "(no name)"
        told = f"Attachment: {shown} ({media_type}, not read)" if media_type else f"Attachment: {shown} (not read)"
        try:
            data = content()
            suffix, kind = format_of(name, data)
            if kind in _NAMED_ONLY or not data:
                return told
            text = self._text(suffix, kind, data)
        except Unreadable as failure:
            self.missing.append(f"{shown} ({failure.reason})")
            return told
        return f"Attachment: {shown}\n{text.strip()}"

    def _text(self, suffix: str, kind: Kind, data: bytes) -> str:
        if kind in (Kind.TEXT, Kind.MARKDOWN):
            return decode_text(data)
        if kind is Kind.MARKUP:
            is_html = suffix in HTML
            text = decode_markup(data, is_xml=not is_html)
            return text_of_html(text) if is_html else text_of_xml(text)
        if kind is not Kind.PARSED:
            raise Unreadable("an archive")
        read = self._read(data, suffix)
        if read is None:
            raise Unreadable(f"{suffix} is not read within a mail")
        if read.missing or read.found < read.expected:
            raise Unreadable(f"only {read.found} of {read.expected} {read.unit} can be read")
        return read.text
