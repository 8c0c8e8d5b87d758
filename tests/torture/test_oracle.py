"""The oracle is proven: it sees every staged damage, and nothing where nothing is wrong."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from workplace import run_program

from torture.campaign import Supervised
from torture.corpus import write_corpus
from torture.damages import AFTER_A_CAMPAIGN, AFTER_AN_UNDO, NEWEST, Damage
from torture.faults import ANYWHERE
from torture.oracle import Before, Reference, Violation, judge, judge_gate, judge_undone, watch_gates
from torture.report import Report
from torture.scheduler import Scheduler, plan
from torture.state import query, read_state, value
from torture.torture import orphans, secrets
from torture.world import PASSWORD, Corpus, Machine

DOCUMENTS = 60


@dataclass(frozen=True, slots=True)
class Finished:
    """Two campaigns that nothing disturbed, and the undo of the second."""

    machine: Machine
    corpus: Corpus
    before: Before
    done: str
    undone: str

    @contextmanager
    def copy(self, name: str) -> Iterator[str]:
        """A copy of a database, to be damaged."""
        server, copy = self.machine.server, f"{name}_copy"
        server.execute(f"CREATE DATABASE {copy} TEMPLATE {name}")
        yield copy
        server.execute(f"DROP DATABASE {copy} WITH (FORCE)")


@pytest.fixture(scope="module")
def finished(machine: Machine) -> Iterator[Finished]:
    folders = [write_corpus(machine.folder / f"oracle-{name}", DOCUMENTS, seed=5, name=name) for name in "ab"]
    with machine.database() as done:
        for folder in folders:
            with machine.admin(done) as admin:
                watch_gates(admin)
                before = Before.of(admin)
            _ragops(machine, done, folder, "reset")
        with machine.admin(done) as admin:
            corpus = Corpus(folders[1], DOCUMENTS, Reference.of(read_state(admin)))
        undone = f"{done}_undone"
        machine.server.execute(f"CREATE DATABASE {undone} TEMPLATE {done}")
        _ragops(machine, undone, folders[1], "undo")
        yield Finished(machine, corpus, before, done, undone)
        machine.server.execute(f"DROP DATABASE {undone} WITH (FORCE)")


def _ragops(machine: Machine, database: str, folder: object, command: str) -> None:
    environment = machine.environment(machine.direct_dsn(database), machine.folder, DOCUMENTS)
    environment["TORTURE_CORPUS"] = str(folder)
    arguments = (command, "--playbook", str(machine.folder / "torture.yaml"), "--yes", "--json")
    finished = run_program(arguments, environment=environment, cwd=machine.folder, timeout_s=240)
    assert finished.code == 0, finished.err


def _judge(finished: Finished, database: str) -> list[Violation]:
    with finished.machine.admin(database) as admin:
        found = judge(admin, finished.corpus.reference, finished.before)
    return [*found, *secrets(finished.machine, database)]


def _judge_undone(finished: Finished, database: str) -> list[Violation]:
    with finished.machine.admin(database) as admin:
        return judge_undone(admin, finished.before, value(admin, f"SELECT {NEWEST}"))


def _damage(finished: Finished, database: str, damage: Damage) -> None:
    with finished.machine.admin(database) as admin:
        archives: dict[str, str] = dict(
            query(admin, f"SELECT logical, archive_table FROM ragops.archive WHERE campaign_id = {NEWEST}")
        )
        names = {"{documents}": f"ragops.{archives['documents']}", "{queue}": f"ragops.{archives['files_queue']}"}
        for statement in damage.statements:
            for name, table in {**names, "{password}": PASSWORD}.items():
                statement = statement.replace(name, table)
            changed = admin.execute(statement.encode()).rowcount
            assert changed != 0, f"the damage did nothing: {statement}"


def test_nothing_is_found_where_nothing_is_wrong(finished: Finished) -> None:
    assert len(finished.corpus.reference.by_path) == DOCUMENTS
    assert _judge(finished, finished.done) == []
    assert _judge_undone(finished, finished.undone) == []
    assert orphans(finished.machine, "x", within_s=0) == []


@pytest.mark.parametrize("damage", AFTER_A_CAMPAIGN, ids=lambda damage: damage.name)
def test_a_damage_after_a_campaign_is_seen(finished: Finished, damage: Damage) -> None:
    with finished.copy(finished.done) as copy:
        _damage(finished, copy, damage)
        assert damage.seen_as in {violation.kind for violation in _judge(finished, copy)}


@pytest.mark.parametrize("damage", AFTER_AN_UNDO, ids=lambda damage: damage.name)
def test_a_damage_after_an_undo_is_seen(finished: Finished, damage: Damage) -> None:
    with finished.copy(finished.undone) as copy:
        _damage(finished, copy, damage)
        assert damage.seen_as in {violation.kind for violation in _judge_undone(finished, copy)}


def test_a_wrong_number_of_documents_before_a_gate_is_seen(finished: Finished) -> None:
    with finished.machine.admin(finished.done) as admin:
        assert judge_gate(admin, DOCUMENTS) == []
        assert [one.kind for one in judge_gate(admin, DOCUMENTS - 1)] == ["gate"]


def test_an_orphaned_process_is_seen(finished: Finished) -> None:
    command = [sys.executable, "-c", "import time; time.sleep(60)", str(finished.machine.folder)]
    with subprocess.Popen(command) as process:
        try:
            assert [one.kind for one in orphans(finished.machine, "x", within_s=0)] == ["orphan"]
        finally:
            process.kill()


def _run(finished: Finished, *, deadline_s: float) -> Report:
    """Run a command that ends with an error, whenever it is started."""
    report, scheduler = Report(), Scheduler(1, ANYWHERE, mean_gap_s=1000)
    run = Supervised(
        finished.machine,
        finished.done,
        finished.corpus,
        scheduler,
        report,
        label="x",
        sides=0,
        most_faults=0,
        most_restarts=1,
    )
    try:
        assert not run.run(("reset", "--playbook", "nowhere.yaml"), resumes=False, deadline_s=deadline_s)
    finally:
        run.close()
    assert not report.is_clean
    return report


def test_a_program_that_gives_up_is_seen(finished: Finished) -> None:
    assert ["exit 2" in text for text in _run(finished, deadline_s=120).gave_up] == [True, True]


def test_a_program_that_is_not_done_in_time_is_seen(finished: Finished) -> None:
    assert "was not done after 0 s" in _run(finished, deadline_s=0).hung[0]


def test_the_same_seed_gives_the_same_faults() -> None:
    one, same, other = (plan(seed, ANYWHERE, mean_gap_s=1.0) for seed in (1, 1, 2))
    drawn = [[str(next(faults)) for _ in range(50)] for faults in (one, same, other)]
    assert drawn[0] == drawn[1] != drawn[2]
    # Every kind comes early.
    first = plan(1, ANYWHERE, mean_gap_s=1.0)
    assert {next(first).fault for _ in range(4 * len(ANYWHERE))} == set(ANYWHERE)
