"""Read ODF (ODT, ODS, ODP, ODG), zipped or flat: the content, then headers and footers of its page styles."""

from __future__ import annotations

import posixpath
import re
from html import unescape

from ragops.documents.errors import Unreadable
from ragops.documents.readers.lines import Lines
from ragops.documents.readers.package import Package, handle
from ragops.documents.readers.result import Read, measured, visible

_MEDIA = "application/vnd.oasis.opendocument."
_SPACES = re.compile(r"[ \t\r\n]+")
_PARAGRAPHS = frozenset({"p", "h"})
# Deleted text, declarations, scripts, and the number of a note in the text.
_SKIPPED = frozenset(
    {
        *("tracked-changes", "scripts", "font-face-decls", "automatic-styles", "forms", "settings", "binary-data"),
        *("note-citation", "event-listeners", "table-source"),
    }
)
_APART = frozenset(
    {"note", "annotation", "frame", "custom-shape", "rect", "ellipse", "line", "connector", "caption"}
)
_CELLS = frozenset({"table-cell", "covered-table-cell"})
_PAGE_PARTS = frozenset({"header", "footer", "header-left", "footer-left", "header-first", "footer-first"})
# A row of 16,384 equal cells is how programs write "the rest of the sheet".
_MOST_REPEATED = 100
_ELSEWHERE = re.compile(
    r"<(text:tracked-changes|text:note-citation|dc:creator|dc:date|meta:creator-initials|office:forms|"
    r"office:scripts|office:binary-data|text:[a-z-]+-source)(?: [^<>]*)?(?<!/)>.*?</\1>",
    re.DOTALL,
)
_BETWEEN_TAGS = re.compile(r">([^<>]+)<")


def read_open_document(package: Package) -> Read:
    """Return the text of an ODF package. Raises Unreadable for one that is encrypted."""
    if package.has("META-INF/manifest.xml") and b"encryption-data" in package.read("META-INF/manifest.xml"):
        raise Unreadable("encrypted: a password is needed")
    kind = (
        package.read("mimetype").decode("ascii", "replace").strip() if package.has("mimetype") else _MEDIA + "text"
    )
    content = package.read("content.xml")
    texts = [_text(content, "content.xml", package, _BODY)]
    if package.has("styles.xml"):
        texts.append(_text(package.read("styles.xml"), "styles.xml", package, _PAGE_PARTS))
    return measured("\n\n".join(text for text in texts if text), kind, _characters(content))


def read_flat_open_document(data: bytes) -> Read:
    """Return the text of an ODF document that is one XML file."""
    kind = re.search(rb'office:mimetype="([^"]+)"', data[:65536])
    texts = [_text(data, "document", None, _BODY), _text(data, "document", None, _PAGE_PARTS)]
    media_type = kind[1].decode("ascii", "replace") if kind else _MEDIA + "text"
    return Read("\n\n".join(text for text in texts if text), media_type)


class _Content:
    """Collects the text of one XML part; notes, frames and comments stand behind the paragraph that has them."""

    def __init__(self, package: Package | None, roots: frozenset[str]) -> None:
        self.lines = Lines()
        self._package = package
        self._roots = roots
        self._inside = 0  # elements of `roots` that are open
        self._skipped = 0
        self._paragraphs = 0  # paragraphs that are open, not counting those around a frame
        self._described = 0
        self._around: list[tuple[int, bool]] = []
        self._rows: list[list[str]] = []
        self._repeated = 1
        self._collapses = True
        self._objects: set[str] = set()

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if name in self._roots:
            self._inside += 1
        if name in _SKIPPED:
            self._skipped += 1
        if self._skipped or not self._inside:
            return
        if name in _PARAGRAPHS or (name in ("title", "desc") and not self._paragraphs):
            # In a paragraph, a title is a field; in a frame, the alternative text.
            self._described += name not in _PARAGRAPHS
            self._paragraphs += 1
            self._collapses = True
        elif name in _APART or name in _CELLS:
            self._around.append((self._paragraphs, self._collapses))
            self._paragraphs = 0
            self.lines.open()
            if name in _CELLS:
                self._repeated = min(_number(attributes.get("number-columns-repeated")), _MOST_REPEATED)
        elif name == "table-row":
            self._rows.append([])
        elif self._paragraphs and name == "s":
            self._exact(" " * min(_number(attributes.get("c")), 1000))
        elif self._paragraphs and name in ("tab", "line-break"):
            self._exact("\t" if name == "tab" else "\n")
        elif name == "object":
            self._object(attributes.get("href", ""))

    def end(self, name: str) -> None:
        if name in self._roots:
            self._inside -= 1
        if name in _SKIPPED:
            self._skipped -= 1
            return
        if self._skipped or not self._inside:
            return
        if name in _PARAGRAPHS or (name in ("title", "desc") and self._described):
            self._described -= name not in _PARAGRAPHS
            self._paragraphs -= 1
            self._collapses = True
            self.lines.end_line()
        elif name in _APART:
            self._paragraphs, self._collapses = self._around.pop()
            self.lines.beside(self.lines.close())
            if not self._paragraphs:
                self.lines.end_line()
        elif name in _CELLS:
            self._paragraphs, self._collapses = self._around.pop()
            text = self.lines.close().strip()
            if self._rows and text:
                self._rows[-1] += [text] * self._repeated
        elif name == "table-row" and self._rows:
            self.lines.add("\t".join(self._rows.pop()))
            self.lines.end_line()

    def characters(self, text: str) -> None:
        if self._skipped or not self._inside or not self._paragraphs:
            return
        shown = _SPACES.sub(" ", text)
        if self._collapses and shown.startswith(" "):
            shown = shown[1:]
        if shown:
            self._collapses = shown.endswith(" ")
            self.lines.add(shown)

    def _exact(self, text: str) -> None:
        self.lines.add(text)
        self._collapses = False

    def _object(self, reference: str) -> None:
        """Read a chart, formula or table that is embedded as a document in this one."""
        path = posixpath.normpath(f"{reference}/content.xml").removeprefix("./").lower()
        if self._package is None or path in self._objects or not self._package.has(path):
            return
        self._objects.add(path)
        data = self._package.read(path)
        self.lines.beside(_text(data, path, None, _BODY) or _text(data, path, None, frozenset({"math"})))


_BODY = frozenset({"body"})


def _text(data: bytes, part: str, package: Package | None, roots: frozenset[str]) -> str:
    content = _Formula() if "math" in roots else _Content(package, roots)
    handle(data, part, content)
    return content.lines.text()


class _Formula:
    """Collects the signs of a formula in MathML; its source in another language is left out."""

    def __init__(self) -> None:
        self.lines = Lines()
        self._skipped = 0

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._skipped += name == "annotation"

    def end(self, name: str) -> None:
        self._skipped -= name == "annotation"
        if name in ("mi", "mn", "mo", "mtext", "ms"):
            self.lines.add(" ")

    def characters(self, text: str) -> None:
        if not self._skipped:
            self.lines.add(text.strip())


def _number(value: str | None) -> int:
    return int(value) if value and value.isascii() and value.isdigit() else 1


def _characters(data: bytes) -> int:
    """Return an independent count of the content's characters: what stands between its tags."""
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8"
    source = data.decode(encoding, "replace")
    body = _ELSEWHERE.sub("", source[source.find("<office:body") :])
    return sum(visible(unescape(text)) for text in _BETWEEN_TAGS.findall(body))
