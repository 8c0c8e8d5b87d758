"""Extract a document's text: read directly or through a parser, never guessed, never only in part."""

from __future__ import annotations

import codecs
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ragops.documents.errors import CheckStop, Unreadable, never_stopped
from ragops.documents.opening import open_file
from ragops.documents.os_errors import is_outage
from ragops.documents.parser import ParserLimits, parse_document
from ragops.documents.reading import DEFAULT_READING, Partial, Reading

# A fleet reads several documents at once, and a text takes up to four times its bytes in memory.
MAX_BYTES = 64 * 1024 * 1024

_MARKDOWN = frozenset({".md", ".markdown", ".mdown", ".mkd"})
_MARKUP = frozenset({".html", ".htm", ".xhtml", ".xml", ".svg"})
_TEXT_SUFFIXES = """
    .txt .text .rst .adoc .asciidoc .org .log .csv .tsv .json .jsonl .ndjson .yaml .yml .toml .ini
    .cfg .conf .properties .env .tex .bib .py .pyi .sql .sh .bash .ps1 .bat .c .h .cc .cpp .hpp .cs
    .go .rs .java .kt .swift .js .mjs .ts .tsx .jsx .rb .pl .php .lua .r .css .scss .diff .patch
"""
_TEXT = frozenset(_TEXT_SUFFIXES.split()) | {""}  # "" for README, LICENSE, Makefile

_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
# HTML's `<meta charset=...>` must be within the first 1,024 bytes (WHATWG HTML, "Specifying the document's
# character encoding"); XML's `encoding="..."` is in its first line.
_DECLARED = re.compile(rb"""(?:charset|encoding)\s*=\s*["']?\s*([A-Za-z0-9_.:-]+)""", re.IGNORECASE)
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

    Text formats are read as UTF-8, or as UTF-16 if a byte order mark says so; HTML and XML also in the
    encoding that they declare; every other format goes through a parser in a child process.
    Raises Unreadable with the reason: missing, too large, empty, NUL, not UTF-8, unsupported format,
    parser failed. Raises RagopsError if the parser cannot run here, OSError for a file system that is at fault,
    and Stopped if `check_stop` does.
    """
    suffix = path.suffix.lower()
    try:
        data = _read(handle, max_bytes)
        if not data:
            raise Unreadable("empty document: 0 bytes")
        if reading.is_text(path.name):
            return _result(_checked(_decoded(data)), data, "text/plain")
        if suffix in _MARKDOWN:
            return _result(_checked(_decoded(data)), data, "text/markdown")
        if suffix in _TEXT:
            return _result(_checked(_decoded(data)), data, "text/plain")
        readable = _markup_as_utf8(data) if suffix in _MARKUP else data
        text, media_type = parse_document(readable, suffix, limits=limits or ParserLimits(), check_stop=check_stop)
        return _result(_checked(text), data, media_type)
    except Unreadable as failure:
        raise Unreadable(failure.reason, where=str(path)) from failure


def extract_text(text: str) -> Extracted:
    """Return the text of a row of a table after the same checks as for a file.

    Raises Unreadable for a text that is empty or only whitespace, or contains NUL or a lone surrogate.
    """
    checked = _checked(text)
    # The stored text is hashed, not the checked one: the hash must not depend on how line ends are normalised.
    return _result(checked, text.encode("utf-8"), "text/plain")


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


def _decoded(data: bytes) -> str:
    """Return text in the encoding of its byte order mark, else UTF-8. Raises Unreadable with the offset."""
    bom, encoding = next(((m, e) for m, e in _BOMS if data.startswith(m)), (b"", "utf-8"))
    try:
        return data[len(bom) :].decode(encoding)
    except UnicodeDecodeError as error:
        offset = len(bom) + error.start
        name = encoding.upper()[:6].rstrip("-")
        raise Unreadable(f"not {name} text (byte 0x{data[offset]:02x} at offset {offset})") from None


def _markup_as_utf8(data: bytes) -> bytes:
    """Return HTML or XML as UTF-8. Raises Unreadable for bytes that are not in the declared encoding."""
    # Left to the parser, bytes that it cannot decode would become U+FFFD without an error.
    try:
        text = _decoded(data)
    except Unreadable:
        declared = _DECLARED.search(data[:1024])
        if declared is None:
            raise
        encoding = declared[1].decode("ascii")
        try:
            text = data.decode(encoding)
        except LookupError:
            raise Unreadable(f"unknown encoding declared: {encoding}") from None
        except UnicodeError:
            raise Unreadable(f"not {encoding} text, although the document declares it") from None
    _refuse_nul(text)
    # The declaration is wrong from here on; a byte order mark takes precedence over it.
    return codecs.BOM_UTF8 + text.encode("utf-8")


def _checked(text: str) -> str:
    """Return the text with `\\n` as its only line end. Raises Unreadable for text that cannot be stored."""
    _refuse_nul(text)
    if (surrogate := _SURROGATE.search(text)) is not None:
        raise Unreadable(f"lone surrogate U+{ord(surrogate[0]):04X} at offset {surrogate.start()}")
    if not text.strip():
        raise Unreadable("empty document: no text in it" if not text else "empty document: only whitespace")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _refuse_nul(text: str) -> None:
    # PostgreSQL's text cannot hold NUL. In a text file it mostly means UTF-16 without a byte order mark.
    if (offset := text.find("\0")) >= 0:
        raise Unreadable(f"NUL character at offset {offset}")


def _result(text: str, data: bytes, media_type: str) -> Extracted:
    digest = hashlib.sha256(data).hexdigest()
    return Extracted(text=text, content_hash=digest, characters=len(text), media_type=media_type)
