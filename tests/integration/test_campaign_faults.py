"""Faults around a campaign's steps: bugs, deadlocks, a campaign that passed to another controller."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass

import psycopg
import pytest
from campaigns import Recorder, execute, make_playbook, open_session, rows, value

from ragops.campaign import run as campaign
from ragops.campaign.steps.base import SingleCommand
from ragops.campaign.steps.empty_tables import EmptyTablesStep
from ragops.errors import CampaignHeld, FenceLost
from ragops.playbook.steps import DropIndexes, EmptyTable, EmptyTables
from ragops.playbook.tables import Tables
from ragops.postgres.ledger import Ledger, abandon, latest_campaign
from ragops.session import Session

EMPTY = EmptyTables(step="empty_tables", tables=(EmptyTable(table="parsed_files"),))
STEPS = (DropIndexes(step="drop_indexes"), EMPTY)


@pytest.fixture
def session(dsn: str) -> Iterator[Session]:
    execute(dsn, "INSERT INTO parsed_files (file_id) SELECT n FROM generate_series(1, 20) n")
    with open_session(dsn, make_playbook(steps=STEPS)) as opened:
        yield opened


class PanicException(BaseException):
    """As pyo3 raises it for a panic of a library in Rust: no Exception."""


@pytest.mark.parametrize(("kind", "said"), [(KeyError, "'no such thing'"), (PanicException, "no such thing")])
def test_a_bug_in_a_step_ends_it_as_failed(
    session: Session, dsn: str, kind: type[BaseException], said: str
) -> None:
    class Faulty(Recorder):
        def info(self, message: str, **fields: object) -> None:
            if message.startswith("archiving"):
                raise kind("no such thing")

    plan = campaign.plan_campaign(session)
    faulty = Session.on(session.connection, session.target, session.playbook, reporter=Faulty())
    with pytest.raises(kind):
        campaign.start(faulty, plan)
    assert rows(dsn, "SELECT status, error, holder FROM ragops.campaign") == [
        ("failed", f"{kind.__name__}: {said}", None)
    ]
    found = rows(dsn, "SELECT verb, status, error FROM ragops.step ORDER BY number")
    assert found == [("drop_indexes", "done", None), ("empty_tables", "failed", f"{kind.__name__}: {said}")]
    assert value(dsn, "SELECT count(*) FROM parsed_files") == 20
    assert campaign.resume(session).status == "done"
    assert value(dsn, "SELECT count(*) FROM parsed_files") == 0


def test_a_controller_that_ends_between_two_steps_leaves_no_lease(session: Session, dsn: str) -> None:
    """Its status cannot say it, but nobody has to wait for it."""

    class Interrupting(Recorder):
        def info(self, message: str, **fields: object) -> None:
            if message.startswith("step 2/"):
                raise KeyboardInterrupt

    plan = campaign.plan_campaign(session)
    interrupted = Session.on(session.connection, session.target, session.playbook, reporter=Interrupting())
    with pytest.raises(KeyboardInterrupt):
        campaign.start(interrupted, plan)
    row = latest_campaign(session.connection, session.playbook.tables)
    assert row is not None
    assert (row.status, row.lease_is_live) == ("running", False)
    assert campaign.resume(session).status == "done"


def test_a_controller_that_was_replaced_does_not_say_done(session: Session, dsn: str) -> None:
    class Overtaken(Recorder):
        def info(self, message: str, **fields: object) -> None:
            super().info(message)
            if message.startswith("step 1/1"):
                execute(dsn, "UPDATE ragops.campaign SET epoch = epoch + 1, holder = 'elsewhere:1'")

    dropping = session.with_playbook(make_playbook(steps=STEPS[:1]))
    plan = campaign.plan_campaign(dropping)
    overtaken = Session.on(session.connection, session.target, dropping.playbook, reporter=Overtaken())
    with pytest.raises(FenceLost):
        campaign.start(overtaken, plan)
    assert rows(dsn, "SELECT status, holder FROM ragops.campaign") == [("running", "elsewhere:1")]
    execute(dsn, "UPDATE ragops.campaign SET holder = NULL")
    row = latest_campaign(session.connection, Tables())
    assert row is not None
    ledger = Ledger.take(session.connection, row)
    with pytest.raises(CampaignHeld):
        abandon(session.connection, row)
    ledger.finish("done")
    with pytest.raises(FenceLost):
        Ledger(session.connection, row.id, row.epoch).finish("failed")


@dataclass
class Writer:
    """An application's transaction that has read a table and now wants to write it."""

    dsn: str
    written: int = 0

    def run(self, has_read: threading.Event, may_write: threading.Event) -> None:
        with psycopg.connect(self.dsn) as connection:
            connection.execute("SELECT count(*) FROM parsed_files")
            has_read.set()
            may_write.wait()
            self.written = connection.execute("UPDATE parsed_files SET chunks = 1 WHERE file_id = 7").rowcount


def test_a_deadlock_with_an_application_costs_ragops_a_try_and_the_application_nothing(
    session: Session, dsn: str
) -> None:
    """The application reads, ragops copies under a lock that allows it, and each then waits for the other."""
    has_read, may_write = threading.Event(), threading.Event()
    writer = Writer(dsn)
    thread = threading.Thread(target=writer.run, args=(has_read, may_write))
    thread.start()
    has_read.wait()

    class Copying(Recorder):
        def info(self, message: str, **fields: object) -> None:
            super().info(message)
            if message.startswith("archiving"):
                may_write.set()

    told = Copying()
    copying = Session.on(session.connection, session.target, session.playbook, reporter=told)
    result = EmptyTablesStep(EMPTY).run(SingleCommand(copying))
    thread.join()
    assert writer.written == 1
    assert sum(notice.startswith("archiving") for notice in told.notices) >= 2
    assert (result.rows, result.archived) == (20, 20)
    # The copy that counts was made after the write.
    (archive,) = rows(dsn, "SELECT archive_table FROM ragops.archive")
    assert rows(dsn, f"SELECT file_id FROM ragops.{archive[0]} WHERE chunks = 1") == [(7,)]


def test_two_that_empty_the_same_table_never_wait_for_each_other(session: Session, dsn: str) -> None:
    with open_session(dsn, session.playbook) as other:
        results: list[int] = []
        commands = [SingleCommand(session), SingleCommand(other)]
        threads = [
            threading.Thread(target=lambda run=run: results.append(EmptyTablesStep(EMPTY).run(run).archived))
            for run in commands
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(results) == [0, 20]
