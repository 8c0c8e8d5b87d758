"""A controller takes over from one that died, and from no other; `--wait` needs nobody to type anything."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from datetime import datetime

import pytest
from conftest import wait_for
from workplace import Workplace, stored_documents

DOCUMENTS = 120
LEASE_S = 60
# What a loaded machine needs to start the program, plan and load the model.
MARGIN_S = 40
ELSEWHERE = "elsewhere:4711:0a1b2c3d-99"


class Watched:
    """A program that runs, with what it has printed so far."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.said: list[str] = []
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line)

    def says(self, words: str) -> int:
        """How many lines have these words."""
        return sum(words in line for line in self.said)

    def wait_for(self, words: str) -> None:
        wait_for(lambda: bool(self.says(words)) or self.process.poll() is not None, timeout_s=100, what=words)
        assert self.says(words), self.said

    def end(self) -> tuple[int, str]:
        """Its exit code and its output, at its end."""
        code = self.process.wait(timeout=180)
        self._thread.join(timeout=10)
        assert self.process.stdout is not None
        return code, self.process.stdout.read()


@pytest.fixture
def embedding(place: Workplace) -> Iterator[Watched]:
    """A controller that is slowly embedding."""
    place.slow_down(0.1)
    first = Watched(place.start("reset", "--playbook", "realign.yaml", "--yes", "--json"))
    wait_for(lambda: place.completed() >= 2, what="the first documents")
    yield first


def start_waiting(place: Workplace) -> Watched:
    second = Watched(place.start("reset", "--resume", "--wait", "--json"))
    second.wait_for("waiting until it has ended or that lease has run out")
    return second


def seconds_until_work(place: Workplace, since: float) -> float:
    """Wait for the next stored document; return its distance to the moment `since` of a kill."""
    before = place.completed()
    wait_for(lambda: place.completed() > before, timeout_s=LEASE_S + 2 * MARGIN_S, what="another document")
    return time.monotonic() - since


def assert_done(place: Workplace, watched: Watched) -> None:
    place.speed_up()
    code, out = watched.end()
    assert code == 0, watched.said
    assert (json.loads(out)["status"], json.loads(out)["verdict"]) == ("done", "pass")
    assert len(stored_documents(place)) == DOCUMENTS
    assert place.queue() == {"completed": DOCUMENTS}
    assert place.value("SELECT count(*) FROM ragops.lease") == 0


def test_a_dead_controller_of_this_machine_is_replaced_at_once(place: Workplace, embedding: Watched) -> None:
    holder = f"{socket.gethostname()}:{embedding.process.pid}"
    second = start_waiting(place)
    assert second.says(f"campaign 1 is held by {holder} until ") == 1
    embedding.process.kill()
    killed = time.monotonic()
    second.wait_for(f"took campaign 1 over from {holder}")
    held = time.monotonic() - killed
    working = seconds_until_work(place, killed)
    figures = f"{held:.1f} s from the kill to the takeover, {working:.1f} s to the next document"
    print(figures)  # noqa: T201 (pytest -s)
    # Long before its lease has run out: it is known to be dead.
    assert working <= 5 + MARGIN_S, figures
    assert_done(place, second)


def test_the_status_tells_a_controller_that_works_from_one_that_is_gone(
    place: Workplace, embedding: Watched
) -> None:
    holder = f"{socket.gethostname()}:{embedding.process.pid}"
    campaign = place.ragops("status", "--json").json["campaign"]
    assert (campaign["status"], campaign["holder"], campaign["is_held"]) == ("running", holder, True)
    assert f"held by {holder}" in place.ragops("status").out
    embedding.process.kill()
    embedding.process.wait()
    campaign = place.ragops("status", "--json").json["campaign"]
    assert (campaign["status"], campaign["holder"], campaign["is_held"]) == ("interrupted", holder, False)
    assert f"its controller {holder} is gone; to go on: ragops reset --resume" in place.ragops("status").out


@pytest.mark.fault(5)
def test_a_dead_controller_of_another_machine_is_replaced_when_its_lease_ends(
    place: Workplace, embedding: Watched
) -> None:
    embedding.process.kill()
    embedding.process.wait()
    place.execute(
        f"UPDATE ragops.campaign SET holder = '{ELSEWHERE}'",
        f"UPDATE ragops.lease SET holder = '{ELSEWHERE}', lease_until = clock_timestamp() + interval '20 s'",
    )
    until: datetime = place.value("SELECT lease_until FROM ragops.lease")
    second = start_waiting(place)
    assert second.says("campaign 1 is held by elsewhere:4711 until ") == 1
    place.execute("UPDATE ragops.lease SET lease_until = clock_timestamp() + interval '6 s'")
    until = place.value("SELECT lease_until FROM ragops.lease")
    began = time.monotonic()
    second.wait_for("took campaign 1 over from elsewhere:4711")
    held = time.monotonic() - began
    assert place.value("SELECT clock_timestamp()") >= until
    working = seconds_until_work(place, began)
    figures = f"lease 6 s: taken over after {held:.1f} s, the next document after {working:.1f} s"
    print(figures)  # noqa: T201 (pytest -s)
    assert working <= 6 + 5 + MARGIN_S, figures
    assert_done(place, second)


