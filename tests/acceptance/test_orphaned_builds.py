"""CREATE INDEX outlives its client: whoever comes next waits for it instead of dropping what it builds."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psycopg
import pytest
from conftest import wait_for
from workplace import INDEXES, Workplace

PLAYBOOK = """
version: 1
name: concurrent
model: {file: "${RAGOPS_MODEL}"}
source: {folder: "${RAGOPS_CORPUS}"}
workers: {count: 1, threads: 1, cache_mib: 0}
steps:
  - {step: drop_indexes}
  - {step: empty_tables, tables: [{table: documents}, {table: document_chunks}, {table: files_queue}]}
  - {step: reseed_queue}
  - {step: embed}
  - {step: rebuild_indexes, concurrently: true}
"""
MINE = "CREATE INDEX mine ON documents USING hnsw (embedding vector_l2_ops) WITH (m = 5, ef_construction = 20)"
ROWS = (
    "INSERT INTO documents (content, embedding)"
    " SELECT n, array_fill(n, ARRAY[32])::vector FROM generate_series(1, 50) n"
)
BUILDING = "SELECT count(*) FROM pg_stat_progress_create_index WHERE phase LIKE 'waiting for%'"
UNRESTORED = "SELECT index_name FROM ragops.index_definition WHERE restored_at IS NULL"


@contextmanager
def old_snapshot(place: Workplace) -> Iterator[psycopg.Connection]:
    """A transaction that holds no lock on any table, and for which CREATE INDEX CONCURRENTLY waits."""
    with psycopg.connect(place.dsn, application_name="a report") as reader:
        reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        reader.execute("SELECT 1 FROM pg_class LIMIT 1")
        yield reader


def kill_while_building(place: Workplace, *arguments: str, building: str = BUILDING) -> int:
    """Start the program, kill it in its index build, and return the build's server process."""
    process = place.start(*arguments)

    def builds() -> bool:
        assert process.poll() is None, process.communicate()
        return bool(place.value(building))

    wait_for(builds, timeout_s=120, what="an index build that waits")
    process.kill()
    process.wait()
    return int(place.value("SELECT pid FROM pg_stat_progress_create_index"))


def line_with(process: subprocess.Popen[str], words: str) -> str:
    """Read the program's notices up to the one with these words."""
    assert process.stderr is not None
    seen = []
    for line in process.stderr:
        seen.append(line)
        if words in line:
            return line
    raise AssertionError(f"no line with {words!r} in {seen}")


def ended(process: subprocess.Popen[str]) -> str:
    _, err = process.communicate(timeout=180)
    assert process.returncode == 0, err
    return err


@pytest.fixture
def desk(place: Workplace) -> Workplace:
    (place.folder / "concurrent.yaml").write_text(PLAYBOOK, encoding="utf-8")
    place.execute(ROWS)
    return place


@pytest.mark.fault(18)
def test_a_resumed_campaign_takes_over_the_build_of_its_dead_controller(desk: Workplace) -> None:
    desk.execute(MINE, "COMMENT ON INDEX mine IS 'my own'")
    before = desk.index_definitions()
    with old_snapshot(desk) as reader:
        pid = kill_while_building(desk, "reset", "-p", "concurrent.yaml", "--yes")
        resumed = desk.start("reset", "--resume", "--json")
        notice = line_with(resumed, f"pid {pid} (ragops")
        assert "has been building the index mine" in notice and f"pg_cancel_backend({pid})" in notice
        # The build waits itself, and for whom is said, too.
        assert "(a report), idle in transaction" in line_with(resumed, f"pid {reader.info.backend_pid}")
        reader.rollback()
        err = ended(resumed)
    assert "index mine was finished by that session" in err and "dropping" not in err
    assert {name for name, _, is_valid in desk.index_definitions() if is_valid} == {"mine", *INDEXES}
    assert desk.value("SELECT obj_description('mine'::regclass)") == "my own"
    assert desk.rows(UNRESTORED) == []
    undone = desk.ragops("undo", "--yes")
    assert undone.code == 0, undone.err
    assert desk.index_definitions() == before
    assert desk.value("SELECT count(*) FROM documents") == 50


def test_indexes_that_a_killed_run_made_go_with_their_campaign(desk: Workplace) -> None:
    with psycopg.connect(desk.dsn) as other:
        controller = desk.start("reset", "-p", "concurrent.yaml", "--yes")
        wait_for(lambda: desk.completed() > 0, what="the first documents")
        # The second build does not begin: it waits for the table, and does so after its client has died.
        other.execute("LOCK TABLE document_chunks IN SHARE UPDATE EXCLUSIVE MODE")
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'document_chunks'::regclass"
        first = "SELECT count(*) FROM pg_index WHERE indexrelid = to_regclass('idx_documents_embedding_hnsw')"
        wait_for(
            lambda: desk.value(f"{first} AND indisvalid") == 1 and desk.value(waiting) == 1,
            timeout_s=120,
            what="the second build",
        )
        controller.kill()
        controller.wait()
        resumed = desk.start("reset", "--resume")
        assert "has been building an index" in line_with(resumed, "on public.document_chunks")
        other.rollback()
        ended(resumed)
    assert {name for name, _, is_valid in desk.index_definitions() if is_valid} == set(INDEXES)
    undone = desk.ragops("undo", "--yes", "--json")
    assert undone.code == 0, undone.err
    assert desk.index_definitions() == []
    assert desk.value("SELECT count(*) FROM documents") == 50


