"""Encodings: declared, marked, recognised or refused with the likely one, never guessed into a stored text."""

from __future__ import annotations

import codecs
from pathlib import Path

import pytest

from ragops.charsets import canonical, decode
from ragops.documents.encodings import decode_declared, decode_markup, decode_text
from ragops.documents.errors import Unreadable
from ragops.documents.extraction import extract_file, extract_text
from ragops.documents.reading import Reading

JAPANESE = "日本語の文章、カナ"
CHINESE = "这是一个中文文本"
KOREAN = "안녕하세요 세계"


def page(label: str, text: str, codec: str | None = None) -> bytes:
    return f'<html><head><meta charset="{label}"></head><body><p>{text}</p></body></html>'.encode(codec or label)


def refusal(data: bytes, encoding: str | None = None) -> str:
    with pytest.raises(Unreadable) as error:
        decode_text(data, encoding)
    return error.value.reason


@pytest.mark.parametrize(
    "label",
    [
        "unicode_escape",
        "raw_unicode_escape",
        "idna",
        "punycode",
        "rot13",
        "base64",
        "zlib",
        "undefined",
        "mbcs",
        "ＵTF-8",
    ],
)
def test_codecs_of_python_are_no_encodings(label: str, tmp_path: Path) -> None:
    assert canonical(label) is None
    file = tmp_path / "a.html"
    file.write_bytes(f'<html><head><meta charset="{label}"></head><body>caf'.encode() + b"\xe9 \\ud800</body>")
    with pytest.raises(Unreadable, match="unknown encoding declared"):
        extract_file(file)


@pytest.mark.parametrize(
    ("label", "codec", "text"),
    [
        ("iso-8859-1", "cp1252", "it’s 5 €, naïve — œuvre"),
        ("us-ascii", "cp1252", "café"),
        ("x-sjis", "cp932", JAPANESE + "①㈱髙"),
        ("windows-31j", "cp932", JAPANESE),
        ("x-euc-jp", "euc_jp", JAPANESE),
        ("windows-874", "cp874", "สวัสดีชาวโลก"),
        ("iso-8859-8-i", "iso8859_8", "שלום"),
        ("euc-kr", "cp949", KOREAN + "똠뷁"),
        ("gb2312", "gb18030", CHINESE + "镕喆㐀"),
        ("big5", "big5hkscs", "這是中文，咗嘅"),
        ("iso-2022-jp", "iso2022_jp", JAPANESE),
        ("iso-2022-kr", "iso2022_kr", KOREAN),
        ("hz-gb-2312", "hz", CHINESE),
        ("koi8-u", "koi8_u", "Привіт"),
        ("macintosh", "mac_roman", "café"),
    ],
)
def test_labels_mean_what_browsers_make_of_them(label: str, codec: str, text: str) -> None:
    assert f"<p>{text}</p>" in decode_markup(page(label, text, codec), is_xml=False)
    assert decode_declared(text.encode(codec), label) == text


def test_signs_of_nec_and_ibm_are_read_in_every_japanese_encoding() -> None:
    assert decode(b"\xad\xa1\xb0\xa1\xfc\xe2\x8e\xb1", "euc-jp") == "①亜髙ｱ"
    assert decode(b"a\x1b$B-!0!|b\x1b(I1\x1b(B!", "iso-2022-jp") == "a①亜髙ｱ!"
    assert decode(b"\x80 \xc4\xe3", "gbk") == "€ 你"


@pytest.mark.parametrize(
    "head",
    [
        '<!-- <meta charset="iso-8859-5"> --><meta charset="{}">',
        '<script charset="iso-8859-5" src="x"></script><meta charset={}>',
        '<meta name="x" content="charset=iso-8859-5"><META CHARSET=\'{}\'>',
        '<meta http-equiv="Content-Type" content="text/html; charset={}">',
        '<meta content="text/html; charset={}" http-equiv=content-type>',
        '<p title="> <meta charset=iso-8859-5>"></p><meta charset="{}">',
        "<title>charset=iso-8859-5</title><meta charset=  '{}'/>",
        f'<style>{"x" * 2000}</style><meta charset="{{}}">',
        '<?xml version="1.0" encoding="{}"?><html/>',
    ],
)
def test_only_a_declaration_declares(head: str) -> None:
    text = head.format("windows-1252") + "<p>café</p>"
    assert decode_markup(text.encode("cp1252"), is_xml=False) == text


