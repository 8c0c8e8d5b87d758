"""What is waited for, for how long, and what the operator reads meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragops.errors import (
    DatabaseUnavailable,
    FenceLost,
    Interrupted,
    NegativeVerdict,
    OutageTooLong,
    PlanStale,
    RagopsError,
)
from ragops.postgres.connection import Target
from ragops.postgres.outages import outage_of
from ragops.workers import database as module
from ragops.workers.database import MAX_COLLISIONS, Database, Outages
from ragops.workers.state import Stop

WAITED_FOR = ["53100", "53000", "53200", "53300", "25006", "57P01", "57P02", "57P03", "57P05", "25P03", "08006"]
NOT_WAITED_FOR = ["23505", "42P01", "42501", "22P02", "57014", "55P03", "0A000", "3D000"]


def server_error(state: str, message: str = "no") -> psycopg.Error:
    """The error that psycopg raises for a SQLSTATE."""
    try:
        kind = psycopg.errors.lookup(state)
    except KeyError:
        kind = type("Other", (psycopg.OperationalError,), {"sqlstate": state})
    return kind(message)


@pytest.mark.parametrize("state", WAITED_FOR)
def test_what_passes_by_itself(state: str) -> None:
    outage = outage_of(server_error(state, "the server's words"), is_lost=False)
    assert outage is not None and not outage.is_collision
    assert "the server's words" in outage.reason
    assert outage.is_full == (state == "53100")


@pytest.mark.parametrize("state", NOT_WAITED_FOR)
def test_what_has_to_be_corrected(state: str) -> None:
    assert outage_of(server_error(state), is_lost=False) is None


@pytest.mark.parametrize("state", ["40001", "40P01"])
def test_collisions_are_no_outages(state: str) -> None:
    outage = outage_of(server_error(state), is_lost=False)
    assert outage is not None and outage.is_collision


def test_whatever_ends_a_lost_connection_is_an_outage() -> None:
    # Two answers of a pooler to one COPY: psycopg unpacks one.
    assert outage_of(ValueError("too many values to unpack (expected 1)"), is_lost=True) is not None
    assert outage_of(ValueError("too many values to unpack (expected 1)"), is_lost=False) is None
    assert outage_of(KeyboardInterrupt(), is_lost=True) is None


def test_what_ragops_made_of_a_full_disk_is_looked_through() -> None:
    made = RagopsError("the index could not be built")
    made.__cause__ = server_error("53100")
    outage = outage_of(made, is_lost=False)
    assert outage is not None and outage.is_full


@pytest.mark.parametrize("kind", [FenceLost, Interrupted, NegativeVerdict, PlanStale, OutageTooLong])
def test_a_decision_is_final_whatever_led_to_it(kind: type[RagopsError]) -> None:
    decided = kind("decided")
    decided.__cause__ = server_error("57P01")
    assert outage_of(decided, is_lost=True) is None


class Fake:
    """A connection that is there."""

    closed = False

    def close(self) -> None:
        self.closed = True


class Told:
    def __init__(self) -> None:
        self.notices: list[str] = []

    def __call__(self, notice: str) -> None:
        self.notices.append(notice)


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def stop() -> Stop:
    return Stop()


@pytest.fixture
def open_database(monkeypatch: pytest.MonkeyPatch, told: Told, stop: Stop) -> Callable[..., Database]:
    """A database whose connections cost nothing, and whose waits take no time; `connects` may fail."""
    monkeypatch.setattr(module, "FIRST_S", 1e-4)
    monkeypatch.setattr(module, "LONGEST_S", 1e-4)
    monkeypatch.setattr(module, "session_name", lambda _: None)

    def opened(
        *, max_outage_s: float = 60, connects: Callable[[], Any] = Fake, needed: int | None = None
    ) -> Database:
        monkeypatch.setattr(module, "connect", lambda *_, **__: connects())
        outages = Outages(told, max_outage_s=max_outage_s, bytes_needed=lambda: needed)
        return Database("fetcher", Target("", "the test database"), stop=stop, outages=outages)

    return opened


def failing(*errors: BaseException) -> Callable[[Any], str]:
    left = list(errors)

    def work(_: Any) -> str:
        if left:
            raise left.pop(0)
        return "done"

    return work


def test_one_lost_connection_is_a_line_of_its_own(open_database: Callable[..., Database], told: Told) -> None:
    assert open_database().run(failing(server_error("57P01", "terminating"))) == "done"
    assert len(told.notices) == 1
    assert told.notices[0].startswith("fetcher: reconnected; before: an administrator ended the connection")


def test_an_outage_is_named_once_and_its_end_too(open_database: Callable[..., Database], told: Told) -> None:
    database = open_database()
    assert database.run(failing(*[server_error("25006", "cannot UPDATE")] * 9)) == "done"
    begun, ended = told.notices
    assert begun == (
        "fetcher: waiting for the database: the database is read-only (cannot UPDATE); it goes on by itself"
    )
    assert ended.startswith("the database works again after ")


def test_a_full_disk_says_at_once_how_much_room_it_needs(
    open_database: Callable[..., Database], told: Told
) -> None:
    assert open_database(needed=3 * 2**20).run(failing(server_error("53100", "could not extend"))) == "done"
    assert (
        "the server's disk is full (could not extend); make room: it needs about 3.0 MiB more" in told.notices[0]
    )


def test_another_reason_is_another_notice(open_database: Callable[..., Database], told: Told) -> None:
    errors = [
        server_error("57P01"),
        server_error("57P03", "starting up"),
        server_error("53300", "too many clients"),
    ]
    open_database().run(failing(*errors, *errors))
    reasons = [notice for notice in told.notices if "waiting" in notice]
    assert len(reasons) == 3


def test_an_outage_that_lasts_too_long_ends_the_command(open_database: Callable[..., Database]) -> None:
    database = open_database(max_outage_s=0.01)
    with pytest.raises(OutageTooLong) as gone:
        database.run(failing(*[server_error("53300", "too many clients")] * 100_000))
    assert gone.value.actual == "too many connections (too many clients)"
    assert "database.max_outage_s" in (gone.value.expected or "")


def test_a_stop_ends_the_wait(open_database: Callable[..., Database], stop: Stop) -> None:
    stop.requested.set()
    stop.signal_number = 15
    with pytest.raises(Interrupted) as stopped:
        open_database().run(failing(*[server_error("57P03", "starting up")] * 100))
    assert stopped.value.exit_code == 143


def test_collisions_are_tried_again_a_bounded_number_of_times(open_database: Callable[..., Database]) -> None:
    assert open_database().run(failing(*[server_error("40001")] * MAX_COLLISIONS)) == "done"
    with pytest.raises(psycopg.errors.SerializationFailure):
        open_database().run(failing(*[server_error("40001")] * (MAX_COLLISIONS + 1)))


def test_other_errors_pass_through_at_once(open_database: Callable[..., Database], told: Told) -> None:
    with pytest.raises(psycopg.errors.UniqueViolation):
        open_database().run(failing(server_error("23505")))
    assert told.notices == []


@given(failures=st.lists(st.sampled_from(["a", "b", "c"]), max_size=30))
def test_an_outage_is_over_when_the_last_connection_works(failures: list[str]) -> None:
    """However the connections of a command fail and recover, each outage begins and ends once."""
    told = Told()
    outages = Outages(told)
    from ragops.postgres.outages import Outage

    away: set[str] = set()
    for name in failures:
        if name in away:
            outages.end(name)
            away.discard(name)
        else:
            outages.begin(name, Outage("the server is away"))
            away.add(name)
        assert outages.are_open == bool(away)
    for name in list(away):
        outages.end(name)
    begun = sum("waiting for the database" in notice for notice in told.notices)
    ended = sum("works again" in notice for notice in told.notices)
    assert begun == ended
    assert not outages.are_open


def test_a_refused_connection_is_waited_for(open_database: Callable[..., Database], told: Told) -> None:
    left = [
        DatabaseUnavailable("the database cannot be reached", actual="connection failed: Connection refused")
    ] * 5

    def connects() -> Fake:
        if left:
            raise left.pop()
        return Fake()

    assert open_database(connects=connects).run(lambda _: "done") == "done"
    assert told.notices[0].startswith("fetcher: waiting for the database: Connection refused; ")


def test_a_waiting_thread_is_woken_by_a_stop(open_database: Callable[..., Database], stop: Stop) -> None:
    database = open_database()
    ended = threading.Event()

    def run() -> None:
        with pytest.raises(Interrupted):
            database.run(lambda _: (_ for _ in ()).throw(server_error("57P03")))
        ended.set()

    thread = threading.Thread(target=run)
    thread.start()
    stop.requested.set()
    assert ended.wait(20)
    thread.join()