def test_a_journal_that_was_not_written_is_written_by_the_next_run(desk: Workplace) -> None:
    desk.execute(MINE)
    assert desk.ragops("index", "drop", "mine", "--yes").code == 0
    with psycopg.connect(desk.dsn) as other:
        other.execute("SELECT * FROM ragops.index_definition FOR UPDATE")
        killed = desk.start("index", "rebuild", "mine", "--concurrently")
        is_there = "SELECT count(*) FROM pg_index WHERE indexrelid = to_regclass('mine') AND indisvalid"
        wait_for(lambda: desk.value(is_there) == 1, what="the index")
        waits = (
            "SELECT max(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%restored_at%'"
        )
        wait_for(lambda: desk.value(waits) is not None, what="the record that waits")
        killed.kill()
        killed.wait()
        # Its record would be written by the server as soon as the row is free.
        desk.execute(f"SELECT pg_terminate_backend({desk.value(waits)})")
    assert desk.rows(UNRESTORED) == [("mine",)]
    done = desk.ragops("index", "rebuild", "--json")
    assert done.code == 0, done.err
    assert "mine" in done.json["present"]
    assert desk.rows(UNRESTORED) == []


def test_ctrl_c_ends_the_waiting_and_a_build_that_fails_is_built_again(desk: Workplace) -> None:
    rebuild = ("index", "rebuild", "--concurrently")
    with old_snapshot(desk):
        pid = kill_while_building(desk, *rebuild)
        waiting = desk.start(*rebuild)
        line_with(waiting, f"pid {pid} (ragops")
        waiting.send_signal(signal.SIGINT)
        _, err = waiting.communicate(timeout=60)
        assert waiting.returncode == 130, err
        assert f"stopped while waiting for the index build of pid {pid}" in err
        assert desk.value("SELECT count(*) FROM pg_stat_progress_create_index") == 1
        again = desk.start(*rebuild)
        line_with(again, f"pid {pid} (ragops")
        desk.execute(f"SELECT pg_terminate_backend({pid})")
        assert "invalid (an interrupted build)" in line_with(again, "invalid")
    ended(again)
    assert {name for name, _, is_valid in desk.index_definitions() if is_valid} == set(INDEXES)


def test_another_index_of_that_name_is_not_taken_for_the_wanted_one(desk: Workplace) -> None:
    desk.execute(MINE)
    assert desk.ragops("index", "drop", "mine", "--yes").code == 0
    other = "CREATE INDEX CONCURRENTLY mine ON documents USING hnsw (embedding vector_ip_ops)"
    with old_snapshot(desk) as reader, ThreadPoolExecutor(1) as threads:
        building = threads.submit(desk.execute, other)
        wait_for(lambda: bool(desk.value(BUILDING)), what="the other build")
        rebuilding = desk.start("index", "rebuild", "mine")
        line_with(rebuilding, "has been building the index mine")
        reader.rollback()
        building.result(60)
        _, err = rebuilding.communicate(timeout=60)
    assert rebuilding.returncode == 1
    assert "another session has built an index mine that is not the wanted one" in err
    assert "vector_ip_ops" in err and "vector_l2_ops" in err
    assert desk.rows(UNRESTORED) == [("mine",)]


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="processes cannot be stopped on this system")
def test_a_plain_build_whose_client_was_killed_leaves_nothing(desk: Workplace) -> None:
    desk.execute(
        "INSERT INTO documents (content, embedding) SELECT n,"
        " (SELECT array_agg(random()) FROM generate_series(1, 32) WHERE n > 0)::vector"
        " FROM generate_series(1, 4000) n"
    )
    running = "SELECT count(*) FROM pg_stat_progress_create_index WHERE phase LIKE 'building index%'"
    pid = kill_while_building(desk, "index", "rebuild", building=running)
    os.kill(pid, signal.SIGSTOP)
    try:
        again = desk.start("index", "rebuild")
        assert "has been building" in line_with(again, f"pid {pid} (ragops")
    finally:
        os.kill(pid, signal.SIGCONT)
    err = ended(again)
    # It ends without its COMMIT, which takes everything back.
    assert "building idx_documents_embedding_hnsw" in err and "invalid" not in err
    assert {name for name, _, is_valid in desk.index_definitions() if is_valid} == set(INDEXES)
