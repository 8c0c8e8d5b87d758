"""Read PPTX: slide by slide, each with its notes and comments."""

from __future__ import annotations

from ragops.documents.readers.charts import chart_text, diagram_text
from ragops.documents.readers.lines import Lines
from ragops.documents.readers.package import Package, events, local, reference
from ragops.documents.readers.result import Read, measured
from ragops.documents.readers.word import alternative, main_part, written

MEDIA_TYPE = "application/vnd.openxmlformats-officedocument.presentationml.presentation"
# The number of a slide is a field that the program fills in.
_NUMBER = "slidenum"


def read_presentation(package: Package) -> Read:
    """Return the text of a PPTX in the order of its slides, hidden ones included."""
    main = main_part(package)
    relations = package.relations(main)
    slides: list[str] = []
    for event, element in events(package.read(main), main):
        if event == "end" and local(element.tag) == "sldId":
            slides.append(relations.get(reference(element), ("", ""))[1])
    texts: list[str] = []
    missing: list[str] = []
    expected = 0
    for number, part in enumerate(slides, start=1):
        if not package.has(part):
            missing.append(f"slide {number}")
            continue
        shown = [part, *package.related(part, "notesSlide")]
        expected += sum(written(package.read(path)) for path in shown)
        body = [_shapes(package, path) for path in shown]
        body += [_comments(package.read(path), path) for path in package.related(part, "comments")]
        texts += ["\n".join(text for text in body if text)]
    text = "\n\n".join(text for text in texts if text)
    if missing:
        return Read(text, MEDIA_TYPE, len(slides) - len(missing), len(slides), "slides", tuple(missing))
    return measured(text, MEDIA_TYPE, expected)


def _shapes(package: Package, part: str) -> str:
    """Return the text of a slide or of its notes, shape by shape as they stand in the file."""
    lines = Lines()
    relations = package.relations(part)
    skipped = 0
    is_number = False
    row: list[str] | None = None
    for event, element in events(package.read(part), part):
        name = local(element.tag)
        if name == "Fallback":
            skipped += 1 if event == "start" else -1
        elif skipped:
            continue
        elif event == "start":
            if name == "fld":
                is_number = element.get("type") == _NUMBER
            elif name == "cNvPr":
                lines.beside(alternative(element))
            elif name == "tr":
                row = []
            elif name == "tc":
                lines.open()
            elif name in ("chart", "relIds"):
                path = relations.get(reference(element) or reference(element, "dm"), ("", ""))[1]
                if package.has(path):
                    read = chart_text if name == "chart" else diagram_text
                    lines.beside(read(package.read(path), path))
        elif name == "t" and not is_number:
            lines.add(element.text or "")
        elif name == "fld":
            is_number = False
        elif name in ("br", "tab"):
            lines.add("\n" if name == "br" else "\t")
        elif name == "p":
            lines.end_line()
        elif name == "tc":
            text = lines.close().strip()
            if row is not None:
                row.append(text)
        elif name == "tr" and row is not None:
            if any(row):
                lines.add("\t".join(row))
                lines.end_line()
            row = None
        elif name in ("sp", "graphicFrame", "pic", "cxnSp"):
            lines.end_line()
    return lines.text()


def _comments(data: bytes, part: str) -> str:
    lines = Lines()
    for event, element in events(data, part):
        if event == "end" and local(element.tag) in ("text", "t"):
            lines.add(element.text or "")
        elif event == "end" and local(element.tag) in ("cm", "p"):
            lines.end_line()
    return lines.text()
