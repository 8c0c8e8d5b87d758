"""Extract a document's text: read directly or through a parser, never guessed, never only in part."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from ragops.documents.blank import is_blank, why_blank
from ragops.documents.compressed import member_of
from ragops.documents.encodings import decode_markup, decode_text
from ragops.documents.errors import CheckStop, Stopped, Unreadable, never_stopped
from ragops.documents.formats import HTML, Kind, format_of, has_controls, refusal_of, suffix_of
from ragops.documents.opening import open_file
from ragops.documents.os_errors import is_outage
from ragops.documents.parser import ParserLimits, parse_document
from ragops.documents.reading import DEFAULT_READING, Partial, Reading
from ragops.documents.states import FileChange
from ragops.errors import RagopsError

# A fleet reads several documents at once, and a text takes up to four times its bytes in memory.
MAX_BYTES = 64 * 1024 * 1024

LongText = Literal["mean", "truncate", "fail"]

_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Extracted:
    """A document's text with `\\n` as the only line end, and what identifies its source."""

    text: str
    content_hash: str
    """SHA-256 of the file's bytes (of the UTF-8 text for a table's row), in hexadecimal."""
    characters: int
    """Length of `text` in Unicode code points."""
    media_type: str
    partial: Partial | None = None
    """What is missing in `text`; None for a whole document."""
    change: FileChange | None = None
    """How the file differs from when it was queued; None if it does not, or that is not known."""
    version: bytes | None = None
    """Of a row that stays: what tells whether its vector was replaced after its text was read."""
    long_text: LongText = "mean"
    """What becomes of it if it is longer than the model's context."""


def extract_file(
    path: Path,
    *,
    reading: Reading = DEFAULT_READING,
    max_bytes: int = MAX_BYTES,
    limits: ParserLimits | None = None,
) -> Extracted:
    """Return the text of the regular file at a path; raises as `extract`."""
    with open_file(path) as handle:
        return extract(handle, path, reading=reading, max_bytes=max_bytes, limits=limits)


def extract(
    handle: BinaryIO,
    path: Path,
    *,
    reading: Reading = DEFAULT_READING,
    max_bytes: int = MAX_BYTES,
    limits: ParserLimits | None = None,
    check_stop: CheckStop = never_stopped,
) -> Extracted:
    """Return the text of an opened file of at most `max_bytes`; `path` is its name, and is not opened.

    A compressed file (`ls.1.gz`) is read as its member, a file with a wrong or no suffix by its first bytes.
    Text formats are read as UTF-8, or as UTF-16 if a byte order mark says so; HTML and XML also in the
    encoding that they declare; every other format goes through a parser in a child process.
    Raises Unreadable with the reason: missing, too large, empty, NUL, not UTF-8, unsupported format,
    parser failed. Raises RagopsError if the parser cannot run here, OSError for a file system that is at fault,
    and Stopped if `check_stop` does.
    """
    try:
        data = _read(handle, max_bytes)
        if not data:
            raise Unreadable("empty document: 0 bytes")
        name, member = member_of(path.name, data, max_bytes)
        suffix, kind = (suffix_of(name), Kind.TEXT) if reading.is_text(name) else format_of(name, member)
        if (refused := refusal_of(suffix, kind)) is not None:
            raise Unreadable(refused)
        if kind is Kind.UNKNOWN:
            raise Unreadable(f"unsupported format: {suffix}{_hint_of_text(member)}")
        if kind is Kind.MARKDOWN:
            return _result(_checked(decode_text(member, reading.encoding)), data, "text/markdown")
        if kind is Kind.TEXT:
            return _result(_checked(decode_text(member, reading.encoding)), data, "text/plain")
        readable = _markup_as_utf8(member, suffix, reading) if kind is Kind.MARKUP else member
        parsed = parse_document(readable, suffix, limits=limits or ParserLimits(), check_stop=check_stop)
        text = _checked(parsed.text)
        return dataclasses.replace(_result(text, data, parsed.media_type), partial=parsed.partial)
    except Unreadable as failure:
        raise Unreadable(failure.reason, where=str(path)) from failure
    except (RagopsError, Stopped, OSError, MemoryError):
        raise
    except Exception as error:  # one document's fault must not end the campaign, whatever it is
        raise Unreadable(f"cannot be read: {type(error).__name__}: {error}", where=str(path)) from error


def extract_text(text: str, *, version: bytes | None = None, long_text: LongText = "mean") -> Extracted:
    """Return the text of a row of a table after the same checks as for a file.

    `version` and `long_text` are those of a row that stays.

    Raises Unreadable for a text that is empty or only whitespace, or contains NUL or a lone surrogate.
    """
    checked = _checked(text)
    # The stored text is hashed, not the checked one: the hash must not depend on how line ends are normalised.
    digest = hashlib.sha256(text.encode("utf-8")).hexdigest()
    return Extracted(checked, digest, len(checked), "text/plain", version=version, long_text=long_text)


def _read(handle: BinaryIO, max_bytes: int) -> bytes:
    """Return the bytes of an opened file. Raises Unreadable, and OSError for a file system that is at fault."""
    try:
        data = handle.read(max_bytes + 1)
    except OSError as error:
        if is_outage(error):
            raise
        raise Unreadable(f"cannot be read: {error.strerror or error}") from error
    if len(data) > max_bytes:
        raise Unreadable(f"file larger than {max_bytes} bytes")
    return data


def _hint_of_text(data: bytes) -> str:
    """Return what to do about a suffix that is not known, where the bytes are text."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return ""
    is_text = not has_controls(data)
    return " (its bytes are UTF-8 text: name the suffix in source.text_suffixes)" if is_text else ""


def _markup_as_utf8(data: bytes, suffix: str, reading: Reading) -> bytes:
    """Return HTML or XML as UTF-8, in which its parser reads it. Raises Unreadable."""
    # Left to a parser, bytes that it cannot decode would become U+FFFD without an error.
    text = decode_markup(data, is_xml=suffix not in HTML, encoding=reading.encoding)
    _refuse_nul(text)
    return text.encode("utf-8")


def _checked(text: str) -> str:
    """Return the text with `\\n` as its only line end. Raises Unreadable for text that cannot be stored."""
    _refuse_nul(text)
    if (surrogate := _SURROGATE.search(text)) is not None:
        raise Unreadable(f"lone surrogate U+{ord(surrogate[0]):04X} at offset {surrogate.start()}")
    if is_blank(text):
        raise Unreadable(why_blank(text))
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _refuse_nul(text: str) -> None:
    # PostgreSQL's text cannot hold NUL. In a text file it mostly means UTF-16 without a byte order mark.
    if (offset := text.find("\0")) >= 0:
        raise Unreadable(f"NUL character at offset {offset}")


def _result(text: str, data: bytes, media_type: str) -> Extracted:
    digest = hashlib.sha256(data).hexdigest()
    return Extracted(text=text, content_hash=digest, characters=len(text), media_type=media_type)
