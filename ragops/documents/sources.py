"""Documents as files: which there are, and opening one without leaving the corpus folder."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase, translate
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from ragops.documents.errors import Unreadable
from ragops.documents.locations import normalised, plain_line, plain_lines, refusal
from ragops.errors import RagopsError, UsageError

LONGEST_LINE_BYTES = 64 * 1024

# `stat.IO_REPARSE_TAG_MOUNT_POINT` exists on Windows only; a junction leads away like a link.
_MOUNT_POINT = 0xA0000003


def walk_folder(root: Path, patterns: Sequence[str]) -> Iterator[str]:
    """Locations of the regular files below `root`, relative to it, POSIX-style, one at a time.

    The order is that of the sorted path components, the same on every system. Hidden files and
    folders and everything behind a symbolic link are left out. A pattern without a slash matches
    the name at any depth; one with a slash matches the whole location, `**` any number of folders;
    case counts. No patterns: every file.

    Raises UsageError where the root is no folder, a pattern leads outside, a folder cannot be
    listed, or a matching name cannot be stored as UTF-8.
    """
    if not root.is_dir():
        raise UsageError(
            "the corpus is no folder",
            where=str(root),
            actual="a file" if root.exists() else "nothing at this path",
            expected="a folder of documents",
            hint="check the path of the source in the playbook",
        )
    return _walk(root, _matcher([_segments(pattern) for pattern in patterns]))


def _walk(root: Path, is_wanted: Callable[[str, str], bool]) -> Iterator[str]:
    # A stack instead of recursion: a tree may be deeper than Python's recursion limit.
    stack = [_below(root, "")]
    while stack:
        above, names, folders = stack[-1]
        for name in names:
            if name in folders:
                stack.append(_below(root, f"{above}{name}/"))
                break
            if is_wanted(above, name):
                yield _storable(above + name)
        else:
            stack.pop()


def _below(root: Path, above: str) -> tuple[str, Iterator[str], set[str]]:
    """What lies in one folder: its own location with a closing slash, the sorted names, which are folders."""
    folder = root / above
    files: list[str] = []
    folders: set[str] = set()
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                name = entry.name
                if name.startswith("."):
                    continue
                if entry.is_file(follow_symlinks=False):
                    files.append(name)
                elif entry.is_dir(follow_symlinks=False) and not _leads_away(folder / name):
                    folders.add(name)
    except OSError as error:
        raise UsageError(
            "a folder of the corpus cannot be listed",
            where=str(folder),
            actual=error.strerror or str(error),
            hint="grant read access to the folder or move it out of the corpus",
        ) from error
    return above, iter(sorted([*files, *folders])), folders


def _storable(location: str) -> str:
    if location.isascii():
        return location
    try:
        location.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UsageError(
            "a file name is not UTF-8 and cannot be stored in the queue",
            where=location.encode("utf-8", "backslashreplace").decode("utf-8"),
            hint="rename the file or narrow the source's patterns",
        ) from error
    return location


def _segments(pattern: str) -> tuple[str, ...]:
    if (reason := refusal(pattern)) is not None:
        raise UsageError(
            "a pattern of the source cannot be used",
            where=repr(pattern),
            actual=reason,
            expected="a pattern relative to the corpus folder, such as *.md or docs/**/*.txt",
        )
    segments = PurePosixPath(pattern).parts
    if len(segments) == 1 and segments != ("**",):
        segments = ("**", *segments)
    # Only files are listed, so a trailing `**` can only mean the files below.
    return (*segments, "*") if segments[-1] == "**" else segments


def _matcher(patterns: list[tuple[str, ...]]) -> Callable[[str, str], bool]:
    """Whether a file is wanted, from its folder's location with a closing slash and its name."""
    # A name at any depth, by far the most common kind, is one look at the name; `*.md` at its end alone.
    names = [pattern[1] for pattern in patterns if len(pattern) == 2 and pattern[0] == "**"]
    others = [pattern for pattern in patterns if not (len(pattern) == 2 and pattern[0] == "**")]
    suffixes = tuple(name[1:] for name in names if name[0] == "*" and not set("*?[") & set(name[1:]))
    if not patterns or "" in suffixes:
        return lambda above, name: True
    if len(suffixes) == len(patterns):
        return lambda above, name: name.endswith(suffixes)
    is_named = re.compile("|".join(map(translate, names))).match if names else None

    def is_wanted(above: str, name: str) -> bool:
        if is_named is not None and is_named(name):
            return True
        return any(_matches((*above.split("/")[:-1], name), pattern) for pattern in others)

    return is_wanted


def _matches(parts: tuple[str, ...], segments: tuple[str, ...]) -> bool:
    """Walks all readings of `**` at once, so that no pattern takes exponential time."""
    places = _past_stars({0}, segments)
    for part in parts:
        onward = set()
        for place in places:
            if place == len(segments):
                continue
            if segments[place] == "**":
                onward.add(place)
            elif fnmatchcase(part, segments[place]):
                onward.add(place + 1)
        places = _past_stars(onward, segments)
    return len(segments) in places


