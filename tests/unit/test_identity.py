"""Names of processes: who is known to be dead, and who is not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import ragops
from ragops.identity import holder_name, is_dead_here, process_name, short_name

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    started = subprocess.Popen(SLEEP)
    yield started
    started.kill()
    started.wait()


def other_start(name: str) -> str:
    """The name of a process that had the same id earlier."""
    head, _, start = name.rpartition("-")
    return f"{head}-{int(start) - 1}"


def other_table(name: str) -> str:
    """The name of a process with the same host name and id on another machine or in another container."""
    host, pid, mark = name.split(":")
    return f"{host}:{pid}:{'0' * 8}-{mark.partition('-')[2]}"


def test_this_process_lives() -> None:
    assert holder_name() == process_name(os.getpid()) == holder_name()
    assert not is_dead_here(holder_name())


def test_a_process_that_ended_is_dead(process: subprocess.Popen[bytes]) -> None:
    name = process_name(process.pid)
    assert not is_dead_here(name)
    assert not is_dead_here(f"{name}:3")
    process.kill()
    process.wait()
    assert is_dead_here(name)
    assert is_dead_here(f"{name}:3")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells of an end that no parent has asked for")
def test_a_process_whose_parent_did_not_notice_its_end_is_dead(process: subprocess.Popen[bytes]) -> None:
    name = process_name(process.pid)
    process.kill()
    # It becomes a zombie, and stays one until `wait`.
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert is_dead_here(name)


def test_a_process_id_that_was_used_again_is_dead(process: subprocess.Popen[bytes]) -> None:
    assert is_dead_here(other_start(process_name(process.pid)))


def test_elsewhere_nobody_is_known_to_be_dead(process: subprocess.Popen[bytes]) -> None:
    name = process_name(process.pid)
    assert not is_dead_here(other_table(name))
    process.kill()
    process.wait()
    assert is_dead_here(name)
    assert not is_dead_here(other_table(name))


@pytest.mark.parametrize(
    "name", ["{host}:{pid}", "{host}:{pid}:1", "somebody", "", "a:b:c", "{host}:x:00000000-1"]
)
def test_a_name_that_says_no_more_is_not_known_to_be_dead(name: str, process: subprocess.Popen[bytes]) -> None:
    host = process_name(process.pid).split(":")[0]
    process.kill()
    process.wait()
    assert not is_dead_here(name.format(host=host, pid=process.pid))


def test_people_read_host_and_process_id() -> None:
    host, pid, _ = holder_name().split(":")
    assert pid == str(os.getpid())
    assert short_name(holder_name()) == f"{host}:{pid}"
    assert short_name(f"{holder_name()}:3") == f"{host}:{pid}:3"
    assert short_name("elsewhere:4711") == "elsewhere:4711"
    assert short_name("elsewhere:4711:2") == "elsewhere:4711:2"


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("worker-7", "worker-7"),
        ("db:one", "db_one"),
        ("ip-10-0-0-1.eu-central-1.compute.internal", "ip-10-0-0-1"),
        ("a-deployment-with-a-long-name-7d9c6b5f4-x2x8k", "a-deployme~ame-7d9c6b5f4-x2x8k"),
        ("", "localhost"),
    ],
)
def test_a_name_fits_into_a_column_of_64_characters(
    host: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: host)
    name = process_name(os.getpid())
    assert short_name(name) == f"{shown}:{os.getpid()}"
    longest = name.replace(f":{os.getpid()}:", ":4194304:")
    assert len(f"{longest}:999") <= 64


NAMESPACE = """
import json, subprocess, sys
from ragops.identity import holder_name, is_dead_here, process_name, process_table

child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
name = process_name(child.pid)
if name.count(":") == 1:
    # Without a /proc of this namespace, when the child started is not known: it must count as living all the same.
    name = f"{name}:{process_table()}-1"
living = [is_dead_here(holder_name()), is_dead_here(name)]
child.kill()
child.wait()
print(json.dumps([holder_name(), living, is_dead_here(name), is_dead_here(sys.argv[1])]))
"""


@pytest.mark.parametrize("options", [["--mount-proc"], []], ids=["own proc", "outer proc"])
def test_two_tables_of_processes_under_one_host_name(options: list[str], process: subprocess.Popen[bytes]) -> None:
    """Containers that share the host's name (host networking) do not take each other's living for dead."""
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "--pid", "--fork", "true"], check=False).returncode:
        pytest.skip("this user may not create a namespace of process ids")
    name = process_name(process.pid)
    done = subprocess.run(
        [unshare, "--pid", "--fork", *options, sys.executable, "-c", NAMESPACE, name],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(ragops.__file__).parents[1])},
    )
    inner, living, ended, is_outer_dead = json.loads(done.stdout)
    assert short_name(inner) == f"{short_name(name).split(':')[0]}:1"
    assert living == [False, False]
    assert ended is True
    assert is_outer_dead is False
    # Its process 1 has ended; the process 1 of this table runs. Neither says anything about the other.
    assert is_dead_here(inner) is False
