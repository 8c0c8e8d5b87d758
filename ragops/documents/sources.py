"""List the files of a corpus folder, and open one without leaving the folder."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase, translate
from pathlib import Path, PurePosixPath

from ragops.documents.errors import Missing, Unreadable
from ragops.documents.locations import normalised, refusal
from ragops.documents.os_errors import is_folder, is_outage
from ragops.errors import RagopsError, UsageError

# `stat.IO_REPARSE_TAG_MOUNT_POINT` exists on Windows only; a junction leads elsewhere like a link.
_MOUNT_POINT = 0xA0000003


def walk_folder(root: Path, patterns: Sequence[str]) -> Iterator[str]:
    """Return the locations of the regular files below `root`, relative to it, POSIX-style, one at a time.

    The order is that of the sorted path components, the same on every system. Hidden files and folders
    and everything behind a symbolic link are skipped. A pattern without a slash matches the name at any
    depth; one with a slash matches the whole location, `**` any number of folders. Matching is
    case-sensitive. Without patterns: every file.

    Raises UsageError if the root is not a folder, a pattern leads outside, a folder cannot be listed, or a
    matching name cannot be stored as UTF-8.
    """
    # Not a generator itself: a wrong root or pattern must fail here, before anything else is prepared.
    if not is_folder(root):
        raise UsageError(
            "the corpus is not a folder",
            where=str(root),
            actual="a file" if root.exists() else "no such file or folder",
            expected="a folder of documents",
            hint="check source.folder in the playbook (RAGOPS_CORPUS) or --folder",
        )
    return _walk(root, _matcher(patterns))


def _walk(root: Path, is_wanted: Callable[[str, str], bool]) -> Iterator[str]:
    # A stack instead of recursion: a tree may be deeper than Python's recursion limit of 1,000 frames.
    stack = [_list_folder(root, "")]
    while stack:
        above, names, folders = stack[-1]
        for name in names:
            if name in folders:
                stack.append(_list_folder(root, f"{above}{name}/"))
                break
            if not is_wanted(above, name):
                continue
            location = above + name
            try:
                # os.scandir decodes bytes that are not UTF-8 to lone surrogates, which PostgreSQL's text refuses.
                location.encode("utf-8")
            except UnicodeEncodeError as error:
                raise UsageError(
                    "a file name is not UTF-8 and cannot be stored in the queue",
                    where=location.encode("utf-8", "backslashreplace").decode("utf-8"),
                    hint="rename the file or narrow the source's patterns",
                ) from error
            yield location
        else:
            stack.pop()


def _list_folder(root: Path, above: str) -> tuple[str, Iterator[str], set[str]]:
    """Return a folder's location with a closing slash, its sorted names, and which of them are folders."""
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
                elif entry.is_dir(follow_symlinks=False) and not _is_junction(folder / name):
                    folders.add(name)
    except OSError as error:
        # Skipping the folder would silently drop its documents from the rebuilt corpus.
        raise UsageError(
            "a folder of the corpus cannot be listed",
            where=str(folder),
            actual=error.strerror or str(error),
            hint="grant read access to the folder or move it out of the corpus",
        ) from error
    return above, iter(sorted([*files, *folders])), folders


def _matcher(patterns: Sequence[str]) -> Callable[[str, str], bool]:
    """Return a test of a file, given its folder's location with a closing slash and its name."""
    names: list[str] = [] if patterns else ["*"]
    paths: list[tuple[str, ...]] = []
    for pattern in patterns:
        segments = PurePosixPath(pattern).parts
        reason = refusal(pattern) or (None if segments else "the corpus folder itself")
        if reason is not None:
            raise UsageError(
                "invalid pattern in the source",
                where=repr(pattern),
                actual=reason,
                expected="a pattern relative to the corpus folder, such as *.md or docs/**/*.txt",
                hint="check source.patterns in the playbook or --pattern",
            )
        if segments[-1] == "**":
            # Only files are listed, so that a trailing `**` can only mean the files below.
            segments = (*segments, "*")
        if len(segments) == 1 or (len(segments) == 2 and segments[0] == "**"):
            names.append(segments[-1])
        else:
            paths.append(segments)
    # A name at any depth (`*.md`) is by far the most common pattern. One regular expression on the name takes
    # 0.2 µs per file, the match of whole paths up to 10 µs.
    is_named = re.compile("|".join(map(translate, names)) or "(?!)").match
    return lambda above, name: (
        is_named(name) is not None
        or (bool(paths) and any(_matches((*above.split("/")[:-1], name), segments) for segments in paths))
    )