def test_a_campaign_that_ends_meanwhile_ends_the_waiting(place: Workplace, embedding: Watched) -> None:
    second = start_waiting(place)
    assert_done(place, embedding)
    code, out = second.end()
    assert code == 0, second.said
    assert second.says("campaign 1 is done") == 1
    result = json.loads(out)
    assert (result["campaign"], result["status"], result["verdict"]) == (1, "done", "pass")
    assert (result["seeded"], result["completed"], result["failed"]) == (DOCUMENTS, DOCUMENTS, 0)


def test_waiting_can_be_stopped_and_names_each_holder_once(place: Workplace, embedding: Watched) -> None:
    second = start_waiting(place)
    embedding.process.send_signal(signal.SIGSTOP)
    lease = "lease_until = clock_timestamp() + interval '1 h'"
    place.execute(
        f"UPDATE ragops.campaign SET holder = '{ELSEWHERE}'",
        f"UPDATE ragops.lease SET holder = '{ELSEWHERE}', {lease}",
    )
    second.wait_for("is held by elsewhere:4711")
    time.sleep(3)
    second.process.send_signal(signal.SIGINT)
    code, out = second.end()
    assert (code, json.loads(out)["error"]["what"]) == (130, "stopped")
    assert second.says("is held by") == 2
    assert second.says("took campaign") == 0


def test_waiting_needs_something_to_resume(place: Workplace) -> None:
    alone = place.ragops("reset", "--wait", "--json")
    assert (alone.code, alone.json["error"]["what"]) == (2, "--wait is for --resume")
    nothing = place.ragops("reset", "--resume", "--wait", "--json")
    assert (nothing.code, nothing.json["error"]["what"]) == (1, "there is nothing to resume")


HOLDING = """
CREATE TABLE go_on ();
CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN WHILE to_regclass('go_on') IS NOT NULL LOOP PERFORM pg_sleep(0.1); END LOOP; RETURN NULL; END $$;
CREATE TRIGGER hold BEFORE TRUNCATE ON documents EXECUTE FUNCTION hold()
"""


@pytest.mark.slow
@pytest.mark.fault(6)
def test_a_long_transaction_keeps_its_lease_and_ends_with_its_client(place: Workplace) -> None:
    """It lasts longer than the lease that it began with."""
    place.execute(HOLDING, "INSERT INTO documents (content) VALUES ('old')")
    first = Watched(place.start("reset", "--playbook", "realign.yaml", "--yes", "--json"))
    is_in_it = "SELECT count(*) FROM pg_stat_activity WHERE query ~ '^TRUNCATE' AND state = 'active'"
    wait_for(lambda: place.value(is_in_it) == 1, what="a long transaction")
    place.execute("UPDATE ragops.lease SET lease_until = clock_timestamp()")
    is_live = "SELECT lease_until > clock_timestamp() FROM ragops.lease"
    wait_for(lambda: bool(place.value(is_live)), what="a lease that is renewed during the transaction")
    assert place.value(is_in_it) == 1
    refused = place.ragops("reset", "--resume", "--json")
    assert refused.code == 1
    holder = f"{socket.gethostname()}:{first.process.pid}"
    until = place.value("SELECT to_char(lease_until, 'HH24:MI') FROM ragops.lease")
    assert refused.json["error"]["what"].startswith(f"campaign 1 is held by {holder} until {until[:2]}")
    assert "campaign 1 over" not in refused.err
    assert place.value("SELECT epoch FROM ragops.campaign") == 1

    first.process.kill()
    killed = time.monotonic()
    second = Watched(place.start("reset", "--resume", "--json"))
    # The server noticed that its client is gone. The statement itself would run for ever.
    second.wait_for(f"took campaign 1 over from {holder}")
    print(f"{time.monotonic() - killed:.1f} s from the kill to the takeover")  # noqa: T201 (pytest -s)
    place.execute("DROP TABLE go_on")
    code, out = second.end()
    assert code == 0, second.said
    assert json.loads(out)["status"] == "done"
    assert len(stored_documents(place)) == DOCUMENTS