@pytest.mark.parametrize(
    "line",
    [
        "# -*- coding: latin-1 -*-",
        "#!/bin/sh\n# vim: set fileencoding=cp1252 :",
        "% -*- coding: iso-8859-1-unix -*-",
    ],
)
def test_a_comment_in_the_first_lines_declares_a_text(line: str) -> None:
    assert decode_text(f"{line}\ncafé".encode("cp1252")) == f"{line}\ncafé"
    assert decode_text(f"{line}\ncafé".encode()) == f"{line}\ncafé"
    assert refusal(f"1\n2\n{line}\ncafé".encode("cp1252")).startswith("not UTF-8 text")


def test_a_page_that_declares_an_encoding_and_is_utf8_is_utf8() -> None:
    for label in ("iso-8859-1", "gbk", "nonsense", "utf-16"):
        data = page(label, "grüße " * 10, "utf-8")
        assert decode_markup(data, is_xml=False) == data.decode()


def test_few_pairs_of_a_declared_encoding_may_look_like_utf8() -> None:
    two = page("gbk", "茅", "gbk")
    assert two.decode("utf-8")  # "é"
    assert "<p>茅</p>" in decode_markup(two, is_xml=False)


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be"])
def test_xml_in_utf16_without_a_mark_is_read_whatever_it_declares(codec: str) -> None:
    text = '<?xml version="1.0" encoding="iso-8859-1"?><a>café</a>'
    assert decode_markup(text.encode(codec), is_xml=True) == text


def test_a_declaration_of_utf16_that_is_read_byte_by_byte_is_not_true() -> None:
    start = b'<?xml version="1.0" encoding="UTF-16"?><a>'
    assert decode_markup(start + "café</a>".encode(), is_xml=True).endswith("café</a>")
    for ending in (b"caf\xe9</a>", b"caf\xe9 </a>"):
        with pytest.raises(
            Unreadable, match=r"not UTF-8 text .* although the document declares UTF-16; probably win"
        ):
            decode_markup(start + ending, is_xml=True)


@pytest.mark.parametrize("mark", [codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_LE])
def test_a_byte_order_mark_comes_first_and_goes(mark: bytes) -> None:
    codec = {2: "utf-16-le", 3: "utf-8", 4: "utf-32-le"}[len(mark)] if mark != codecs.BOM_UTF16_BE else "utf-16-be"
    text = '<meta charset="iso-8859-1">é'
    assert decode_markup(mark + text.encode(codec), is_xml=False) == text
    assert decode_text(mark + mark + text.encode(codec), "windows-1252") == text


@pytest.mark.parametrize(
    ("codec", "text"), [("iso2022_jp", JAPANESE), ("iso2022_jp", "①"), ("iso2022_kr", KOREAN), ("hz", CHINESE)]
)
def test_seven_bit_encodings_are_recognised(codec: str, text: str) -> None:
    data = f"text: {text}\nend\n".encode(codec) if text != "①" else b"text: \x1b$B-!\x1b(B\nend\n"
    assert data.isascii()
    assert decode_text(data) == f"text: {text}\nend\n"


@pytest.mark.parametrize(
    "text",
    [
        "\x1b[31mred\x1b[0m",
        "~{not closed",
        "a~{x~}b",
        r"Fig.~{\ref{x}}~and~{\em y}",
        "~{\u00e9~}",
        "1 ~ 2 ~{ab~} ~x",
    ],
)
def test_what_only_resembles_them_stays(text: str) -> None:
    assert decode_text(text.encode()) == text


def test_other_encodings_of_iso_2022_are_read_or_refused() -> None:
    assert decode_text("a 简 b".encode("iso2022_jp_2")) == "a 简 b"
    assert refusal(b"\x1b$)A\x0e<:Ky\x0f").startswith("escape sequences of ISO 2022 (offset 0), but neither")


