"""RTF, notebooks, EPUB, FictionBook, and the Office formats before 2007."""

from __future__ import annotations

import json
import struct

import pytest
from documents_made import compound, zipped

from ragops.documents.errors import Unreadable
from ragops.documents.readers.registry import read_document
from ragops.documents.readers.result import Read


def read(data: bytes, suffix: str) -> Read:
    found = read_document(data, suffix)
    assert found is not None
    return found


def reason(data: bytes, suffix: str) -> str:
    with pytest.raises(Unreadable) as error:
        read_document(data, suffix)
    return error.value.reason


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (rb"one\par two\line three\tab four", "one\ntwo\nthree\tfour"),
        (rb"caf\'e9 \{x\}", "café {x}"),
        (rb"\u8364?\uc2\u-10179??\u-8704?? end", "€😀 end"),
        (rb"{\fonttbl{\f1\fcharset204 Arial;}}\f1 \'ec\'e8\'f0", "мир"),
        (rb"{\fonttbl{\f1\fcharset128 Gothic;}}\f1 \'93\'fa\'96\'7b", "日本"),
        (rb"{\*\unknown hidden}seen{\info{\title hidden}}", "seen"),
        (rb"{\field{\*\fldinst HYPERLINK x}{\fldrslt a link}}", "a link"),
        (rb"a{\footnote a note} line\par", "a line\na note"),
        (rb"{\header Head\par}body\par{\footer Foot}", "body\n\nHead\n\nFoot"),
        (rb"{\*\shppict{\pict{\*\picprop{\sp{\sn wzDescription}{\sv A ship}}}0af3}}x\par", "x\nA ship"),
        (rb"{\shp{\*\shpinst{\sp{\sn pib}{\sv 0}}{\shptxt In a box\par}}}x\par", "x\nIn a box"),
        (rb"before\trowd\cellx1\cellx2 a\cell b\cell\row after", "beforea\tb\nafter"),
        (rb"seen {\v hidden}{\deleted gone}text", "seen text"),
        (rb"{\upr{plain}{\*\ud{unicode}}}", "unicode"),
        (b"a\\bin3 \\}{b", "ab"),
    ],
)
def test_rtf_keeps_what_is_shown(body: bytes, expected: str) -> None:
    found = read(b"{\\rtf1\\ansi\\ansicpg1252 " + body + b"}", ".rtf")
    assert (found.text, found.missing) == (expected, ())


def test_a_part_of_an_rtf_document_is_read_to_its_end_and_padding_is_not() -> None:
    assert read(rb"{\pard one\par}{\trowd a\cell b\cell\row}", ".rtf").text == "one\na\tb"
    assert read(rb"{\rtf1 one\par}padding", ".rtf").text == "one"


def test_rtf_that_ends_early_is_partial_and_bytes_of_no_encoding_fail() -> None:
    assert read(rb"{\rtf1 {\b one\par two", ".rtf").missing == ("the end of the file",)
    assert reason(rb"{\rtf1\ansicpg932 \'81\'ff}", ".rtf").startswith("not shift_jis text")
    assert reason(b"{\\rtf1 " + b"{" * 6000, ".rtf") == "groups within groups, more than 5000 levels deep"


def notebook(**more: object) -> bytes:
    return json.dumps({"metadata": {}, **more}).encode()


CELLS = [
    {"cell_type": "markdown", "source": ["# Title\n", "text"]},
    {
        "cell_type": "code",
        "source": "print(1)",
        "outputs": [
            {"output_type": "stream", "text": ["1\n"]},
            {"output_type": "execute_result", "data": {"text/plain": "2", "text/html": "<b>2</b>"}},
            {"output_type": "display_data", "data": {"text/html": "<p>only HTML</p>", "image/png": "iVBO"}},
            {"output_type": "display_data", "data": {"application/vnd.x+json": {"a": ["é"]}}},
            {"output_type": "error", "traceback": ["\x1b[31mError\x1b[0m: x"]},
        ],
    },
]
OLD_CELLS = [
    {"cell_type": "markdown", "source": "text"},
    {"cell_type": "code", "input": ["x = 1"], "outputs": [{"output_type": "pyout", "text": "one"}]},
]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (
            notebook(nbformat=4, cells=CELLS),
            ["# Title", "text", "print(1)", "1", "2", "only HTML", '{"a": ["é"]}', "Error: x"],
        ),
        (notebook(nbformat=3, worksheets=[{"cells": OLD_CELLS}]), ["text", "x = 1", "one"]),
    ],
)
def test_notebooks_of_every_format_keep_cells_and_outputs(data: bytes, expected: list[str]) -> None:
    assert [line for line in read(data, ".ipynb").text.splitlines() if line] == expected


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (
            notebook(nbformat=9, cells=[]),
            "unsupported format: a notebook of format 9; formats 2, 3 and 4 are read",
        ),
        (b"[1]", "unsupported format: a notebook of format None"),
        (notebook(nbformat=4), "damaged: a notebook of format 4 without cells"),
        (b"{", "damaged: no JSON"),
        (b"[" * 100_000, "damaged: no JSON"),
    ],
)
def test_a_notebook_that_is_none_says_why(data: bytes, expected: str) -> None:
    assert reason(data, ".ipynb").startswith(expected)


