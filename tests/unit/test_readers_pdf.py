"""PDF: pages without text are named with their numbers, and so is damage; forms and comments are read."""

from __future__ import annotations

import pytest
from documents_made import SCAN, pdf, text_page

from ragops.documents.errors import Unreadable
from ragops.documents.readers.registry import read_document
from ragops.documents.readers.result import Read


def read(data: bytes) -> Read:
    found = read_document(data, ".pdf")
    assert found is not None
    return found


def reason(data: bytes) -> str:
    with pytest.raises(Unreadable) as error:
        read(data)
    return error.value.reason


def test_all_pages_are_read_and_blank_ones_are_not_missed() -> None:
    found = read(pdf([text_page("one"), b"", text_page("three"), b"q 60 0 0 80 0 0 cm /Im1 Do Q"]))
    assert (found.text, found.found, found.expected, found.missing) == ("one\n\nthree", 2, 2, ())


def test_scanned_pages_are_named() -> None:
    found = read(pdf([text_page("cover"), SCAN, text_page("three"), SCAN]))
    assert found.text == "cover\n\nthree"
    assert (found.found, found.expected, found.unit) == (2, 4, "pages")
    assert found.missing == ("page 2 (probably a scan)", "page 4 (probably a scan)")


def test_a_page_whose_content_is_damaged_is_named() -> None:
    whole = pdf([text_page("one"), text_page("two " * 200), text_page("three")])
    place = whole.find(b"stream", whole.find(b"7 0 obj")) + 12
    found = read(whole[:place] + b"\xff\xff\xff\xff" + whole[place + 4 :])
    assert found.missing == ("page 2 (damaged)",)
    assert (found.found, found.expected) == (2, 3)


def test_a_page_whose_content_is_rubbish_is_named() -> None:
    found = read(pdf([text_page("one"), b"\xff\x00 no content ( [ << Tj", b"q Q", text_page("four")]))
    assert (found.text, found.missing) == ("one\n\nfour", ("page 2 (damaged)",))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (
            pdf([SCAN]),
            "empty document: its page has no text layer (a scan?); ragops does no OCR: add a text layer",
        ),
        (pdf([SCAN, SCAN]), "empty document: none of its 2 pages has a text layer (a scan?); ragops does no OCR"),
        (pdf([b"", b""]), "empty document: all of its 2 pages are blank"),
        (pdf([b""]), "empty document: its page is blank"),
        (pdf([b"q 60 0 0 80 0 0 cm /Im1 Do Q"]), "empty document: its page has no text layer (a scan?)"),
        (pdf([]), "damaged: no PDF that can be opened, or one without pages"),
        (b"%PDF-1.4 rubbish", "damaged: no PDF that can be opened"),
    ],
)
def test_a_pdf_without_text_says_why(data: bytes, expected: str) -> None:
    assert reason(data).startswith(expected)


def test_a_password_is_asked_for() -> None:
    whole = pdf([text_page("secret")])
    key = f"<< /Filter /Standard /V 1 /R 2 /P -4 /O <{'41' * 32}> /U <{'42' * 32}> >>"
    data = whole.replace(b"trailer << ", f"trailer << /ID [<31><31>] /Encrypt {key} ".encode())
    assert reason(data) == "encrypted: a password is needed"


def test_values_of_forms_and_comments_are_read_once() -> None:
    comment = "<< /Type /Annot /Subtype /Text /Rect [10 10 20 20] /Contents (A comment) >>"
    field = (
        "<< /Type /Annot /Subtype /Widget /FT /Tx /T (name) /V (Ada Lovelace) /DA (/F1 12 Tf) "
        "/Rect [10 10 200 40] /F 4 /DR << /Font << /F1 3 0 R >> >> >>"
    )
    data = pdf(
        [text_page("one"), text_page("two")],
        annotations={0: comment, 1: field},
        form="/AcroForm << /Fields [8 0 R] /DA (/F1 12 Tf) /DR << /Font << /F1 3 0 R >> >> >>",
    )
    found = read(data)
    assert found.text.split("\n\n")[0].split() == ["one", "A", "comment"]
    assert found.text.count("Ada Lovelace") == 1


def test_spaces_that_are_only_room_are_seen() -> None:
    """Typesetters move to the next word instead of writing a space."""
    page = b"BT /F1 12 Tf 72 700 Td [(AB) -300 (cd)] TJ ET"
    assert read(pdf([page])).text == "AB cd"
