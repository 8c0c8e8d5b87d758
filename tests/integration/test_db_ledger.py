"""The ledger on a real server: one controller holds a campaign, and nobody else's record counts."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import uuid
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import psycopg
import pytest
from campaigns import campaign_run, execute, make_playbook, open_session, rows, seed, value
from conftest import wait_for

from ragops.campaign.steps.embed import EmbedStep
from ragops.campaign.steps.empty_tables import EmptyTablesStep
from ragops.errors import CampaignHeld, FenceLost, RagopsError
from ragops.identity import holder_name, process_name, short_name
from ragops.playbook.steps import Embed, EmptyTables
from ragops.playbook.tables import Tables
from ragops.postgres.connection import Connection, Target, connect
from ragops.postgres.ledger import (
    Ledger,
    abandon,
    all_campaigns,
    campaign_steps,
    check_free,
    find_latest_campaign,
    latest_campaign,
    mark_undone,
)
from ragops.postgres.setup import ensure_ragops_schema
from ragops.postgres.takeover import TakeoverWatch, blockers_of

PLAN: dict[str, object] = {"steps": [{"number": 1, "verb": "embed"}, {"number": 2, "verb": "validate"}]}
STEPS = [(1, "embed"), (2, "validate")]
EMPTY = EmptyTables(step="empty_tables")


def open_ledger(connection: Connection) -> Ledger:
    return Ledger.open_new(connection, name="test", playbook={}, plan=PLAN, steps=STEPS, tables=Tables())


def take_over(connection: Connection) -> Ledger:
    row = latest_campaign(connection, Tables())
    assert row is not None
    return Ledger.take(connection, row)


def hold_from(dsn: str, holder: str, *, lease: str = "1 minute", is_older: bool = False) -> None:
    """Let another controller hold the campaign; one of an older version knows no table of leases."""
    until = f"clock_timestamp() + interval '{lease}'"
    execute(dsn, f"UPDATE ragops.campaign SET holder = '{holder}', lease_until = {until}")
    if not is_older:
        execute(dsn, "UPDATE ragops.campaign SET lease_until = NULL")
        execute(dsn, f"UPDATE ragops.lease SET holder = '{holder}', lease_until = {until}")


def lease_until(connection: Connection) -> datetime:
    row = latest_campaign(connection, Tables())
    assert row is not None and row.lease_until is not None
    return row.lease_until


def elsewhere(name: str) -> str:
    """The name that a process with this id would have in another container or on another machine."""
    host, pid, mark = name.split(":")
    return f"{host}:{pid}:00000000-{mark.partition('-')[2]}"


def test_a_new_campaign_and_its_steps(connection: Connection) -> None:
    ledger = open_ledger(connection)
    row = latest_campaign(connection, Tables())
    assert row is not None
    assert (row.id, row.status, row.phase, row.epoch) == (ledger.campaign, "running", 0, 1)
    assert row.holder == holder_name()
    assert short_name(row.holder).endswith(f":{os.getpid()}")
    assert row.lease_is_live
    assert [(s.number, s.verb, s.status) for s in campaign_steps(connection, row.id)] == [
        (1, "embed", "planned"),
        (2, "validate", "planned"),
    ]


@pytest.mark.parametrize("is_older", [False, True], ids=["this version", "older version"])
def test_who_holds_it_is_named(connection: Connection, dsn: str, is_older: bool) -> None:
    ledger = open_ledger(connection)
    take_over(connection)  # This process may always go on.
    hold_from(dsn, "elsewhere:4711:0a1b2c3d-99", is_older=is_older)
    row = latest_campaign(connection, Tables())
    assert row is not None and row.lease_until is not None
    until = f"{row.lease_until:%H:%M:%S}"
    with pytest.raises(CampaignHeld, match=rf"campaign {ledger.campaign} is held by elsewhere:4711 until {until}"):
        check_free(row)
    with pytest.raises(CampaignHeld):
        abandon(connection, row)
    hold_from(dsn, "elsewhere:4711:0a1b2c3d-99", lease="-1 second", is_older=is_older)
    take_over(connection)


def test_a_dead_holder_of_this_machine_is_no_obstacle(connection: Connection, dsn: str) -> None:
    open_ledger(connection)
    ended = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    name = process_name(ended.pid)
    hold_from(dsn, name)
    with pytest.raises(CampaignHeld):
        take_over(connection)
    ended.communicate()
    # The same process id under the same host name, in another table of processes: it may live.
    hold_from(dsn, elsewhere(name))
    with pytest.raises(CampaignHeld):
        take_over(connection)
    hold_from(dsn, name)
    assert take_over(connection).epoch == 2


def test_a_process_id_that_was_used_again_is_no_obstacle(connection: Connection, dsn: str) -> None:
    open_ledger(connection)
    name = holder_name()
    head, _, start = name.rpartition("-")
    hold_from(dsn, f"{head}-{int(start) - 1}")
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


def test_the_lease_is_renewed_during_a_long_transaction(
    connection: Connection, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ragops.postgres.ledger.LEASE_S", 2.0)
    ledger = open_ledger(connection)
    began = lease_until(connection)
    with connect(target) as other:
        other.execute("SET lock_timeout = '5s'")
        with ledger.fenced(is_long=True):
            # As the heartbeat does; it takes longer than the first lease lasts.
            wait_for(lambda: renewed(ledger.on(other)) > began + timedelta(seconds=2), what="a renewed lease")
            held = latest_campaign(other, Tables())
            assert held is not None and held.lease_is_live


def renewed(ledger: Ledger) -> datetime:
    ledger.renew()
    return lease_until(ledger._connection)


def test_a_lease_is_not_renewed_more_often_than_needed(connection: Connection, dsn: str) -> None:
    ledger = open_ledger(connection)
    before = lease_until(connection)
    ledger.renew()
    assert lease_until(connection) == before
    execute(dsn, "UPDATE ragops.lease SET lease_until = lease_until - interval '7 seconds'")
    ledger.renew()
    assert lease_until(connection) > before


def test_a_holder_that_came_back_while_it_was_waited_for_keeps_its_campaign(
    connection: Connection, target: Target, dsn: str
) -> None:
    """It was paused beyond its lease within a transaction: laptops and virtual machines are."""
    ledger = open_ledger(connection)
    paused = "elsewhere:4711:0a1b2c3d-99"
    refused: list[str] = []

    def take() -> None:
        with connect(target) as other:
            try:
                take_over(other)
            except CampaignHeld as held:
                refused.append(held.what)

    hold_from(dsn, paused, lease="-1 second")
    thread = threading.Thread(target=take)
    with ledger.fenced():
        thread.start()
        is_waiting = "SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query ~ 'epoch'"
        wait_for(lambda: bool(value(dsn, is_waiting)), what="a controller that waits")
        hold_from_there = "UPDATE ragops.lease SET lease_until = clock_timestamp() + interval '1 minute'"
        execute(dsn, hold_from_there)
    thread.join()
    assert len(refused) == 1 and "is held by elsewhere:4711 until" in refused[0]
    ledger.step_started(1)


def test_whoever_waits_is_told_for_what(connection: Connection, target: Target, dsn: str) -> None:
    ledger = open_ledger(connection)
    told: list[str] = []
    row = latest_campaign(connection, Tables())
    assert row is not None

    def take() -> None:
        watch = TakeoverWatch(partial(connect, target), told.append, campaign=row.id)
        with connect(target) as other:
            Ledger.take(other, row, waiting=watch.waiting)

    thread = threading.Thread(target=take)
    with ledger.fenced():
        connection.execute("SELECT 'a long build'")
        thread.start()
        wait_for(lambda: bool(told), what="a word")
    thread.join()
    pid = connection.info.backend_pid
    assert told[0].startswith(f"taking campaign 1 over once this transaction has ended: pid {pid} (ragops ")
    assert "idle in transaction for " in told[0] and "last: SELECT 'a long build'" in told[0]
    assert told[0].endswith(f"; to end it: SELECT pg_terminate_backend({pid})")


def test_what_a_role_may_not_see_is_not_taken_for_nothing(
    connection: Connection, target: Target, dsn: str
) -> None:
    role = f"guest_{uuid.uuid4().hex[:8]}"
    execute(dsn, f"CREATE ROLE {role}", "CREATE TABLE contested (id int)")
    try:
        with connect(target) as waiting, connect(target) as looking:
            looking.execute(f"SET ROLE {role}".encode())
            with connection.transaction():
                connection.execute("LOCK TABLE contested")
                thread = threading.Thread(target=waiting.execute, args=["SELECT count(*) FROM contested"])
                thread.start()
                wait_for(lambda: bool(blockers_of(looking, waiting.info.backend_pid)), what="a blocker")
                (blocker,) = blockers_of(looking, waiting.info.backend_pid)
            thread.join()
        assert (blocker.pid, blocker.state, blocker.seconds) == (connection.info.backend_pid, None, None)
        assert "whose state this role may not see" in str(blocker)
    finally:
        execute(dsn, f"DROP ROLE {role}")


def test_a_lease_that_was_ended_keeps_nobody_away(connection: Connection, target: Target) -> None:
    ledger = open_ledger(connection)
    ledger.end_lease()
    row = latest_campaign(connection, Tables())
    assert row is not None and row.lease_is_live is False and row.status == "running"


@pytest.mark.parametrize("how", ["finish", "abandon", "undo"])
def test_an_ended_campaign_has_no_lease(connection: Connection, dsn: str, how: str) -> None:
    ledger = open_ledger(connection)
    row = latest_campaign(connection, Tables())
    assert row is not None
    assert value(dsn, "SELECT count(*) FROM ragops.lease") == 1
    if how == "finish":
        ledger.finish("done")
    elif how == "abandon":
        abandon(connection, row)
    else:
        mark_undone(connection, [row.id])
    assert value(dsn, "SELECT count(*) FROM ragops.lease") == 0
    assert rows(dsn, "SELECT holder, lease_until FROM ragops.campaign") == [(None, None)]


def test_a_ledger_without_leases_is_read_and_then_extended(connection: Connection, dsn: str) -> None:
    open_ledger(connection)
    execute(dsn, "DROP TABLE ragops.lease")
    hold_from(dsn, "elsewhere:4711", is_older=True)
    row = find_latest_campaign(connection, Tables())
    assert row is not None and (row.holder, row.lease_is_live) == ("elsewhere:4711", True)
    assert [campaign.holder for campaign in all_campaigns(connection)] == ["elsewhere:4711"]
    assert value(dsn, "SELECT to_regclass('ragops.lease') IS NULL")
    ensure_ragops_schema(connection)
    with pytest.raises(CampaignHeld, match="elsewhere:4711"):
        take_over(connection)
    hold_from(dsn, "elsewhere:4711", lease="-1 second", is_older=True)
    ledger = take_over(connection)
    assert rows(dsn, "SELECT campaign_id, epoch, holder FROM ragops.lease") == [(1, ledger.epoch, holder_name())]


def test_an_older_version_that_takes_a_campaign_over_holds_it(connection: Connection, dsn: str) -> None:
    """It raises the epoch and writes its own column: the lease of the earlier holder counts no more."""
    ledger = open_ledger(connection)
    execute(dsn, "UPDATE ragops.campaign SET epoch = epoch + 1")
    hold_from(dsn, "elsewhere:4711", lease="-1 second", is_older=True)
    row = latest_campaign(connection, Tables())
    assert row is not None and row.lease_is_live is False
    with pytest.raises(FenceLost):
        ledger.step_started(1)


def test_the_server_ends_a_long_transaction_whose_client_died(target: Target, dsn: str) -> None:
    """Within seconds, not at the end of its statement."""
    code = (
        "import sys; from ragops.postgres.connection import Target, connect, transaction\n"
        "with connect(Target(sys.argv[1], 'test')) as c, transaction(c, is_long=True):\n"
        "    c.execute('SELECT pg_sleep(600)')"
    )
    client = subprocess.Popen([sys.executable, "-c", code, dsn])
    sleeping = "SELECT count(*) FROM pg_stat_activity WHERE query ~ '^SELECT pg_sleep.600' AND state = 'active'"
    try:
        wait_for(lambda: value(dsn, sleeping) == 1, what="a long statement")
    finally:
        client.kill()
        client.wait()
    wait_for(lambda: value(dsn, sleeping) == 0, what="the end of a transaction whose client died")


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
