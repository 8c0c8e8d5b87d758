"""Facts of the machine that a command runs on."""

from __future__ import annotations

import platform
import socket

import psutil

from ragops.facts import HostFacts


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
