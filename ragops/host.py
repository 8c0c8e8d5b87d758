"""Facts of the machine that a command runs on, and what of it this process may use."""

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
    """CPU, features, cores and memory, the same on Linux, macOS and Windows."""
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


def physical_cores() -> int:
    """Physical cores; logical ones where the system does not tell them apart."""
    return psutil.cpu_count(logical=False) or psutil.cpu_count() or 1


def read_limits(*, mount: Path = CGROUP_MOUNT, membership: Path = CGROUP_OF_SELF) -> HostLimits:
    """Cores and memory that this process may use now: the machine's, less what affinity and container take."""
    groups = list(_groups(mount, membership))
    quota = min((q for group in groups if (q := _cpu_quota(group)) is not None), default=math.inf)
    cores = min(physical_cores(), _allowed_cpus())
    if quota < cores:
        cores = max(1, math.floor(quota))
    return HostLimits(cores=cores, memory_bytes=available_memory_bytes(mount=mount, membership=membership))


def available_memory_bytes(*, mount: Path = CGROUP_MOUNT, membership: Path = CGROUP_OF_SELF) -> int:
    """Memory that can be had without swapping: the machine's, or what the container's limit leaves."""
    left = [room for group in _groups(mount, membership) if (room := _memory_left(group)) is not None]
    return min([int(psutil.virtual_memory().available), *left])


def _allowed_cpus() -> int:
    """Logical CPUs that this process may run on; macOS knows no such limit."""
    if not hasattr(psutil.Process, "cpu_affinity"):
        return psutil.cpu_count() or 1
    return len(psutil.Process().cpu_affinity()) or 1


def _groups(mount: Path, membership: Path) -> Iterator[Path]:
    """The folders of this process's control groups and of all above them, version 2 and version 1; Linux only.

    Source: Linux kernel documentation, cgroup-v2 ("cpu.max", "memory.max") and cgroup-v1.
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
    """CPUs that a group may use, e.g. 1.5; None without a limit."""
    words = _words(group / "cpu.max")
    if words is None:
        quota, period = _words(group / "cpu.cfs_quota_us"), _words(group / "cpu.cfs_period_us")
        words = [*quota, *period] if quota and period else None
    if words is None or len(words) != 2 or not all(word.isdigit() for word in words) or words[1] == "0":
        return None
    return int(words[0]) / int(words[1])


def _memory_left(group: Path) -> int | None:
    """Bytes that a group may still take; pages that only cache files count as free. None without a limit."""
    limit, used = _words(group / "memory.max"), _words(group / "memory.current")
    if limit is None:
        limit, used = _words(group / "memory.limit_in_bytes"), _words(group / "memory.usage_in_bytes")
    if not limit or not used or not limit[0].isdigit():
        return None
    statistics = _words(group / "memory.stat") or []
    counted = dict(zip(statistics[::2], statistics[1::2], strict=False))
    return max(0, int(limit[0]) - int(used[0]) + int(counted.get("inactive_file", 0)))


def _words(file: Path) -> list[str] | None:
    try:
        return file.read_text(encoding="ascii").split()
    except OSError:
        return None


def read_exact_host() -> HostFacts:
    """The host with every feature that the CPU itself reports.

    The features of a microarchitecture (`icelake`) are those that all its CPUs share; newer sets that
    this CPU has as well (AVX-VNNI, AMX) are missing there, and nothing may be called illegal for that.
    """
    host = read_host()
    return replace(host, features=tuple(sorted({*host.features, *_reported()})))


def _reported() -> set[str]:
    from archspec.cpu import detect

    return {str(name) for name in detect.detected_info().features}
