"""Character encodings by the labels that documents and operators use, and a strict decoder for each.

Labels are those of the WHATWG Encoding Standard, because that is what browsers do with `iso-8859-1`
(windows-1252), `gb2312` (gbk) or `x-sjis`. A few more occur in mails and old text files only. Python's registry of
codecs is never asked for a label: it has `unicode_escape`, `idna` and others that are no character encodings.
"""

from __future__ import annotations

import codecs
import re

import webencodings

# Labels outside the standard, and Python's codec for each; the first label of a line is the canonical name.
_OTHERS = """
utf-7 unicode-1-1-utf-7 csutf7
utf-32le
utf-32be
iso-2022-kr csiso2022kr
hz-gb-2312 hz hz-gb hzgb
johab cp1361 ms1361
koi8-t
kz1048 kz-1048 rk1048
cp437 ibm437 437
cp737 ibm737 737
cp775 ibm775 775
cp850 ibm850 850
cp852 ibm852 852
cp855 ibm855 855
cp857 ibm857 857
cp858 ibm858 ibm00858 858
cp860 ibm860 860
cp861 ibm861 861
cp862 ibm862 862
cp863 ibm863 863
cp864 ibm864 864
cp865 ibm865 865
cp869 ibm869 869
cp037 ibm037
cp500 ibm500
cp1140 ibm1140 ibm01140
mac-greek x-mac-greek macgreek
mac-turkish x-mac-turkish macturkish
mac-latin2 x-mac-ce maccentraleurope
"""
_BY_LABEL = {label: line.split()[0] for line in _OTHERS.splitlines() for label in line.split()} | {
    "utf-32": "utf-32le",
    "iso-2022-jp-1": "iso-2022-jp",
    "iso-2022-jp-2": "iso-2022-jp",
    "iso-2022-jp-3": "iso-2022-jp",
    "iso-2022-jp-ext": "iso-2022-jp",
    "cp50220": "iso-2022-jp",
    "cp50221": "iso-2022-jp",
    "cp874": "windows-874",
    "cp932": "shift_jis",
    "cp936": "gbk",
    "cp949": "euc-kr",
    "uhc": "euc-kr",
    "cp950": "big5",
    "mac-roman": "macintosh",
    "macroman": "macintosh",
    "mac-cyrillic": "x-mac-cyrillic",
    "maccyrillic": "x-mac-cyrillic",
}
_CODECS = {
    "utf-16le": "utf-16-le",
    "utf-16be": "utf-16-be",
    "utf-32le": "utf-32-le",
    "utf-32be": "utf-32-be",
    "hz-gb-2312": "hz",
    "gbk": "gb18030",  # the standard's gbk decoder is that of gb18030
    "mac-greek": "mac_greek",
    "mac-turkish": "mac_turkish",
    "mac-latin2": "mac_latin2",
}
_USER_DEFINED = "x-user-defined"
SEVEN_BIT = frozenset({"iso-2022-jp", "iso-2022-kr", "hz-gb-2312", "utf-7"})
"""Encodings whose bytes are all ASCII, so that they look like UTF-8."""
WIDE = frozenset({"utf-16le", "utf-16be", "utf-32le", "utf-32be"})
"""Encodings of two or four bytes a character, in which ASCII contains NUL bytes."""


def canonical(label: str) -> str | None:
    """Return the one name of the encoding that a label means, such as windows-1252 for latin1; None if unknown."""
    if not label.isascii():
        return None
    plain = label.strip("\t\n\f\r ").lower()
    # Editors and Python write `latin-1`, `euc_jp`, `utf-8-unix`.
    dashed = re.sub(r"-(?:unix|dos|mac)$", "", plain).replace("_", "-")
    for spelling in (plain, dashed, re.sub(r"^(?:iso-)?latin-(?=[0-9])", "latin", dashed)):
        if (other := _BY_LABEL.get(spelling)) is not None:
            return other
        encoding = webencodings.lookup(spelling)
        if encoding is not None and encoding.name not in ("replacement", _USER_DEFINED):
            return str(encoding.name)
    return None


def is_user_defined(label: str) -> bool:
    """Return whether a label is `x-user-defined`, which HTML reads as windows-1252."""
    return label.strip("\t\n\f\r ").lower() == _USER_DEFINED


def decode(data: bytes, name: str) -> str:
    """Return the text of bytes in an encoding, by its canonical name. Raises UnicodeDecodeError."""
    if name == "iso-2022-jp":
        try:
            return _iso_2022_jp(data)
        except UnicodeDecodeError as error:
            return _python_iso_2022(data, "iso2022_jp_2", error)  # with Chinese and Korean characters
    if name == "iso-2022-kr":
        return _python_iso_2022(data, "iso2022_kr")
    if name == "euc-jp":
        return _euc_jp(data)
    if name in ("gbk", "gb18030"):
        return data.decode("gb18030", "ragops_euro")
    codec = _CODECS.get(name)
    if codec is not None:
        return data.decode(codec)
    if (encoding := webencodings.lookup(name)) is not None:
        text: str = encoding.codec_info.decode(data, "strict")[0]
        return text
    return data.decode(name.replace("-", "_"))


