"""Encode and read the frames between the controller and its embedder child.

A frame is a big-endian length of 4 bytes, a JSON header in ASCII of that length, and then `payload` raw
bytes if the header has that key. `child.py` has its own copy of this format, because it runs under
interpreters without ragops; both are shipped together, so the format may change with any release.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

# Text printed into the pipe ("Trac…") reads as a length of over a gigabyte: rejected, not waited for.
MAX_HEADER_BYTES = 1 << 28
MAX_PAYLOAD_BYTES = 1 << 31


class BrokenFrame(Exception):
    """The bytes on the pipe are not a frame."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One message: a JSON object and the raw bytes that belong to it."""

    header: Mapping[str, Any]
    payload: bytes = b""


def encode_frame(header: Mapping[str, Any], payload: bytes = b"") -> bytes:
    """Return the frame as bytes; lone surrogates and all other characters survive as JSON escapes."""
    full = {**header, "payload": len(payload)} if payload else dict(header)
    body = json.dumps(full, ensure_ascii=True).encode("ascii")
    return len(body).to_bytes(4, "big") + body + payload


def read_frame(source: BinaryIO) -> Frame | None:
    """Return the next frame, or None at the end of the stream, also in the middle of a frame.

    Raises BrokenFrame if the bytes cannot be a frame.
    """
    size = source.read(4)
    if len(size) < 4:
        return None
    length = int.from_bytes(size, "big")
    if length > MAX_HEADER_BYTES:
        raise BrokenFrame(f"a header of {length} bytes, starting with {size!r}")
    body = source.read(length)
    if len(body) < length:
        return None
    try:
        header = json.loads(body)
    except ValueError as error:
        raise BrokenFrame(f"a header that is not JSON: {error}") from None
    if not isinstance(header, dict):
        raise BrokenFrame(f"a header that is a {type(header).__name__}, not an object")
    expected = header.get("payload", 0)
    if not isinstance(expected, int) or not 0 <= expected <= MAX_PAYLOAD_BYTES:
        raise BrokenFrame(f"a payload of {expected!r} bytes")
    payload = source.read(expected) if expected else b""
    return Frame(header, payload) if len(payload) == expected else None
