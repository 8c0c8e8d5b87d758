"""Read DOC (Word 97 to 2003) by its table of pieces.

Source of the format: [MS-DOC], sections 2.5 (Fib), 2.8.35 (PlcPcd), 2.4.1 (retrieving text).
"""

from __future__ import annotations

import re
import struct

from ragops.documents.errors import Unreadable
from ragops.documents.readers.result import Read
from ragops.documents.readers.streams import Streams

MEDIA_TYPE = "application/msword"
_WORD_97 = 0x00C1
_ENCRYPTED, _TABLE_1 = 0x0100, 0x0200
# Counts of characters in the file information block: text, footnotes, headers and footers, macros, comments,
# endnotes, text boxes, text boxes in headers.
_COUNTS = (0x4C, 0x50, 0x54, 0x58, 0x5C, 0x60, 0x64, 0x68)
_HEADERS = 2
_FIELD_BEGIN, _FIELD_MIDDLE, _FIELD_END = "\x13", "\x14", "\x15"
_FIELDS = re.compile("[\x13\x14\x15]")
_ROW_END = re.compile("\x07\x07")
_CHARACTERS = str.maketrans(
    {"\r": "\n", "\x0b": "\n", "\x0c": "\n", "\x0e": "\n", "\x07": "\t", "\x1e": "-", "\x1f": None, "\xa0": " "}
    | dict.fromkeys("\x00\x01\x02\x03\x04\x05\x06\x08")
)


def read_old_word(streams: Streams) -> Read | None:
    """Return the text with notes, comments, headers and text boxes; None for files of Word 6 and 95."""
    document = streams.read("WordDocument")
    if len(document) < 0x01AA or struct.unpack_from("<H", document)[0] != 0xA5EC:
        if document[:2] in (b"\xdc\xa5", b"\xdb\xa5"):
            return None
        raise Unreadable("damaged: no head of a Word document")
    if struct.unpack_from("<H", document, 2)[0] < _WORD_97:
        return None
    flags = struct.unpack_from("<H", document, 0x0A)[0]
    if flags & _ENCRYPTED:
        raise Unreadable("encrypted: a password is needed")
    table = streams.read("1Table" if flags & _TABLE_1 else "0Table")
    offset, length = struct.unpack_from("<II", document, 0x01A2)
    counts = [max(struct.unpack_from("<i", document, at)[0], 0) for at in _COUNTS]
    whole = _pieces(document, table[offset : offset + length])
    texts: list[str] = []
    begin = 0
    for index, count in enumerate(counts):
        text = _shown(whole[begin : begin + count])
        begin += count
        if index == _HEADERS:
            text = "\n".join(dict.fromkeys(line for line in text.splitlines() if line.strip()))
        if text.strip():
            texts.append(text.strip("\n"))
    expected = sum(counts)
    if len(whole) < expected:
        return Read("\n\n".join(texts), MEDIA_TYPE, len(whole), expected, "characters")
    return Read("\n\n".join(texts), MEDIA_TYPE)


def _pieces(document: bytes, table: bytes) -> str:
    """Return all characters of the document in their order."""
    position = 0
    while position + 5 <= len(table) and table[position] == 1:  # changes of formatting
        position += 3 + struct.unpack_from("<H", table, position + 1)[0]
    if position + 5 > len(table) or table[position] != 2:
        raise Unreadable("damaged: no table of pieces in a Word document")
    length = struct.unpack_from("<I", table, position + 1)[0]
    plc = table[position + 5 : position + 5 + length]
    count = (len(plc) - 4) // 12
    ends = struct.unpack_from(f"<{count + 1}I", plc)
    parts: list[str] = []
    for index in range(count):
        characters = ends[index + 1] - ends[index]
        place = struct.unpack_from("<I", plc, 4 * (count + 1) + 8 * index + 2)[0]
        begin = place & 0x3FFFFFFF
        if characters <= 0:
            continue
        if place & 0x40000000:
            parts.append(document[begin // 2 : begin // 2 + characters].decode("cp1252", "replace"))
        else:
            parts.append(document[begin : begin + 2 * characters].decode("utf-16-le", "replace"))
    return "".join(parts)


def _shown(text: str) -> str:
    """Return a text without the codes of fields, with its cells, rows and paragraphs."""
    parts: list[str] = []
    codes: list[bool] = []  # of each open field, whether its code is being read
    position = 0
    for sign in _FIELDS.finditer(text):
        if not any(codes):
            parts.append(text[position : sign.start()])
        position = sign.end()
        if sign[0] == _FIELD_BEGIN:
            codes.append(True)
        elif codes and sign[0] == _FIELD_MIDDLE:
            codes[-1] = False
        elif codes:
            codes.pop()
    parts.append(text[position:])
    return _ROW_END.sub("\n", "".join(parts)).translate(_CHARACTERS)
