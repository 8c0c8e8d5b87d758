"""Read DOCX: the text, then its notes, comments, headers and footers."""

from __future__ import annotations

import re
from html import unescape
from xml.etree.ElementTree import Element

from ragops.documents.errors import Unreadable
from ragops.documents.readers.charts import chart_text, diagram_text
from ragops.documents.readers.lines import Lines
from ragops.documents.readers.package import Package, events, local, reference
from ragops.documents.readers.result import Read, measured, visible

MEDIA_TYPE = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
# Properties (a `tab` among them is a stop, not a character), text that was moved away, and the second form of
# what a newer program draws.
_SKIPPED = frozenset(
    {
        *("pPr", "rPr", "tblPr", "tblPrEx", "tcPr", "trPr", "sectPr", "sdtPr", "sdtEndPr", "tblGrid", "ctrlPr"),
        *("Fallback", "moveFrom", "instrText", "delText", "delInstrText", "fldData", "binData"),
    }
)
_CHARACTERS = {"tab": "\t", "ptab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-"}
_MAIN_PARTS = ("word/document.xml", "xl/workbook.xml", "ppt/presentation.xml")
_NOTES = ("footnotes", "endnotes")
_ELSEWHERE = re.compile(
    r"<(mc:Fallback|w:moveFrom)(?: [^<>]*)?(?<!/)>.*?</\1>|<a:fld [^<>]*type=\"slidenum\"[^<>]*>.*?</a:fld>",
    re.DOTALL,
)
_TEXT = re.compile(r"<(?:w|m|a):t(?: [^>]*)?>([^<]*)<")


def read_word(package: Package) -> Read:
    """Return all text of a DOCX, in this order: body, footnotes, endnotes, comments, headers, footers."""
    main = main_part(package)
    order = [main]
    for kind in (*_NOTES, "comments", "header", "footer"):
        order += package.related(main, kind)
    texts: list[str] = []
    expected = 0
    missing: list[str] = []
    for part in dict.fromkeys(order):
        data = package.read(part)
        text = part_text(package, part, data)
        expected += written(data)
        if text and text not in texts[1:]:  # the header of the first page is often that of all others
            texts.append(text)
        elif text:
            expected -= visible(text)
        missing += [f"embedded document {path}" for path in package.related(part, "aFChunk")]
    return measured("\n\n".join(texts), MEDIA_TYPE, expected, tuple(missing))


def main_part(package: Package) -> str:
    """Return the part that an OOXML package is about. Raises Unreadable if there is not one."""
    found = package.related("", "officeDocument") or [part for part in _MAIN_PARTS if package.has(part)]
    if not found:
        raise Unreadable("damaged: no main part in the package")
    return found[0]


def part_text(package: Package, part: str, data: bytes) -> str:
    """Return the text of one part; frames, alternative texts, charts and diagrams stand behind their paragraph."""
    lines = Lines()
    skipped = 0
    is_initial = False
    cells: list[list[str]] = []
    relations = package.relations(part)
    for event, element in events(data, part):
        name = local(element.tag)
        if name in _SKIPPED:
            skipped += 1 if event == "start" else -1
            continue
        if skipped:
            if name == "framePr" and reference(element, "dropCap") in ("drop", "margin"):
                is_initial = True
            continue
        if event == "start":
            if name in ("txbxContent", "tc"):
                lines.open()
            elif name == "tr":
                cells.append([])
            elif name in ("docPr", "cNvPr"):
                lines.beside(alternative(element))
            elif name in ("shape", "rect", "oval", "textpath", "imagedata"):
                lines.beside(element.get("alt", ""))
                lines.beside(element.get("string", ""))
            elif name in ("chart", "relIds"):
                path = relations.get(reference(element) or reference(element, "dm"), ("", ""))[1]
                if package.has(path):
                    read = chart_text if name == "chart" else diagram_text
                    lines.beside(read(package.read(path), path))
        elif name == "t":
            lines.add(element.text or "")
        elif name in _CHARACTERS:
            lines.add(_CHARACTERS[name])
        elif name == "p":
            if not is_initial:  # a large first letter; its word goes on in the next paragraph
                lines.end_line()
            is_initial = False
        elif name == "txbxContent":
            lines.beside(lines.close())
        elif name == "tc":
            text = lines.close().strip()
            if cells:
                cells[-1].append(text)
            else:
                lines.beside(text)
        elif name == "tr" and cells:
            row = cells.pop()
            if any(row):
                lines.add("\t".join(row))
                lines.end_line()
    return lines.text()


def alternative(element: Element) -> str:
    """Return what an author wrote as the alternative text of a picture, a shape or a table."""
    texts = dict.fromkeys(element.get(key, "").strip() for key in ("title", "descr"))
    return "\n".join(text for text in texts if text)


def written(data: bytes) -> int:
    """Return an independent count of a part's characters: by a regular expression on its source."""
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8"
    source = _ELSEWHERE.sub("", data.decode(encoding, "replace"))
    return sum(visible(unescape(text)) for text in _TEXT.findall(source))
