"""A fleet while its children start: nothing is claimed yet, and every way to end it leaves nothing behind."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from campaigns import make_playbook, rows, seed, table_facts, value
from conftest import wait_for
from pipelines import started
from stub_child import stub_command

from ragops.errors import EmbedderDied, Interrupted, UsageError
from ragops.playbook.model import Source
from ragops.postgres.connection import Connection, Target, connect
from ragops.workers.fleet import Fleet, FleetResult, Progress
from ragops.workers.sizing import Sizing
from ragops.workers.state import Stop
from ragops.workers.threads import Threads

DOCUMENTS = 20


@dataclass
class Depot:
    """A queue of twenty documents, and fleets whose children wait for a gate."""

    dsn: str
    model: Path
    folder: Path
    stop: Stop = field(default_factory=Stop)
    beats: list[int] = field(default_factory=list)
    shown: list[Progress] = field(default_factory=list)

    @property
    def gate(self) -> Path:
        return self.folder.with_name("gate")

    def fleet(self, *arguments: str, workers: int = 1, **sections: Any) -> Fleet:
        target = Target(self.dsn, "the test database")
        with connect(target) as connection:
            tables = table_facts(connection)
        return Fleet(
            target,
            make_playbook(model=self.model, source=Source(folder=self.folder)).with_changes(**sections),
            tables,
            sizing=Sizing(workers, 1),
            stop=self.stop,
            command=stub_command(*arguments),
            heartbeat=self.beat,
        )

    def beat(self, connection: Connection) -> None:
        self.beats.append(connection.info.backend_pid)

    def children(self) -> list[psutil.Process]:
        """The children of this process that run; one that has ended and was not waited for counts too."""
        return [
            child for child in psutil.Process().children() if any("stub_child" in part for part in _command(child))
        ]

    def open_later(self, *, after: Callable[[], bool]) -> None:
        """Open the gate as soon as `after` holds."""

        def wait() -> None:
            wait_for(after)
            self.gate.touch()

        threading.Thread(target=wait).start()

    def assert_untouched(self) -> None:
        assert rows(self.dsn, "SELECT status, count(*) FROM files_queue GROUP BY 1") == [("pending", DOCUMENTS)]
        assert value(self.dsn, "SELECT count(*) FROM ragops.fingerprint") == 0
        assert self.children() == []
        assert not self.stop.is_graceful


def _command(child: psutil.Process) -> list[str]:
    try:
        return child.cmdline()
    except psutil.Error:
        return []


@pytest.fixture
def depot(dsn18: str, tiny_model: Path, tmp_path: Path) -> Depot:
    folder = tmp_path / "corpus"
    folder.mkdir()
    for number in range(1, DOCUMENTS + 1):
        (folder / f"{number}.txt").write_text(f"text number {number}")
    with connect(Target(dsn18, "the test database")) as connection:
        seed(connection, DOCUMENTS)
    return Depot(dsn18, tiny_model, folder)


def test_nothing_is_claimed_before_a_child_has_started(depot: Depot) -> None:
    fleet = depot.fleet(f"gate={depot.gate}", workers=3)
    run = started(lambda: fleet.run(progress=depot.shown.append))
    # Three embedders and the tokenizer start side by side.
    wait_for(lambda: len(depot.children()) == 4, what="all children")
    wait_for(lambda: len(depot.shown) > 2, what="progress")
    assert rows(depot.dsn, "SELECT status, count(*) FROM files_queue GROUP BY 1") == [("pending", DOCUMENTS)]
    assert len(depot.beats) == 1
    assert depot.stop.is_graceful
    depot.gate.touch()
    assert run.result(60).completed == DOCUMENTS
    assert depot.shown[-1] == Progress(DOCUMENTS, 0)
    assert depot.children() == []


def test_the_first_child_that_is_ready_begins(depot: Depot) -> None:
    fleet = depot.fleet(f"gate-but-one={depot.gate}", workers=2)
    run = started(fleet.run)
    stored = "SELECT count(*) FROM documents"
    wait_for(lambda: value(depot.dsn, stored) == DOCUMENTS, what="documents of the first worker")
    assert not run.done()
    depot.gate.touch()
    assert run.result(60).completed == DOCUMENTS
    assert value(depot.dsn, "SELECT count(DISTINCT worker) FROM ingestion_metrics") == 1


def test_a_stop_while_children_start(depot: Depot) -> None:
    fleet = depot.fleet(f"gate={depot.gate}", workers=2)
    run = started(fleet.run)
    wait_for(lambda: len(depot.children()) == 3, what="all children")
    depot.stop.signal_number = 15
    depot.stop.requested.set()
    depot.gate.touch()
    with pytest.raises(Interrupted, match="stopped after 0 documents; what was embedded is stored") as caught:
        run.result(60)
    assert caught.value.exit_code == 143
    depot.assert_untouched()


def test_a_second_signal_while_children_start(depot: Depot) -> None:
    fleet = depot.fleet(f"gate={depot.gate}", workers=2)

    def interrupt(_: Progress) -> None:
        depot.stop.requested.set()
        # As the signal's handler does, in this thread; once, as the fleet shows its progress at the end too.
        if not depot.stop.aborted.is_set():
            raise KeyboardInterrupt

    depot.open_later(after=depot.stop.aborted.is_set)
    with pytest.raises(Interrupted, match="stopped after 0 documents; items in flight were given back") as caught:
        fleet.run(progress=interrupt)
    assert caught.value.exit_code == 130
    depot.assert_untouched()


def run_to_its_error(depot: Depot, fleet: Fleet) -> FleetResult:
    try:
        return fleet.run(info=lambda notice: pytest.fail(notice))
    finally:
        depot.assert_untouched()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_child_that_does_not_start_ends_the_fleet(depot: Depot, workers: int) -> None:
    with pytest.raises(EmbedderDied, match="killed by SIGABRT") as caught:
        run_to_its_error(depot, depot.fleet("dead", workers=workers))
    assert caught.value.actual is not None
    assert caught.value.actual.startswith("while it started")


def test_a_tokenizer_that_does_not_start_ends_the_fleet(depot: Depot) -> None:
    fleet = depot.fleet(workers=2, model={"document_prefix": "word " * 80})
    with pytest.raises(UsageError, match="the prefix leaves no room"):
        run_to_its_error(depot, fleet)


def test_a_fingerprint_that_cannot_be_recorded_ends_the_fleet(depot: Depot) -> None:
    with connect(Target(depot.dsn, "the test database")) as connection:
        body = "BEGIN RAISE EXCEPTION 'refused'; END"
        connection.execute(f"CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $${body}$$".encode())
        connection.execute(
            "CREATE TRIGGER refuse BEFORE INSERT ON ragops.fingerprint FOR EACH ROW EXECUTE FUNCTION refuse()"
        )
    with pytest.raises(psycopg.errors.RaiseException, match="refused"):
        run_to_its_error(depot, depot.fleet())


@pytest.mark.parametrize("signals", [1, 2])
def test_signals_between_the_starts_of_two_threads_leave_no_thread_behind(
    depot: Depot, monkeypatch: pytest.MonkeyPatch, signals: int
) -> None:
    """A thread that nobody knows of would keep the process alive for ever, with a child and its claims."""
    start, before = Threads.start, set(threading.enumerate())

    def interrupted(self: Threads, work: Callable[[], Any], name: str) -> Any:
        future = start(self, work, name)
        # As the handlers of the program do it.
        depot.stop.requested.set()
        if signals == 2:
            depot.stop.aborted.set()
        return future

    monkeypatch.setattr(Threads, "start", interrupted)
    depot.gate.touch()
    with pytest.raises(Interrupted):
        started(depot.fleet(f"gate={depot.gate}", workers=3).run).result(60)
    wait_for(
        lambda: set(threading.enumerate()) <= before | {threading.current_thread()}, what="the end of all threads"
    )
    depot.assert_untouched()
