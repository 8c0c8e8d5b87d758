"""Read EPUB: the chapters in the order of its spine."""

from __future__ import annotations

import posixpath
from urllib.parse import unquote

from ragops.documents.encodings import decode_markup
from ragops.documents.errors import Unreadable
from ragops.documents.markup import read_markup
from ragops.documents.readers.package import Package, events, local
from ragops.documents.readers.result import Read

MEDIA_TYPE = "application/epub+zip"
_CHAPTERS = ("application/xhtml+xml", "text/html", "text/x-oeb1-document", "application/xml", "image/svg+xml")
# Fonts may be obfuscated by these two; they protect no text.
_OF_FONTS = ("http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC")


def read_epub(package: Package) -> Read:
    """Return the text of a book. Raises Unreadable for one that is encrypted or has no spine."""
    book = _book(package)
    folder = posixpath.dirname(book)
    manifest: dict[str, tuple[str, str]] = {}
    spine: list[str] = []
    for event, element in events(package.read(book), book):
        if event == "start":
            continue
        if local(element.tag) == "item":
            path = posixpath.normpath(posixpath.join(folder, unquote(element.get("href", ""))))
            manifest[element.get("id", "")] = (path, element.get("media-type", ""))
        elif local(element.tag) == "itemref":
            spine.append(element.get("idref", ""))
    found = expected = 0
    lost: list[str] = []
    protected = _protected(package)
    texts: list[str] = []
    missing: list[str] = []
    for reference in dict.fromkeys(spine):
        path, kind = manifest.get(reference, ("", ""))
        if not package.has(path):
            missing.append(f"chapter {path or reference}")
        elif path.lower() in protected:
            raise Unreadable("encrypted: the book is protected (DRM)")
        elif kind in _CHAPTERS or path.lower().endswith((".html", ".xhtml", ".htm")):
            read = read_markup(decode_markup(package.read(path), is_xml=True), is_html=True)
            texts.append(read.text.strip())
            found, expected, lost = found + read.found, expected + read.expected, [*lost, *read.missing]
    if not spine:
        raise Unreadable("damaged: a book without a spine")
    text = "\n\n".join(text for text in texts if text)
    if missing:
        chapters = len(dict.fromkeys(spine))
        return Read(text, MEDIA_TYPE, chapters - len(missing), chapters, "chapters", (*missing, *lost))
    return Read(text, MEDIA_TYPE, found, expected, "words", tuple(lost))


def _book(package: Package) -> str:
    """Return the part that lists the chapters."""
    container = "META-INF/container.xml"
    if package.has(container):
        for event, element in events(package.read(container), container):
            if event == "end" and local(element.tag) == "rootfile" and package.has(element.get("full-path", "")):
                return element.get("full-path", "")
    found = package.names(suffix=".opf")
    if not found:
        raise Unreadable("damaged: a book without a list of its chapters")
    return found[0]


def _protected(package: Package) -> set[str]:
    """Return the parts that are encrypted, in lower case; obfuscated fonts are left out."""
    part = "META-INF/encryption.xml"
    found: set[str] = set()
    is_font = False
    if package.has(part):
        for event, element in events(package.read(part), part):
            if event == "start" and local(element.tag) == "EncryptionMethod":
                is_font = element.get("Algorithm", "") in _OF_FONTS
            elif event == "start" and local(element.tag) == "CipherReference" and not is_font:
                found.add(posixpath.normpath(unquote(element.get("URI", ""))).lower())
    return found
