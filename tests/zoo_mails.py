"""Hostile mails and notebooks."""

from __future__ import annotations

import base64
import json
from email.message import EmailMessage
from email.policy import SMTP

from zoo import Hostile, Incomplete, Outcome, Reads, Refused, hostile
from zoo_files import docx, p

_HEAD = b"From: a@x.example\nTo: b@x.example\nSubject: Sub\nMIME-Version: 1.0\n"
_START = "From a x example To b x example Subject Sub"
_JAPANESE = "日本語の文章です"


def _mail(name: str, about: str, rest: bytes, *must: str | Outcome) -> Hostile:
    """A mail with From, To and Subject; a text is what must follow these."""
    outcomes = (Reads(f"{_START} {one}") if isinstance(one, str) else one for one in must)
    return hostile(name, about, _HEAD + rest, *outcomes)


def _body(kind: str, data: bytes, encoding: str = "8bit") -> bytes:
    return f"Content-Type: {kind}\nContent-Transfer-Encoding: {encoding}\n\n".encode() + data


def _parts(kind: str, *parts: bytes) -> bytes:
    inner = b"".join(b"--x\n" + part + b"\n" for part in parts)
    return f"Content-Type: multipart/{kind}; boundary=x\n\n".encode() + inner + b"--x--\n"


def _attached(name: str, kind: str, data: bytes) -> bytes:
    head = f'Content-Type: {kind}; name="{name}"\nContent-Disposition: attachment; filename="{name}"\n'
    return head.encode() + b"Content-Transfer-Encoding: base64\n\n" + base64.encodebytes(data)


def _made(name: str) -> Hostile:
    message = EmailMessage(policy=SMTP)
    message["From"], message["To"], message["Subject"] = "Jürgen <a@x.example>", "b@x.example", "Grüße aus Zürich"
    message.set_content("Ein Café.\n")
    words = "From Jürgen a x example To b x example Subject Grüße aus Zürich Ein Café"
    return hostile(name, "encoded words in headers", message.as_bytes(), Reads(words))


_MAILS = (
    _made("encoded_words.eml"),
    _mail("plain.eml", "no MIME type", b"\none two\n", "one two"),
    _mail("latin1.eml", "declared Latin-1", _body("text/plain; charset=iso-8859-1", b"caf\xe9"), "café"),
    _mail(
        "quoted.eml",
        "quoted-printable",
        _body("text/plain; charset=utf-8", b"caf=C3=A9 on=\ne", "quoted-printable"),
        "café one",
    ),
    _mail(
        "base64.eml",
        "base64",
        _body("text/plain; charset=utf-8", base64.b64encode("café".encode()), "base64"),
        "café",
    ),
    _mail(
        "iso2022jp.eml",
        "declared ISO-2022-JP",
        _body("text/plain; charset=ISO-2022-JP", _JAPANESE.encode("iso2022_jp"), "7bit"),
        _JAPANESE,
    ),
    _mail(
        "sjis.eml",
        "declared Shift-JIS",
        _body("text/plain; charset=Shift_JIS", _JAPANESE.encode("cp932")),
        _JAPANESE,
    ),
    _mail(
        "koi8.eml", "declared KOI8-R", _body("text/plain; charset=koi8-r", "Русский".encode("koi8-r")), "Русский"
    ),
    _mail("gb2312.eml", "declared GB 2312", _body("text/plain; charset=gb2312", "中文".encode("gbk")), "中文"),
    _mail("undeclared.eml", "8 bit, undeclared", b"\ncaf\xe9\n", Refused("(?i)charset|encoding|not UTF-8|ascii")),
    _mail(
        "unknown_charset.eml",
        "no such charset",
        _body("text/plain; charset=nonsense", b"caf\xe9"),
        Refused("nonsense"),
    ),
    _mail(
        "python_charset.eml",
        "a codec of Python",
        _body("text/plain; charset=unicode_escape", b"\\ud800 caf\xe9"),
        Refused("unicode_escape"),
    ),
    _mail("html.eml", "HTML alone", _body("text/html; charset=utf-8", b"<p>one</p><div>two</div>"), "one two"),
    _mail(
        "alternative.eml",
        "the same as text and as HTML: once",
        _parts("alternative", _body("text/plain", b"one two"), _body("text/html", b"<p>one two</p>")),
        "one two",
    ),
    _mail(
        "mixed.eml",
        "two texts",
        _parts("mixed", _body("text/plain", b"one"), _body("text/plain", b"two")),
        "one two",
    ),
    _mail(
        "attached_text.eml",
        "an attached text",
        _parts("mixed", _body("text/plain", b"one"), _attached("a.txt", "text/plain", b"two")),
        "one Attachment a txt two",
    ),
    _mail(
        "attached_docx.eml",
        "an attached document is read, or named as missing",
        _parts("mixed", _body("text/plain", b"one"), _attached("a.docx", "application/msword", docx(p("two")))),
        Incomplete(f"{_START} one Attachment a docx application msword not read", "a.docx"),
        "one Attachment a docx two",
    ),
    _mail(
        "attached_picture.eml",
        "a picture holds no text",
        _parts("mixed", _body("text/plain", b"one"), _attached("a.png", "image/png", b"\x89PNG")),
        "one Attachment a png image png not read",
    ),
    _mail(
        "forwarded.eml",
        "a mail in a mail",
        _parts("mixed", _body("text/plain", b"one"), b"Content-Type: message/rfc822\n\nSubject: In\n\ntwo"),
        "one Subject In two",
    ),
    _mail(
        "open_boundary.eml",
        "its last boundary is missing",
        b"Content-Type: multipart/mixed; boundary=x\n\n--x\n" + _body("text/plain", b"one"),
        Incomplete(f"{_START} one", "end"),
    ),
    hostile("headers_only.eml", "no body", _HEAD + b"\n", Reads(_START), Refused("empty document")),
)


