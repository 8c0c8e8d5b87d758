"""Hostile PPTX, XLSX and PDF."""

from __future__ import annotations

from zoo import Exact, Incomplete, Reads, Refused, hostile
from zoo_files import SCAN, S, pdf, pptx, row, shape, xlsx

_GROUP = f"<p:grpSp>{shape('two')}</p:grpSp>"
_TABLE = (
    "<p:graphicFrame><a:graphic><a:graphicData><a:tbl><a:tr><a:tc><a:txBody><a:p><a:r><a:t>a</a:t></a:r></a:p>"
    "</a:txBody></a:tc><a:tc><a:txBody><a:p><a:r><a:t>b</a:t></a:r></a:p></a:txBody></a:tc></a:tr></a:tbl>"
    "</a:graphicData></a:graphic></p:graphicFrame>"
)
_PICTURE = '<p:pic><p:nvPicPr><p:cNvPr id="3" name="" descr="described"/></p:nvPicPr></p:pic>'
_BROKEN = (
    shape("one")
    .replace("one", "o<a:br/>ne")
    .replace("<a:t>o<a:br/>ne</a:t>", "<a:t>o</a:t></a:r><a:br/><a:r><a:t>ne</a:t>")
)

_PPTX = (
    hostile("plain.pptx", "two slides", pptx(shape("one"), shape("two")), Reads("one two")),
    hostile(
        "ten_slides.pptx",
        "slide10 comes after slide9",
        pptx(*(shape(f"w{n}") for n in range(12))),
        Reads(" ".join(f"w{n}" for n in range(12))),
    ),
    hostile("notes.pptx", "what the speaker says", pptx(shape("one"), notes=["said"]), Reads("one said")),
    hostile("group.pptx", "groups", pptx(shape("one") + _GROUP), Reads("one two")),
    hostile("table.pptx", "cells", pptx(_TABLE), Reads("a b")),
    hostile("alt_text.pptx", "a picture's description", pptx(shape("one") + _PICTURE), Reads("one described")),
    hostile("break.pptx", "a break parts words", pptx(_BROKEN), Reads("o ne")),
    hostile("empty.pptx", "no text", pptx(""), Refused("empty document")),
    hostile(
        "truncated.pptx",
        "half of it",
        pptx(*(shape(f"w{n}") for n in range(50)))[:3000],
        Refused("(?i)zip|parser|damaged"),
    ),
)

_COMMENTS = (
    f'<comments {S}><authors><author/></authors><commentList><comment ref="A1" authorId="0"><text><t>remark</t>'
    "</text></comment></commentList></comments>"
)


def _cell(kind: str, value: str, formula: str = "") -> str:
    inner = f"<f>{formula}</f>" if formula else ""
    return f'<row r="1"><c r="A1" t="{kind}">{inner}<v>{value}</v></c></row>'


_XLSX = (
    hostile(
        "inline.xlsx", "strings in their cells", xlsx(row(1, "one", "two")), Reads("S1 one two"), Reads("one two")
    ),
    hostile(
        "shared.xlsx", "shared strings", xlsx(_cell("s", "1"), shared=["no", "one"]), Reads("S1 one"), Reads("one")
    ),
    hostile("number.xlsx", "a number", xlsx(_cell("n", "12345")), Reads("S1 12345"), Reads("12345")),
    hostile(
        "bool.xlsx",
        "true and false",
        xlsx(_cell("b", "1")),
        Reads("S1 TRUE"),
        Reads("TRUE"),
        Reads("S1 true"),
        Reads("true"),
    ),
    hostile(
        "formula.xlsx", "a formula's value", xlsx(_cell("str", "one", "A2&amp;B2")), Reads("S1 one"), Reads("one")
    ),
    hostile("error.xlsx", "an error is a value", xlsx(_cell("e", "#REF!")), Reads("S1 REF"), Reads("REF")),
    hostile(
        "two_sheets.xlsx",
        "sheets in order",
        xlsx(row(1, "one"), row(1, "two")),
        Reads("S1 one S2 two"),
        Reads("one two"),
    ),
    hostile(
        "hidden.xlsx",
        "a hidden sheet is text too",
        xlsx(row(1, "one"), row(1, "two"), states={2: "hidden"}),
        Reads("S1 one S2 two"),
        Reads("one two"),
    ),
    hostile(
        "comments.xlsx",
        "comments",
        xlsx(row(1, "one"), comments1=_COMMENTS),
        Reads("S1 one remark"),
        Reads("one remark"),
    ),
    hostile(
        "sparse.xlsx",
        "a cell in the last row",
        xlsx('<row r="1048576"><c r="XFD1048576" t="inlineStr"><is><t>one</t></is></c></row>'),
        Reads("S1 one"),
        Reads("one"),
    ),
    hostile("empty.xlsx", "no text", xlsx(""), Refused("empty document"), Reads("S1")),
    hostile(
        "rich.xlsx",
        "a string of two runs",
        xlsx('<row r="1"><c r="A1" t="inlineStr"><is><r><t>o</t></r><r><t>ne</t></r></is></c></row>'),
        Reads("S1 one"),
        Reads("one"),
    ),
    hostile("truncated.xlsx", "half of it", xlsx(*[row(1, "one")] * 9)[:1500], Refused("(?i)zip|parser|damaged")),
)

