"""`--wait` on a real ledger: what it waits for, and what it makes of an outage."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from campaigns import Recorder, execute, make_playbook, open_session

from ragops.campaign import waiting
from ragops.campaign.waiting import wait_for_holder
from ragops.errors import DatabaseUnavailable
from ragops.playbook.tables import Tables
from ragops.postgres.connection import Connection
from ragops.postgres.ledger import CampaignRow, Ledger, find_latest_campaign

HOLDER = "elsewhere:4711:0a1b2c3d-99"


def hold(dsn: str, *, lease: str) -> None:
    execute(
        dsn,
        f"UPDATE ragops.campaign SET holder = '{HOLDER}'",
        f"UPDATE ragops.lease SET holder = '{HOLDER}', lease_until = clock_timestamp() + interval '{lease}'",
    )


def scripted(*acts: Callable[[], None]) -> Callable[[float], None]:
    """A sleep in which something happens; it is an error to sleep more often."""
    left = list(acts)
    return lambda _: left.pop(0)()


@pytest.fixture
def campaign(connection: Connection) -> int:
    ledger = Ledger.open_new(connection, name="test", playbook={}, plan={}, steps=[(1, "embed")], tables=Tables())
    return ledger.campaign


@pytest.mark.usefixtures("campaign")
def test_a_campaign_that_another_one_ended_is_returned_only_when_it_is_done(dsn: str) -> None:
    for status in ("done", "abandoned"):
        execute(dsn, "UPDATE ragops.campaign SET status = 'running'")
        hold(dsn, lease="1 hour")
        end = f"UPDATE ragops.campaign SET status = '{status}', holder = NULL"
        with open_session(dsn, make_playbook()) as session:
            ended = wait_for_holder(session, sleep=scripted(lambda end=end: execute(dsn, end)))  # type: ignore[misc]
        # Nothing is left to resume of one that was given up, which `resume` says.
        assert (ended is not None) == (status == "done")


@pytest.mark.usefixtures("campaign")
def test_nothing_is_waited_for_where_nobody_holds_the_campaign(dsn: str) -> None:
    hold(dsn, lease="-1 second")
    with open_session(dsn, make_playbook()) as session:
        assert wait_for_holder(session, sleep=scripted()) is None
        assert session.reporter.notices == []  # type: ignore[attr-defined]


@pytest.mark.usefixtures("campaign")
def test_after_an_outage_the_holder_has_time_to_renew_its_lease(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It could not reach the database either: it lives, although its lease has run out."""
    outages = [DatabaseUnavailable("the database cannot be reached")] * 2

    def find(connection: Connection, tables: Tables) -> CampaignRow | None:
        if outages:
            raise outages.pop()
        return find_latest_campaign(connection, tables)

    monkeypatch.setattr(waiting, "find_latest_campaign", find)
    hold(dsn, lease="-1 second")
    sleep = scripted(
        lambda: hold(dsn, lease="1 hour"),  # The database is back, and the holder renews its lease.
        lambda: execute(dsn, "UPDATE ragops.campaign SET holder = NULL, status = 'stopped'"),
    )
    with open_session(dsn, make_playbook()) as session:
        assert wait_for_holder(session, sleep=sleep) is None
        assert isinstance(session.reporter, Recorder)
        away, back, held, ended = session.reporter.notices
    assert away.startswith("controller: waiting for the database: the database cannot be reached")
    assert back.startswith("the database works again")
    assert held.startswith("campaign 1 is held by elsewhere:4711 until ")
    assert ended == "campaign 1 is no longer held by elsewhere:4711: stopped"


@pytest.mark.usefixtures("campaign")
def test_a_holder_that_does_not_come_back_from_an_outage_is_replaced(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    outages = [DatabaseUnavailable("the database cannot be reached")]

    def find(connection: Connection, tables: Tables) -> CampaignRow | None:
        if outages:
            raise outages.pop()
        return find_latest_campaign(connection, tables)

    monkeypatch.setattr(waiting, "find_latest_campaign", find)
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    hold(dsn, lease="-1 second")

    def sleep(seconds: float) -> None:
        now[0] += seconds

    with open_session(dsn, make_playbook()) as session:
        assert wait_for_holder(session, sleep=sleep) is None
    assert now[0] == waiting.AFTER_OUTAGE_S
