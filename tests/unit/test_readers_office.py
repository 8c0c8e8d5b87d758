"""OOXML and ODF: every text that a reader sees, once, and what is missing is named."""

from __future__ import annotations

import pytest
from documents_made import ODF, compound, docx, odf, office, paragraph, relations, zipped

from ragops.documents.errors import Unreadable
from ragops.documents.readers.registry import read_document
from ragops.documents.readers.result import Read, measured


def read(data: bytes, suffix: str) -> Read:
    found = read_document(data, suffix)
    assert found is not None
    return found


def lines(data: bytes, suffix: str) -> list[str]:
    found = read(data, suffix)
    assert (found.missing, found.found) == ((), found.expected)
    return [line for line in found.text.splitlines() if line]


def reason(data: bytes, suffix: str) -> str:
    with pytest.raises(Unreadable) as error:
        read_document(data, suffix)
    return error.value.reason


def test_word_keeps_notes_comments_headers_and_footers() -> None:
    data = docx(
        paragraph("Body"),
        footnotes=f"<w:footnote>{paragraph('Footnote')}</w:footnote>",
        endnotes=f"<w:endnote>{paragraph('Endnote')}</w:endnote>",
        comments=f"<w:comment>{paragraph('Comment')}</w:comment>",
        header=paragraph("Header"),
        footer=paragraph("Footer"),
    )
    assert lines(data, ".docx") == ["Body", "Footnote", "Endnote", "Comment", "Header", "Footer"]


BOX = "<wps><w:txbxContent><w:p><w:r><w:t>In a box</w:t></w:r></w:p></w:txbxContent></wps>"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("<w:p><w:r><w:t>a</w:t><w:tab/><w:t>b</w:t><w:br/><w:t>c</w:t></w:r></w:p>", ["a\tb", "c"]),
        ("<w:p><w:pPr><w:tabs><w:tab/></w:tabs></w:pPr><w:r><w:t>no tab</w:t></w:r></w:p>", ["no tab"]),
        (
            '<w:p><w:pPr><w:framePr w:dropCap="drop"/></w:pPr><w:r><w:t>D</w:t></w:r></w:p>'
            + paragraph("rop cap."),
            ["Drop cap."],
        ),
        ("<w:p><w:r><w:t>hel</w:t></w:r><w:r><w:t>lo</w:t></w:r></w:p>", ["hello"]),
        (
            "<w:p><w:del><w:r><w:delText>gone</w:delText></w:r></w:del>"
            "<w:ins><w:r><w:t>new</w:t></w:r></w:ins></w:p>",
            ["new"],
        ),
        (
            "<w:p><w:moveFrom w:id='1'><w:r><w:t>moved</w:t></w:r></w:moveFrom></w:p>" + paragraph("moved"),
            ["moved"],
        ),
        (
            f"<w:p><w:r><w:t>Beside </w:t><mc:AlternateContent><mc:Choice>{BOX}</mc:Choice><mc:Fallback>{BOX}"
            "</mc:Fallback></mc:AlternateContent><w:t>a box</w:t></w:r></w:p>",
            ["Beside a box", "In a box"],
        ),
        ('<w:p><w:r><w:t>x</w:t><wp:docPr id="1" descr="A red ship"/></w:r></w:p>', ["x", "A red ship"]),
        ('<w:p><w:r><w:pict><v:shape alt="A blue ship"/></w:pict></w:r></w:p>', ["A blue ship"]),
        (
            f"<w:tbl><w:tr><w:tc>{paragraph('a')}</w:tc><w:tc>{paragraph('b')}</w:tc></w:tr></w:tbl>",
            ["a\tb"],
        ),
        ("<w:p><w:r><w:instrText> PAGE </w:instrText><w:t>7</w:t></w:r></w:p>", ["7"]),
    ],
)
def test_word_takes_each_visible_text_once(body: str, expected: list[str]) -> None:
    assert lines(docx(body), ".docx") == expected


def test_word_takes_a_thousand_nested_tables() -> None:
    nested = "<w:tbl><w:tr><w:tc>" * 1000 + paragraph("deep") + "</w:tc></w:tr></w:tbl>" * 1000
    assert lines(docx(nested), ".docx") == ["deep"]


def test_an_embedded_document_of_word_is_named_as_missing() -> None:
    parts: dict[str, str | bytes] = {
        "word/document.xml": "<w:document><w:body>"
        + paragraph("Body")
        + '<w:altChunk r:id="c"/></w:body></w:document>',
        "word/_rels/document.xml.rels": relations({"c aFChunk": "chunk.html"}),
        "word/chunk.html": b"<p>Chunk</p>",
    }
    assert read(office("word/document.xml", parts), ".docx").missing == ("embedded document word/chunk.html",)


