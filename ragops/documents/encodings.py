"""Decode the bytes of texts and markup: strictly, by their own marks and declarations, never by a guess.

In this order: byte order mark; UTF-8 where the bytes are valid UTF-8; what HTML or XML declares; the playbook's
`source.encoding`. What is left fails, and its reason names the likely encoding: a wrong guess would be stored in
silence.
"""

from __future__ import annotations

import codecs
import re
from itertools import islice

from ragops.charsets import SEVEN_BIT, WIDE, canonical, decode, is_user_defined
from ragops.documents.declarations import declared_encoding, declared_in_comment
from ragops.documents.detection import has_escapes, likely_encodings, seven_bit_text, wide_encoding
from ragops.documents.errors import Unreadable

# UTF-32's little-endian mark begins with UTF-16's.
_BOMS = (
    (codecs.BOM_UTF32_LE, "utf-32le"),
    (codecs.BOM_UTF32_BE, "utf-32be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16le"),
    (codecs.BOM_UTF16_BE, "utf-16be"),
)
_BOM = "\ufeff"
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")
_DOUBLE_BYTE = frozenset({"gbk", "gb18030", "big5", "euc-jp", "euc-kr", "shift_jis"})
# A pair of bytes of GBK is valid UTF-8 once in ten times; five pairs one after the other practically never.
_FEW = 4
# A text with a few damaged bytes is still UTF-8 by far; it is not proposed to read it as something else.
_MOST_DAMAGED = 0.05


def decode_text(data: bytes, encoding: str | None = None) -> str:
    """Return the text of a plain text file; `encoding` is the playbook's label for it.

    Raises Unreadable with the first byte that does not fit, the likely encoding, and what to type.
    """
    return _decoded(data, declared_in_comment(data), encoding)


def decode_markup(data: bytes, *, is_xml: bool, encoding: str | None = None) -> str:
    """Return the text of HTML or XML in the encoding that it declares; otherwise as `decode_text`."""
    return _decoded(data, declared_encoding(data, is_xml=is_xml), encoding)


def decode_declared(data: bytes, label: str) -> str:
    """Return the text of bytes whose encoding is declared elsewhere, as in the header of a mail's part.

    Raises Unreadable for an unknown label, and for bytes that are not in that encoding.
    """
    name = canonical(label)
    if name is None:
        raise Unreadable(f"unknown encoding declared: {label}")
    if name in WIDE and (marked := _marked(data)) is not None:
        return marked
    try:
        return decode(data, name).removeprefix(_BOM)
    except UnicodeDecodeError as error:
        raise Unreadable(f"{_misfit(data, name, error)}, although the document declares {label}") from None


def _decoded(data: bytes, declared: str | None, hint: str | None) -> str:
    marked = _marked(data)
    if marked is not None:
        return marked
    own = None if declared is None else _own(data, declared)
    named = None if hint is None else canonical(hint)
    if own in WIDE:  # not only declared: the bytes of the declaration itself are two bytes a character
        return _strict(data, own, f"although the document declares {declared}")
    for name in (own, named):
        # ISO-2022-JP and its kind are valid UTF-8 as well.
        if name in SEVEN_BIT and data.isascii():
            try:
                return decode(data, name)
            except UnicodeDecodeError:
                continue
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        return _not_utf8(data, error, declared, own, hint, named)
    if data.isascii() or "\0" in text:
        return _ascii(data, text, named)
    if own in _DOUBLE_BYTE and sum(1 for _ in islice(_NOT_ASCII.finditer(text), _FEW + 1)) <= _FEW:
        try:
            return decode(data, own)
        except UnicodeDecodeError:
            pass
    return text


def _own(data: bytes, declared: str) -> str | None:
    """Return the encoding that a document's declaration means, with the corrections of WHATWG's standard."""
    name = canonical(declared)
    if name in WIDE and b"\0" not in data[:4]:
        return "utf-8"  # whoever reads this declaration byte for byte sees that it is not true
    return "windows-1252" if name is None and is_user_defined(declared) else name


def _ascii(data: bytes, text: str, named: str | None) -> str:
    """Return a text of ASCII bytes, or one with NUL, unless the bytes are those of another encoding."""
    if (recognised := seven_bit_text(data)) is not None:
        return recognised[1]
    if "\0" in text:
        if named in WIDE:
            return _strict(data, named, "although source.encoding names it")
        if (wide := wide_encoding(data)) is not None:
            raise Unreadable(f"no text in UTF-8 (NUL bytes); {_proposal([wide])}")
    if has_escapes(data):
        raise Unreadable(
            f"escape sequences of ISO 2022 (offset {data.find(27)}), but neither ISO-2022-JP nor ISO-2022-KR: "
            "damaged, or in another encoding"
        )
    return text


def _not_utf8(
    data: bytes,
    error: UnicodeDecodeError,
    declared: str | None,
    own: str | None,
    hint: str | None,
    named: str | None,
) -> str:
    """Return the text of bytes that are not UTF-8, in the encoding that the document or the playbook names."""
    refusal = ""
    if own is not None and own != "utf-8":
        try:
            return decode(data, own)
        except UnicodeDecodeError as failure:
            refusal = f"{_misfit(data, own, failure)}, although the document declares {declared}"
    if named is not None:
        try:
            return decode(data, named)
        except UnicodeDecodeError as failure:
            refusal = refusal or f"{_misfit(data, named, failure)}, although source.encoding names {hint}"
    if not refusal and declared is not None and own is None:
        refusal = f"unknown encoding declared: {declared}; {_misfit(data, 'utf-8', error)}"
    if not refusal:
        refusal = _misfit(data, "utf-8", error)
        if own == "utf-8":
            refusal += f", although the document declares {declared}"
    raise Unreadable(f"{refusal}; {_advice(data)}")


def _advice(data: bytes) -> str:
    repaired = data.decode("utf-8", "replace")
    damaged = repaired.count("\ufffd")
    others = len(repaired) - len(repaired.encode("ascii", "ignore")) - damaged
    if damaged <= _MOST_DAMAGED * others:
        return f"the other {others:,} characters beyond ASCII are UTF-8: damaged, or two encodings are mixed in it"
    return _proposal(likely_encodings(data))


def _proposal(names: list[str]) -> str:
    if not names:
        return "name its encoding by source: {encoding: LABEL} in the playbook, if it is text at all"
    others = f" (or {', '.join(names[1:])})" if names[1:] else ""
    return f"probably {names[0]}{others}; if so: source: {{encoding: {names[0]}}} in the playbook"


def _marked(data: bytes) -> str | None:
    """Return the text after a byte order mark; None without one."""
    mark, name = next(((m, n) for m, n in _BOMS if data.startswith(m)), (b"", ""))
    if not mark:
        return None
    try:
        # Concatenated files have more than one mark.
        return decode(data[len(mark) :], name).lstrip(_BOM)
    except UnicodeDecodeError as error:
        raise Unreadable(f"{_misfit(data, name, error, len(mark))}, although a byte order mark says so") from None


def _strict(data: bytes, name: str, although: str) -> str:
    try:
        return decode(data, name).lstrip(_BOM)
    except UnicodeDecodeError as error:
        raise Unreadable(f"{_misfit(data, name, error)}, {although}") from None


def _misfit(data: bytes, name: str, error: UnicodeDecodeError, skipped: int = 0) -> str:
    offset = min(skipped + error.start, len(data) - 1)
    shown = name.upper() if name.startswith("utf") else name
    return f"not {shown} text (byte 0x{data[offset]:02x} at offset {offset})"
