"""A controller that loses its connections in any step goes on by itself, and the result is that of a calm run."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from conftest import wait_for
from workplace import Workplace

MINE = "application_name LIKE 'ragops%' AND datname = current_database()"
TERMINATE = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {MINE}"


@contextmanager
def terminating(place: Workplace, *, every_s: float, condition: str) -> Iterator[list[int]]:
    """Terminate every backend of ragops in this database, the controller's own and the observer's too."""
    ended, killed = threading.Event(), [0]

    def run() -> None:
        with psycopg.connect(place.dsn, autocommit=True) as admin:
            while not ended.wait(every_s):
                killed[0] += len(admin.execute(f"{TERMINATE} AND ({condition})".encode()).fetchall())

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield killed
    finally:
        ended.set()
        thread.join()


# What another session locks, so that the step waits for it.
HELD_UP = [
    ("drop_indexes", "LOCK TABLE documents IN ACCESS SHARE MODE"),
    ("empty_tables", "LOCK TABLE parsed_files IN ACCESS SHARE MODE"),
    ("rebuild_indexes", "LOCK TABLE document_chunks IN ROW EXCLUSIVE MODE"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("verb", "lock"), HELD_UP, ids=[verb for verb, _ in HELD_UP])
def test_backends_that_are_terminated_in_a_step(place: Workplace, verb: str, lock: str) -> None:
    first = place.reset()
    assert first.code == 0, first.err
    steps = f"SELECT count(*) FROM ragops.step WHERE campaign_id = 2 AND verb = '{verb}'"
    is_running = f"{steps} AND status = 'running'"
    with psycopg.connect(place.dsn) as other:
        if verb != "rebuild_indexes":
            other.execute(lock.encode())
        else:
            # The tables are emptied before: the lock is taken once they are.
            place.slow_down(0.02)
        controller = place.start("reset", "--playbook", "realign.yaml", "--yes", "--force", "--json")
        if verb == "rebuild_indexes":
            wait_for(lambda: place.value("SELECT count(*) FROM ragops.campaign") == 2, what="the campaign")
            wait_for(lambda: 20 < place.completed() < 40, what="documents behind the gate")
            other.execute(lock.encode())
            place.speed_up()
        wait_for(lambda: place.value(is_running) == 1, what=f"step {verb}")
        for _ in range(3):
            before = place.rows(f"SELECT pid FROM pg_stat_activity WHERE {MINE}")
            assert place.rows(TERMINATE)
            wait_for(
                lambda before=before: (
                    place.value(  # type: ignore[misc]
                        f"SELECT count(*) FROM pg_stat_activity WHERE {MINE} AND state = 'active' AND pid NOT IN"
                        f" ({', '.join(str(pid) for (pid,) in before)})"
                    )
                    > 0
                ),
                what="another connection",
            )
    out, err = controller.communicate(timeout=120)
    assert controller.returncode == 0, err
    assert '"status": "done"' in out
    assert "an administrator ended the connection" in err
    assert place.queue() == {"completed": 120}
    assert place.value("SELECT count(*) FROM documents") == 120
    assert all(is_valid for *_, is_valid in place.index_definitions())


@pytest.mark.fault(9)
def test_backends_that_are_terminated_all_the_time(place: Workplace) -> None:
    has_begun = "to_regclass('ragops.campaign') IS NOT NULL AND EXISTS (SELECT 1 FROM ragops.campaign)"
    place.slow_down(0.05)
    with terminating(place, every_s=0.1, condition=f"{has_begun} AND random() < 0.1") as killed:
        done = place.reset()
    assert done.code == 0, done.err
    assert killed[0] > 3
    assert place.queue() == {"completed": 120}
    assert place.value("SELECT count(*) FROM documents") == 120
    assert place.value("SELECT count(*) FROM ragops.campaign") == 1