SHEET = """<x:worksheet><x:sheetData>
<x:row><x:c t="s"><x:v>0</x:v></x:c><x:c t="s"><x:v>1</x:v></x:c></x:row>
<x:row><x:c><x:v>0.30000000000000004</x:v></x:c>
<x:c s="1"><x:v>45292</x:v></x:c><x:c s="2"><x:v>0.25</x:v></x:c></x:row>
<x:row><x:c t="b"><x:v>1</x:v></x:c><x:c t="inlineStr"><x:is><x:t>inline</x:t></x:is></x:c></x:row>
<x:row><x:c t="str"><x:f>A1&amp;B1</x:f><x:v>of a formula</x:v></x:c></x:row>
</x:sheetData><x:headerFooter><x:oddHeader>&amp;C&amp;"Arial,Bold"Printed</x:oddHeader></x:headerFooter></x:worksheet>"""


def test_a_workbook_is_read_sheet_by_sheet_with_comments_and_drawings() -> None:
    parts = {
        "xl/workbook.xml": '<x:workbook><x:sheets><x:sheet name="Second" r:id="b"/>'
        '<x:sheet name="First" r:id="a"/>'
        "</x:sheets></x:workbook>",
        "xl/_rels/workbook.xml.rels": relations(
            {
                "a worksheet": "worksheets/sheet1.xml",
                "b worksheet": "worksheets/sheet2.xml",
                "s sharedStrings": "sharedStrings.xml",
                "t styles": "styles.xml",
            }
        ),
        "xl/sharedStrings.xml": "<x:sst><x:si><x:t>shared</x:t></x:si><x:si><x:r><x:t>ri</x:t></x:r><x:r><x:t>ch"
        "</x:t></x:r><x:rPh><x:t>phonetic</x:t></x:rPh></x:si></x:sst>",
        "xl/styles.xml": '<x:styleSheet><x:cellXfs><x:xf numFmtId="0"/><x:xf numFmtId="14"/><x:xf numFmtId="10"/>'
        "</x:cellXfs></x:styleSheet>",
        "xl/worksheets/sheet1.xml": SHEET,
        "xl/worksheets/sheet2.xml": "<x:worksheet/>",
        "xl/worksheets/_rels/sheet1.xml.rels": relations(
            {"c comments": "../comments1.xml", "d drawing": "../drawings/drawing1.xml"}
        ),
        "xl/comments1.xml": "<x:comments><x:comment><x:text><x:r><x:t>A comment</x:t></x:r></x:text></x:comment>"
        "</x:comments>",
        "xl/drawings/drawing1.xml": '<xdr:wsDr><xdr:cNvPr descr="A picture"/><a:p><a:t>A shape</a:t></a:p>'
        "</xdr:wsDr>",
    }
    assert lines(office("xl/workbook.xml", parts), ".xlsx") == [
        *("Second", "First", "shared\trich", "0.3\t2024-01-01\t25%", "TRUE\tinline", "of a formula", "Printed"),
        *("A comment", "A shape", "A picture"),
    ]


def slide(text: str, more: str = "") -> str:
    return f"<p:sld><p:sp><a:p><a:t>{text}</a:t></a:p></p:sp>{more}</p:sld>"


def presentation(slides: dict[str, str]) -> dict[str, str | bytes]:
    listed = "".join(f'<p:sldId id="{256 + at}" r:id="{one}"/>' for at, one in enumerate(slides))
    parts: dict[str, str | bytes] = {
        "ppt/presentation.xml": f"<p:presentation><p:sldIdLst>{listed}</p:sldIdLst></p:presentation>",
        "ppt/_rels/presentation.xml.rels": relations({f"{one} slide": f"slides/{one}.xml" for one in slides}),
    }
    return parts | {f"ppt/slides/{one}.xml": text for one, text in slides.items() if text}


def test_a_presentation_is_read_in_the_order_of_its_slides_with_notes_and_charts() -> None:
    chart = '<p:graphicFrame><c:chart r:id="k"/></p:graphicFrame>'
    number = '<p:sp><p:ph type="sldNum"/><a:p><a:fld type="slidenum"><a:t>17</a:t></a:fld></a:p></p:sp>'
    parts = presentation({"slide2": slide("First", number), "slide1": slide("Second", chart)})
    parts |= {
        "ppt/slides/_rels/slide1.xml.rels": relations(
            {"n notesSlide": "../notesSlides/notesSlide1.xml", "k chart": "../charts/chart1.xml"}
        ),
        "ppt/notesSlides/notesSlide1.xml": "<p:notes><p:sp><a:p><a:t>A note</a:t></a:p></p:sp></p:notes>",
        "ppt/charts/chart1.xml": "<c:chartSpace><a:p><a:t>Sales</a:t></a:p><c:f>Sheet1!A1</c:f><c:strCache>"
        "<c:v>North"
        "</c:v></c:strCache><c:numCache><c:v>4.5</c:v></c:numCache></c:chartSpace>",
    }
    found = lines(office("ppt/presentation.xml", parts), ".pptx")
    assert [line.strip() for line in found] == ["First", "Second", "Sales", "North", "4.5", "A note"]


