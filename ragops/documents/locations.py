"""Check and normalise the location of a document: a POSIX-style path relative to the corpus folder."""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath, PureWindowsPath

# Windows opens a device for these names in any folder and with any suffix.
# Source: "Naming Files, Paths, and Namespaces", Microsoft Learn.
RESERVED_NAMES = frozenset(
    ["con", "prn", "aux", "nul", "conin$", "conout$"]
    + [f"{port}{digit}" for port in ("com", "lpt") for digit in "123456789¹²³"]
)

# `stat.IO_REPARSE_TAG_MOUNT_POINT` exists on Windows only; a junction leads elsewhere like a link.
_MOUNT_POINT = 0xA0000003
_SEPARATORS = re.compile(r"[\\/]")
# A line without anything that has a second meaning or, except for the `./` that `find` prints, a second
# spelling on a POSIX system: one match of 1.0 µs replaces `refusal` and `normalised`, 6.6 µs.
_PLAIN_LINE = re.compile(rb"(?:\./)*((?![#./\\:])[!-~][^/\\:\0\r\n]*(?:/[^./\\:\0\r\n][^/\\:\0\r\n]*)*)\r?\n?")
_LONGEST_PLAIN_BYTES = 4096
# The same for many lines at once: the only bytes that they may contain, and pairs of bytes that they must not.
_PLAIN_BYTES = bytes(set(range(0x20, 0x7F)) - set(b"\\:")) + b"\n"
_SPECIAL_PAIRS = (b"//", b"/.", b"/\n", b"\n/", b"\n.", b"\n#", b"\n ", b"\n\n")


def is_reserved(name: str) -> bool:
    """Return whether Windows would open a device instead of a file of this name."""
    return name.split(".")[0].rstrip(" ").lower() in RESERVED_NAMES


def plain_line(raw: bytes) -> str | None:
    """Return the location in a manifest's line if it is certainly valid and normalised; None: unknown.

    A fast path for manifests of a million lines.
    """
    if os.name == "nt" or len(raw) > _LONGEST_PLAIN_BYTES or not raw.isascii():
        return None
    match = _PLAIN_LINE.fullmatch(raw)
    return match[1].decode() if match else None


def plain_lines(block: bytes) -> list[str] | None:
    """Return the locations in a block of whole lines, each as `plain_line` gives it; None: unknown."""
    if os.name == "nt" or block.translate(None, _PLAIN_BYTES):
        return None
    body = block.removesuffix(b"\n")
    fenced = b"\n" + body + b"\n"
    if any(pair in fenced for pair in _SPECIAL_PAIRS):
        return None
    lines = body.decode().split("\n")
    return lines if max(map(len, lines)) <= _LONGEST_PLAIN_BYTES else None


def refusal(location: str) -> str | None:
    """Return why a location must not be opened below a corpus folder; None if its spelling is valid.

    Checks the text only, not the file.
    """
    if not location.strip():
        return "empty path"
    if "\0" in location:
        return "NUL character in the path"
    # Both separators count on every system: a manifest that was written on Windows must not mean another
    # file when it is read on Linux.
    if location.startswith("/") or PureWindowsPath(location).is_absolute():
        return "absolute path"
    if ".." in _SEPARATORS.split(location):
        return "'..' in the path"
    if os.name != "nt":
        return None
    # Only Windows gives these a second meaning; elsewhere they are ordinary characters of a name.
    if location.startswith("\\"):
        return "absolute path"
    if ":" in location:
        return "drive or stream in the path"
    if any(is_reserved(part) for part in _SEPARATORS.split(location)):
        return "device name in the path"
    return None


def normalised(location: str) -> str:
    """Return the one spelling of a location: `./a//b` becomes `a/b`; on Windows `a\\b` becomes `a/b`."""
    path = PureWindowsPath(location) if os.name == "nt" else PurePosixPath(location)
    return path.as_posix()


def is_junction(path: Path) -> bool:
    """Return whether a folder is an NTFS junction, which Python 3.11 does not count as a link."""
    return os.name == "nt" and getattr(path.lstat(), "st_reparse_tag", 0) == _MOUNT_POINT


def relative_inside(real_root: str, real: str) -> str | None:
    """Return a resolved path relative to the resolved root, POSIX-style; None if it lies elsewhere."""
    try:
        if os.path.commonpath([real_root, real]) != real_root:
            return None
    except ValueError:  # another drive
        return None
    return Path(os.path.relpath(real, real_root)).as_posix() if real != real_root else ""
