"""Read MSG: the mails of Outlook, also those whose body is compressed RTF alone.

Source of the formats: [MS-OXMSG], [MS-OXRTFCP].
"""

from __future__ import annotations

import re
import struct
from functools import partial

from ragops.documents.encodings import decode_declared, decode_markup
from ragops.documents.errors import Unreadable
from ragops.documents.markup import text_of_html
from ragops.documents.readers.attachments import Attachments
from ragops.documents.readers.result import Read
from ragops.documents.readers.rtf import read_rtf
from ragops.documents.readers.streams import Streams

MEDIA_TYPE = "application/vnd.ms-outlook"
_WORD = re.compile(r"\w+")
_MUCH_MORE = 1.3
_SENDER, _TO, _CC, _SUBJECT = "0C1A", "0E04", "0E03", "0037"
_BODY, _HTML, _RTF = "1000", "1013", "1009"
_NAMES = ("3707", "3704", "3001")
_CODE_PAGES = (0x3FFD, 0x3FDE)
_LABELS = {65001: "utf-8", 932: "shift_jis", 936: "gbk", 949: "euc-kr", 950: "big5", 20127: "us-ascii"} | {
    28590 + n: f"iso-8859-{n}" for n in range(1, 16)
}
_LABELS |= {20866: "koi8-r", 21866: "koi8-u", 50220: "iso-2022-jp", 50221: "iso-2022-jp", 51932: "euc-jp"}
_DICTIONARY = (
    b"{\\rtf1\\ansi\\mac\\deff0\\deftab720{\\fonttbl;}{\\f0\\fnil \\froman \\fswiss \\fmodern \\fscript "
    b"\\fdecor MS Sans SerifSymbolArialTimes New RomanCourier{\\colortbl\\red0\\green0\\blue0\r\n\\par "
    b"\\pard\\plain\\f0\\fs20\\b\\i\\u\\tab\\tx"
)
_MOST = 64 * 1024 * 1024
_DEEPEST = 20


def read_message(streams: Streams, attachments: Attachments) -> Read:
    """Return headers, body and the names of attachments; attached mails are read."""
    text = _message(streams, "", 0, attachments)
    missing = tuple(attachments.missing)
    return Read(text, MEDIA_TYPE, 1, 1 + len(missing), "parts", missing)


def _message(streams: Streams, folder: str, depth: int, attachments: Attachments) -> str:
    if depth > _DEEPEST:
        raise Unreadable(f"mails within mails, more than {_DEEPEST} levels deep")
    label = _encoding(streams, folder, depth)
    lines = [
        f"{name}: {' '.join(value.split())}"
        for name, tag in (("From", _SENDER), ("To", _TO), ("Cc", _CC), ("Subject", _SUBJECT))
        if (value := _string(streams, folder, tag, label))
    ]
    parts = ["\n".join(lines), _body(streams, folder, label)]
    prefix = f"{folder}__attach_version1.0_".lower()
    folders = dict.fromkeys(path[: len(prefix) + 9] for path in streams.paths if path.lower().startswith(prefix))
    for path in folders:
        inner = f"{path}/__substg1.0_3701000D/"
        if any(one.startswith(inner) for one in streams.paths):
            parts.append(_message(streams, inner, depth + 1, attachments))
            continue
        names = (_string(streams, f"{path}/", tag, label) for tag in _NAMES)
        content = partial(streams.read, f"{path}/__substg1.0_37010102")
        parts.append(attachments.text(next(filter(None, names), ""), content))
    return "\n\n".join(part.strip("\r\n") for part in parts if part.strip())


def _body(streams: Streams, folder: str, label: str) -> str:
    """Return the form of the body that says most: plain text, HTML, or compressed RTF."""
    plain = _string(streams, folder, _BODY, label)
    html = streams.read(f"{folder}__substg1.0_{_HTML}0102")
    if html:
        marked = text_of_html(decode_markup(html, is_xml=False, encoding=label or None))
    else:
        marked = text_of_html(_string(streams, folder, _HTML, label) or "")
    best = plain
    if len(_WORD.findall(marked)) > len(_WORD.findall(plain)) * _MUCH_MORE:
        best = marked
    packed = streams.read(f"{folder}__substg1.0_{_RTF}0102")
    if packed and not best.strip():
        best = read_rtf(_unpacked(packed)).text
    return best


def _encoding(streams: Streams, folder: str, depth: int) -> str:
    """Return the label of the encoding of 8-bit strings, "" if the message does not say."""
    properties = streams.read(f"{folder}__properties_version1.0")
    header = 24 if depth else 32
    found = ""
    for position in range(header, len(properties) - 15, 16):
        tag, value = struct.unpack_from("<I4xI", properties, position)
        if tag >> 16 in _CODE_PAGES and tag & 0xFFFF == 3:
            found = found or _LABELS.get(value, f"windows-{value}" if 1250 <= value <= 1258 else "")
    return found


def _string(streams: Streams, folder: str, tag: str, label: str) -> str:
    """Return a property that is a string; "" if it is absent."""
    wide = streams.read(f"{folder}__substg1.0_{tag}001F")
    if wide:
        return wide.decode("utf-16-le", "replace").replace("\0", "")
    narrow = streams.read(f"{folder}__substg1.0_{tag}001E").replace(b"\0", b"")
    return decode_declared(narrow, label or "windows-1252") if narrow else ""


def _unpacked(data: bytes) -> bytes:
    """Return RTF from its compressed form. Raises Unreadable for damaged data."""
    if len(data) < 16:
        raise Unreadable("damaged: the compressed body of the mail ends early")
    size, raw, magic = struct.unpack_from("<III", data)
    if magic == 0x414C454D:  # MELA: not compressed
        return data[16 : 16 + raw]
    if magic != 0x75465A4C or raw > _MOST:
        raise Unreadable("damaged: the compressed body of the mail has no known head")
    buffer = bytearray(_DICTIONARY) + bytearray(4096 - len(_DICTIONARY))
    write = len(_DICTIONARY)
    out = bytearray()
    position, end = 16, min(size + 4, len(data))
    while position < end and len(out) < raw:
        control = data[position]
        position += 1
        for bit in range(8):
            if position >= end or len(out) >= raw:
                break
            if not control >> bit & 1:
                chunk = data[position : position + 1]
                position += 1
            else:
                if position + 2 > end:
                    break
                reference = struct.unpack_from(">H", data, position)[0]
                position += 2
                begin, length = reference >> 4, (reference & 0x0F) + 2
                if begin == write:
                    return bytes(out)  # the end of the data
                chunk = b""
                for index in range(length):
                    byte = buffer[(begin + index) % 4096]
                    chunk += bytes([byte])
                    buffer[(write + index) % 4096] = byte
            for byte in chunk:
                buffer[write] = byte
                write = (write + 1) % 4096
            out += chunk
    if len(out) < raw:
        raise Unreadable(f"damaged: the compressed body of the mail ends after {len(out)} of {raw} bytes")
    return bytes(out)