def test_a_slide_that_is_not_there_is_named() -> None:
    found = read(office("ppt/presentation.xml", presentation({"slide1": slide("One"), "slide2": ""})), ".pptx")
    assert (found.text, found.found, found.expected, found.missing) == ("One", 1, 2, ("slide 2",))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            "<text:p>one<text:s text:c='3'/>two<text:tab/>three<text:line-break/>four</text:p>",
            ["one   two\tthree", "four"],
        ),
        ("<text:p>one\n   <text:span> two</text:span></text:p>", ["one two"]),
        (
            "<text:p>Some<text:note><text:note-citation>1</text:note-citation><text:note-body>"
            "<text:p>A note</text:p>"
            "</text:note-body></text:note> text</text:p>",
            ["Some text", "A note"],
        ),
        (
            "<text:p>a<office:annotation><text:p>A comment</text:p></office:annotation>b</text:p>",
            ["ab", "A comment"],
        ),
        ("<text:tracked-changes><text:p>deleted</text:p></text:tracked-changes><text:p>kept</text:p>", ["kept"]),
        (
            "<text:p>x<draw:frame><draw:text-box><text:p>In a box</text:p></draw:text-box><svg:title>T</svg:title>"
            "<svg:desc>A ship</svg:desc></draw:frame></text:p>",
            ["x", "In a box", "T", "A ship"],
        ),
        (
            "<table:table><table:table-row><table:table-cell><text:p>a</text:p></table:table-cell>"
            "<table:table-cell table:number-columns-repeated='2'><text:p>b</text:p></table:table-cell>"
            "<table:table-cell table:number-columns-repeated='16000'/></table:table-row></table:table>",
            ["a\tb\tb"],
        ),
    ],
)
def test_open_documents_keep_their_text(content: str, expected: list[str]) -> None:
    assert lines(odf(f"<office:text>{content}</office:text>"), ".odt") == expected
    flat = (
        f"<office:document {ODF}><office:body><office:text>{content}</office:text></office:body></office:document>"
    )
    assert lines(flat.encode(), ".fodt") == expected


def test_open_documents_keep_headers_and_footers_of_their_page_styles() -> None:
    styles = (
        "<office:master-styles><style:master-page><style:header><text:p>Head</text:p></style:header>"
        "<style:footer><text:p>Foot</text:p></style:footer></style:master-page></office:master-styles>"
    )
    data = odf("<office:text><text:p>Body</text:p></office:text>", styles)
    assert lines(data, ".odt") == ["Body", "Head", "Foot"]


@pytest.mark.parametrize(
    ("data", "suffix", "expected"),
    [
        (docx("<w:p>"), ".docx", "damaged: the part word/document.xml is no well-formed XML"),
        (docx(paragraph("x" * 900))[:-40], ".docx", "damaged: not a whole ZIP file"),
        (
            office("word/document.xml", {"word/document.xml": "<w:document/>", "word/media/image1.png": b"x"}),
            ".docx",
            "empty document: no text in it, only pictures (1), and ragops does no OCR",
        ),
        (zipped({"a.txt": "x"}), ".docx", "an archive (.zip): unpack it"),
        (zipped({"[Content_Types].xml": "<Types/>"}), ".docx", "damaged: no main part in the package"),
        (compound({"EncryptedPackage": b"x"}), ".docx", "encrypted: a password is needed"),
        (
            compound({"Something": b"x"}),
            ".doc",
            "unsupported format: .doc (an OLE compound file of another program)",
        ),
        (b"<html><body>x", ".doc", "named .doc, but it is HTML or XML: rename it"),
        (b"name;value\n", ".xls", "named .xls, but it is text: rename it"),
        (
            b"\x00\x01\x02",
            ".docx",
            "named .docx, but its bytes are not of that format: damaged, or of another program",
        ),
        (b"\x09\x04\x06\x00", ".xls", "unsupported format: .xls of Excel before 5.0; save it in a newer version"),
        (
            zipped({"content.xml": "<a/>", "META-INF/manifest.xml": "<m:encryption-data/>"}),
            ".odt",
            "encrypted: a password is needed",
        ),
        (
            office("word/document.xml", {"word/document.xml": b'<!DOCTYPE a [<!ENTITY b "c">]><a/>'}),
            ".docx",
            "the part word/document.xml declares entities",
        ),
    ],
)
def test_what_cannot_be_read_says_why(data: bytes, suffix: str, expected: str) -> None:
    assert reason(data, suffix).startswith(expected)


def test_a_text_far_below_the_second_count_is_partial() -> None:
    found = measured("a b", "x/y", 10)
    assert (found.found, found.expected, found.unit) == (2, 10, "characters")
    assert measured("a b" * 49, "x/y", 100) == Read("a b" * 49, "x/y")


def test_a_document_is_read_by_its_bytes_whatever_its_name() -> None:
    assert read(docx(paragraph("Hello")), ".doc").text == "Hello"
    assert read(odf("<office:text><text:p>Hello</text:p></office:text>"), ".zip").text == "Hello"
