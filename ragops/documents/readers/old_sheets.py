"""Look into XLS, which kreuzberg reads: whether a password protects it."""

from __future__ import annotations

import struct

from ragops.documents.errors import Unreadable
from ragops.documents.readers.streams import Streams

_FILEPASS = 0x002F


def refuse_encrypted(streams: Streams) -> None:
    """Raise Unreadable if the workbook is encrypted ([MS-XLS] 2.4.117)."""
    data = streams.read("Workbook") or streams.read("Book")
    position = 0
    for _ in range(10):  # FilePass is among the first records
        if position + 4 > len(data):
            return
        kind, length = struct.unpack_from("<HH", data, position)
        if kind == _FILEPASS:
            raise Unreadable("encrypted: a password is needed")
        position += 4 + length
