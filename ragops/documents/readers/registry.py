"""Choose the reader of a document: by its bytes first, then by its suffix."""

from __future__ import annotations

from pathlib import PurePosixPath

from ragops.documents.errors import Unreadable
from ragops.documents.formats import (
    MAIL,
    MARKUP,
    PARSED,
    PICTURES,
    has_controls,
    kind_of,
    refusal_of,
    suffix_by_content,
)
from ragops.documents.readers.package import Package
from ragops.documents.readers.result import Read

# Formats whose bytes begin with a mark.
_MARKED = PARSED - MAIL | {".msg"}
_MARKED -= {".ipynb", ".fb2", ".fodt", ".fods", ".fodp", ".fodg", ".dbf"}
_BEFORE = (
    *((b"\x31\xbe\0\0", "Word before 6.0 or Write"), (b"\xdb\xa5", "Word 2"), (b"\xfe\x37", "Word for Macintosh")),
    *((b"\x09\x08\x08\0", "Excel before 5.0"), (b"\x09\x04\x06\0", "Excel before 5.0")),
    *((b"\x09\x02\x06\0", "Excel before 5.0"), (b"\x09\0\x04\0", "Excel before 5.0")),
)


def read_document(data: bytes, suffix: str) -> Read | None:
    """Return a document's text; None for the formats that are left to kreuzberg.

    Raises Unreadable with a reason that stands for itself. Heavy imports are made for the format that needs them.
    """
    if suffix in MARKUP:
        from ragops.documents.readers.markup import read_markup_file

        return read_markup_file(data, suffix)
    content = suffix_by_content(data)
    if content == ".zip":
        return _zip(data, suffix)
    if content == ".pdf":
        from ragops.documents.readers.pdf import read_pdf

        return read_pdf(data)
    if content == ".rtf" or (suffix == ".rtf" and data.lstrip().startswith(b"{\\")):  # also a part of a document
        from ragops.documents.readers.rtf import read_rtf

        return read_rtf(data)
    if content == ".ole":
        from ragops.documents.readers.attachments import Attachments
        from ragops.documents.readers.compound import read_compound

        return read_compound(data, suffix, Attachments(read_document))
    if content in (".eml", ".mbox") or suffix in (".eml", ".mbox", ".mht", ".mhtml"):
        from ragops.documents.readers.attachments import Attachments
        from ragops.documents.readers.mail import read_mail, read_mbox

        read = read_mbox if content == ".mbox" or suffix == ".mbox" else read_mail
        return read(data, Attachments(read_document))
    if suffix == ".ipynb":
        from ragops.documents.readers.notebook import read_notebook

        return read_notebook(data)
    if suffix in (".fodt", ".fods", ".fodp", ".fodg"):
        from ragops.documents.readers.opendocument import read_flat_open_document

        return read_flat_open_document(data)
    if suffix == ".fb2":
        from ragops.documents.readers.fictionbook import read_fiction_book

        return read_fiction_book(data)
    if (reason := _other_bytes(data, suffix)) is not None:
        raise Unreadable(reason)
    return None


def _other_bytes(data: bytes, suffix: str) -> str | None:
    """Return why bytes without a mark cannot be of the format that the suffix names; None where they may be."""
    if suffix not in _MARKED:
        return None
    version = next((name for magic, name in _BEFORE if data.startswith(magic)), None)
    if version is not None:
        return f"unsupported format: {suffix} of {version}; save it in a newer version"
    head = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    what = "HTML or XML" if head.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<table")) else ""
    if not what and not has_controls(data[:65536]):
        what = "text"
    if what:
        return f"named {suffix}, but it is {what}: rename it"
    return f"named {suffix}, but its bytes are not of that format: damaged, or of another program"


def _zip(data: bytes, suffix: str) -> Read | None:
    """Read what is made of a ZIP file; a plain archive is refused, and one of pictures alone."""
    package = Package(data)
    read = _packaged(package, suffix)
    if read is not None and not read.text.strip() and not read.missing:
        pictures = sum(
            PurePosixPath(name).suffix in PICTURES and "thumbnail" not in name for name in package.names()
        )
        if pictures:
            raise Unreadable(f"empty document: no text in it, only pictures ({pictures}), and ragops does no OCR")
    return read


def _packaged(package: Package, suffix: str) -> Read | None:
    if package.has("mimetype"):
        kind = package.read("mimetype").strip()
        if kind == b"application/epub+zip":
            from ragops.documents.readers.epub import read_epub

            return read_epub(package)
        if kind.startswith(b"application/vnd.oasis.opendocument"):
            from ragops.documents.readers.opendocument import read_open_document

            return read_open_document(package)
    if package.has("META-INF/container.xml"):
        from ragops.documents.readers.epub import read_epub

        return read_epub(package)
    if package.has("content.xml"):
        from ragops.documents.readers.opendocument import read_open_document

        return read_open_document(package)
    if package.has("[Content_Types].xml"):
        return _office(package, suffix)
    if suffix in (".hwpx", ".pages", ".numbers", ".key"):
        return None
    raise Unreadable(refusal_of(".zip", kind_of(".zip")) or "an archive")


def _office(package: Package, suffix: str) -> Read | None:
    from ragops.documents.readers.word import main_part, read_word

    main = main_part(package)
    if main.startswith("word/"):
        return read_word(package)
    if main.endswith(".bin"):
        return None  # XLSB
    if main.startswith("xl/"):
        from ragops.documents.readers.spreadsheet import read_spreadsheet

        return read_spreadsheet(package)
    if main.startswith("ppt/"):
        from ragops.documents.readers.presentation import read_presentation

        return read_presentation(package)
    raise Unreadable(f"unsupported format: {suffix} (an Office package with {main})")
