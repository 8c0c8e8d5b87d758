"""Cores and memory that a process may use, from control groups as Linux lays them out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from ragops import host
from ragops.host import available_memory_bytes, read_limits

CORES, ALLOWED = 8, 12
MIB = 1 << 20
FREE = 1000 * MIB
VERSION_2 = "0::{0}\n"
VERSION_1 = "12:memory:{0}\n4:cpu,cpuacct:{0}\n1:name=systemd:{0}\n"


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight physical cores and 1,000 MiB of free memory."""
    monkeypatch.setattr(host, "physical_cores", lambda: CORES)
    monkeypatch.setattr(host, "_allowed_cpus", lambda: ALLOWED)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=FREE))


class Groups:
    """A mount of control groups with the membership of one process."""

    def __init__(self, folder: Path) -> None:
        self.mount = folder / "cgroup"
        self.membership = folder / "self"

    def put(self, group: str, files: Mapping[str, str]) -> None:
        folder = self.mount / group
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(f"{text}\n", encoding="ascii")

    def cores(self, membership: str) -> int:
        self.membership.write_text(membership, encoding="ascii")
        return read_limits(mount=self.mount, membership=self.membership).cores

    def memory(self, membership: str) -> int:
        self.membership.write_text(membership, encoding="ascii")
        available = available_memory_bytes(mount=self.mount, membership=self.membership)
        assert read_limits(mount=self.mount, membership=self.membership).memory_bytes == available
        return available


@pytest.fixture
def groups(tmp_path: Path) -> Groups:
    return Groups(tmp_path)


def memory_files(limit: int | str, used: int, *, cached: int = 0) -> dict[str, str]:
    statistics = f"anon 5\nfile {cached}\ninactive_file {cached}\nactive_file 7"
    return {"memory.max": str(limit), "memory.current": str(used), "memory.stat": statistics}


@pytest.mark.parametrize(
    ("quota", "cores"),
    [
        ("150000 100000", 1),
        ("200000 100000", 2),
        ("399999 100000", 3),
        ("20000 100000", 1),  # a fifth of a core still runs one thread
        ("1600000 100000", CORES),  # more than there are
        ("max 100000", CORES),
        ("100000 0", CORES),  # no period, no quota
        ("", CORES),
    ],
)
def test_version_2_quota(groups: Groups, quota: str, cores: int) -> None:
    groups.put("a/b", {"cpu.max": quota})
    assert groups.cores(VERSION_2.format("/a/b")) == cores


def test_the_tightest_of_nested_groups_counts(groups: Groups) -> None:
    groups.put("", {"cpu.max": "max 100000"})
    groups.put("a", {"cpu.max": "200000 100000", **memory_files(300 * MIB, 100 * MIB)})
    groups.put("a/b", {"cpu.max": "500000 100000", **memory_files("max", 90 * MIB)})
    groups.put("other", {"cpu.max": "100000 100000", **memory_files(MIB, 0)})
    assert groups.cores(VERSION_2.format("/a/b")) == 2
    assert groups.memory(VERSION_2.format("/a/b")) == 200 * MIB


@pytest.mark.parametrize(("quota", "cores"), [("-1", CORES), ("50000", 1), ("250000", 2), ("100000000", CORES)])
def test_version_1_quota(groups: Groups, quota: str, cores: int) -> None:
    groups.put("cpu/a", {"cpu.cfs_quota_us": quota, "cpu.cfs_period_us": "100000"})
    assert groups.cores(VERSION_1.format("/a")) == cores


def test_affinity_bounds_the_cores(groups: Groups, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "_allowed_cpus", lambda: 3)
    assert groups.cores(VERSION_2.format("/")) == 3
    groups.put("", {"cpu.max": "200000 100000"})
    assert groups.cores(VERSION_2.format("/")) == 2


@pytest.mark.parametrize(
    ("files", "left"),
    [
        (memory_files(500 * MIB, 200 * MIB), 300 * MIB),
        (memory_files(500 * MIB, 450 * MIB, cached=120 * MIB), 170 * MIB),
        (memory_files(500 * MIB, 600 * MIB), 0),  # the limit was lowered below what is used
        (memory_files(5000 * MIB, 200 * MIB), FREE),
        (memory_files("max", 200 * MIB), FREE),
        ({"memory.max": str(500 * MIB), "memory.current": str(100 * MIB)}, 400 * MIB),
        ({"memory.max": str(500 * MIB)}, FREE),
    ],
    ids=["limit", "cached files", "over the limit", "more than free", "max", "no statistics", "no usage"],
)
def test_version_2_memory(groups: Groups, files: dict[str, str], left: int) -> None:
    groups.put("a", files)
    assert groups.memory(VERSION_2.format("/a")) == left


@pytest.mark.parametrize(
    ("limit", "left"),
    [
        (str(500 * MIB), 430 * MIB),
        ("9223372036854771712", FREE),  # how version 1 spells no limit
    ],
)
def test_version_1_memory(groups: Groups, limit: str, left: int) -> None:
    usage, statistics = str(100 * MIB), f"cache 1\ninactive_file {30 * MIB}"
    files = {"memory.limit_in_bytes": limit, "memory.usage_in_bytes": usage, "memory.stat": statistics}
    groups.put("memory/a", files)
    assert groups.memory(VERSION_1.format("/a")) == left


@pytest.mark.parametrize("membership", [VERSION_2, VERSION_1, VERSION_2 + VERSION_1])
def test_without_limits_it_is_the_machine_s(groups: Groups, membership: str) -> None:
    assert groups.cores(membership.format("/a")) == CORES
    assert groups.memory(membership.format("/a")) == FREE


def test_a_system_without_control_groups(tmp_path: Path) -> None:
    limits = read_limits(mount=tmp_path / "none", membership=tmp_path / "nobody")
    assert (limits.cores, limits.memory_bytes) == (CORES, FREE)


def test_in_a_container_the_path_may_be_the_host_s(groups: Groups) -> None:
    """The container's own group is mounted as the root, and the path that the host knows it by is not there."""
    groups.put("", {"cpu.max": "300000 100000", **memory_files(64 * MIB, MIB)})
    path = "/system.slice/docker-0123456789ab.scope"
    assert groups.cores(VERSION_2.format(path)) == 3
    assert groups.memory(VERSION_2.format(path)) == 63 * MIB
    groups.put("cpu", {"cpu.cfs_quota_us": "400000", "cpu.cfs_period_us": "200000"})
    assert groups.cores(VERSION_1.format("/docker/0123456789ab")) == 2


def test_both_versions_at_once(groups: Groups) -> None:
    """A hybrid system: the controllers are version 1's, while every process is in a group of version 2, too."""
    groups.put("a", {"cpu.max": "600000 100000"})
    groups.put("cpu/a", {"cpu.cfs_quota_us": "500000", "cpu.cfs_period_us": "100000"})
    assert groups.cores((VERSION_1 + VERSION_2).format("/a")) == 5
