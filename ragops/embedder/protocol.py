"""Frames between the controller and its embedder child.

A frame is a big-endian length of 4 bytes, a JSON header in ASCII of that length, and then
`payload` raw bytes where the header names such a number. `child.py` carries its own copy of this
format, because it runs under interpreters that have no ragops.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

MAX_HEADER_BYTES = 1 << 28
MAX_PAYLOAD_BYTES = 1 << 31


class BrokenFrame(Exception):
    """The bytes on the pipe are no frame."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One message: a JSON object and the raw bytes that belong to it."""

    header: Mapping[str, Any]
    payload: bytes = b""


def encode_frame(header: Mapping[str, Any], payload: bytes = b"") -> bytes:
    """The frame as bytes; lone surrogates and every other character survive as JSON escapes."""
    full = {**header, "payload": len(payload)} if payload else dict(header)
    body = json.dumps(full, ensure_ascii=True).encode("ascii")
    return len(body).to_bytes(4, "big") + body + payload


def read_frame(source: BinaryIO) -> Frame | None:
    """The next frame, or None where the stream ends, also in the middle of a frame.

    Raises BrokenFrame when what arrives cannot be a frame.
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
    header = _decode_header(body)
    wanted = header.get("payload", 0)
    if not isinstance(wanted, int) or not 0 <= wanted <= MAX_PAYLOAD_BYTES:
        raise BrokenFrame(f"a payload of {wanted!r} bytes")
    payload = source.read(wanted) if wanted else b""
    return Frame(header, payload) if len(payload) == wanted else None


def _decode_header(body: bytes) -> dict[str, Any]:
    try:
        header = json.loads(body)
    except ValueError as error:
        raise BrokenFrame(f"a header that is no JSON: {error}") from None
    if not isinstance(header, dict):
        raise BrokenFrame(f"a header that is a {type(header).__name__}, not an object")
    return header
