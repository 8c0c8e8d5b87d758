"""One campaign under faults, with a supervisor that does what systemd would: start it again with `--resume`."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable

import psycopg

from torture.faults import Target, has_hosts
from torture.oracle import Before, Violation
from torture.programs import ENDS_WITHIN_S, Program
from torture.recorder import Recorder
from torture.report import Report
from torture.scheduler import Scheduler
from torture.world import PASSWORD, Corpus, Machine

TICK_S = 0.1
RESTART_S = 0.2
# A start is short in a campaign of hours; here it is much of the time, and faults are to hit the rest as well.
STARTING = 0.1
# A command that ends before it has done anything, because it had no database.
AWAY = '"error": {"what": "the database '
BEGUN = ("step ", "workers ×", "worker ×")
# Seconds for a text.
MOST_PACE = 0.3
AtEachTick = Callable[[int], None]
SIDE_RESTART_S = (0.5, 2.5)
HELD = ("is held by", "was taken by another controller")
# What a program may end with after a signal.
STOPPED = (0, 130, 143, -signal.SIGINT, -signal.SIGTERM, -signal.SIGKILL, 137)


class Supervised:
    """`ragops reset` that is started again whenever it ended without being done, and side embedders beside it."""

    def __init__(
        self,
        machine: Machine,
        database: str,
        corpus: Corpus,
        scheduler: Scheduler,
        report: Report,
        *,
        label: str,
        sides: int,
        most_faults: int,
        most_restarts: int = 1000,
    ) -> None:
        self._machine, self._database, self.corpus = machine, database, corpus
        self._scheduler, self._report, self._label = scheduler, report, label
        self._sides_wanted, self._most_faults, self._most_restarts = sides, most_faults, most_restarts
        self._environment = machine.environment(machine.dsn(database), corpus, corpus.documents)
        self._programs: list[Program] = []
        self._controllers: list[Program] = []
        self._sides: list[Program] = []
        self._side_due = 0.0
        self._ends_with = 0
        self.before: Before | None = None
        # It may be started when the queue still is that of the corpus before.
        self._side_arguments = ("embed", "--playbook", self._playbook, "--trust-stored", "--json")
        self.target = Target(machine, database, self._controllers, self._sides, [])

    def run(
        self,
        arguments: tuple[str, ...],
        *,
        resumes: bool,
        deadline_s: float,
        ends_with: int = 0,
        at_each_tick: AtEachTick | None = None,
    ) -> bool:
        """Run a command to its end under faults; False when it did not come to that in time.

        `ends_with` is the exit code that ends it; `at_each_tick` is called with the number of completed items.
        """
        began = time.monotonic()
        self._ends_with = ends_with
        recorder = Recorder(lambda: self._machine.admin(self._database))

        def tick() -> None:
            self._set_pace(recorder.completed)
            if at_each_tick is not None:
                at_each_tick(recorder.completed)

        try:
            done = self._supervise(arguments, resumes=resumes, until=began + deadline_s, tick=tick)
        finally:
            self._machine.pace(0)
            self._scheduler.settle()
            self._stop_sides()
            recorder.close()
        ended = time.monotonic()
        self._report.seconds += ended - began
        for one in self._scheduler.happened:
            if one.began >= began and (seconds := recorder.recovery_s(one.ended)) is not None:
                self._report.recoveries.setdefault(one.kind, []).append(seconds)
        if not done:
            self._report.hung.append(f"{self._label}: {' '.join(arguments)} was not done after {deadline_s:g} s")
        return done

    def _supervise(
        self, arguments: tuple[str, ...], *, resumes: bool, until: float, tick: Callable[[], None]
    ) -> bool:
        command, due = arguments, 0.0
        controller: Program | None = None
        while time.monotonic() < until:
            has_more = self._missing_faults > 0
            tick()
            is_under_way = controller is not None and is_begun(controller)
            self._scheduler.tick(self.target, speed=(1.0 if is_under_way else STARTING) if has_more else 0.0)
            self._tend_sides()
            if controller is None:
                if time.monotonic() >= due:
                    controller = self._start("controller", command)
                    self._controllers[:] = [controller]
            elif not controller.is_running:
                if self._is_done(controller):
                    return True
                if self._report.restarts >= self._most_restarts:
                    return False
                self._report.restarts += 1
                wait = RESTART_S
                if any(word in controller.output() for word in HELD):
                    self._report.held += 1
                    wait = 1.0
                following = self._next_command(arguments) if resumes else arguments
                if following is None:
                    return True
                command, controller, due = following, None, time.monotonic() + wait
            elif controller.is_overdue:
                self._hang(controller)
                controller.kill()
            time.sleep(TICK_S)
        if controller is not None and controller.is_running:
            self._hang(controller)
            controller.kill()
        return False

    @property
    def _missing_faults(self) -> int:
        return self._most_faults - len(self._scheduler.happened)

    def _set_pace(self, completed: int) -> None:
        """Let the documents that are left last about as long as the faults that are to come."""
        left_s = max(0, self._missing_faults) * self._scheduler.mean_gap_s
        children = 2 * (1 + self._sides_wanted)
        self._machine.pace(min(MOST_PACE, children * left_s / max(1, self.corpus.documents - completed)))

    def _next_command(self, arguments: tuple[str, ...]) -> tuple[str, ...] | None:
        """What a supervisor types next: resume what is in the ledger, else start; None if it is done."""
        row = self._newest_campaign()
        if row is None or self.before is None or row[0] <= self.before.campaign:
            return arguments
        if row[1] == "done":
            # Killed after its last record.
            return None
        if row[1] in ("abandoned", "undone"):
            return arguments
        return ("reset", "--resume", "--playbook", self._playbook, "--yes", "--json", *resume_options())

    def _newest_campaign(self) -> tuple[int, str] | None:
        """Its id and status, read past the network."""
        while True:
            with contextlib.suppress(psycopg.Error), self._machine.admin(self._database) as admin:
                known = admin.execute("SELECT to_regclass('ragops.campaign') IS NOT NULL").fetchone()
                if not (known and known[0]):
                    return None
                row = admin.execute("SELECT id, status FROM ragops.campaign ORDER BY id DESC LIMIT 1").fetchone()
                return (int(row[0]), str(row[1])) if row else None
            time.sleep(TICK_S)

    @property
    def _playbook(self) -> str:
        return str(self._machine.folder / "torture.yaml")

    def _is_done(self, program: Program) -> bool:
        """Judge how a program ended."""
        code, output = program.code, program.output()
        if code == 0 or (code == self._ends_with and program in self._controllers):
            return code == self._ends_with or program not in self._controllers
        tail = " | ".join(output.strip().splitlines()[-6:])
        if program.hits:
            # `unshare` has a code of its own when its first process is killed.
            is_killed = program.is_host and "kill_side" in program.hits
            # Python itself prints that, to a signal that comes before the program has loaded.
            is_early = (AWAY in output or output.rstrip().endswith("KeyboardInterrupt")) and not is_begun(program)
            if code not in STOPPED and not is_killed and not is_early and not any(word in output for word in HELD):
                self._report.odd.append(f"{self._label}: {program.name} exit {code} after {program.hits}: {tail}")
                self._keep(program)
        elif any(word in output for word in HELD):
            pass
        elif AWAY in output and not is_begun(program):
            self._report.not_started += 1
        else:
            self._report.gave_up.append(f"{self._label}: {program.name} exit {code}: {tail}")
            self._keep(program)
        return False

    def _start(self, name: str, arguments: tuple[str, ...], *, host: str = "") -> Program:
        number = len(self._programs) + 1
        environment = self._environment
        if host:
            environment = environment | {"RAGOPS_DATA_DIR": str(self._machine.folder / f"data-{host}")}
        program = Program.start(
            f"{self._label}-{number:03}-{name}",
            arguments,
            environment=environment,
            folder=self._machine.folder,
            host=host,
        )
        self._programs.append(program)
        return program

    def _tend_sides(self) -> None:
        """Keep side embedders running, each on a host of its own where that can be."""
        for side in [side for side in self._sides if not side.is_running]:
            self._sides.remove(side)
            self._is_done(side)
            self._side_due = time.monotonic() + (SIDE_RESTART_S[1] if side.code == 0 else SIDE_RESTART_S[0])
        for side in self._sides:
            if side.is_overdue:
                self._hang(side)
                side.kill()
        if len(self._sides) < self._sides_wanted and time.monotonic() >= self._side_due:
            host = f"side{len(self._programs)}" if has_hosts() else ""
            self._sides.append(self._start("side", self._side_arguments, host=host))

    def _stop_sides(self) -> None:
        for side in self._sides:
            side.send(signal.SIGTERM, "the end")
        until = time.monotonic() + ENDS_WITHIN_S
        while any(side.is_running for side in self._sides) and time.monotonic() < until:
            time.sleep(TICK_S)
        for side in self._sides:
            if side.is_running:
                self._hang(side)
                side.kill()
            else:
                self._is_done(side)
        self._sides.clear()

    def _hang(self, program: Program) -> None:
        tail = " | ".join(program.output().strip().splitlines()[-6:])
        self._report.hung.append(f"{self._label}: {program.name} did not end after {program.hits}: {tail}")
        self._keep(program)

    def _keep(self, program: Program) -> None:
        self._report.outputs.append(f"--- {program.name}\n{program.output().rstrip()}")

    def close(self) -> None:
        for program in self._programs:
            if program.is_running:
                program.kill()

    def leaks(self) -> list[Violation]:
        """Where the password is found in what the programs wrote."""
        found = [Violation("secret", text) for text in self.target.leaks]
        for program in self._programs:
            if PASSWORD in program.output():
                found.append(Violation("secret", f"the output of {program.name}"))
        return found


def is_begun(program: Program) -> bool:
    """Whether it has planned, and works."""
    output = program.output()
    return any(word in output for word in BEGUN)


def resume_options() -> tuple[str, ...]:
    """`--wait` takes over when the lease ends, as a supervisor of services needs it."""
    from ragops.cli import campaign

    return ("--wait",) if "wait" in campaign.reset.__annotations__ else ()
