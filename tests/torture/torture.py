"""A torture: campaigns and undos in one database, one after the other, under faults of one seed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from torture.campaign import Supervised
from torture.faults import kinds
from torture.oracle import Before, Violation, judge, judge_undone, watch_gates
from torture.report import Report
from torture.scheduler import Scheduler
from torture.state import query, value
from torture.world import PASSWORD, Corpus, Machine

ORPHANS_END_WITHIN_S = 20.0


@dataclass(frozen=True, slots=True)
class Size:
    """How much is done with one seed."""

    campaigns: int
    faults: int
    """At least as many per seed; they are spread over its campaigns."""
    mean_gap_s: float
    deadline_s: float
    """For one campaign."""
    pace: float
    """Seconds that a stub child takes for a text while faults are to come."""
    sides: int = 1
    undo_every: int = 2


def torture(machine: Machine, corpora: Sequence[Corpus], seed: int, size: Size) -> Report:
    """Run campaigns over the corpora in turn; everything that is wrong is in the report."""
    report = Report(seeds=[seed])
    scheduler = Scheduler(seed, kinds(machine), mean_gap_s=size.mean_gap_s)
    stored = 0
    with machine.database() as name:
        for number in range(1, size.campaigns + 1):
            # Another one than what is stored: otherwise there would be nothing to reset.
            chosen = (stored + 1) % len(corpora)
            corpus = corpora[chosen]
            label = f"s{seed}c{number}"
            run = Supervised(
                machine,
                name,
                corpus,
                scheduler,
                report,
                label=label,
                sides=size.sides,
                most_faults=size.faults * number // size.campaigns,
            )
            try:
                _campaign(machine, name, corpus, run, report, size, label)
                stored, earlier = chosen, stored
                if number % size.undo_every == 0 and not (report.violations or report.hung):
                    _undo(machine, name, run, report, size, label)
                    stored = earlier
            finally:
                run.close()
            report.violations += run.leaks()
            report.violations += orphans(machine, label)
            if report.violations or report.hung:
                break
        report.violations += secrets(machine, name)
    report.kinds = scheduler.kinds
    report.odd += [f"a fault could not be staged: {error}" for error in scheduler.errors]
    print(f"seed {seed}: {' '.join(map(str, scheduler.started))}")  # noqa: T201
    return report


def _campaign(
    machine: Machine, name: str, corpus: Corpus, run: Supervised, report: Report, size: Size, label: str
) -> None:
    with machine.admin(name) as admin:
        watch_gates(admin)
        before = Before.of(admin)
    run.before = before
    playbook = str(machine.folder / "torture.yaml")
    arguments = ("reset", "--playbook", playbook, "--yes", "--json")
    if run.run(arguments, resumes=True, deadline_s=size.deadline_s, pace=size.pace):
        with machine.admin(name) as admin:
            found = judge(admin, corpus.reference, before)
        report.violations += [Violation(one.kind, f"{label}: {one.what}") for one in found]
    report.campaigns += 1
    report.items += corpus.documents


def _undo(machine: Machine, name: str, run: Supervised, report: Report, size: Size, label: str) -> None:
    """Undo the campaign under faults; the program that is killed is started again."""
    before = run.before
    assert before is not None
    with machine.admin(name) as admin:
        campaign = value(admin, "SELECT max(id) FROM ragops.campaign")
    arguments = ("undo", "--playbook", str(machine.folder / "torture.yaml"), "--yes", "--json")
    if run.run(arguments, resumes=False, deadline_s=size.deadline_s, pace=0):
        with machine.admin(name) as admin:
            found = judge_undone(admin, before, campaign)
        report.violations += [Violation(one.kind, f"{label}: {one.what}") for one in found]
    report.undos += 1


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
