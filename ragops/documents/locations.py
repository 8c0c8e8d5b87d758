"""What may stand as the location of a document: a POSIX-style path relative to the corpus folder."""

from __future__ import annotations

import os
import re
from pathlib import PurePosixPath, PureWindowsPath

# Windows opens a device for these names in any folder and with any suffix.
# Source: "Naming Files, Paths, and Namespaces", Microsoft Learn.
RESERVED_NAMES = frozenset(
    ["con", "prn", "aux", "nul", "conin$", "conout$"]
    + [f"{port}{digit}" for port in ("com", "lpt") for digit in "123456789¹²³"]
)

_SEPARATORS = re.compile(r"[\\/]")
# A line in which nothing could have a second meaning or, but for the `./` of `find`, a second spelling on a
# POSIX system.
_PLAIN_LINE = re.compile(rb"(?:\./)*((?![#./\\:])[!-~][^/\\:\0\r\n]*(?:/[^./\\:\0\r\n][^/\\:\0\r\n]*)*)\r?\n?")
_LONGEST_PLAIN_BYTES = 4096
# The same for many lines at once: characters that none of them may hold, and pairs that none may hold either.
_PLAIN_BYTES = bytes(set(range(0x20, 0x7F)) - set(b"\\:")) + b"\n"
_SPECIAL_PAIRS = (b"//", b"/.", b"/\n", b"\n/", b"\n.", b"\n#", b"\n ", b"\n\n")


def is_reserved(name: str) -> bool:
    """Whether Windows would open a device instead of a file of this name."""
    return name.split(".")[0].rstrip(" ").lower() in RESERVED_NAMES


def plain_line(raw: bytes) -> str | None:
    """The location of a manifest's line that is certainly sound and in its one spelling; None says nothing.

    It spares a manifest of a million lines most of its time.
    """
    if os.name == "nt" or len(raw) > _LONGEST_PLAIN_BYTES or not raw.isascii():
        return None
    found = _PLAIN_LINE.fullmatch(raw)
    return found[1].decode() if found else None


def plain_lines(block: bytes) -> list[str] | None:
    """The locations of a block of whole lines, each as `plain_line` gives it; None says nothing."""
    if os.name == "nt" or block.translate(None, _PLAIN_BYTES):
        return None
    body = block.removesuffix(b"\n")
    fenced = b"\n" + body + b"\n"
    if any(pair in fenced for pair in _SPECIAL_PAIRS):
        return None
    lines = body.decode().split("\n")
    return lines if max(map(len, lines)) <= _LONGEST_PLAIN_BYTES else None


def refusal(location: str) -> str | None:
    """Why a location may not be opened below a corpus folder; None where its spelling is sound.

    Looks at the text only. Both separators are looked at on every system: a manifest written on
    Windows and read on Linux must not mean something else there.
    """
    if not location.strip():
        return "empty path"
    if "\0" in location:
        return "NUL character in the path"
    if location.startswith("/") or PureWindowsPath(location).is_absolute():
        return "absolute path"
    if ".." in _SEPARATORS.split(location):
        return "'..' in the path"
    return _windows_refusal(location) if os.name == "nt" else None


def _windows_refusal(location: str) -> str | None:
    """What only Windows reads a second meaning into: drives, streams, roots and devices."""
    if location.startswith("\\"):
        return "absolute path"
    if ":" in location:
        return "drive or stream in the path"
    if any(is_reserved(part) for part in _SEPARATORS.split(location)):
        return "device name in the path"
    return None


def normalised(location: str) -> str:
    """One spelling for one file: `./a//b` becomes `a/b`; on Windows `a\\b` becomes `a/b`."""
    path = PureWindowsPath(location) if os.name == "nt" else PurePosixPath(location)
    return path.as_posix()
