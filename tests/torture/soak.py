"""One `ragops reset` through a row of outages, with nobody who types anything."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from tcp_proxy import CAN_VANISH, How

from torture.campaign import is_begun
from torture.oracle import Before, judge, watch_gates
from torture.programs import Program
from torture.recorder import Recorder
from torture.report import Report
from torture.state import value
from torture.torture import orphans, secrets
from torture.world import PASSWORD, Corpus, Machine

POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class Soaking:
    """How many outages, from one second to `longest_s`, and how long the database is there in between."""

    outages: int
    longest_s: float
    gap_s: float
    deadline_s: float


Outage = Callable[[Machine, float], None]


def down(machine: Machine, seconds: float) -> None:
    """The server is stopped, as for an update."""
    _without_server(machine, seconds, "fast")


def crashed(machine: Machine, seconds: float) -> None:
    """The server crashes, and is started again after a while."""
    _without_server(machine, seconds, "immediate")


def refused(machine: Machine, seconds: float) -> None:
    """Every connection is cut, and every new one refused."""
    with machine.network.refusing():
        machine.network.proxy.do(How.CLOSE)
        time.sleep(seconds)


def stalled(machine: Machine, seconds: float) -> None:
    """The network carries nothing, and loses nothing."""
    with machine.network.stalled():
        time.sleep(seconds)


def swallowed(machine: Machine, seconds: float) -> None:
    """What is sent is acknowledged and never answered; new connections are refused for a while."""
    with machine.network.refusing():
        machine.network.proxy.do(How.SWALLOW)
        time.sleep(seconds)


def vanished(machine: Machine, seconds: float) -> None:
    """Nothing is acknowledged any more; new connections are refused for a while."""
    with machine.network.refusing():
        machine.network.proxy.do(How.VANISH if CAN_VANISH else How.SWALLOW)
        time.sleep(seconds)


def read_only(machine: Machine, seconds: float) -> None:
    """The server takes no writes, as a standby does."""
    server = machine.server
    server.execute("ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()")
    time.sleep(seconds)
    writable = "SET default_transaction_read_only = off"
    server.execute(writable, "ALTER SYSTEM RESET default_transaction_read_only", "SELECT pg_reload_conf()")


def crowded(machine: Machine, seconds: float) -> None:
    """The role may open no connection any more."""
    _change_role(machine, seconds, "CONNECTION LIMIT 0", "CONNECTION LIMIT -1")


def locked_out(machine: Machine, seconds: float) -> None:
    """Somebody changes the role's password, and changes it back."""
    _change_role(machine, seconds, "PASSWORD 'another'", f"PASSWORD '{PASSWORD}'")


KINDS: tuple[Outage, ...] = (
    down, crashed, refused, stalled, swallowed, vanished, read_only, crowded, locked_out
)  # fmt: skip


def soak(machine: Machine, name: str, corpus: Corpus, seed: int, size: Soaking) -> Report:
    """Run one campaign through the outages; it is done when they are over, and right."""
    rng, report, began = random.Random(seed), Report(seeds=[seed]), time.monotonic()
    with machine.admin(name) as admin:
        watch_gates(admin)
        before = Before.of(admin)
    kinds = [KINDS[(seed + number) % len(KINDS)] for number in range(size.outages)]
    rng.shuffle(kinds)
    # One is as long as may be, and one as short.
    lengths = [1.0, size.longest_s, *(rng.uniform(1, size.longest_s) for _ in kinds)][: size.outages]
    rng.shuffle(lengths)
    total_s = sum(lengths) + size.gap_s * (size.outages + 1)
    arguments = ("reset", "--playbook", str(machine.folder / "torture.yaml"), "--yes", "--json")
    machine.pace(2 * size.gap_s * (size.outages + 1) / corpus.documents)
    environment = machine.environment(machine.dsn(name), corpus, corpus.documents)
    program = Program.start(f"soak{seed}", arguments, environment=environment, folder=machine.folder)
    recorder = Recorder(lambda: machine.admin(name))
    try:
        _wait(program, lambda: is_begun(program), size.deadline_s)
        for kind, seconds in zip(kinds, lengths, strict=True):
            time.sleep(size.gap_s * rng.uniform(0.7, 1.3))
            if not program.is_running:
                break
            kind(machine, seconds)
            report.kinds[kind.__name__] += 1
            ended = time.monotonic()
            _wait(program, lambda since=ended: recorder.recovery_s(since) is not None, size.gap_s)  # type: ignore[misc]
            if (recovery := recorder.recovery_s(ended)) is not None:
                report.recoveries.setdefault(kind.__name__, []).append(recovery)
        machine.pace(0)
        _wait(program, lambda: False, size.deadline_s - (time.monotonic() - began))
    finally:
        recorder.close()
        machine.pace(0)
        if program.is_running:
            report.hung.append(f"not done after {size.deadline_s:g} s: {program.output()[-600:]}")
            program.kill()
    report.seconds, report.campaigns, report.items = time.monotonic() - began, 1, corpus.documents
    if program.code != 0:
        report.gave_up.append(f"exit {program.code} in {total_s:.0f} s of outages: {program.output()[-1500:]}")
        return report
    with machine.admin(name) as admin:
        report.violations += judge(admin, corpus.reference, before)
        assert value(admin, "SELECT count(*) FROM ragops.campaign") == 1
    report.violations += [*orphans(machine, "soak"), *secrets(machine, name)]
    print(f"seed {seed}:", *(f"{k.__name__}({s:.0f} s)" for k, s in zip(kinds, lengths, strict=True)))  # noqa: T201
    print(*(line for line in program.output().splitlines() if not line.startswith("{")), sep="\n")  # noqa: T201
    return report


def _wait(program: Program, condition: Callable[[], bool], seconds: float) -> None:
    """Until a condition holds, the program ends, or time is over."""
    until = time.monotonic() + seconds
    while program.is_running and not condition() and time.monotonic() < until:
        time.sleep(POLL_S)


def _without_server(machine: Machine, seconds: float, mode: str) -> None:
    with machine.power:
        machine.server.stop(mode)
        time.sleep(seconds)
        machine.server.start()


def _change_role(machine: Machine, seconds: float, broken: str, whole: str) -> None:
    end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'keeper'"
    machine.server.execute(f"ALTER ROLE keeper {broken}", end)
    time.sleep(seconds)
    machine.server.execute(f"ALTER ROLE keeper {whole}")
