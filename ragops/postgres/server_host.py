"""Tells whether the server runs on this machine, and what of the machine it may use."""

from __future__ import annotations

import shutil
from pathlib import Path

import psutil

from ragops.facts import ServerHost
from ragops.host import CGROUP_OF_SELF, read_limits

SHARED_MEMORY = Path("/dev/shm")
# The start of a process is counted from the boot, which a corrected clock moves.
START_TOLERANCE_S = 10.0


def find_server_host(
    pid: int, started_s: float, *, shared_memory: str, folder: Path = SHARED_MEMORY
) -> ServerHost | None:
    """This machine as the server's process `pid` may use it; None when that process is not one of this machine.

    A local address is no proof: a tunnel or a container's port may stand behind it. The process is: its
    id, its name and when it started (`started_s`, seconds since 1970 on the server's clock).
    `shared_memory` is the server's `dynamic_shared_memory_type`.
    """
    try:
        process = psutil.Process(pid)
        is_here = process.name().lower().startswith("postgres")
        is_here = is_here and abs(process.create_time() - started_s) < START_TOLERANCE_S
    except psutil.Error:
        return None
    if not is_here:
        return None
    # The server may run in a control group of its own, with limits of its own.
    limits = read_limits(membership=CGROUP_OF_SELF.parents[1] / str(pid) / CGROUP_OF_SELF.name)
    is_bounded = shared_memory == "posix" and folder.is_dir()
    return ServerHost(
        memory_bytes=limits.memory_bytes,
        shared_bytes=shutil.disk_usage(folder).free if is_bounded else None,
        cores=limits.cores,
    )
