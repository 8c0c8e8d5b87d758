"""The kinds of faults. Each is one function that breaks something and returns True once it has."""

from __future__ import annotations

import contextlib
import random
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import psutil
import psycopg
from tcp_proxy import How

from torture.network import Trap
from torture.programs import Program, can_be_another_host
from torture.world import LEASE_S, PASSWORD, Machine

TRAP_S = 8.0
Found = TypeVar("Found")


@dataclass
class Target:
    """What a fault may hit now."""

    machine: Machine
    database: str
    controllers: Sequence[Program]
    sides: Sequence[Program]
    leaks: list[str]
    """Where the password was found in what a process was started with."""

    @property
    def programs(self) -> list[Program]:
        return [program for program in (*self.controllers, *self.sides) if program.is_running]


Fault = Callable[[Target, random.Random], bool]


def terminate_backend(target: Target, rng: random.Random) -> bool:
    """End one session of ragops on the server."""
    return _terminate(target, lambda pids: [rng.choice(pids)])


def terminate_all(target: Target, rng: random.Random) -> bool:
    """End every session of ragops on the server."""
    return _terminate(target, lambda pids: pids)


def cut_connection(target: Target, rng: random.Random) -> bool:
    """Cut one connection."""
    return target.machine.network.cut_one(rng)


def cut_all(target: Target, rng: random.Random) -> bool:
    """Cut every connection."""
    return target.machine.network.proxy.do(How.CLOSE) > 0


def cut_in_copy(target: Target, rng: random.Random) -> bool:
    """Cut a connection in the middle of the rows that it stores."""
    return _spring(target, rng, Trap.COPY)


def lose_store_commit(target: Target, rng: random.Random) -> bool:
    """Lose the answer to the COMMIT of a store: the rows are there, and nobody was told."""
    return _spring(target, rng, Trap.STORE)


def lose_any_commit(target: Target, rng: random.Random) -> bool:
    """Lose the answer to some COMMIT."""
    return _spring(target, rng, Trap.COMMIT)


def lose_reply(target: Target, rng: random.Random) -> bool:
    """Lose the answer to some statement."""
    return _spring(target, rng, Trap.REPLY)


def refuse_connections(target: Target, rng: random.Random) -> bool:
    """Cut everything, and refuse new connections for a while."""
    with target.machine.network.refusing():
        target.machine.network.proxy.do(How.CLOSE)
        time.sleep(rng.uniform(0.2, 2.0))
    return True


def stall_network(target: Target, rng: random.Random) -> bool:
    """Carry nothing for a while; nothing is lost."""
    with target.machine.network.stalled():
        time.sleep(rng.uniform(0.2, 2.0))
    return True


def crash_server(target: Target, rng: random.Random) -> bool:
    """Crash the server, and start it again after a while."""
    machine = target.machine
    with machine.power:
        machine.server.stop("immediate")
        time.sleep(rng.uniform(0.0, 1.0))
        machine.server.start()
    return True


def pause_server(target: Target, rng: random.Random) -> bool:
    """Stop the server's processes for a while."""
    machine = target.machine
    with machine.power, _paused(_server_processes(machine)):
        time.sleep(rng.uniform(0.2, 1.5))
    return True


def kill_controller(target: Target, rng: random.Random) -> bool:
    """kill -9 of `ragops reset`."""
    return _send(target.controllers, rng, signal.SIGKILL, "kill_controller")


def signal_controller(target: Target, rng: random.Random) -> bool:
    """Ctrl-C, or what systemctl stop sends, to `ragops reset`."""
    return _send(target.controllers, rng, rng.choice((signal.SIGINT, signal.SIGTERM)), "signal_controller")


def stop_controller(target: Target, rng: random.Random) -> bool:
    """Stop `ragops reset` until its claims have run out, and wake it."""
    return _sleep(target.controllers, rng)


def kill_side(target: Target, rng: random.Random) -> bool:
    """kill -9 of `ragops embed` on another host, with everything below it."""
    return _send(target.sides, rng, signal.SIGKILL, "kill_side")


def signal_side(target: Target, rng: random.Random) -> bool:
    """Ctrl-C or SIGTERM to `ragops embed`."""
    return _send(target.sides, rng, rng.choice((signal.SIGINT, signal.SIGTERM)), "signal_side")


def stop_side(target: Target, rng: random.Random) -> bool:
    """Stop `ragops embed` until its claims have run out, and wake it."""
    return _sleep(target.sides, rng)


def kill_embedder(target: Target, rng: random.Random) -> bool:
    """kill -9 of a child that embeds."""
    return _kill_child(target, rng, "embedder")


