"""Open a document below a corpus folder so that no link leads outside, also one that appears meanwhile."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from ragops.documents.errors import Missing, Unreadable
from ragops.documents.locations import normalised, refusal, relative_inside
from ragops.documents.os_errors import is_outage
from ragops.documents.sources import open_regular

# O_NONBLOCK returns from a FIFO that nobody writes to.
_FILE = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY", "O_CLOEXEC"))
# O_PATH (Linux) and O_SEARCH need no right to list the folder, as with a path.
_SEARCH = getattr(os, "O_PATH", 0) or getattr(os, "O_SEARCH", 0) or os.O_RDONLY
_FOLDER = _SEARCH | sum(getattr(os, name, 0) for name in ("O_DIRECTORY", "O_NOFOLLOW", "O_CLOEXEC"))


def open_document(root: Path, location: str, *, follow_links: bool = False) -> BinaryIO:
    """Return a regular file below `root`, opened; it is read from there and never by its path again.

    With `follow_links`, the location may lead through links to a file inside the root.
    Raises as `open_regular`, which gives the precise reason in all cases but a race.
    """
    if follow_links:
        root, location = _behind_links(root, location)
    path = open_regular(root, location)
    with _reasons(str(path)):
        if os.open in os.supports_dir_fd and hasattr(os, "O_NOFOLLOW"):
            descriptor = _open_step_by_step(root, PurePosixPath(normalised(location)).parts)
        else:
            descriptor = _open_and_compare(root, path)
        return os.fdopen(descriptor, "rb")


def _behind_links(root: Path, location: str) -> tuple[Path, str]:
    """Return root and location without links; unchanged where `open_regular` has the reason against them.

    The file is then opened without following any link, so that one which changes meanwhile leads nowhere.
    """
    if refusal(location) is not None:
        return root, location
    try:
        real_root = os.path.realpath(root, strict=True)
        real = os.path.realpath(root / location, strict=True)
    except OSError as error:
        if is_outage(error):
            raise
        return root, location
    inside = relative_inside(real_root, real)
    if inside is None:
        raise Unreadable("leads outside the corpus folder", where=location)
    return Path(real_root), inside or "."


def open_file(path: Path) -> BinaryIO:
    """Return the regular file at a path, opened, unless its last component is a link.

    Raises Unreadable, and OSError for a file system that is at fault.
    """
    with _reasons(str(path)):
        return os.fdopen(_regular(os.open(path, _FILE)), "rb")


def _open_step_by_step(root: Path, parts: tuple[str, ...]) -> int:
    """Open each component below the one before it, none through a link."""
    folder = os.open(root, _FOLDER & ~getattr(os, "O_NOFOLLOW", 0))  # the root itself may be a link
    try:
        for part in parts[:-1]:
            below = os.open(part, _FOLDER, dir_fd=folder)
            os.close(folder)
            folder = below
        return _regular(os.open(parts[-1], _FILE, dir_fd=folder))
    finally:
        os.close(folder)


def _open_and_compare(root: Path, path: Path) -> int:
    """Open a path, and check that it still leads to the opened file inside the root (Windows)."""
    descriptor = _regular(os.open(path, _FILE))
    is_inside = path.resolve().is_relative_to(root.resolve())
    if not (is_inside and os.path.samestat(os.fstat(descriptor), path.lstat())):
        os.close(descriptor)
        raise Unreadable("changed while it was opened")
    return descriptor


def _regular(descriptor: int) -> int:
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Unreadable("not a regular file")
    return descriptor


@contextlib.contextmanager
def _reasons(where: str) -> Iterator[None]:
    """Turn errors of the system into Unreadable; those that are no document's fault pass through."""
    try:
        yield
    except OSError as error:
        if is_outage(error):
            raise
        if isinstance(error, FileNotFoundError):
            raise Missing("no such file", where=where) from error
        if isinstance(error, PermissionError):
            reason = "permission denied"
        elif error.errno in (errno.ELOOP, errno.EMLINK, errno.ENOTDIR):  # what O_NOFOLLOW gives for a link
            reason = "symbolic link, not a regular file"
        elif error.errno in (errno.EISDIR, errno.ENXIO):
            reason = "not a regular file"
        else:
            reason = f"cannot be read: {error.strerror or error}"
    except Unreadable as failure:
        reason = failure.reason
    else:
        return
    raise Unreadable(reason, where=where)
