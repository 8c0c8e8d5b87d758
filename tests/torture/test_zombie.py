"""A controller that is stopped beyond its lease and wakes up after another host has taken its campaign over."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

import psutil
import pytest

from torture.campaign import is_begun
from torture.oracle import Before, judge, watch_gates
from torture.programs import Program, can_be_another_host
from torture.state import value
from torture.test_torture import study
from torture.torture import orphans
from torture.world import Machine

DOCUMENTS = 300
DEADLINE_S = 400.0


def _wait(condition: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < until, what
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.skipif(
    not can_be_another_host(), reason="this user may not start a program as another host (unshare)"
)
def test_a_controller_that_wakes_up_after_it_was_replaced_changes_nothing(machine: Machine) -> None:
    corpus, _ = study(machine, DOCUMENTS)
    with machine.database() as name, machine.admin(name) as admin, contextlib.ExitStack() as running:
        watch_gates(admin)
        before = Before.of(admin)
        environment = machine.environment(machine.dsn(name), corpus, DOCUMENTS)
        playbook = ("--playbook", str(machine.folder / "torture.yaml"), "--yes", "--json")

        def start(label: str, *arguments: str) -> Program:
            program = Program.start(
                label, arguments, environment=environment, folder=machine.folder, host=f"host-{label}"
            )
            running.callback(program.kill)
            return program

        machine.pace(0.2)
        first = start("first", "reset", *playbook)
        stored = "SELECT count(*) FROM documents"
        _wait(lambda: is_begun(first) and value(admin, stored) > DOCUMENTS // 4, first.output())
        asleep = first.tree()
        _each(asleep, psutil.Process.suspend)
        asleep_at = time.monotonic()
        second = start("second", "reset", "--resume", "--wait", *playbook)
        _wait(lambda: is_begun(second), f"not taken over: {second.output()}")
        taken_s = time.monotonic() - asleep_at
        _each(asleep, psutil.Process.resume)
        _wait(lambda: not first.is_running, f"the first one goes on: {first.output()}")
        machine.pace(0)
        _wait(lambda: not second.is_running, f"the second one does not end: {second.output()}")
        print(f"taken over after {taken_s:.1f} s; then the first one: exit {first.code}")  # noqa: T201
        assert first.code not in (0, None), first.output()
        assert second.code == 0, second.output()
        assert "Traceback" not in first.output()
        assert [str(violation) for violation in judge(admin, corpus.reference, before)] == []
    assert orphans(machine, "zombie") == []


def _each(processes: list[psutil.Process], do: Callable[[psutil.Process], None]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            do(process)
