"""Mails: parts in their declared encodings, HTML, forwarded mails, and attachments by their names."""

from __future__ import annotations

import base64
import struct

import pytest
from documents_made import compound, docx, paragraph

from ragops.documents.errors import Unreadable
from ragops.documents.readers.registry import read_document


def text_of(data: bytes, suffix: str = ".eml") -> str:
    found = read_document(data, suffix)
    assert found is not None
    return found.text


def mail(kind: str, body: bytes, more: str = "") -> bytes:
    return f"From: a@b.example\nSubject: x\nContent-Type: {kind}\n{more}\n".encode() + body


TRANSFER = "Content-Transfer-Encoding:"
HEAD = "From: a@b.example\nSubject: x\n\n"


@pytest.mark.parametrize(
    ("kind", "body", "more", "expected"),
    [
        ("text/plain; charset=utf-8", "café".encode(), "", "café"),
        ("text/plain", "café".encode(), "", "café"),
        ("text/plain; charset=iso-2022-jp", "日本語".encode("iso2022_jp"), "", "日本語"),
        ("text/plain; charset=iso-8859-1", b"caf=E9 =\nau lait", f"{TRANSFER} quoted-printable\n", "café au lait"),
        (
            "text/plain; charset=windows-1251",
            base64.b64encode("мир".encode("cp1251")),
            f"{TRANSFER} base64\n",
            "мир",
        ),
        ("text/html; charset=utf-8", b"<div>Hello <b>you</b></div><script>no()</script>", "", "Hello you"),
    ],
)
def test_a_text_is_decoded_as_it_declares(kind: str, body: bytes, more: str, expected: str) -> None:
    assert text_of(mail(kind, body, more)) == HEAD + expected


@pytest.mark.parametrize(
    ("kind", "body", "expected"),
    [
        ("text/plain; charset=nonsense", b"caf\xe9", "unknown encoding declared: nonsense"),
        ("text/plain; charset=utf-8", b"caf\xe9", "not UTF-8 text"),
        ("text/plain", b"caf\xe9", "not UTF-8 text"),
    ],
)
def test_a_text_that_cannot_be_decoded_fails(kind: str, body: bytes, expected: str) -> None:
    with pytest.raises(Unreadable) as error:
        text_of(mail(kind, body))
    assert error.value.reason.startswith(expected)


def multipart(kind: str, *parts: str) -> bytes:
    inner = "".join(f"--=b\n{part}\n" for part in parts)
    return mail(f"multipart/{kind}; boundary==b", (inner + "--=b--\n").encode())


PLAIN = "Content-Type: text/plain\n\nsome words of plain text"
HTML = "Content-Type: text/html\n\n<p>some words of plain text</p>"


def test_one_of_two_forms_of_a_text_is_taken() -> None:
    assert text_of(multipart("alternative", PLAIN, HTML)) == HEAD + "some words of plain text"
    stub = "Content-Type: text/plain\n\nSee the HTML."
    assert text_of(multipart("alternative", stub, HTML + "<p>and more</p>")).endswith("plain text\n\nand more")


def test_attachments_are_named_and_forwarded_mails_are_read() -> None:
    data = multipart(
        "mixed",
        PLAIN,
        "Content-Type: image/png\nContent-Disposition: attachment; filename*=utf-8''caf%C3%A9.png\n\niVBO",
        "Content-Type: text/csv\nContent-Disposition: attachment; filename=a.csv\n\n1;2",
        "Content-Type: message/rfc822\n\nFrom: c@d.example\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\n\nInner text",
    )
    assert text_of(data).split("\n\n")[1:] == [
        "some words of plain text",
        "Attachment: café.png (image/png, not read)",
        "Attachment: a.csv\n1;2",
        "From: c@d.example\nSubject: Grüße",
        "Inner text",
    ]


