"""Find out whether the server runs on this machine, and which of its resources it may use."""

from __future__ import annotations

import shutil
from pathlib import Path

import psutil

from ragops.facts import ServerHost
from ragops.host import CGROUP_OF_SELF, read_limits

# Where dynamic_shared_memory_type = posix (PostgreSQL's default on Linux) puts its segments.
SHARED_MEMORY = Path("/dev/shm")
# psutil computes the start of a process from the time of boot, which a correction of the clock moves.
START_TOLERANCE_S = 10.0


def find_server_host(
    pid: int, started_s: float | None, *, shared_memory: str, folder: Path = SHARED_MEMORY
) -> ServerHost | None:
    """Return the resources of this machine for the server's process `pid`; None if it runs elsewhere.

    `started_s` is the start of that process, in seconds since 1970 on the server's clock; `shared_memory` is the
    server's `dynamic_shared_memory_type`.
    """
    if _process(pid, started_s) is None:
        return None
    # The server may run in another control group than ragops, with other limits.
    limits = read_limits(membership=CGROUP_OF_SELF.parents[1] / str(pid) / CGROUP_OF_SELF.name)
    # The other kinds (sysv, mmap) are limited by memory or disk alone. Docker's default for /dev/shm is 64 MB.
    is_bounded = shared_memory == "posix" and folder.is_dir()
    return ServerHost(
        memory_bytes=limits.memory_bytes,
        shared_bytes=shutil.disk_usage(folder).free if is_bounded else None,
        cores=limits.cores,
    )


def working_folder(pid: int, started_s: float | None) -> Path | None:
    """Return the data directory of the server's process `pid`; None if it runs elsewhere.

    An empty path if the server runs here as a user whose processes cannot be looked into.
    """
    process = _process(pid, started_s)
    try:
        return Path(process.cwd()) if process else None
    except psutil.Error:
        return Path()


def _process(pid: int, started_s: float | None) -> psutil.Process | None:
    """Return the server's process if it is one of this machine."""
    # A local address proves nothing: it may be a tunnel, or a container's published port. A process with the same
    # id, name and start does. In a container the server reports the id within its namespace, which fails here.
    try:
        process = psutil.Process(pid)
        is_here = process.name().lower().startswith("postgres")
        # Its start is hidden from a role that is neither its own nor may see every session.
        is_here = is_here and started_s is not None and abs(process.create_time() - started_s) < START_TOLERANCE_S
    except psutil.Error:
        return None
    return process if is_here else None
