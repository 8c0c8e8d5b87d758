"""The ledger on a real server: one controller holds a campaign, and nobody else's record counts."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from typing import Any

import psycopg
import pytest
from campaigns import campaign_run, execute, make_playbook, open_session, rows, seed, value
from conftest import wait_for

from ragops.campaign.steps.embed import EmbedStep
from ragops.campaign.steps.empty_tables import EmptyTablesStep
from ragops.errors import CampaignHeld, FenceLost, RagopsError
from ragops.playbook.steps import Embed, EmptyTables
from ragops.playbook.tables import Tables
from ragops.postgres.connection import Connection, Target, connect
from ragops.postgres.ledger import Ledger, abandon, campaign_steps, check_free, holder_name, latest_campaign

PLAN: dict[str, object] = {"steps": [{"number": 1, "verb": "embed"}, {"number": 2, "verb": "validate"}]}
STEPS = [(1, "embed"), (2, "validate")]
EMPTY = EmptyTables(step="empty_tables")


def open_ledger(connection: Connection) -> Ledger:
    return Ledger.open_new(connection, name="test", playbook={}, plan=PLAN, steps=STEPS, tables=Tables())


def take_over(connection: Connection) -> Ledger:
    row = latest_campaign(connection, Tables())
    assert row is not None
    return Ledger.take(connection, row)


def hold_from(dsn: str, holder: str, *, lease: str = "1 minute") -> None:
    execute(
        dsn,
        f"UPDATE ragops.campaign SET holder = '{holder}', lease_until = clock_timestamp() + interval '{lease}'",
    )


def test_a_new_campaign_and_its_steps(connection: Connection) -> None:
    ledger = open_ledger(connection)
    row = latest_campaign(connection, Tables())
    assert row is not None
    assert (row.id, row.status, row.phase, row.epoch) == (ledger.campaign, "running", 0, 1)
    assert row.holder == holder_name() == f"{socket.gethostname()}:{os.getpid()}"
    assert row.lease_is_live
    assert [(s.number, s.verb, s.status) for s in campaign_steps(connection, row.id)] == [
        (1, "embed", "planned"),
        (2, "validate", "planned"),
    ]


def test_who_holds_it_is_named(connection: Connection, dsn: str) -> None:
    ledger = open_ledger(connection)
    take_over(connection)  # This process may always go on.
    hold_from(dsn, "elsewhere:4711")
    row = latest_campaign(connection, Tables())
    assert row is not None and row.lease_until is not None
    until = f"{row.lease_until:%H:%M:%S}"
    with pytest.raises(CampaignHeld, match=rf"campaign {ledger.campaign} is held by elsewhere:4711 until {until}"):
        check_free(row)
    with pytest.raises(CampaignHeld):
        abandon(connection, row)
    hold_from(dsn, "elsewhere:4711", lease="-1 second")
    take_over(connection)


def test_a_dead_holder_of_this_machine_is_no_obstacle(connection: Connection, dsn: str) -> None:
    open_ledger(connection)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    hold_from(dsn, f"{socket.gethostname()}:{ended.pid}")
    assert take_over(connection).epoch == 2


def test_taking_over_at_the_same_moment_goes_to_one(connection: Connection) -> None:
    open_ledger(connection)
    row = latest_campaign(connection, Tables())
    assert row is not None
    Ledger.take(connection, row)
    with pytest.raises(CampaignHeld, match="taken by another"):
        Ledger.take(connection, row)


def test_an_earlier_holder_changes_nothing(connection: Connection, dsn: str) -> None:
    first = open_ledger(connection)
    second = take_over(connection)
    execute(dsn, "INSERT INTO documents (content) VALUES ('precious')")
    with pytest.raises(FenceLost, match="taken over"), first.fenced():
        connection.execute("TRUNCATE documents, document_chunks")
    assert value(dsn, "SELECT count(*) FROM documents") == 1
    with second.fenced():
        connection.execute("UPDATE documents SET content = 'changed'")
    assert value(dsn, "SELECT content FROM documents") == "changed"


@pytest.mark.parametrize("record", ["started", "done", "failed", "phase"])
def test_an_earlier_holders_records_do_not_count(connection: Connection, record: str) -> None:
    first = open_ledger(connection)
    second = take_over(connection)
    second.set_phase(1)
    second.step_started(1)
    calls: dict[str, Any] = {
        "started": lambda: first.step_started(2),
        "done": lambda: first.step_done(1, {"pending": 0}),
        "failed": lambda: first.step_failed(1, "late"),
        "phase": lambda: first.set_phase(2),
    }
    with pytest.raises(FenceLost, match="taken over"):
        calls[record]()
    assert [step.status for step in campaign_steps(connection, first.campaign)] == ["running", "planned"]
    row = latest_campaign(connection, Tables())
    assert row is not None
    assert row.phase == 1


def test_an_earlier_holders_embed_step_is_not_taken_for_done(connection: Connection, dsn: str) -> None:
    first = open_ledger(connection)
    seed(connection, 4, gates=(2,))
    take_over(connection)
    playbook = make_playbook(steps=(Embed(step="embed"),))
    # The gate is closed to the earlier holder, so there is nothing for it to embed: that is not "done".
    with open_session(dsn, playbook) as session, pytest.raises(FenceLost):
        EmbedStep(Embed(step="embed")).run(campaign_run(session, first))
    assert [step.status for step in campaign_steps(connection, first.campaign)] == ["planned", "planned"]


def test_an_earlier_holder_ends_no_campaign(connection: Connection) -> None:
    first = open_ledger(connection)
    take_over(connection)
    with pytest.raises(FenceLost):
        first.finish("failed", "late")
    first.renew()
    row = latest_campaign(connection, Tables())
    assert row is not None
    assert (row.status, row.error) == ("running", None)


def test_a_takeover_waits_for_the_transaction_under_way(connection: Connection, target: Target, dsn: str) -> None:
    ledger = open_ledger(connection)
    taken: list[int] = []

    def take() -> None:
        with connect(target) as other:
            taken.append(take_over(other).epoch)

    thread = threading.Thread(target=take)
    with ledger.fenced():
        ledger.step_done(1, {})
        thread.start()
        is_waiting = "SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query ~ 'epoch'"
        wait_for(lambda: bool(value(dsn, is_waiting)), what="a controller that waits")
        assert taken == []
    thread.join()
    assert taken == [2]
    assert value(dsn, "SELECT status FROM ragops.step WHERE number = 1") == "done"


def test_a_lease_is_not_waited_for(connection: Connection, target: Target) -> None:
    ledger = open_ledger(connection)
    before = latest_campaign(connection, Tables())
    assert before is not None
    with connect(target) as other:
        other.execute("SET lock_timeout = '2s'")
        with ledger.fenced():
            ledger.on(other).renew()
            # The row is locked: the lease has not moved, and waiting would have raised.
            during = latest_campaign(other, Tables())
            assert during is not None
            assert during.lease_until == before.lease_until
        touched = latest_campaign(other, Tables())
        ledger.on(other).renew()
        after = latest_campaign(other, Tables())
        assert touched is not None and touched.lease_until is not None
        assert after is not None and after.lease_until is not None
        assert after.lease_until > touched.lease_until


def test_a_step_that_fails_leaves_neither_effect_nor_record(
    connection: Connection, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = open_ledger(connection)
    execute(dsn, "INSERT INTO documents (content) VALUES ('precious')")
    with open_session(dsn, make_playbook(steps=(EMPTY,))) as session:
        run = campaign_run(session, ledger)

        def fail(*_: object) -> None:
            raise RagopsError("the record cannot be written")

        monkeypatch.setattr(Ledger, "step_done", fail)
        with pytest.raises(RagopsError, match="record"):
            EmptyTablesStep(EMPTY).run(run)
    assert value(dsn, "SELECT count(*) FROM documents") == 1
    assert rows(dsn, "SELECT * FROM ragops.archive") == []
    assert value(dsn, "SELECT count(*) FROM pg_tables WHERE tablename LIKE 'archive_%'") == 0


def test_a_failing_effect_leaves_no_record(connection: Connection, dsn: str) -> None:
    ledger = open_ledger(connection)
    execute(
        dsn,
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$",
        "CREATE TRIGGER refuse BEFORE DELETE ON parsed_files EXECUTE FUNCTION refuse()",
        "INSERT INTO documents (content) VALUES ('precious')",
    )
    with (
        open_session(dsn, make_playbook(steps=(EMPTY,))) as session,
        pytest.raises(psycopg.errors.RaiseException),
    ):
        EmptyTablesStep(EMPTY).run(campaign_run(session, ledger))
    assert value(dsn, "SELECT count(*) FROM documents") == 1
    assert value(dsn, "SELECT status FROM ragops.step WHERE number = 1") == "planned"
    assert rows(dsn, "SELECT * FROM ragops.archive") == []