def location_matcher(patterns: Sequence[str]) -> Callable[[str], bool]:
    """Return a test of a whole location against patterns as `walk_folder` takes them. Raises as it does."""
    is_wanted = _matcher(patterns)

    def matches(location: str) -> bool:
        above, slash, name = location.rpartition("/")
        return is_wanted(above + slash, name)

    return matches


def _matches(parts: tuple[str, ...], segments: tuple[str, ...]) -> bool:
    """Return whether a location matches a pattern, both given as their parts."""
    # All readings of `**` advance together, as in Thompson's simulation of an NFA (CACM 11(6), 1968), so that
    # no pattern takes exponential time.
    states = _past_stars({0}, segments)
    for part in parts:
        onward = set()
        for state in states:
            if state == len(segments):
                continue
            if segments[state] == "**":
                onward.add(state)
            elif fnmatchcase(part, segments[state]):
                onward.add(state + 1)
        states = _past_stars(onward, segments)
    return len(segments) in states


def _past_stars(states: set[int], segments: tuple[str, ...]) -> set[int]:
    """Return the states and those behind each `**`, which may stand for no folder at all."""
    reached = set(states)
    for state in sorted(states):
        while state < len(segments) and segments[state] == "**":
            state += 1
            reached.add(state)
    return reached


def open_regular(root: Path, location: str) -> Path:
    """Return the path of a regular file below `root`, without following any link below the root.

    Raises Unreadable with the reason for a path that is absolute or contains `..`, a symbolic link in any
    component, a folder, FIFO, socket or device, and a file behind a closed folder; Missing for a file that
    does not exist. Raises RagopsError if the root itself is gone, and OSError for a file system that is at fault:
    those are outages, not the document's fault.
    """
    if (reason := refusal(location)) is not None:
        raise Unreadable(reason, where=location)
    if not is_folder(root):
        raise RagopsError(
            "the corpus folder no longer exists",
            where=str(root),
            expected="the folder from which the queue was seeded",
            hint="mount or restore the folder, then run the same command again, a campaign with: "
            "ragops reset --resume",
        )
    path = root
    parts = PurePosixPath(normalised(location)).parts
    for depth, part in enumerate(parts, start=1):
        path = path / part
        try:
            reason = _component_refusal(path, is_last=depth == len(parts))
        except (FileNotFoundError, NotADirectoryError) as error:
            if is_outage(error):
                raise
            raise Missing("no such file", where=location) from error
        if reason is not None:
            raise Unreadable(reason, where=location)
    if path == root:  # the location `.`
        raise Unreadable("a folder, not a regular file", where=location)
    # The last line of defence: a race, or a kind of link that lstat does not show.
    if not path.resolve().is_relative_to(root.resolve()):
        raise Unreadable("leads outside the corpus folder", where=location)
    return path


def _component_refusal(path: Path, *, is_last: bool) -> str | None:
    """Return why one component of a path cannot be used; None if it can. Raises OSError as `open_regular`."""
    try:
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode) or _is_junction(path):
            return f"symbolic link: {path.name}"
    except (FileNotFoundError, NotADirectoryError):
        raise
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and is_outage(error):
            raise
        if isinstance(error, PermissionError):
            return "permission denied"
        return f"cannot be opened: {getattr(error, 'strerror', None) or error}"
    if stat.S_ISREG(mode):
        return None if is_last else f"not a folder: {path.name}"
    if stat.S_ISDIR(mode):
        return "a folder, not a regular file" if is_last else None
    kind = "a FIFO" if stat.S_ISFIFO(mode) else "a socket" if stat.S_ISSOCK(mode) else "a device"
    return f"{kind}, not a regular file"


def _is_junction(path: Path) -> bool:
    """Return whether a folder is an NTFS junction, which Python 3.11 does not count as a link."""
    return os.name == "nt" and getattr(path.lstat(), "st_reparse_tag", 0) == _MOUNT_POINT