def test_broken_escape_sequences_are_refused() -> None:
    assert refusal(b"a \x1b$B\x7f\x7f\x7f").startswith(
        "escape sequences of ISO 2022 (offset 2), but neither ISO-2022-JP"
    )


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (
            "Straße und Gebäude 1\n".encode("cp1252"),
            "not UTF-8 text (byte 0xdf at offset 4); probably windows-1252; "
            "if so: source: {encoding: windows-1252} in the playbook",
        ),
        (b"id,name\n1,\x93\x8c\x8b\x9e\n", "not UTF-8 text (byte 0x93 at offset 10); probably shift_jis"),
        (
            "Это простой русский текст, чтобы проверить кодировку.".encode("koi8-r"),
            "not UTF-8 text (byte 0xfc at offset 0); probably koi8-r",
        ),
        (JAPANESE.encode("euc_jp"), "not UTF-8 text (byte 0xc6 at offset 0); probably euc-jp"),
        ("plain".encode("utf-16-le"), "no text in UTF-8 (NUL bytes); probably utf-16le"),
        ("plain".encode("utf-16-be"), "no text in UTF-8 (NUL bytes); probably utf-16be"),
        ("plain".encode("utf-32-le"), "no text in UTF-8 (NUL bytes); probably utf-32le"),
        ("Привет, мир".encode("utf-16-le"), "no text in UTF-8 (NUL bytes); probably utf-16le"),
        (
            "é".encode() * 50 + b"\xe9",
            "not UTF-8 text (byte 0xe9 at offset 100); the other 50 characters",
        ),
        (b"\xef\xbb\xbfab\xff", "not UTF-8 text (byte 0xff at offset 5), although a byte order mark says so"),
        (b"\xff\xfea\0b", "not UTF-16LE text (byte 0x62 at offset 4), although a byte order mark says so"),
    ],
)
def test_a_refusal_names_the_likely_encoding_and_what_to_type(data: bytes, reason: str) -> None:
    assert refusal(data).startswith(reason)


@pytest.mark.parametrize(
    ("codec", "label"),
    [
        ("cp1252", "latin1"),
        ("cp932", "x-sjis"),
        ("cp850", "cp850"),
        ("utf-16-le", "utf-16"),
        ("utf-16-be", "utf-16be"),
        ("utf-32-le", "utf-32"),
        ("iso2022_jp", "iso-2022-jp"),
    ],
)
def test_the_playbook_names_the_encoding(codec: str, label: str, tmp_path: Path) -> None:
    text = JAPANESE if codec in ("cp932", "iso2022_jp") else "Straße"
    (tmp_path / "a.txt").write_bytes(text.encode(codec))
    assert extract_file(tmp_path / "a.txt", reading=Reading(encoding=label)).text == text
    # Other files of the folder may be in UTF-8 all the same, and pages know better.
    assert decode_text(text.encode(), label) == text
    assert text in decode_markup(page("utf-8", text), is_xml=False, encoding=label)


def test_the_playbooks_encoding_is_held_against_the_bytes() -> None:
    assert refusal(b"caf\xe9", "shift_jis").startswith(
        "not shift_jis text (byte 0xe9 at offset 3), although source.encoding names shift_jis; probably windows"
    )


BLANK = [
    "\ufeff",
    "\u200b",
    "\u200e\u200f",
    "\u2060\n",
    "\ufeff\ufeff\u200b\n",
    "\x1f\x7f",
    "\u00ad \u3164",
    "\u2028",
]


@pytest.mark.parametrize("text", BLANK)
def test_a_text_that_shows_nothing_is_empty(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(text.encode())
    with pytest.raises(Unreadable, match=r"read: empty document: (only|no text)"):
        extract_text(text)
    with pytest.raises(Unreadable, match=r"read: empty document: (only|no text)"):
        extract_file(tmp_path / "a.txt")


def test_the_reason_names_what_is_there() -> None:
    with pytest.raises(Unreadable) as error:
        extract_text("\u200b\u2060 \ufeff")
    assert error.value.reason == "empty document: only characters that show nothing (U+200B, U+2060, U+FEFF)"