def epub(chapters: dict[str, str], *, spine: str, more: dict[str, str] | None = None) -> bytes:
    items = "".join(
        f'<item id="{name}" href="{name}.xhtml" media-type="application/xhtml+xml"/>' for name in "abc"
    )
    order = "".join(f'<itemref idref="{name}"/>' for name in spine)
    parts = {
        "mimetype": "application/epub+zip",
        "META-INF/container.xml": '<container><rootfile full-path="OEBPS/book.opf"/></container>',
        "OEBPS/book.opf": f"<package><manifest>{items}</manifest><spine>{order}</spine></package>",
    }
    pages = {f"OEBPS/{name}.xhtml": f"<html><body>{body}</body></html>" for name, body in chapters.items()}
    return zipped(parts | pages | (more or {}))


def test_a_book_is_read_in_the_order_of_its_spine() -> None:
    data = epub({"a": "<p>One.  Use “<a href='x'>it</a>”</p>", "b": "<dl><dt>T</dt><dd>D</dd></dl>"}, spine="ba")
    assert read(data, ".epub").text.split() == ["T", "D", "One.", "Use", "“it”"]


def test_missing_and_protected_chapters_of_a_book_are_named() -> None:
    found = read(epub({"a": "<p>One</p>"}, spine="ab"), ".epub")
    assert (found.text, found.found, found.expected) == ("One", 1, 2)
    assert found.missing == ("chapter OEBPS/b.xhtml",)
    drm = (
        '<encryption><EncryptionMethod Algorithm="http://www.w3.org/2001/04/xmlenc#aes128-cbc"/>'
        '<CipherReference URI="OEBPS/a.xhtml"/></encryption>'
    )
    data = epub({"a": "<p>One</p>"}, spine="a", more={"META-INF/encryption.xml": drm})
    assert reason(data, ".epub") == "encrypted: the book is protected (DRM)"


def test_fiction_books_keep_titles_notes_and_alternative_texts() -> None:
    book = (
        "<FictionBook><description><title-info><author><first-name>A</first-name><last-name>B</last-name></author>"
        "<book-title>T</book-title></title-info><document-info><id>1</id></document-info></description>"
        "<body><p>Outer<p>inner</p></p>"
        '<p>One <image alt="A ship"/>two</p></body><body name="notes"><p>Note</p></body>'
        "<binary>AAAA</binary></FictionBook>"
    )
    assert [line.strip() for line in read(book.encode(), ".fb2").text.splitlines()] == (
        ["A B", "T", "Outer", "inner", "One two", "A ship", "Note"]
    )


def old_word(text: str, *, notes: str = "", flags: int = 0) -> bytes:
    whole = text + notes
    head = bytearray(0x400)
    struct.pack_into("<HH", head, 0, 0xA5EC, 0x00C1)
    struct.pack_into("<H", head, 0x0A, flags)
    struct.pack_into("<ii", head, 0x4C, len(text), len(notes))
    middle = len(text) // 2
    first, second = whole[:middle].encode("cp1252"), whole[middle:].encode("utf-16-le")
    places = (0x400 * 2 | 0x40000000, 0x400 + len(first))
    plc = struct.pack("<III", 0, middle, len(whole)) + b"".join(struct.pack("<HIH", 0, at, 0) for at in places)
    table = b"\x01\x02\x00ab" + b"\x02" + struct.pack("<I", len(plc)) + plc
    struct.pack_into("<II", head, 0x01A2, 0, len(table))
    return compound({"WordDocument": bytes(head) + first + second, "0Table": table})


def test_old_word_is_read_through_its_table_of_pieces() -> None:
    text = "caf\xe9 one\rlink \x13 HYPERLINK x \x14shown\x15 a\x07b\x07\x07end\r"
    assert read(old_word(text, notes="A note €\r"), ".doc").text == "café one\nlink shown a\tb\nend\n\nA note €"
    assert reason(old_word("x", flags=0x0100), ".doc") == "encrypted: a password is needed"


def record(kind: int, body: bytes, *, instance: int = 0, container: bool = False) -> bytes:
    return struct.pack("<HHI", instance << 4 | (0x0F if container else 0), kind, len(body)) + body


def test_old_slides_are_read_in_their_order_with_their_newest_text() -> None:
    def slide(text: str) -> bytes:
        return record(0x03EE, record(0x0FA0, text.encode("utf-16-le")), container=True)

    entries = b"".join(
        record(0x03F3, struct.pack("<III8x", number, 0, 0)[:20]) + record(0x0FA8, title)
        for number, title in ((3, b"Title B"), (2, b"Title A"))
    )
    document = record(0x03E8, record(0x0FF0, entries, container=True), container=True)
    old, parts = slide("replaced"), [document, slide("Shape A"), slide("Shape B\rand more")]
    places, at = [], len(old)
    for part in parts:
        places.append(at)
        at += len(part)
    directory = record(0x1772, struct.pack("<IIII", 3 << 20 | 1, *places))
    edit = record(0x0FF5, struct.pack("<8xIII8x", 0, at, 1))
    data = old + b"".join(parts) + directory + edit
    current = struct.pack("<HHIIII", 0, 0x0FF6, 20, 20, 0xE391C05F, at + len(directory)) + bytes(16)
    found = read(compound({"PowerPoint Document": data, "Current User": current}), ".ppt")
    assert found.text == "Title B\nShape B\nand more\n\nTitle A\nShape A"


def test_an_encrypted_workbook_says_so() -> None:
    records = struct.pack("<HH16x", 0x0809, 16) + struct.pack("<HH6x", 0x002F, 6)
    assert reason(compound({"Workbook": records}), ".xls") == "encrypted: a password is needed"
