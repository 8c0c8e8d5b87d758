"""Sessions that hold locks on the queue are named; embedding goes on when they end."""

from __future__ import annotations

import subprocess

import psycopg
import pytest
from conftest import wait_for
from workplace import Workplace

DOCUMENTS = 120


def line_with(process: subprocess.Popen[str], words: str) -> str:
    """Read the program's notices up to the one with these words."""
    assert process.stderr is not None
    seen = []
    for line in process.stderr:
        seen.append(line)
        if words in line:
            return line
    raise AssertionError(f"no line with {words!r} in {seen}")


def ended(place: Workplace, process: subprocess.Popen[str]) -> str:
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert place.queue() == {"completed": DOCUMENTS}
    return err


def test_rows_that_are_locked_before_they_are_claimed(place: Workplace) -> None:
    assert place.ragops("queue", "reseed").code == 0
    with psycopg.connect(place.dsn, application_name="a person") as person:
        person.execute("SELECT * FROM files_queue FOR UPDATE")
        process = place.start("embed", "--workers", "1")
        notice = line_with(process, "none can be claimed")
        pid = person.info.backend_pid
        assert f"{DOCUMENTS} documents are pending" in notice and "public.files_queue" in notice
        assert f"pid {pid} (a person), idle in transaction" in notice
        assert f"SELECT pg_terminate_backend({pid})" in notice
        person.rollback()
        # Said once.
        assert "none can be claimed" not in ended(place, process)


@pytest.mark.slow
def test_rows_that_are_locked_before_they_are_stored(place: Workplace) -> None:
    assert place.ragops("queue", "reseed").code == 0
    place.slow_down(0.05)
    process = place.start("embed", "--workers", "1", "--batch-size", "5")
    with psycopg.connect(place.dsn, application_name="a person") as person:
        wait_for(lambda: place.queue().get("processing", 0) > 0, what="documents in process")
        person.execute("UPDATE files_queue SET attempts = attempts WHERE status = 'processing'")
        notice = line_with(process, "a statement of ragops (pid")
        assert "s for a lock that is held by pid" in notice and "(a person), idle in transaction" in notice
        person.rollback()
        place.speed_up()
        ended(place, process)


@pytest.mark.slow
def test_a_locked_queue(place: Workplace) -> None:
    assert place.ragops("queue", "reseed").code == 0
    place.slow_down(0.05)
    process = place.start("embed", "--workers", "1", "--batch-size", "5")
    with psycopg.connect(place.dsn, application_name="a person") as person:
        wait_for(lambda: place.completed() > 0, what="the first documents")
        person.execute("LOCK TABLE files_queue")
        assert "(a person), idle in transaction" in line_with(process, "a statement of ragops (pid")
        person.rollback()
        place.speed_up()
        ended(place, process)
