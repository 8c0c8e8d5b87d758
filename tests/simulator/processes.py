"""Simulated machines and processes: who runs where, is alive, stopped or dead; and what the program sees of it."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import psycopg

from ragops.playbook.model import Playbook
from ragops.workers.state import Stop
from simulator.tasks import SimConnection, State, Task, current_task

if TYPE_CHECKING:
    from uuid import UUID

    from ragops.postgres.connection import Connection
    from ragops.postgres.ledger import Ledger
    from ragops.postgres.queue import Claim
    from simulator.oracle import Filling
    from simulator.world import World


class SimEvent(threading.Event):
    """An event whose waiting takes virtual time."""

    def wait(self, timeout: float | None = None) -> bool:
        task = current_task()
        if task is None:
            return super().wait(timeout)
        if not self.is_set():
            task.sleep()
        return self.is_set()


@dataclass(frozen=True)
class Host:
    """A machine, or a container with process ids of its own."""

    name: str
    table: str
    """The token of its table of processes, which tells machines of one name apart."""


# Two machines of one name, as clones and containers have it, whose process ids are the same numbers; and one more.
HOSTS = (Host("alpha", "aaaaaaaa"), Host("alpha", "bbbbbbbb"), Host("beta", "cccccccc"))
FIRST_PID, PIDS = 100, 6


@dataclass(eq=False)
class Process:
    """A running command of `ragops`."""

    id: str
    world: World
    host: Host
    pid: int
    kind: str
    playbook: Playbook
    rng: random.Random
    begun_us: int
    start: int
    """When it started, as its machine counts."""
    stop: Stop = field(default_factory=lambda: Stop(requested=SimEvent(), aborted=SimEvent()))
    main: Task = field(init=False)
    beat: Task | None = None
    held: dict[UUID, Claim] = field(default_factory=dict)
    ledger: Ledger | None = None
    renew: Callable[[Connection], None] | None = None
    is_killed: bool = False
    is_stopped: bool = False
    """By SIGSTOP: it does nothing until SIGCONT, and knows nothing of it."""
    loses_answer: bool = False
    connections: list[SimConnection] = field(default_factory=list)
    outcome: str | None = None

    def __str__(self) -> str:
        return f"{self.id} ({self.kind}, {self.name})"

    @property
    def name(self) -> str:
        """The name by which others know the process."""
        return f"{self.host.name}:{self.pid}:{self.host.table}-{self.start}"

    @property
    def tasks(self) -> Iterator[Task]:
        yield self.main
        if self.beat is not None:
            yield self.beat

    @property
    def is_alive(self) -> bool:
        return not self.is_killed and self.main.state is not State.DONE

    def is_called(self, name: str) -> bool:
        """Return whether a name in the database means this process."""
        return name == self.name

    def intended_filling(self) -> Filling:
        """Return what a queue that this controller fills is filled with."""
        from simulator.programs import filling_of

        return filling_of(self.world, self.playbook)

    def kill(self) -> None:
        """End the process as SIGKILL does: the server notices at once, unless a statement waits for a lock."""
        self.is_killed = True
        self.world.terminate(self.connections)
        for task in self.tasks:
            while task.state not in (State.NEW, State.DONE):
                task.resume(0)
        for connection in self.connections:
            connection.close()

    def end_beat(self) -> None:
        """End the thread of an ended process that kept its leases."""
        if self.beat is not None and not self.is_alive and not self.is_killed:
            self.kill()


def current_process() -> Process:
    task = current_task()
    assert task is not None, "called outside of a simulated process"
    return task.process


@contextmanager
def simulated_machines(world: World) -> Iterator[None]:
    """Let the program see simulated machines, connections and time instead of this one's."""
    from ragops import identity
    from ragops.postgres import collisions, connection, locks

    real, real_sleep = collisions.ReadCommittedConnection, time.sleep

    def sim_connect(conninfo: str = "", **options: Any) -> Any:
        task = current_task()
        if task is None:
            return real.connect(conninfo, **options)
        task.before_exchange()
        if world.is_down:
            raise psycopg.OperationalError("connection refused")
        opened = SimConnection.connect(conninfo, **options)
        opened.world, opened.process = world, task.process
        task.process.connections.append(opened)
        return opened

    def sim_sleep(seconds: float) -> None:
        task = current_task()
        if task is None:
            real_sleep(seconds)
        else:
            task.sleep()

    with ExitStack() as stack:
        stack.enter_context(
            patch.object(connection, "ReadCommittedConnection", SimpleNamespace(connect=sim_connect))
        )
        for name, value in {
            "_own_name": identity.process_name,
            "process_table": lambda: current_process().host.table,
            "_host": lambda: current_process().host.name,
            "_exists": lambda pid: _process(pid) is not None,
            "_start_of": lambda pid: found.start if (found := _process(pid)) else None,
            "_is_zombie": lambda pid: False,
            "os": SimpleNamespace(getpid=lambda: current_process().pid),
        }.items():
            stack.enter_context(patch.object(identity, name, value))
        stack.enter_context(patch.object(collisions, "time", SimpleNamespace(sleep=sim_sleep)))
        stack.enter_context(patch.dict(locks.with_lock_retries.__kwdefaults__ or {}, {"sleep": sim_sleep}))
        yield


def _process(pid: int) -> Process | None:
    """Return the running process that has an id on the machine of the current one."""
    here = current_process()
    alive = (p for p in here.world.processes.values() if p.is_alive and p.host == here.host)
    return next((p for p in alive if p.pid == pid), None)