_SECOND_MISSING = (Incomplete("one three", "2 of 3 pages.*page 2"),)


def _broken_stream() -> bytes:
    """Return a PDF of three packed pages with bytes of the second one's stream overwritten."""
    words = " ".join(f"word{n * 7919 % 1000}" for n in range(300))
    data = pdf("one", words, "three", packed=True)
    middle = data.index(b"13 0 obj") + 400
    return data[:middle] + b"\xff" * 200 + data[middle + 200 :]


_DAMAGED = pdf("one", b"\xff\x00 not a content stream ( [ << Tj", "three")
_FORM = (
    "<</FT/Tx/T(name)/V(filled)/Type/Annot/Subtype/Widget/Rect[72 600 300 620]/P 10 0 R>>",
    "<</Fields[100 0 R]>>",
)
_LONG = pdf(*(f"page{n}" for n in range(30)))

_PDF = (
    hostile("plain.pdf", "two pages", pdf("one", "two"), Reads("one two")),
    hostile("thirty.pdf", "in order", _LONG, Reads(" ".join(f"page{n}" for n in range(30)))),
    hostile("accents.pdf", "signs of the font's encoding", pdf("caf\u00e9 \u20ac"), Exact("café €")),
    hostile(
        "kerned.pdf",
        "letters set apart",
        pdf(b"BT /F1 12 Tf 72 720 Td [(wo) -20 (rd) -900 (two)] TJ ET"),
        Reads("word two"),
    ),
    hostile(
        "lines.pdf",
        "lines part words",
        pdf(b"BT /F1 12 Tf 72 720 Td (one) Tj 0 -20 Td (two) Tj ET"),
        Reads("one two"),
    ),
    hostile(
        "invisible.pdf",
        "the text layer of a scan",
        pdf(SCAN + b" BT 3 Tr /F1 12 Tf 72 720 Td (one) Tj ET"),
        Reads("one"),
    ),
    hostile("damaged_stream.pdf", "a packed page is damaged", _broken_stream(), *_SECOND_MISSING),
    hostile(
        "damaged_page.pdf",
        "one of three pages is damaged",
        _DAMAGED,
        Incomplete("one three", "2 of 3 pages.*page 2"),
    ),
    hostile(
        "scanned_pages.pdf",
        "a cover and two pictures",
        pdf("cover", SCAN, SCAN),
        Incomplete("cover", "1 of 3 pages.*page 2.*page 3"),
    ),
    hostile("scan.pdf", "pictures alone", pdf(SCAN, SCAN), Refused("(?i)scan|picture|text layer")),
    hostile("blank_page.pdf", "an empty page is whole", pdf("one", b"", "three"), Reads("one three")),
    hostile("blank.pdf", "an empty page", pdf(b""), Refused("empty document")),
    hostile(
        "form.pdf",
        "what was filled in",
        pdf("one", catalog="/AcroForm 101 0 R", page_more="/Annots[100 0 R]", objects=_FORM),
        Reads("one filled"),
        Reads("one name filled"),
    ),
    hostile(
        "broken_table.pdf",
        "its table of objects is wrong",
        pdf("one").replace(b"startxref\n", b"startxref\n9"),
        Reads("one"),
        Refused("parser failed|PDF|pdf"),
    ),
    hostile(
        "truncated.pdf",
        "ends early",
        _LONG[: len(_LONG) // 2],
        Incomplete(" ".join(f"page{n}" for n in range(15)), "."),
        Refused("parser failed|PDF|pdf|empty document"),
    ),
    hostile("no_pages.pdf", "no page", pdf(), Refused("parser failed|empty document|PDF")),
    hostile("head_only.pdf", "its first line", b"%PDF-1.7\n", Refused("parser failed|PDF")),
    hostile("text_named.pdf", "plain text with that name", b"one two", Refused("(?i)parser failed|pdf")),
    hostile(
        "encrypted.pdf",
        "a password is wanted",
        pdf(
            "one",
            trailer="/Encrypt<</Filter/Standard/V 1/R 2/P -4/O<"
            + "41" * 32
            + ">/U<"
            + "42" * 32
            + ">>>/ID[<00><00>]",
        ),
        Refused("(?i)password|encrypt"),
    ),
    hostile("comments.pdf", "what follows its end", pdf("one") + b"%" * 100_000, Reads("one")),
)

ENTRIES = (*_PPTX, *_XLSX, *_PDF)
