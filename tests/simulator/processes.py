"""Simulated machines and processes: who runs where, is alive, stopped or dead; and what the program sees of it."""

from __future__ import annotations

import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import psutil
import psycopg

from ragops.playbook.model import Playbook
from ragops.workers.state import Stop
from simulator.tasks import SimConnection, SimCursor, State, Task, current_task

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
    token: str
    """What tells machines of one name apart."""


HOSTS = (Host("alpha", "a1"), Host("beta", "b1"))


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
        return f"{self.id} ({self.kind}, {self.host.name}:{self.pid})"

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
        return name == f"{self.host.name}:{self.pid}"

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


def _sees_pid(pid: int) -> bool:
    """Return what the running process sees of a process id on its own machine."""
    here = current_process()
    return any(p.pid == pid and p.is_alive for p in here.world.processes.values() if p.host == here.host)


@contextmanager
def simulated_machines(world: World) -> Iterator[None]:
    """Let the program see simulated machines, connections and time instead of this one's."""
    from ragops.postgres import connection, ledger, locks

    real_connect, real_sleep, real_exists = psycopg.connect, time.sleep, psutil.pid_exists

    def sim_connect(conninfo: str = "", **options: Any) -> Any:
        task = current_task()
        if task is None:
            return real_connect(conninfo, **options)
        task.before_exchange()
        if world.is_down:
            raise psycopg.OperationalError("connection refused")
        options["cursor_factory"] = SimCursor
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
        stack.enter_context(patch.object(connection.psycopg, "connect", sim_connect))
        stack.enter_context(patch.object(ledger, "socket", SimpleNamespace(gethostname=lambda: _host_name(socket))))
        stack.enter_context(patch.object(ledger, "os", SimpleNamespace(getpid=_own_pid)))
        stack.enter_context(
            patch.object(psutil, "pid_exists", lambda pid: _sees_pid(pid) if current_task() else real_exists(pid))
        )
        stack.enter_context(patch.dict(locks.with_lock_retries.__kwdefaults__ or {}, {"sleep": sim_sleep}))
        yield


def _host_name(real: Any) -> str:
    return current_process().host.name if current_task() else str(real.gethostname())


def _own_pid() -> int:
    return current_process().pid if current_task() else os.getpid()