def _notebook(*cells: dict[str, object], **more: object) -> bytes:
    book = {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": list(cells), **more}
    return json.dumps(book).encode()


def _cell(kind: str, source: object, **more: object) -> dict[str, object]:
    return {"cell_type": kind, "source": source, "metadata": {}, **more}


def _code(source: str, *outputs: dict[str, object]) -> dict[str, object]:
    return _cell("code", source, outputs=list(outputs), execution_count=1)


_STREAM: dict[str, object] = {"output_type": "stream", "name": "stdout", "text": ["printed\n"]}
_ERROR: dict[str, object] = {
    "output_type": "error",
    "ename": "E",
    "evalue": "v",
    "traceback": ["\x1b[31mtrace\x1b[0m"],
}
_RESULT: dict[str, object] = {
    "output_type": "execute_result",
    "metadata": {},
    "execution_count": 1,
    "data": {"text/plain": ["shown"], "text/html": ["<p>shown</p>"]},
}
_OLD = {
    "nbformat": 3,
    "nbformat_minor": 0,
    "metadata": {},
    "worksheets": [
        {
            "cells": [
                {"cell_type": "heading", "level": 1, "source": "one"},
                {"cell_type": "markdown", "source": "two"},
                {"cell_type": "code", "input": "three", "outputs": []},
            ]
        }
    ],
}

_NOTEBOOKS = (
    hostile(
        "plain.ipynb",
        "cells",
        _notebook(_cell("markdown", ["# one\n", "two"]), _code("three")),
        Reads("one two three"),
    ),
    hostile("outputs.ipynb", "what cells printed", _notebook(_code("one", _STREAM)), Reads("one printed")),
    hostile(
        "error.ipynb",
        "an error, without its colours",
        _notebook(_code("one", _ERROR)),
        Reads("one trace"),
        Reads("one E v"),
        Reads("one E v trace"),
    ),
    hostile("result.ipynb", "a result once", _notebook(_code("one", _RESULT)), Reads("one shown")),
    hostile("raw.ipynb", "raw cells", _notebook(_cell("raw", "one")), Reads("one")),
    hostile(
        "version3.ipynb",
        "the format of 2013",
        json.dumps(_OLD).encode(),
        Reads("one two three"),
        Refused("version|nbformat"),
    ),
    hostile(
        "version9.ipynb",
        "a version to come",
        json.dumps({"nbformat": 9, "cells": [_cell("x", "one")]}).encode(),
        Reads("one"),
        Refused("a notebook of format 9"),
    ),
    hostile("empty.ipynb", "no cell", _notebook(), Refused("empty document")),
    hostile("no_json.ipynb", "no JSON", b'{"cells": [', Refused("(?i)json|parser failed|notebook")),
    hostile(
        "list.ipynb",
        "another JSON",
        b"[1, 2]",
        Refused("(?i)notebook|parser failed|empty|json"),
    ),
)

ENTRIES = (*_MAILS, *_NOTEBOOKS)
