"""Every statement of ragops runs in READ COMMITTED, and what collides is run again."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from campaigns import execute, rows, value
from conftest import wait_for
from psycopg.conninfo import conninfo_to_dict

from ragops.playbook.tables import Tables
from ragops.postgres.collisions import ATTEMPTS, retry_collisions
from ragops.postgres.connection import Target, connect, transaction
from ragops.postgres.queue import Queue

LEVEL = "SELECT current_setting('transaction_isolation')"
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
CLAIMANTS, ITEMS = 6, 300


@pytest.fixture(params=["serializable", "repeatable read"])
def strict(dsn: str, request: pytest.FixtureRequest) -> Iterator[Target]:
    """A database whose transactions are stricter than ragops needs."""
    database = conninfo_to_dict(dsn)["dbname"]
    execute(dsn, f"ALTER DATABASE {database} SET default_transaction_isolation = '{request.param}'")
    assert value(dsn, LEVEL) == request.param
    yield Target(dsn, "the test database")


def test_statements_alone_and_transactions_have_one_level(strict: Target) -> None:
    with connect(strict) as connection:
        assert connection.execute(LEVEL).fetchone() == ("read committed",)
        with connection.cursor() as cursor:
            assert cursor.execute(LEVEL).fetchone() == ("read committed",)
        with transaction(connection):
            assert connection.execute(LEVEL).fetchone() == ("read committed",)
        # Nothing of it stays with the session, which a pooler gives to another client.
        with psycopg.Cursor(connection) as plain:
            assert plain.execute("SHOW default_transaction_isolation").fetchone() != ("read committed",)


def test_claims_at_once_get_every_item_once(strict: Target, dsn: str) -> None:
    execute(dsn, f"INSERT INTO files_queue (file_path) SELECT n::text FROM generate_series(1, {ITEMS}) n")
    ready = threading.Barrier(CLAIMANTS)

    def claim_all(worker: int) -> list[str]:
        taken: list[str] = []
        with connect(strict) as connection:
            queue = Queue(connection, Tables())
            ready.wait(60)
            while claim := queue.claim(size=2, worker=f"other:{worker}", lease_s=60):
                taken += [item.location for item in claim.items]
                queue.extend_leases([claim.id], lease_s=600)
        return taken

    with ThreadPoolExecutor(CLAIMANTS) as threads:
        claimed = [location for taken in threads.map(claim_all, range(1, CLAIMANTS + 1)) for location in taken]
    assert sorted(claimed, key=int) == [str(n) for n in range(1, ITEMS + 1)]
    assert rows(dsn, "SELECT status, count(*) FROM files_queue GROUP BY 1") == [("processing", ITEMS)]


def test_a_statement_that_deadlocks_runs_again(dsn: str) -> None:
    execute(dsn, "INSERT INTO files_queue (file_path, status) VALUES ('a', 'failed'), ('b', 'failed')")
    with connect(Target(dsn, "the test database")) as connection, psycopg.connect(dsn) as other:
        # It never ends its own transaction: the server's victim is ragops, which waited last and shorter.
        other.execute("SET deadlock_timeout = '1h'")
        other.execute("UPDATE files_queue SET attempts = 7 WHERE file_path = 'b'")
        with ThreadPoolExecutor(2) as threads:
            retried = threads.submit(Queue(connection, Tables()).retry_failed)
            wait_for(lambda: value(dsn, WAITING) == 1, what="a statement that waits for the locked row")
            ended = threads.submit(other.execute, "UPDATE files_queue SET attempts = 7 WHERE file_path = 'a'")
            ended.result(60)
            other.commit()
            assert retried.result(60) == 2
    assert rows(dsn, "SELECT status, attempts FROM files_queue ORDER BY 1") == [("pending", 7), ("pending", 7)]


def test_what_always_collides_ends() -> None:
    attempts = []

    def act() -> None:
        attempts.append(1)
        raise psycopg.errors.SerializationFailure("could not serialize access")

    with pytest.raises(psycopg.errors.SerializationFailure):
        retry_collisions(act)
    assert len(attempts) == ATTEMPTS
