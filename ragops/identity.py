"""Name this process so that others can tell whether it still runs.

A host name and a process id are not enough: containers and cloned machines share host names, and process ids are
used again. A name therefore carries the table of processes that the id belongs to, and when the process started.
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
import sys
from functools import cache
from pathlib import Path

HOST_CHARACTERS = 30
"""With process id, table, start and a worker's number a name fits into varchar(64)."""
_PROC = Path("/proc")
_MARK = re.compile(r"([0-9a-f]{8})-(\d+)")


def holder_name() -> str:
    """Return the name of this process: `HOST:PID:TABLE-START`, or `HOST:PID` where the system says no more."""
    return _own_name(os.getpid())


@cache
def _own_name(pid: int) -> str:
    # Once for each process, as a fork has another id. A host name that changes must not change the name.
    return process_name(pid)


def process_name(pid: int) -> str:
    """Return the name of a process of this machine, as `holder_name` returns it there."""
    short = f"{_host()}:{pid}"
    table, start = process_table(), _start_of(pid)
    return short if table is None or start is None else f"{short}:{table}-{start}"


def short_name(name: str) -> str:
    """Return a name for people to read: `HOST:PID`, and the worker's number if there is one."""
    return ":".join(part for part in name.split(":") if not _MARK.fullmatch(part))


def is_dead_here(name: str) -> bool:
    """Return whether a process of this machine (or a worker of it) no longer runs.

    False for names of other machines, of other containers on this machine, and of older versions, which did not
    say where their process ids come from: only their leases tell.
    """
    parts = name.split(":")
    found = _MARK.fullmatch(parts[2]) if len(parts) > 2 else None
    if found is None or not parts[1].isdigit() or found[1] != process_table():
        return False
    pid = int(parts[1])
    if not _exists(pid):
        return True
    start = _start_of(pid)
    # Another start: the process id was used again. An unknown one: another user's process, hidden from this one.
    return start is not None and (start != int(found[2]) or _is_zombie(pid))


@cache
def process_table() -> str | None:
    """Return a short token of the table that process ids of this process belong to; None where it is unknown."""
    parts: list[str] = []
    try:
        if sys.platform == "linux":
            parts.append((_PROC / "sys/kernel/random/boot_id").read_text().strip())
            parts.append(str((_PROC / "self/ns/pid").readlink()))
            if (_PROC / "self/ns/time").exists():
                # Start times are counted by the clock of the reader's time namespace.
                parts.append(str((_PROC / "self/ns/time").readlink()))
        else:
            import uuid

            import psutil  # It takes longer to import than most commands' questions to the ledger.

            # A clock that was set moves the time of the boot on some systems. Then nobody is known to be dead.
            parts += [str(int(psutil.boot_time())), f"{uuid.getnode():x}"]
    except OSError:
        return None
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:8]


def _host() -> str:
    """Return the host's name, short enough for a column of names and without a colon, which separates parts."""
    name = socket.gethostname().replace(":", "_") or "localhost"
    if len(name) > HOST_CHARACTERS:
        name = name.split(".")[0]
    if len(name) > HOST_CHARACTERS:
        # The names of containers and cloud machines differ at their end.
        name = f"{name[:10]}~{name[-(HOST_CHARACTERS - 11) :]}"
    return name


def _exists(pid: int) -> bool:
    if sys.platform == "win32":
        import psutil

        return psutil.pid_exists(pid)
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass  # Another user's process.
    return True


def _start_of(pid: int) -> int | None:
    """Return when a process started, in a unit of the system; None where that cannot be read."""
    if sys.platform == "linux":
        fields = _stat_of(pid)
        return int(fields[19]) if fields else None
    import psutil

    try:
        return int(psutil.Process(pid).create_time())
    except psutil.Error:
        return None


def _is_zombie(pid: int) -> bool:
    """Return whether a process has ended and its parent has not yet taken notice of it."""
    if sys.platform != "linux":
        return False
    fields = _stat_of(pid)
    return bool(fields) and fields[0] in ("Z", "X")


def _stat_of(pid: int) -> list[str]:
    """Return the fields of `/proc/PID/stat` from the third on (the state); none where they cannot be read."""
    try:
        # A /proc of another namespace shows other processes under these ids: `unshare --pid` without --mount-proc.
        if pid == os.getpid():
            text = (_PROC / "self/stat").read_text(errors="replace")
        elif str((_PROC / "self").readlink()) == str(os.getpid()):
            text = (_PROC / f"{pid}/stat").read_text(errors="replace")
        else:
            return []
    except OSError:
        return []
    # The second field, the program's name in parentheses, may contain blanks and parentheses.
    return text.rpartition(")")[2].split()
