"""Find a document below a corpus folder, without leaving the folder."""

from __future__ import annotations

import stat
from pathlib import Path, PurePosixPath

from ragops.documents.errors import Missing, Unreadable
from ragops.documents.locations import is_junction, normalised, refusal
from ragops.documents.os_errors import is_folder, is_outage
from ragops.errors import RagopsError


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
        if stat.S_ISLNK(mode) or is_junction(path):
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