def test_attached_documents_are_read_or_missing() -> None:
    word = base64.encodebytes(docx(paragraph("In Word"))).decode()
    kind = f"Content-Type: application/octet-stream\n{TRANSFER} base64\nContent-Disposition: attachment;"
    data = multipart(
        "mixed", PLAIN, f"{kind} filename=a.docx\n\n{word}", f"{kind} filename=b.docx\n\n{word[:200]}"
    )
    found = read_document(data, ".eml")
    assert found is not None
    assert found.text.split("\n\n")[2:] == [
        "Attachment: a.docx\nIn Word",
        "Attachment: b.docx (application/octet-stream, not read)",
    ]
    assert (found.found, found.expected) == (2, 3)
    assert found.missing[0].startswith("b.docx (damaged")


@pytest.mark.parametrize(
    ("kind", "missing"),
    [
        ("application/pkcs7-mime; smime-type=enveloped-data; name=smime.p7m", ("smime.p7m (encrypted)",)),
        ("application/pkcs7-mime; smime-type=signed-data; name=smime.p7m", ()),
        ("application/ms-tnef; name=winmail.dat", ("winmail.dat (packed by Outlook)",)),
        ("image/png", ()),
    ],
)
def test_a_mail_that_is_packed_within_itself_is_partial(kind: str, missing: tuple[str, ...]) -> None:
    found = read_document(multipart("mixed", PLAIN, f"Content-Type: {kind}\n\nx"), ".eml")
    assert found is not None
    assert found.missing == missing


def test_a_mailbox_is_read_mail_by_mail_and_a_mail_without_a_suffix_is_one() -> None:
    one = b"From x@y.example Thu\nFrom: a@b.example\nSubject: one\n\nfirst\n\nFrom here on, no mail begins.\n\n"
    two = b"From x@y.example Thu\nFrom: a@b.example\nSubject: two\n\nsecond\n"
    assert text_of(one + two, "") == (
        "From: a@b.example\nSubject: one\n\nfirst\n\nFrom here on, no mail begins.\n\n"
        "From: a@b.example\nSubject: two\n\nsecond"
    )
    assert text_of(b"Received: by x\n" + mail("text/plain", b"body"), "") == HEAD + "body"


def test_mails_within_mails_end_somewhere() -> None:
    data = b"Content-Type: message/rfc822\n\n" * 200 + b"From: a@b.example\n\nx"
    with pytest.raises(Unreadable, match="more than 50 levels deep"):
        text_of(data)


def wide(text: str) -> bytes:
    return text.encode("utf-16-le")


# Source: [MS-OXRTFCP] 4.1.1, an example of compressed RTF.
PACKED = bytes.fromhex(
    "2d0000002b0000004c5a4675f1c5c7a703000a007263706731323542320af32068656c090020627705b06c647d0a800fa0"
)


@pytest.mark.parametrize(
    ("streams", "body"),
    [
        ({"__substg1.0_1000001F": wide("Plain body")}, "Plain body"),
        ({"__substg1.0_10130102": b"<p>An HTML body</p>"}, "An HTML body"),
        ({"__substg1.0_10090102": PACKED}, "hello world"),
        (
            {
                "__substg1.0_1000001F": wide("Body"),
                "__attach_version1.0_#00000000/__substg1.0_3707001F": wide("a.png"),
            },
            "Body\n\nAttachment: a.png (not read)",
        ),
    ],
)
def test_a_message_of_outlook_keeps_its_body(streams: dict[str, bytes], body: str) -> None:
    data = compound({"__properties_version1.0": bytes(32), "__substg1.0_0037001F": wide("A subject")} | streams)
    assert text_of(data, ".msg") == f"Subject: A subject\n\n{body}"


def test_a_damaged_body_of_outlook_fails() -> None:
    short = struct.pack("<III", 40, 100, 0x75465A4C) + bytes(4) + b"\0abc"
    data = compound({"__properties_version1.0": bytes(32), "__substg1.0_10090102": short})
    with pytest.raises(Unreadable, match="damaged: the compressed body"):
        text_of(data, ".msg")
