"""The server itself: it loses its power, restarts, is away, refuses connections, times out, turns read-only."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress

import psutil
import psycopg
import pytest
from conftest import write_corpus
from fault_fixtures import (
    DOCUMENTS,
    RESET,
    assert_consistent,
    assert_nothing_burnt,
    assert_stored_once,
    embedders_of,
    ended,
    fill_queue,
    lines_until,
    terminate_all,
    wait_for_documents,
    wait_while_running,
)
from own_server import OwnServer
from pg_frames import Frame
from tcp_proxy import Break, Link, running_proxy, runs
from workplace import Workplace

WORKING_AGAIN_S = 10
OUTAGE_S = 22
BUILD_WAITS = (
    "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'CREATE INDEX%' AND wait_event_type = 'Lock'"
    " AND datname = current_database()"
)


def lose_power(server: OwnServer, process: subprocess.Popen[str]) -> None:
    """Kill the program with its children and every process of the server."""
    children = embedders_of(process)
    process.kill()
    server.lose_power()
    for child in children:
        with suppress(psutil.NoSuchProcess):  # it has ended with its parent
            child.kill()
    process.communicate()


@pytest.mark.fault(7)
def test_the_power_is_lost_while_embedding_and_while_building(own_place: Workplace, own_server: OwnServer) -> None:
    own_place.slow_down(0.03)
    running = own_place.start(*RESET)
    wait_for_documents(own_place, running, 30)
    lose_power(own_server, running)
    own_server.start()
    assert_consistent(own_place)
    stored = own_place.completed()
    assert 30 <= stored < DOCUMENTS
    own_place.speed_up()
    other = psycopg.connect(own_place.dsn)
    # The build waits for this transaction, and the power is lost while it does.
    other.execute("LOCK TABLE document_chunks IN ROW EXCLUSIVE MODE")
    resumed = own_place.start("reset", "--resume", "--json")
    wait_while_running(resumed, lambda: own_place.value(BUILD_WAITS) > 0, what="an index build waits")
    lose_power(own_server, resumed)
    other.close()
    own_server.start()
    assert_consistent(own_place)
    assert own_place.completed() >= stored
    done = own_place.ragops("reset", "--resume", "--json")
    assert done.code == 0, done.err
    assert (done.json["status"], done.json["verdict"]) == ("done", "pass")
    assert_stored_once(own_place)
    assert len(own_place.index_definitions()) == 2
    assert all(is_valid for *_, is_valid in own_place.index_definitions())


def outage(server: OwnServer, seconds: float) -> threading.Thread:
    """Stop the server now, and start it again after a while, in a thread."""
    server.stop()
    timer = threading.Timer(seconds, server.start)
    timer.start()
    return timer


@pytest.mark.fault(10)
def test_a_restart_while_embedding_is_waited_for(own_place: Workplace, own_server: OwnServer) -> None:
    own_place.slow_down(0.02)
    process = own_place.start(*RESET)
    wait_for_documents(own_place, process, 30)
    back = outage(own_server, 4)
    back.join()
    began = time.monotonic()
    stored = own_place.completed()
    wait_for_documents(own_place, process, stored + 1)
    took = time.monotonic() - began
    own_place.speed_up()
    done = ended(process)
    assert done.code == 0, done.err
    assert took <= WORKING_AGAIN_S
    assert (done.json["status"], done.json["verdict"]) == ("done", "pass")
    assert "waiting for the database: " in done.err
    assert "the database works again after" in done.err
    assert_stored_once(own_place)
    assert_nothing_burnt(own_place)


@pytest.mark.fault(10, 41)
def test_ctrl_c_during_an_outage_ends_within_seconds(own_place: Workplace, own_server: OwnServer) -> None:
    own_place.slow_down(0.02)
    process = own_place.start(*RESET)
    wait_for_documents(own_place, process, 30)
    own_server.stop()
    try:
        said = lines_until(process, "waiting for the database: ")
        process.send_signal(signal.SIGINT)
        began = time.monotonic()
        done = ended(process, timeout_s=60)
        took = time.monotonic() - began
    finally:
        own_server.start()
    assert done.code == 130, said + done.err
    assert took < 20
    assert_consistent(own_place)
    own_place.speed_up()
    resumed = own_place.ragops("reset", "--resume", "--json")
    assert resumed.code == 0, resumed.err
    assert_stored_once(own_place)


@pytest.mark.fault(10)
def test_a_command_that_starts_while_the_database_is_down_says_so(
    own_place: Workplace, own_server: OwnServer
) -> None:
    own_server.stop()
    try:
        done = own_place.ragops(*RESET)
    finally:
        own_server.start()
    assert done.code == 1
    assert "the database cannot be reached" in done.json["error"]["what"]
    assert str(own_server.port) in done.json["error"]["where"] + done.json["error"]["found"]
    assert "next:" in done.err


# A statement of each step; the outage begins when it is about to run.
STEPS = {
    "verify_build": r"ORDER BY random\(\)",
    "drop_indexes": r"DROP INDEX",
    "empty_tables": r"TRUNCATE",
    "reseed_queue": r"COPY .*files_queue",
    "embed": r"COPY .*documents",
    "validate": r"ORDER BY random\(\)",
    "rebuild_indexes": r"CREATE INDEX",
    "the end": r"UPDATE ragops\.campaign[^;]*finished",
}


class Outages:
    """Stops the server once when a statement is about to run, and measures how fast work goes on after it."""

    def __init__(self, server: OwnServer, place: Workplace, pattern: str, *, seconds: float) -> None:
        self._server, self._place, self._pattern, self._seconds = server, place, pattern, seconds
        self.working_after_s: float | None = None
        self._due = threading.Event()
        self._due.set()
        self._thread: threading.Thread | None = None

    def rule(self, link: Link, frame: Frame) -> Break | None:
        if self._due.is_set() and runs(frame, self._pattern):
            self._due.clear()
            self._server.stop()
            self._thread = threading.Thread(target=self._come_back)
            self._thread.start()
        return None

    def has_happened(self) -> bool:
        if self._thread is not None:
            self._thread.join()
        return self._thread is not None

    def _come_back(self) -> None:
        time.sleep(self._seconds)
        self._server.start()
        began, known = time.monotonic(), self._progress()
        while self._progress() == known and time.monotonic() < began + 60:
            time.sleep(0.05)
        self.working_after_s = time.monotonic() - began

    def _progress(self) -> object:
        ledger = "SELECT c.id, c.status, s.number, s.status FROM ragops.campaign c JOIN ragops.step s"
        steps = self._place.rows(f"{ledger} ON s.campaign_id = c.id ORDER BY c.id, s.number")
        return steps, self._place.queue(), self._place.index_definitions()


@pytest.mark.slow
@pytest.mark.fault(10)
@pytest.mark.parametrize("step", STEPS)
def test_an_outage_in_any_step_is_waited_for(own_place: Workplace, own_server: OwnServer, step: str) -> None:
    earlier = write_corpus(own_place.folder / "earlier", 15)
    assert own_place.reset(RAGOPS_CORPUS=str(earlier)).code == 0
    outages = Outages(own_server, own_place, STEPS[step], seconds=OUTAGE_S)
    with running_proxy(own_place.dsn) as proxy:
        if step == "validate":
            # The same statement as that of the first step.
            own_place.execute("TRUNCATE documents, document_chunks")
        proxy.rule = outages.rule
        done = own_place.ragops(*RESET, "--force", RAGOPS_DSN=proxy.dsn())
        assert outages.has_happened(), step
    assert done.code == 0, done.err
    assert (done.json["status"], done.json["verdict"]) == ("done", "pass")
    assert_stored_once(own_place)
    assert_nothing_burnt(own_place)
    assert all(is_valid for *_, is_valid in own_place.index_definitions())
    assert outages.working_after_s is not None
    print(f"{step}: working {outages.working_after_s:.1f} s after the server took connections")  # noqa: T201
    assert outages.working_after_s <= WORKING_AGAIN_S


@pytest.mark.fault(22)
def test_a_database_that_turns_read_only_pauses_the_campaign(own_place: Workplace, own_server: OwnServer) -> None:
    """As a provider does it whose storage is at its limit."""
    own_place.slow_down(0.02)
    process = own_place.start(*RESET)
    wait_for_documents(own_place, process, 30)
    own_server.configure(default_transaction_read_only="on")
    own_server.reload()
    try:
        said = lines_until(process, "the database is read-only")
        stored = own_place.completed()
        time.sleep(3)
        assert process.poll() is None
        assert own_place.completed() == stored
    finally:
        own_server.configure(default_transaction_read_only=None)
        own_server.reload()
    own_place.speed_up()
    done = ended(process)
    assert done.code == 0, said + done.err
    assert_stored_once(own_place)
    assert_nothing_burnt(own_place)


@pytest.mark.fault(13)
def test_too_few_connections_are_known_before_anything_is_wiped(
    own_place: Workplace, own_server: OwnServer
) -> None:
    own_place.execute("INSERT INTO documents (content) VALUES ('kept')")
    before = own_place.snapshot()
    own_server.configure(max_connections=4, superuser_reserved_connections=0)
    own_server.restart()
    try:
        done = own_place.ragops(*RESET)
    finally:
        own_server.configure(max_connections=None, superuser_reserved_connections=None)
        own_server.restart()
    assert done.code == 1
    said = " ".join(done.err.split())
    # However many workers there are: they share the connections of their controller.
    assert "of the 4 connections that the server allows are free, ragops needs 5" in said
    assert "max_connections" in said
    assert own_place.snapshot() == before


@pytest.fixture
def guest(place: Workplace) -> Iterator[str]:
    """A role that is no superuser, whose limits count; the program works as it."""
    name = f"guest_{uuid.uuid4().hex[:8]}"
    place.execute(
        f"CREATE ROLE {name} LOGIN",
        f"GRANT ALL ON ALL TABLES IN SCHEMA public, ragops TO {name}",
        f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public, ragops TO {name}",
        f"GRANT USAGE ON SCHEMA ragops TO {name}",
    )
    place.variables["RAGOPS_DSN"] = psycopg.conninfo.make_conninfo(place.dsn, user=name)
    yield name
    place.execute(f"DROP OWNED BY {name}", f"DROP ROLE {name}")


@pytest.mark.fault(13)
def test_connections_that_run_out_are_waited_for(place: Workplace, guest: str) -> None:
    fill_queue(place)
    place.slow_down(0.02)
    process = place.start("embed", "--batch-size", "10", "--json")
    wait_for_documents(place, process, 20)
    place.execute(f"ALTER ROLE {guest} CONNECTION LIMIT 0")
    terminate_all(place.dsn)
    said = lines_until(process, "too many connections")
    assert process.poll() is None
    place.execute(f"ALTER ROLE {guest} CONNECTION LIMIT -1")
    place.speed_up()
    done = ended(process)
    assert done.code == 0, said + done.err
    assert_stored_once(place)
    assert_nothing_burnt(place)


@pytest.mark.slow
@pytest.mark.fault(14)
def test_a_statement_timeout_of_the_role_ends_no_long_step(place: Workplace) -> None:
    """The emptying, the filling and the builds take longer than it allows."""
    earlier = write_corpus(place.folder / "earlier", 40)
    assert place.reset(RAGOPS_CORPUS=str(earlier)).code == 0
    database = place.value("SELECT current_database()")
    place.execute(
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql"
        " AS $$ BEGIN PERFORM pg_sleep(1.5); RETURN NULL; END $$",
        "CREATE TRIGGER slow AFTER TRUNCATE ON documents EXECUTE FUNCTION slow()",
        "CREATE TRIGGER slow_fill AFTER INSERT ON files_queue EXECUTE FUNCTION slow()",
        f"ALTER ROLE postgres IN DATABASE {database} SET statement_timeout = '1s'",
    )
    done = place.ragops(*RESET)
    assert done.code == 0, done.err
    assert_stored_once(place)
    # One that runs outside a transaction has a session of its own, which lifts it too.
    assert place.ragops("index", "drop", "--yes", "--json").code == 0
    rebuilt = place.ragops("index", "rebuild", "--concurrently", "--json")
    assert rebuilt.code == 0, rebuilt.err
    assert [is_valid for *_, is_valid in place.index_definitions()] == [True, True]


@pytest.mark.fault(23)
def test_an_old_pgvector_is_refused_or_gets_no_parallel_build(place: Workplace) -> None:
    """The version is that of the extension in this database, which an update of the library leaves behind."""
    place.execute("UPDATE pg_extension SET extversion = '0.4.4' WHERE extname = 'vector'")
    before = place.snapshot()
    refused = place.ragops(*RESET)
    assert refused.code == 1
    assert "0.4.4 has no HNSW index" in refused.err
    assert "ALTER EXTENSION vector UPDATE" in refused.err
    assert place.snapshot() == before
    place.execute("UPDATE pg_extension SET extversion = '0.8.1' WHERE extname = 'vector'")
    done = place.ragops(*RESET)
    assert done.code == 0, done.err
    assert "CVE-2026-3172" in done.err
    builds = next(step for step in done.json["steps"] if step["name"] == "rebuild_indexes")
    assert "'max_parallel_maintenance_workers': '0'" in str(builds["effect"])
