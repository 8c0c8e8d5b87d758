"""A torture: campaigns and undos in one database, one after the other, under faults of one seed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import psycopg

from torture.campaign import AtEachTick, Supervised
from torture.faults import kinds
from torture.oracle import Before, Violation, judge, judge_gate, judge_undone, watch_gates
from torture.report import Report
from torture.scheduler import Scheduler
from torture.state import query, value
from torture.world import PASSWORD, Corpus, Machine

ORPHANS_END_WITHIN_S = 20.0


# More campaigns than wanted, where those ended before all faults had come.
MOST_MORE = 3


@dataclass(frozen=True, slots=True)
class Size:
    """How much is done with one seed."""

    campaigns: int
    faults: int
    """At least as many; they are spread over the campaigns."""
    mean_gap_s: float
    deadline_s: float
    """For one campaign."""
    sides: int = 1
    undo_every: int = 2
    fail_gate_every: int = 0
    """Before every so many campaigns one fails at its gate, and is undone; 0: none."""
    seconds: float = float("inf")
    """No campaign is begun after so long."""


def torture(machine: Machine, corpora: Sequence[Corpus], seed: int, size: Size) -> Report:
    """Run campaigns over the corpora in turn; everything that is wrong is in the report."""
    with machine.database() as name:
        return _Torture(machine, name, corpora, seed, size).run()


class _Torture:
    def __init__(self, machine: Machine, name: str, corpora: Sequence[Corpus], seed: int, size: Size) -> None:
        self._machine, self._name, self._corpora, self._seed, self._size = machine, name, corpora, seed, size
        self._report = Report(seeds=[seed])
        self._scheduler = Scheduler(seed, kinds(machine), mean_gap_s=size.mean_gap_s)
        self._playbook = str(machine.folder / "torture.yaml")

    def run(self) -> Report:
        size, report, scheduler = self._size, self._report, self._scheduler
        began = time.monotonic()
        stored, number = 0, 0
        while number < size.campaigns + MOST_MORE and time.monotonic() - began < size.seconds:
            if number >= size.campaigns and len(scheduler.happened) >= size.faults:
                break
            number += 1
            # Another one than what is stored: otherwise there would be nothing to reset.
            chosen = (stored + 1) % len(self._corpora)
            if size.fail_gate_every and number % size.fail_gate_every == 0:
                self._turn(number, self._corpora[chosen], self._fail_gate, self._undo)
            if number % size.undo_every == 0:
                self._turn(number, self._corpora[chosen], self._campaign, self._undo)
            else:
                self._turn(number, self._corpora[chosen], self._campaign)
                stored = chosen
            if report.is_broken:
                break
        report.violations += secrets(self._machine, self._name)
        report.kinds = scheduler.kinds
        report.odd += [f"a fault could not be staged: {error}" for error in scheduler.errors]
        print(f"seed {self._seed}: {' '.join(map(str, scheduler.started))}")  # noqa: T201
        return report

    def _turn(self, number: int, corpus: Corpus, *acts: Callable[[Supervised, str], None]) -> None:
        """Do one thing after the other with one corpus, as long as nothing is wrong."""
        size, report = self._size, self._report
        label = f"s{self._seed}c{number}"
        run = Supervised(
            self._machine,
            self._name,
            corpus,
            self._scheduler,
            report,
            label=f"{label}-{acts[0].__name__.strip('_')}",
            sides=size.sides,
            most_faults=size.faults * min(number, size.campaigns) // size.campaigns,
        )
        try:
            for act in acts:
                if not report.is_broken:
                    act(run, label)
        finally:
            run.close()
        report.violations += run.leaks()
        report.violations += orphans(self._machine, label)

    def _reset(self, run: Supervised, *, ends_with: int = 0, at_each_tick: AtEachTick | None = None) -> bool:
        with self._machine.admin(self._name) as admin:
            watch_gates(admin)
            run.before = Before.of(admin)
        arguments = ("reset", "--playbook", self._playbook, "--yes", "--json")
        deadline_s = self._size.deadline_s
        return run.run(
            arguments, resumes=True, deadline_s=deadline_s, ends_with=ends_with, at_each_tick=at_each_tick
        )

    def _campaign(self, run: Supervised, label: str) -> None:
        """Reset to the corpus, and compare with an undisturbed run."""
        if self._reset(run):
            assert run.before is not None
            with self._machine.admin(self._name) as admin:
                self._note(judge(admin, run.corpus.reference, run.before), label)
        self._report.campaigns += 1
        self._report.items += run.corpus.documents

    def _fail_gate(self, run: Supervised, label: str) -> None:
        """Spoil what was stored before the gate: the campaign stops there, with everything else behind it."""
        gate = run.corpus.gate
        spoilt = False

        def spoil(completed: int) -> None:
            nonlocal spoilt
            if not spoilt and gate // 4 <= completed < gate:
                with contextlib.suppress(psycopg.Error), self._machine.admin(self._name) as admin:
                    half = "UPDATE documents SET embedding = array_fill(1, ARRAY[32])::vector"
                    spoilt = admin.execute(half.encode()).rowcount > 0

        if self._reset(run, ends_with=3, at_each_tick=spoil):
            with self._machine.admin(self._name) as admin:
                self._note(judge_gate(admin, gate), label)
        self._report.gates += 1

    def _undo(self, run: Supervised, label: str) -> None:
        """Undo the campaign under faults; the program that is killed is started again."""
        before = run.before
        assert before is not None
        with self._machine.admin(self._name) as admin:
            campaign = value(admin, "SELECT max(id) FROM ragops.campaign")
        arguments = ("undo", "--playbook", self._playbook, "--yes", "--json")
        if run.run(arguments, resumes=False, deadline_s=self._size.deadline_s):
            with self._machine.admin(self._name) as admin:
                self._note(judge_undone(admin, before, campaign), label)
        self._report.undos += 1

    def _note(self, found: Sequence[Violation], label: str) -> None:
        self._report.violations += [Violation(one.kind, f"{label}: {one.what}") for one in found]


def orphans(machine: Machine, label: str, *, within_s: float = ORPHANS_END_WITHIN_S) -> list[Violation]:
    """Processes that outlive the programs that started them."""
    until = time.monotonic() + within_s
    while (found := machine.orphans()) and time.monotonic() < until:
        time.sleep(0.2)
    return [Violation("orphan", f"{label}: {text}") for text in found]


def secrets(machine: Machine, name: str) -> list[Violation]:
    """Where the password is found: in ragops' tables, and in the files that it keeps."""
    found = []
    with machine.admin(name) as admin:
        tables = query(
            admin, "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname = 'ragops'"
        )
        for (table,) in tables:
            if value(admin, f"SELECT count(*) FROM {table} t WHERE t::text LIKE '%{PASSWORD}%'"):
                found.append(Violation("secret", f"the table {table}"))
    for file in machine.folder.glob("data*/**/*"):
        if file.is_file() and PASSWORD.encode() in file.read_bytes():
            found.append(Violation("secret", str(file)))
    return found
