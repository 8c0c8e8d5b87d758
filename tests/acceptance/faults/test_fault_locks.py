"""Locks, index builds that die, and transactions that hold vacuum back."""

from __future__ import annotations

import psycopg
import pytest
from fault_fixtures import (
    RESET,
    assert_stored_once,
    ended,
    kill,
    lines_until,
    wait_for_documents,
    wait_while_running,
)
from workplace import Workplace

BUILDING = """
SELECT pid FROM pg_stat_activity
 WHERE query LIKE 'CREATE INDEX%' AND datname = current_database() AND state = 'active'
"""
# Rows that take a build a few seconds.
FILL = (
    "INSERT INTO documents (content, embedding)"
    " SELECT n, (SELECT array_agg(sin(n * i)) FROM generate_series(1, 32) i)::vector"
    " FROM generate_series(1, 20000) n"
)
BUILD = ("index", "rebuild", "idx_documents_embedding_hnsw", "--parallel-workers", "0", "--json")
NAME = "idx_documents_embedding_hnsw"


def has_valid_index(place: Workplace) -> bool:
    return [(name, is_valid) for name, _, is_valid in place.index_definitions()] == [(NAME, True)]


@pytest.mark.fault(18)
@pytest.mark.parametrize(
    "how", [pytest.param((), marks=pytest.mark.slow), ("--concurrently",)], ids=["plain", "concurrently"]
)
def test_killed_inside_create_index(place: Workplace, how: tuple[str, ...]) -> None:
    """The server goes on building, or has left something: the next command looks before it builds."""
    place.execute(FILL)
    killed = place.start(*BUILD, *how)
    wait_while_running(killed, lambda: bool(place.rows(BUILDING)), what="an index is built")
    kill(killed)
    done = place.ragops(*BUILD, *how)
    assert done.code == 0, done.err
    assert has_valid_index(place)
    assert "internal error" not in done.err


@pytest.mark.slow
@pytest.mark.fault(18)
def test_a_campaign_killed_inside_create_index_is_resumed(place: Workplace) -> None:
    with psycopg.connect(place.dsn) as writer:
        started = place.start(*RESET)
        wait_for_documents(place, started, 20)
        # The build waits for this transaction.
        writer.execute("LOCK TABLE documents IN ROW EXCLUSIVE MODE")
        wait_while_running(started, lambda: bool(place.rows(BUILDING)), what="an index build waits")
        kill(started)
        resumed = place.start("reset", "--resume", "--json")
        said = lines_until(resumed, r"(taking|took) campaign \d+ over")
    done = ended(resumed)
    assert done.code == 0, said + done.err
    assert (done.json["status"], done.json["verdict"]) == ("done", "pass")
    assert_stored_once(place)
    assert [is_valid for *_, is_valid in place.index_definitions()] == [True, True]


@pytest.mark.fault(19)
def test_an_index_that_a_terminated_build_left_invalid_is_built_again(place: Workplace) -> None:
    place.execute(FILL)
    building = place.start(*BUILD, "--concurrently")
    wait_while_running(
        building,
        lambda: bool(place.rows("SELECT 1 FROM pg_index WHERE NOT indisvalid")) and bool(place.rows(BUILDING)),
        what="an index is there that is not valid yet",
    )
    place.rows(f"SELECT pg_terminate_backend(pid) FROM ({BUILDING}) b")
    ended_ = ended(building)
    if ended_.code == 0:
        # It waited for the database and built the index again by itself.
        assert has_valid_index(place)
        return
    assert ended_.code == 1
    shown = place.ragops("index", "status", "--json")
    assert '"valid": false' in shown.out
    done = place.ragops(*BUILD, "--concurrently")
    assert done.code == 0, done.err
    assert "invalid" in done.err
    assert has_valid_index(place)