def _python_iso_2022(data: bytes, codec: str, failure: UnicodeDecodeError | None = None) -> str:
    """Return a text by one of Python's codecs, which pass on shifts and escape sequences that they do not know."""
    try:
        text = data.decode(codec)
    except UnicodeDecodeError as error:
        raise failure or error from None
    if re.search("[\x0e\x0f\x1b]", text):
        raise failure or UnicodeDecodeError(codec, data, 0, 1, "an unknown escape sequence")
    return text


def _euro(error: UnicodeError) -> tuple[str, int]:
    # Windows' GBK has the euro sign at 0x80, which is no character of GB 18030.
    if isinstance(error, UnicodeDecodeError) and error.object[error.start] == 0x80:
        return "€", error.start + 1
    raise error


codecs.register_error("ragops_euro", _euro)

# Python's codecs know JIS X 0208 alone, browsers and mail programs also the signs that NEC and IBM added: ①, ㈱,
# 髙. Those are at the same places of Shift_JIS as Windows has it (cp932), which differs by arithmetic only.
_EUC_PAIR = re.compile(rb"\x8f[\xa1-\xfe]{2}|\x8e[\xa1-\xdf]|[\xa1-\xfe]{2}|[\x80-\xff]")
_ESCAPE = re.compile(rb"\x1b(\$[@B]|\$\([@BD]|\([BJIH])|\x0e|\x0f")


def _euc_jp(data: bytes) -> str:
    try:
        return data.decode("euc_jp")
    except UnicodeDecodeError:
        pass
    parts, end = [], 0
    for match in _EUC_PAIR.finditer(data):
        parts.append(data[end : match.start()].decode("ascii"))
        end = match.end()
        sign = match[0]
        if len(sign) == 1:
            raise UnicodeDecodeError("euc-jp", data, match.start(), end, "no character of this encoding")
        try:
            parts.append(
                sign.decode("euc_jp")
                if sign[0] in (0x8E, 0x8F)
                else _shift_jis(bytes(byte & 0x7F for byte in sign))
            )
        except UnicodeDecodeError as error:
            raise UnicodeDecodeError("euc-jp", data, match.start(), end, error.reason) from None
    parts.append(data[end:].decode("ascii"))
    return "".join(parts)


def _iso_2022_jp(data: bytes) -> str:
    parts, end, state = [], 0, b"(B"
    for match in [*_ESCAPE.finditer(data), None]:
        start = len(data) if match is None else match.start()
        part = data[end:start]
        try:
            parts.append(_in_state(part, state))
        except UnicodeDecodeError as error:
            at = end + error.start
            raise UnicodeDecodeError("iso-2022-jp", data, at, at + 1, error.reason) from None
        if match is None:
            break
        if match[1] is None:  # SO and SI are for another encoding
            raise UnicodeDecodeError("iso-2022-jp", data, start, start + 1, "a shift of another encoding")
        state, end = match[1], match.end()
    return "".join(parts)


def _in_state(part: bytes, state: bytes) -> str:
    """Return the text of bytes between two escape sequences of ISO-2022-JP. Raises UnicodeDecodeError."""
    if (escape := part.find(b"\x1b")) >= 0:
        raise UnicodeDecodeError("iso-2022-jp", part, escape, escape + 1, "an unknown escape sequence")
    if state in (b"(B", b"(J", b"(H"):
        text = part.decode("ascii")
        # JIS X 0201's letters differ from ASCII in two signs.
        return text if state == b"(B" else text.replace("\\", "¥").replace("~", "‾")
    lines = re.split(rb"([\r\n]+)", part)  # a line end returns to ASCII in older mails
    decode_line = _katakana if state == b"(I" else _supplement if state == b"$(D" else _shift_jis
    parts, at = [], 0
    for line in lines:
        try:
            parts.append(line.decode("ascii") if line.strip(b"\r\n") == b"" else decode_line(line))
        except UnicodeDecodeError as error:
            raise UnicodeDecodeError(
                "iso-2022-jp", part, at + error.start, at + error.start + 1, error.reason
            ) from None
        at += len(line)
    return "".join(parts)


def _katakana(line: bytes) -> str:
    return bytes(byte | 0x80 for byte in line).decode("cp932")


def _supplement(line: bytes) -> str:
    return b"".join(
        b"\x8f" + bytes(byte | 0x80 for byte in line[i : i + 2]) for i in range(0, len(line), 2)
    ).decode("euc_jp")


def _shift_jis(line: bytes) -> str:
    """Return the text of pairs of JIS X 0208, seven bits a byte. Raises UnicodeDecodeError."""
    if len(line) % 2:
        raise UnicodeDecodeError("iso-2022-jp", line, len(line) - 1, len(line), "half a character")
    out = bytearray()
    for i in range(0, len(line), 2):
        row, cell = line[i] - 0x21, line[i + 1] - 0x21
        if not (0 <= row < 94 and 0 <= cell < 94):
            raise UnicodeDecodeError("iso-2022-jp", line, i, i + 1, "no character of this encoding")
        lead = row // 2 + (0x81 if row < 62 else 0xC1)
        trail = cell + (0x9F if row % 2 else 0x40)
        out += bytes((lead, trail + (1 if row % 2 == 0 and trail >= 0x7F else 0)))
    return out.decode("cp932")
