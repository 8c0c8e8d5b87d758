"""Read XLSX: each sheet row by row, then its comments, drawings and charts."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from ragops.documents.readers.charts import chart_text
from ragops.documents.readers.lines import Lines
from ragops.documents.readers.package import Package, events, local, reference
from ragops.documents.readers.result import Read
from ragops.documents.readers.word import alternative, main_part

MEDIA_TYPE = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
# The built-in formats that show a date or a time (ECMA-376 part 1, 18.8.30, with those of East Asia).
_DATES = frozenset({*range(14, 23), *range(27, 37), 45, 46, 47, *range(50, 59)})
_DATE_SIGNS = re.compile(r"[dmyhs]", re.IGNORECASE)
_NO_SIGNS = re.compile(r'"[^"]*"|\\.|_.|\*.|\[[^\]]*\]|General', re.IGNORECASE)
# `&"Arial,Bold"`, `&12`, `&P`: fonts, sizes and fields of a printed header.
_CODES = re.compile(r'&"[^"]*"|&K[0-9A-Fa-f]{6}|&\d+|&[A-Za-z]')
_PHONETIC = frozenset({"rPh", "phoneticPr"})


def read_spreadsheet(package: Package) -> Read:
    """Return the text of an XLSX in the order of its sheets; cells of a row are separated by tabs."""
    workbook = main_part(package)
    relations = package.relations(workbook)
    strings = _strings(package, package.related(workbook, "sharedStrings"))
    formats = _Formats(package, package.related(workbook, "styles"))
    texts: list[str] = []
    bodies: list[tuple[str, str]] = []
    missing: list[str] = []
    sheets: list[tuple[str, str]] = []
    for event, element in events(package.read(workbook), workbook):
        if event == "end" and local(element.tag) == "sheet":
            sheets.append((element.get("name", ""), relations.get(reference(element), ("", ""))[1]))
        elif local(element.tag) == "workbookPr" and element.get("date1904") in ("1", "true"):
            formats.from_1904 = True
    for title, part in sheets:
        if not package.has(part):
            missing.append(f"sheet {title}")
            continue
        bodies.append((title, _sheet(package, part, strings, formats)))
    if any(body for _, body in bodies):  # the name `Sheet1` alone is no text
        texts = ["\n".join(filter(None, one)) for one in bodies]
    return Read("\n\n".join(texts), MEDIA_TYPE, len(bodies), len(sheets), "sheets", tuple(missing))


def _strings(package: Package, parts: list[str]) -> list[str]:
    found: list[str] = []
    for part in parts:
        text: list[str] = []
        skipped = 0
        for event, element in events(package.read(part), part):
            name = local(element.tag)
            if name in _PHONETIC:
                skipped += 1 if event == "start" else -1
            elif event == "start" or skipped:
                continue
            elif name == "t":
                text.append(element.text or "")
            elif name == "si":
                found.append("".join(text))
                text.clear()
    return found


class _Formats:
    """Which styles of cells show dates, times or percentages."""

    def __init__(self, package: Package, parts: list[str]) -> None:
        self.from_1904 = False
        self._codes: list[str | int] = []
        custom: dict[int, str] = {}
        is_cell = False
        for part in parts:
            for event, element in events(package.read(part), part):
                name = local(element.tag)
                if name == "cellXfs":
                    is_cell = event == "start"
                elif event == "end" and name == "numFmt":
                    custom[int(element.get("numFmtId", "0"))] = element.get("formatCode", "")
                elif event == "end" and name == "xf" and is_cell:
                    number = int(element.get("numFmtId", "0"))
                    self._codes.append(custom.get(number, number))

    def shown(self, value: str, style: str | None) -> str:
        """Return a number about as a reader of the sheet sees it."""
        try:
            number = float(value)
        except ValueError:
            return value
        index = int(style) if style and style.isascii() and style.isdigit() else 0
        code = self._codes[index] if index < len(self._codes) else 0
        signs = _NO_SIGNS.sub("", code.partition(";")[0]) if isinstance(code, str) else ""
        if code in _DATES or _DATE_SIGNS.search(signs):
            return self._date(number) or value
        if code in (9, 10) or "%" in signs:
            return f"{number * 100:.15g}%"
        # Excel calculates in binary and shows decimal figures: 0.30000000000000004 is 0.3.
        return f"{number:.15g}" if abs(number) < 1e15 else value

    def _date(self, number: float) -> str:
        # Day 60 is 29 February 1900, which did not exist.
        if not 0 <= number < 2958466:
            return ""
        begin = datetime(1904, 1, 1) if self.from_1904 else datetime(1899, 12, 30 if number >= 60 else 31)
        moment = begin + timedelta(seconds=round(number * 86400))
        if number < 1 and not self.from_1904:
            return moment.strftime("%H:%M:%S")
        return moment.isoformat(" ") if moment.time() != datetime.min.time() else moment.date().isoformat()


def _sheet(package: Package, part: str, strings: list[str], formats: _Formats) -> str:
    lines = Lines()
    row: list[str] = []
    value, inline = "", ""
    skipped = 0
    printed: list[str] = []
    for event, element in events(package.read(part), part):
        name = local(element.tag)
        if name in _PHONETIC:
            skipped += 1 if event == "start" else -1
        elif event == "start" or skipped:
            continue
        elif name == "v":
            value = element.text or ""
        elif name == "t":
            inline += element.text or ""
        elif name == "c":
            row.append(_cell(element.get("t", "n"), value, inline, element.get("s"), strings, formats))
            value, inline = "", ""
        elif name == "row":
            if any(row):
                lines.add("\t".join(text for text in row if text))
                lines.end_line()
            row.clear()
        elif name[:3] in ("odd", "eve", "fir") and name.endswith(("Header", "Footer")) and element.text:
            printed.append(_CODES.sub(" ", element.text.replace("&&", "&\0")).replace("&\0", "&").strip())
    body = [lines.text(), *dict.fromkeys(filter(None, printed))]
    threaded = package.related(part, "threadedComment")
    for path in threaded or package.related(part, "comments"):
        body.append(_comments(package.read(path), path))
    for path in package.related(part, "drawing"):
        body.append(_drawing(package, path))
    return "\n".join(text for text in body if text)


def _cell(kind: str, value: str, inline: str, style: str | None, strings: list[str], formats: _Formats) -> str:
    if kind == "s":
        return strings[int(value)] if value.isascii() and value.isdigit() and int(value) < len(strings) else ""
    if kind == "b":
        return {"1": "TRUE", "0": "FALSE"}.get(value, value)
    if kind == "inlineStr":
        return inline or value
    return formats.shown(value, style) if kind == "n" and value else value or inline


def _comments(data: bytes, part: str) -> str:
    """Return the comments of a sheet, one a line; authors are in a list and are left out."""
    lines = Lines()
    for event, element in events(data, part):
        name = local(element.tag)
        if event == "start":
            continue
        if name in ("t", "text") and element.text:
            lines.add(element.text)
        if name in ("comment", "threadedComment"):
            lines.end_line()
    return lines.text()


def _drawing(package: Package, part: str) -> str:
    lines = Lines()
    for event, element in events(package.read(part), part):
        name = local(element.tag)
        if event == "start" and name == "cNvPr":
            lines.beside(alternative(element))
        elif event == "end" and name == "t":
            lines.add(element.text or "")
        elif event == "end" and name == "p":
            lines.end_line()
    texts = [lines.text()]
    texts += [chart_text(package.read(path), path, values=False) for path in package.related(part, "chart")]
    return "\n".join(text for text in texts if text)
