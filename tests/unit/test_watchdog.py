"""When the wait for an answer is given up: only if the server does not answer elsewhere, or has answered here."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from typing import Any

import pytest

from ragops.postgres import watchdog as module
from ragops.postgres.connection import Target
from ragops.postgres.watchdog import AGAIN_S, GRACE_S, SLOW_SOURCE_S, SUSPICIOUS_S, Watchdog, cut


@dataclass
class Info:
    backend_pid: int = 7

    def parameter_status(self, name: str) -> str:
        assert name == "application_name"
        return "ragops test"


@dataclass(eq=False)
class Connection:
    """One that waits for an answer."""

    info: Info = field(default_factory=Info)


@dataclass
class Watched:
    """A watchdog with a clock of its own; `sees` is what the server's sessions do."""

    dog: Watchdog
    connection: Any
    cut: list[Any]
    told: list[str]
    now: float = 1000.0

    def wait(self, seconds: float, *, sees: dict[Any, str] | None, still_waits: bool = True) -> None:
        """Let time pass in steps of a second."""
        self.dog._look = lambda _: sees  # type: ignore[method-assign, assignment]
        for _ in range(round(seconds)):
            self.now += 1
            self.dog._check([self.connection] if still_waits else [], now=self.now)


@pytest.fixture
def aborted() -> list[bool]:
    return [False]


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch, aborted: list[bool]) -> Watched:
    cuts: list[Any] = []
    told: list[str] = []
    monkeypatch.setattr(module, "cut", cuts.append)
    dog = Watchdog(Target("", "the test database"), is_aborted=lambda: aborted[0], info=told.append)
    return Watched(dog, Connection(), cuts, told)


def test_a_statement_that_runs_may_take_for_ever(watched: Watched) -> None:
    watched.wait(100_000, sees={7: "active since 10:00:00"})
    assert watched.cut == []


def test_an_answer_that_got_lost_is_noticed_within_a_minute(watched: Watched) -> None:
    watched.wait(60, sees={7: "idle since 10:00:00"})
    assert watched.cut[:1] == [watched.connection]
    assert watched.told[0] == (
        "a connection gives no answer (the server's session is idle since 10:00:00): closing it"
    )


def test_a_server_that_answers_nowhere_is_noticed_within_a_minute(watched: Watched) -> None:
    watched.wait(60, sees=None)
    assert watched.cut


def test_one_look_is_not_enough(watched: Watched) -> None:
    """The answer may be on its way, and the next statement may have begun."""
    watched.wait(SUSPICIOUS_S + 2, sees={7: "idle since 10:00:00"})
    watched.wait(AGAIN_S + 1, sees={7: "idle since 10:00:07"})
    watched.wait(AGAIN_S + 1, sees=None)
    watched.wait(AGAIN_S + 1, sees={7: "active since 10:00:09"})
    assert watched.cut == []


def test_a_new_wait_counts_from_its_beginning(watched: Watched) -> None:
    for _ in range(20):
        watched.wait(SUSPICIOUS_S - 1, sees=None)
        watched.wait(1, sees=None, still_waits=False)
    assert watched.cut == []


def test_behind_a_pooler_a_session_is_found_by_its_name(watched: Watched) -> None:
    watched.wait(60, sees={99: "idle since 10:00:00", "ragops test": "idle since 10:00:00"})
    assert watched.cut


def test_a_session_that_is_not_seen_proves_nothing(watched: Watched) -> None:
    """A pooler may not pass the name on, or a role may not see it."""
    watched.wait(10_000, sees={})
    assert watched.cut == []


def test_a_copy_may_wait_for_a_slow_source(watched: Watched) -> None:
    state = {7: "active since 10:00:00, waiting for the client"}
    watched.wait(SLOW_SOURCE_S - 1, sees=state)
    assert watched.cut == []
    watched.wait(60, sees=state)
    assert watched.cut


def test_after_the_second_signal_nobody_is_waited_for(watched: Watched, aborted: list[bool]) -> None:
    aborted[0] = True
    watched.wait(GRACE_S - 1, sees={7: "active since 10:00:00"})
    assert watched.cut == []
    watched.wait(3, sees={7: "active since 10:00:00"})
    assert watched.cut


def test_a_connection_that_is_cut_gives_an_error_to_whoever_waits() -> None:
    ours, theirs = socket.socketpair()

    class Open:
        class pgconn:
            socket = ours.fileno()

    with ours, theirs:
        cut(Open())  # type: ignore[arg-type]
        assert ours.recv(1) == b""
        # The descriptor still belongs to the connection: closing it is the connection's affair.
        assert ours.fileno() >= 0
