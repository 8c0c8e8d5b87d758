"""Read the one member of a compressed file (`ls.1.gz`) without letting it grow past a limit."""

from __future__ import annotations

import bz2
import lzma
import zlib
from pathlib import PurePath
from typing import Protocol

from ragops.documents.errors import Unreadable
from ragops.documents.formats import COMPRESSED, Kind, kind_of, suffix_by_content, suffix_of

# A dictionary of xz may ask for 4 GiB; xz itself uses at most 65 MiB to decompress what `xz -9` made.
_XZ_MEMORY = 128 * 1024 * 1024


class _Decompressor(Protocol):
    """What zlib, bz2 and lzma have in common."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int = ..., /) -> bytes: ...


def member_of(name: str, data: bytes, max_bytes: int) -> tuple[str, bytes]:
    """Return the name and bytes of what a compressed file holds; those given for every other file.

    Raises Unreadable for damaged data, for a member larger than `max_bytes`, and for compressed archives.
    """
    suffix = suffix_of(name)
    content = suffix_by_content(data)
    if content not in COMPRESSED:
        if kind_of(suffix) is Kind.COMPRESSED:
            raise Unreadable(f"named {suffix}, but it is not compressed with {COMPRESSED[suffix]}")
        return name, data
    if kind_of(suffix) is Kind.ARCHIVE:
        return name, data  # `.tgz`: refused by its name
    inner = _decompressed(data, content, max_bytes)
    member = name
    if kind_of(suffix) is Kind.COMPRESSED:
        member = PurePath(name.rstrip()).stem + (".svg" if suffix == ".svgz" else "")
    if suffix_by_content(inner) in COMPRESSED:
        raise Unreadable("compressed twice: decompress it once")
    return member, inner


def _decompressed(data: bytes, suffix: str, max_bytes: int) -> bytes:
    """Return all streams of compressed data, one behind the other, as gzip, bzip2 and xz do."""
    parts: list[bytes] = []
    room = max_bytes + 1
    while data and room > 0:
        stream = _decompressor(suffix)
        try:
            part = stream.decompress(data, room)
        except (zlib.error, OSError, lzma.LZMAError, EOFError, ValueError) as error:
            raise Unreadable(f"damaged {COMPRESSED[suffix]} data: {error}") from None
        parts.append(part)
        room -= len(part)
        if room <= 0:
            break
        if not stream.eof:
            raise Unreadable(f"damaged {COMPRESSED[suffix]} data: it ends early")
        data = stream.unused_data.lstrip(b"\0")  # tapes and some programs pad with zeros
    if room <= 0:
        raise Unreadable(f"decompressed, larger than {max_bytes} bytes")
    return b"".join(parts)


def _decompressor(suffix: str) -> _Decompressor:
    if suffix == ".bz2":
        return bz2.BZ2Decompressor()
    if suffix == ".xz":
        return lzma.LZMADecompressor(memlimit=_XZ_MEMORY)
    return zlib.decompressobj(wbits=31)  # 31: with the header and the checksum of gzip