def kill_tokenizer(target: Target, rng: random.Random) -> bool:
    """kill -9 of the child that cuts and counts."""
    return _kill_child(target, rng, "tokenizer")


def kill_parser(target: Target, rng: random.Random) -> bool:
    """kill -9 of a child that reads a foreign format; they live for parts of a second."""
    return _kill_child(target, rng, "parser")


def stop_child(target: Target, rng: random.Random) -> bool:
    """Stop a child that embeds for a while."""
    children = _wait_for(lambda: _children(target, "embedder"))
    if children:
        with _paused([rng.choice(children)]):
            time.sleep(rng.uniform(0.3, 2.0))
    return bool(children)


def kill_pooler(target: Target, rng: random.Random) -> bool:
    """kill -9 of the pooler, and another one in its place."""
    with target.machine.power:
        target.machine.restart_pooler()
    return True


ANYWHERE: dict[Fault, float] = {
    terminate_backend: 14,
    lose_store_commit: 9,
    cut_in_copy: 9,
    kill_embedder: 9,
    cut_connection: 7,
    lose_reply: 6,
    kill_controller: 6,
    kill_side: 5,
    crash_server: 5,
    lose_any_commit: 4,
    kill_tokenizer: 4,
    stop_child: 3,
    stall_network: 3,
    pause_server: 3,
    refuse_connections: 2,
    signal_controller: 2,
    kill_parser: 2,
    stop_side: 1.5,
    signal_side: 1.5,
    terminate_all: 1.5,
    cut_all: 1.5,
    stop_controller: 0.5,
}
"""Kinds and how often they are drawn."""
POOLED: dict[Fault, float] = {**ANYWHERE, kill_pooler: 2}


def _terminate(target: Target, chosen: Callable[[list[int]], list[int]]) -> bool:
    with contextlib.suppress(psycopg.Error), target.machine.admin(target.database) as admin:
        rows = admin.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
            " AND backend_type = 'client backend' AND (usename = 'keeper' OR application_name LIKE 'ragops%')"
            " ORDER BY pid"
        ).fetchall()
        if rows:
            pids = chosen([row[0] for row in rows])
            admin.execute("SELECT pg_terminate_backend(pid) FROM unnest(%s::int[]) pid", (pids,))
            return True
    return False


def _spring(target: Target, rng: random.Random, trap: Trap) -> bool:
    return target.machine.network.spring(trap, passes=rng.randrange(3), within_s=TRAP_S)


def _wait_for(find: Callable[[], list[Found]]) -> list[Found]:
    """What may be hit, as soon as there is something; a program may be starting just now."""
    until = time.monotonic() + TRAP_S
    while not (found := find()) and time.monotonic() < until:
        time.sleep(0.05)
    return found


def _send(programs: Sequence[Program], rng: random.Random, number: int, why: str) -> bool:
    running = _wait_for(lambda: [program for program in programs if program.is_running and program.python()])
    return bool(running) and rng.choice(running).send(number, why)


def _sleep(programs: Sequence[Program], rng: random.Random) -> bool:
    """Stop a program and everything below it for longer than its leases."""
    trees = _wait_for(lambda: [tree for program in programs if program.is_running and (tree := program.tree())])
    if trees:
        with _paused(rng.choice(trees)):
            time.sleep(LEASE_S + 1.5)
    return bool(trees)


def _children(target: Target, kind: str) -> list[psutil.Process]:
    return [child for program in target.programs for child in program.children(kind)]


def _kill_child(target: Target, rng: random.Random, kind: str) -> bool:
    children = _wait_for(lambda: _children(target, kind))
    if not children:
        return False
    child = rng.choice(children)
    with contextlib.suppress(psutil.Error):
        told = " ".join((*child.cmdline(), *child.environ().values()))
        if PASSWORD in told:
            target.leaks.append(f"the {kind} {child.pid} was started with the password")
    with contextlib.suppress(psutil.Error):
        child.kill()
        return True
    return False


def _server_processes(machine: Machine) -> list[psutil.Process]:
    with contextlib.suppress(OSError, ValueError, IndexError, psutil.Error):
        first = psutil.Process(int((machine.server.folder / "postmaster.pid").read_text().split()[0]))
        return [first, *first.children()]
    return []


@contextlib.contextmanager
def _paused(processes: Sequence[psutil.Process]) -> Iterator[None]:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.suspend()
    try:
        yield
    finally:
        for process in processes:
            with contextlib.suppress(psutil.Error):
                process.resume()


def kinds(machine: Machine) -> dict[Fault, float]:
    """What can be done on this machine; side embedders of a host of their own need the rights for one."""
    return POOLED if machine.pooler else ANYWHERE


def has_hosts() -> bool:
    return can_be_another_host()