def _past_stars(places: set[int], segments: tuple[str, ...]) -> set[int]:
    """The places themselves and those behind each `**`, which may stand for no folder at all."""
    reached = set(places)
    for place in sorted(places):
        while place < len(segments) and segments[place] == "**":
            place += 1
            reached.add(place)
    return reached


def read_manifest(file: Path) -> Iterator[str]:
    """Locations listed in a UTF-8 text file, one a line, one at a time.

    Blank lines and lines that start with `#` are left out; `./a` and `a` are given as `a`.
    Raises UsageError with the line number for a location that is absolute, contains `..` or is
    not UTF-8, and where the file cannot be opened.
    """
    try:
        handle = file.open("rb")
    except OSError as error:
        raise UsageError(
            "the manifest cannot be opened",
            where=str(file),
            actual=error.strerror or str(error),
            expected="a text file with one location a line",
            hint="check the path of the manifest in the playbook",
        ) from error
    with handle:
        number = 0
        for block in _blocks_of_lines(handle):
            if number and (plain := plain_lines(block)) is not None:
                number += len(plain)
                yield from plain
                continue
            for raw in block.removesuffix(b"\n").split(b"\n"):
                number += 1
                location = plain_line(raw) if number > 1 else None
                location = location or _manifest_line(file, number, raw)
                if location is not None:
                    yield location


def _blocks_of_lines(handle: BinaryIO) -> Iterator[bytes]:
    """Blocks of whole lines, and of a line without an end so much that it is seen to be too long."""
    rest = b""
    while chunk := handle.read(LONGEST_LINE_BYTES):
        whole, newline, rest = (rest + chunk).rpartition(b"\n")
        if newline:
            yield whole + newline
        if len(rest) >= LONGEST_LINE_BYTES:
            yield rest
            rest = b""
    if rest:
        yield rest


def _manifest_line(file: Path, number: int, raw: bytes) -> str | None:
    try:
        line = raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        reason = refusal(line) if line.strip() else None
    except UnicodeDecodeError as error:
        line, reason = repr(raw[:80]), f"byte 0x{raw[error.start]:02x} is not UTF-8"
    if len(raw) >= LONGEST_LINE_BYTES:
        line, reason = f"{line[:80]}…", f"{LONGEST_LINE_BYTES} bytes without a line's end"
    if line.startswith("#") or not line.strip():
        return None
    if reason is None:
        return normalised(line)
    raise UsageError(
        f"a location of the manifest cannot be used: {reason}",
        where=f"{file}, line {number}",
        actual=line,
        expected="a path below the corpus folder, relative to it",
        hint="mend the line, then run the same command again",
    )


def open_regular(root: Path, location: str) -> Path:
    """The path of a regular file below `root`, found without following any link below the root.

    Raises Unreadable with its own reason for a path that is absolute or contains `..`, a symbolic
    link on any component, a folder, FIFO, socket or device, and a file that is missing or behind
    a closed folder. Raises RagopsError where the root itself is gone: that is an outage, not this
    document's fault.
    """
    if (reason := refusal(location)) is not None:
        raise Unreadable(reason, where=location)
    if not root.is_dir():
        raise RagopsError(
            "the corpus folder is gone",
            where=str(root),
            expected="the folder that the queue was seeded from",
            hint="mount or restore the folder, then run the same command again",
        )
    path = root
    parts = PurePosixPath(normalised(location)).parts
    for depth, part in enumerate(parts, start=1):
        path = path / part
        reason = _component_refusal(path, is_last=depth == len(parts))
        if reason is not None:
            raise Unreadable(reason, where=location)
    if path == root:
        raise Unreadable("a folder, not a regular file", where=location)
    if not path.resolve().is_relative_to(root.resolve()):
        raise Unreadable("leads outside the corpus folder", where=location)
    return path


def _component_refusal(path: Path, *, is_last: bool) -> str | None:
    try:
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode) or _leads_away(path):
            return f"symbolic link: {path.name}"
    except (FileNotFoundError, NotADirectoryError):
        return "no such file"
    except PermissionError:
        return "permission denied"
    except (OSError, ValueError) as error:
        return f"cannot be opened: {getattr(error, 'strerror', None) or error}"
    if stat.S_ISREG(mode):
        return None if is_last else f"not a folder: {path.name}"
    if stat.S_ISDIR(mode):
        return "a folder, not a regular file" if is_last else None
    return f"{_kind(mode)}, not a regular file"


def _kind(mode: int) -> str:
    if stat.S_ISFIFO(mode):
        return "a FIFO"
    if stat.S_ISSOCK(mode):
        return "a socket"
    return "a device"


def _leads_away(path: Path) -> bool:
    """Whether a folder is an NTFS junction, which Python 3.11 does not count as a link."""
    return os.name == "nt" and getattr(path.lstat(), "st_reparse_tag", 0) == _MOUNT_POINT
