"""Say which encoding bytes are probably in. Only what recognises itself is ever decoded without being told so."""

from __future__ import annotations

import logging
import re
from itertools import islice

from ragops.charsets import canonical, decode

# Enough to tell encodings apart; a whole file of 64 MiB would be decoded some 30 times.
_SAMPLE = 4096
_ISO_2022 = re.compile(rb"\x1b(?:\$[@AB]|\$\([@ABCDOPQ]|\([JI]|\$\)[ACG]|\$\*H|\.[AF])")
_HZ = re.compile(rb"~\{(?:[\x21-\x77][\x21-\x7e])+~\}")
_NOT_ASCII = re.compile(rb"[\x80-\xff]+")
# Frequencies of letters cannot tell Western encodings apart in a short text: "café" is detected as ibm866. A text
# that has these signs only, as windows-1252 reads it, is most probably in windows-1252, the most common one.
_WESTERN = frozenset("ÀÂÄÅÆÇÈÉÊËÎÏÑÔÖØÙÛÜàáâäåæçèéêëìíîïñòóôöøùúûüœßŒ“”„‘’–—…•€«»°·©®§£¿¡ªº²³½×\u00a0")
_MOST_NAMED = 3
_MOST_TRIED = 6
# What detection proposes for rubbish: no file of today is in them.
_UNLIKELY = re.compile(r"mac-|cp037|cp500|cp1140|utf-7")


def seven_bit_text(data: bytes) -> tuple[str, str] | None:
    """Return name and text of bytes in ISO-2022-JP, ISO-2022-KR or HZ, which are all ASCII; None if they are not.

    Their escape sequences are unmistakable: the whole text must follow the encoding's grammar.
    """
    names: tuple[str, ...] = ()
    if b"\x1b" in data and _ISO_2022.search(data):
        names = ("iso-2022-kr",) if b"\x1b$)C" in data else ("iso-2022-jp",)
    elif b"~{" in data and _HZ.search(data):
        names = ("hz-gb-2312",)
    for name in names:
        try:
            return name, decode(data, name)
        except UnicodeDecodeError:
            continue
    return None


def has_escapes(data: bytes) -> bool:
    """Return whether bytes contain escape sequences of ISO 2022 that select other characters than ASCII."""
    return b"\x1b" in data and _ISO_2022.search(data) is not None


def likely_encodings(data: bytes) -> list[str]:
    """Return the labels of the encodings that bytes may be in, the likeliest first; [] if nothing can be said."""
    if (wide := wide_encoding(data)) is not None:
        return [wide]
    sample = _sample(data)
    names = list(islice((name for name in _detected(sample) if _is_in(data, name)), _MOST_TRIED))
    if _is_in(sample, "windows-1252") and _is_in(data, "windows-1252"):
        signs = {sign for sign in decode(sample, "windows-1252") if not sign.isascii()}
        # Bytes of double-byte encodings come out as punctuation mostly.
        if signs <= _WESTERN and 2 * sum(map(str.isalpha, signs)) >= len(signs):
            return ["windows-1252"]
        if names and decode(sample, names[0]) == decode(sample, "windows-1252"):
            names.insert(0, "windows-1252")
    # Encodings that give the same text need no second name.
    by_text: dict[str, str] = {}
    for name in names:
        by_text.setdefault(decode(sample, name), name)
    return list(by_text.values())[:_MOST_NAMED]


def wide_encoding(data: bytes) -> str | None:
    """Return utf-16le, utf-16be, utf-32le or utf-32be for text of these without a byte order mark, by its NULs."""
    head = data[: _SAMPLE if len(data) > _SAMPLE else len(data) // 4 * 4 or len(data)]
    if b"\0" not in head:
        return None
    for name, zero_columns in (("utf-32le", (2, 3)), ("utf-32be", (0, 1))):
        whole = head[: len(head) // 4 * 4]
        if whole and not any(any(whole[column::4]) for column in zero_columns) and _is_in(data, name):
            return name
    for name, high in (("utf-16le", 1), ("utf-16be", 0)):
        whole = head[: len(head) // 2 * 2]
        pairs = list(zip(whole[high::2], whole[1 - high :: 2], strict=True))
        below = [low for high_byte, low in pairs if not high_byte]
        # Text in scripts beyond Latin has NUL in its spaces, line ends and punctuation only.
        is_text = 10 * len(below) >= 3 * len(pairs) or not re.search(rb"[0-9A-Za-z]", bytes(below))
        if below and 0 not in below and is_text and _is_in(data, name):
            return name
    return None


def _sample(data: bytes) -> bytes:
    """Return the lines around the first bytes that are not ASCII."""
    first = _NOT_ASCII.search(data)
    if first is None:
        return data[:_SAMPLE]
    start = max(data.rfind(b"\n", 0, first.start()) + 1, first.start() - 256)
    part = data[start : start + _SAMPLE]
    return part[: part.rfind(b"\n") + 1] or part


def _detected(sample: bytes) -> list[str]:
    from charset_normalizer import from_bytes

    logging.getLogger("charset_normalizer").setLevel(logging.CRITICAL)
    names: list[str] = []
    for match in from_bytes(sample, steps=5, chunk_size=512, preemptive_behaviour=False, enable_fallback=False):
        for codec in (match.encoding, *match.could_be_from_charset):
            name = canonical(codec.replace("_", "-")) or canonical(codec)
            if name is not None and name not in names and name != "utf-8" and not _UNLIKELY.match(name):
                names.append(name)
    return names


def _is_in(data: bytes, name: str) -> bool:
    try:
        decode(data, name)
    except UnicodeDecodeError:
        return False
    return True
