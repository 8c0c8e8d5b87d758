"""Paths to ragops' data and cache directories, with environment overrides."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import platformdirs


def data_folder() -> Path:
    """Return the user's data folder: the embedded server, the demo's corpus. RAGOPS_DATA_DIR overrides it."""
    # Absolute: child processes may run in another folder.
    given = os.environ.get("RAGOPS_DATA_DIR")
    return Path(given).absolute() if given else platformdirs.user_data_path("ragops")


def cache_folder() -> Path:
    """Return the user's cache folder: converted models, computed vectors. RAGOPS_CACHE_DIR overrides it."""
    given = os.environ.get("RAGOPS_CACHE_DIR")
    return Path(given).absolute() if given else platformdirs.user_cache_path("ragops")


def cache_file() -> Path:
    """Return the file of cached vectors."""
    return cache_folder() / "vectors.sqlite"


def tuning_file() -> Path:
    """Return the file of the settings that `ragops tune` chose on this machine."""
    return data_folder() / "tuning.json"


def server_folder() -> Path:
    """Return the folder of the embedded server's data.

    Run by root, the server has a user of its own, who must be able to pass through every folder above: root's home
    folder stays closed if the data are not in there.
    """
    folder = data_folder() / "postgres"
    is_root = sys.platform != "win32" and os.geteuid() == 0
    if is_root and not os.environ.get("RAGOPS_DATA_DIR") and not (folder / "PG_VERSION").exists():
        return Path("/var/lib/ragops/postgres")
    return folder


def demo_file() -> Path:
    """Return the file of the demo's playbook variables, for later commands on the embedded server."""
    return data_folder() / "demo.json"


def with_defaults(environment: Mapping[str, str], defaults: Mapping[str, str]) -> dict[str, str]:
    """Return the environment with defaults for variables that are unset or empty."""
    # Empty counts as unset, as in a playbook's `${NAME:-default}`.
    return {**environment, **{name: value for name, value in defaults.items() if not environment.get(name)}}


def trust_file() -> Path:
    """Return the file of what this user stored in databases from this machine, as hashes."""
    return data_folder() / "stored-from-here"


def check_private(path: Path) -> None:
    """Raise PermissionError if another user owns a file or folder, or may write to it. POSIX only."""
    if sys.platform == "win32":
        return  # a user's folders are private there, and there is no such owner
    found = path.lstat()
    if found.st_uid != os.geteuid():
        raise PermissionError(errno.EPERM, "it belongs to another user", str(path))
    if found.st_mode & 0o022:
        raise PermissionError(errno.EPERM, "other users may write to it", str(path))


def make_private_folder(folder: Path) -> None:
    """Create a folder that only this user can read. Raises OSError, also if others own it or may write to it.

    One that is there keeps its mode: it may be one that the user shares for another purpose.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    check_private(folder)


def make_private_file(file: Path) -> None:
    """Create an empty file, unless it exists, that only this user can read. Raises OSError if another owns it."""
    # O_NOFOLLOW: a link, in a folder that others can write to, could lead to any file of this user.
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
    try:
        if sys.platform != "win32":
            if os.fstat(descriptor).st_uid != os.geteuid():
                raise PermissionError(errno.EPERM, "it belongs to another user", str(file))
            os.fchmod(descriptor, 0o600)
    finally:
        os.close(descriptor)


def append_private(file: Path, text: str) -> None:
    """Append to a private file, in one write, so that two commands at once do not mix. Raises OSError."""
    file.parent.mkdir(parents=True, exist_ok=True)
    make_private_file(file)
    with file.open("ab", buffering=0) as opened:
        opened.write(text.encode())


def replace_private(file: Path, text: str) -> None:
    """Replace a private file as a whole: another command may read it at this moment. Raises OSError."""
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_name(f"{file.name}.{os.getpid()}")
    make_private_file(fresh)
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(file)


def read_private(file: Path) -> str:
    """Return the text of a private file, empty if there is none. Raises OSError if others may write to it."""
    try:
        check_private(file)
        return file.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""
