"""Detect the host's CPU and memory, and the limits (affinity, cgroups) that apply to this process."""

from __future__ import annotations

import math
import platform
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil

from ragops.facts import HostFacts, HostLimits

CGROUP_MOUNT = Path("/sys/fs/cgroup")
CGROUP_OF_SELF = Path("/proc/self/cgroup")


def read_host() -> HostFacts:
    """Return CPU, features, cores and memory, the same on Linux, macOS and Windows."""
    import archspec.cpu  # only here: its data files take a while to load

    cpu = archspec.cpu.host()
    return HostFacts(
        name=socket.gethostname(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        cpu=f"{cpu.name} ({cpu.vendor})",
        features=tuple(sorted(cpu.features)),
        physical_cores=physical_cores(),
        logical_cores=psutil.cpu_count() or 1,
        memory_bytes=psutil.virtual_memory().total,
    )


def read_exact_host() -> HostFacts:
    """Return the host with every feature that the CPU itself reports.

    archspec names the microarchitecture (`icelake`) with the features that all its CPUs share. Newer sets
    that this CPU has too (AVX-VNNI, AMX) are missing there, and must not be reported as illegal.
    """
    from archspec.cpu import detect

    host = read_host()
    reported = {str(name) for name in detect.detected_info().features}
    return replace(host, features=tuple(sorted({*host.features, *reported})))


def physical_cores() -> int:
    """Return the number of physical cores; of logical ones where the system does not report the others.

    llama.cpp's threads keep a core's arithmetic units busy: two of them on one core are no faster.
    """
    return psutil.cpu_count(logical=False) or psutil.cpu_count() or 1


def read_limits(*, mount: Path = CGROUP_MOUNT, membership: Path = CGROUP_OF_SELF) -> HostLimits:
    """Return the cores and memory that this process may use now: the machine's, less affinity and cgroups."""
    groups = list(_groups(mount, membership))
    quota = min((quota for group in groups if (quota := _cpu_quota(group)) is not None), default=math.inf)
    cores = min(physical_cores(), _allowed_cpus())
    if quota < cores:
        # Rounded down: a thread that the quota stops makes all others wait at llama.cpp's next barrier.
        cores = max(1, math.floor(quota))
    return HostLimits(cores=cores, memory_bytes=available_memory_bytes(mount=mount, membership=membership))


def available_memory_bytes(*, mount: Path = CGROUP_MOUNT, membership: Path = CGROUP_OF_SELF) -> int:
    """Return the memory that is available without swapping, within the limits of the container."""
    available = int(psutil.virtual_memory().available)
    for group in _groups(mount, membership):
        limit, used = _words(group / "memory.max"), _words(group / "memory.current")
        if limit is None:
            limit, used = _words(group / "memory.limit_in_bytes"), _words(group / "memory.usage_in_bytes")
        if not limit or not used or not limit[0].isdigit():
            continue
        # The page cache is charged to the group; the kernel drops inactive pages before it refuses memory.
        words = _words(group / "memory.stat") or []
        pages = dict(zip(words[::2], words[1::2], strict=False))
        left = int(limit[0]) - int(used[0]) + int(pages.get("inactive_file", 0))
        available = min(available, max(0, left))
    return available


def _allowed_cpus() -> int:
    """Return the number of logical CPUs that this process may run on; macOS has no such limit."""
    if not hasattr(psutil.Process, "cpu_affinity"):
        return psutil.cpu_count() or 1
    return len(psutil.Process().cpu_affinity()) or 1


def _groups(mount: Path, membership: Path) -> Iterator[Path]:
    """Yield the folders of this process's control groups and of all above them; nothing but on Linux.

    A limit of any ancestor applies. Version 2 has one line `0::/PATH` in /proc/self/cgroup, version 1 one
    line `N:cpu,cpuacct:/PATH` per hierarchy, and hybrid systems have both:
    https://docs.kernel.org/admin-guide/cgroup-v2.html and .../cgroup-v1/cgroups.html
    """
    try:
        lines = membership.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        roots = [mount / name for name in controllers.split(",") if name in ("cpu", "memory")]
        for root in roots if controllers else [mount]:
            # In a container the path may be the host's: its own group is then mounted as the root.
            below = root / path.lstrip("/")
            yield from (folder for folder in (below, *below.parents) if folder.is_relative_to(root))


def _cpu_quota(group: Path) -> float | None:
    """Return the number of CPUs that a group may use, e.g. 1.5; None without a limit."""
    words = _words(group / "cpu.max")
    if words is None:
        quota, period = _words(group / "cpu.cfs_quota_us"), _words(group / "cpu.cfs_period_us")
        words = [*quota, *period] if quota and period else None
    # No limit is `max` in version 2 and -1 in version 1.
    if words is None or len(words) != 2 or not all(word.isdigit() for word in words) or words[1] == "0":
        return None
    return int(words[0]) / int(words[1])


def _words(file: Path) -> list[str] | None:
    """Return a file's words; None if it cannot be read."""
    try:
        return file.read_text(encoding="ascii").split()
    except OSError:
        return None
