"""Connections that break: answers that are lost, backends that are terminated, links that are dead, poolers."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest
from conftest import wait_for, write_corpus
from fault_fixtures import (
    RESET,
    STARTED,
    assert_nothing_burnt,
    assert_stored_once,
    ended,
    fill_queue,
    terminate_all,
    wait_for_documents,
    wait_while_running,
)
from pg_frames import Frame
from pooler import PROGRAM, Pooler, running_pooler
from psycopg.conninfo import conninfo_to_dict
from server_log import ServerLog
from tcp_proxy import (
    CAN_VANISH,
    Break,
    How,
    Link,
    TcpProxy,
    is_answer_to_a_store_s_commit,
    is_store_s_commit,
    running_proxy,
    runs,
)
from workplace import Workplace

NOTICED_WITHIN_S = 60
# One statement of each step and of what runs beside it: the plan's count, the drop, the emptying, the filling, a
# claim, a store, the validation, the build, its progress, the lease, and the last record.
STATEMENTS = {
    "verify": r"ORDER BY random\(\)",
    "drop": r"DROP INDEX",
    "empty": r"TRUNCATE",
    "fill": r"COPY .*files_queue",
    "claim": r"(?s)UPDATE .*files_queue.*SKIP LOCKED",
    "store": r"COPY .*documents",
    "build": r"CREATE INDEX",
    "progress": r"pg_stat_progress_create_index",
}


# What a transaction pooler would leave to the next client, and what the pooler itself says to a server.
SESSION_STATE = re.compile(r"(?i)^(set\s+(?!local|transaction)|prepare|discard|declare|listen)|advisory_lock")
OF_THE_POOLER = re.compile(r"^SET \w+='[^']*';")


@pytest.mark.fault(3)
def test_the_answers_to_a_store_s_commit_are_lost(place: Workplace, proxy: TcpProxy) -> None:
    lost: list[str] = []

    def lose(link: Link, frame: Frame) -> Break | None:
        # Of two the server has committed and the client never learns it; one does not arrive at all.
        if len(lost) < 2 and is_answer_to_a_store_s_commit(link, frame):
            lost.append("answer")
            return Break()
        if len(lost) == 2 and is_store_s_commit(link, frame):
            lost.append("request")
            return Break()
        return None

    fill_queue(place)
    proxy.rule = lose
    done = place.ragops("embed", "--batch-size", "10", "--json")
    assert done.code == 0, done.err
    assert lost == ["answer", "answer", "request"]
    assert "the connection was lost" in done.err
    assert_stored_once(place)
    assert_nothing_burnt(place)


def hits(proxy: TcpProxy, place: Workplace, *, times: int) -> dict[str, int]:
    """Terminate every backend of ragops whenever one of the statements is about to run, so many times for each."""
    planned, seen = dict.fromkeys(STATEMENTS, 0), dict.fromkeys(STATEMENTS, 0)

    def terminate(link: Link, frame: Frame) -> Break | None:
        for name, pattern in STATEMENTS.items():
            if runs(frame, pattern):
                # The plan rehearses some of them before the campaign starts, and is worth one.
                counted, most = (seen, times) if place.rows(STARTED) else (planned, 1)
                if counted[name] < most:
                    counted[name] += 1
                    terminate_all(place.dsn)
        return None

    proxy.rule = terminate
    return seen


@pytest.mark.slow
@pytest.mark.fault(9)
def test_every_backend_is_terminated_again_and_again_in_every_step(place: Workplace, proxy: TcpProxy) -> None:
    write_corpus(place.folder / "earlier", 15)
    earlier = place.reset(RAGOPS_CORPUS=str(place.folder / "earlier"))
    assert earlier.code == 0, earlier.err
    seen = hits(proxy, place, times=2)
    done = place.ragops(*RESET)
    assert done.code == 0, done.err
    assert min(seen.values()) > 0, seen
    assert (done.json["status"], done.json["verdict"]) == ("done", "pass")
    assert "an administrator ended the connection" in done.err
    assert_stored_once(place)
    assert_nothing_burnt(place)
    assert all(is_valid for *_, is_valid in place.index_definitions())


@pytest.mark.slow
@pytest.mark.fault(11)
@pytest.mark.parametrize("how", [How.SWALLOW, How.VANISH], ids=["swallowed", "vanished"])
def test_a_link_that_says_nothing_is_noticed(place: Workplace, proxy: TcpProxy, how: How) -> None:
    """The peer acknowledges and never answers, or there is no peer any more."""
    if how is How.VANISH and not CAN_VANISH:
        pytest.skip("packets can be dropped on Linux alone")
    fill_queue(place)
    place.slow_down(0.02)
    process = place.start("embed", "--batch-size", "10", "--json")
    wait_for_documents(place, process, 20)
    known = proxy.made
    assert proxy.do(how) >= 3
    began = time.monotonic()
    stored = place.completed()
    place.speed_up()
    wait_for(lambda: proxy.made > known, timeout_s=2 * NOTICED_WITHIN_S, what="a new connection")
    noticed = time.monotonic() - began
    wait_for(lambda: place.completed() > stored, timeout_s=2 * NOTICED_WITHIN_S, what="the next document")
    working = time.monotonic() - began
    print(f"{how.value}: noticed after {noticed:.1f} s, working after {working:.1f} s")  # noqa: T201
    done = ended(process)
    assert done.code == 0, done.err
    assert noticed <= NOTICED_WITHIN_S + 5
    assert working <= NOTICED_WITHIN_S + 15
    assert_stored_once(place)
    assert_nothing_burnt(place)


@pytest.fixture
def pooler(place: Workplace) -> Iterator[Pooler]:
    """PgBouncer between the program and the database, two connections wide."""
    if PROGRAM is None:
        pytest.skip("pgbouncer is not installed")
    # By way of a proxy: the server itself knows the user who runs the tests, on a socket alone.
    with running_proxy(place.dsn) as upstream, running_pooler(upstream.dsn(), pool_size=2) as running:
        place.variables["RAGOPS_DSN"] = running.dsn(place.dsn)
        yield running


@pytest.mark.slow
@pytest.mark.fault(12)
def test_everything_works_behind_a_transaction_pooler(place: Workplace, pooler: Pooler) -> None:
    place.execute(f"ALTER DATABASE {conninfo_to_dict(place.dsn)['dbname']} SET log_statement = 'all'")
    log = ServerLog(place.dsn)
    for arguments in (
        RESET,
        ("index", "drop", "--yes", "--json"),
        ("index", "rebuild", "--concurrently", "--json"),
        ("search", "index vector", "--json"),
        ("status", "--json"),
        ("queue", "status", "--json"),
        ("undo", "--yes", "--json"),
    ):
        done = place.ragops(*arguments)
        assert done.code == 0, (arguments, done.err)
    statements = [statement for statement in log.statements() if not OF_THE_POOLER.search(statement)]
    assert len(statements) > 200
    for statement in statements:
        assert not SESSION_STATE.search(statement), statement


@pytest.mark.fault(9, 12)
def test_backends_die_behind_a_pooler(place: Workplace, pooler: Pooler) -> None:
    """Also in the middle of a COPY, where the client hears two errors at once."""
    fill_queue(place)
    place.slow_down(0.02)
    process = place.start("embed", "--batch-size", "10", "--json")
    copying = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE query LIKE 'COPY%documents%' AND state = 'active' AND datname = current_database()"
    )
    for _ in range(3):
        wait_while_running(process, lambda: bool(place.rows(copying)), what="a COPY is terminated")
        wait_for_documents(place, process, place.completed() + 1)
    place.speed_up()
    done = ended(process)
    assert done.code == 0, done.err
    assert_stored_once(place)
    assert_nothing_burnt(place)
