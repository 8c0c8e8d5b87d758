"""A fleet or a campaign waits for a lock under a role's lock_timeout, too; a command by hand does not."""

from __future__ import annotations

import threading

import psycopg
import pytest
from conftest import wait_for

from ragops.postgres.connection import Connection, Target, transaction
from ragops.workers.database import Database, Outages
from ragops.workers.state import Stop


def count(connection: Connection) -> int:
    with transaction(connection, lock_timeout_s=0.1):
        row = connection.execute("SELECT count(*) FROM files_queue").fetchone()
    return int(row[0]) if row else -1


def test_a_lock_is_waited_for_where_nobody_watches(dsn: str, target: Target) -> None:
    said: list[str] = []
    database = Database("test", target, stop=Stop(), outages=Outages(said.append))
    database.waits_for_locks = True
    found: list[int] = []
    with psycopg.connect(dsn) as other:
        other.execute("LOCK TABLE files_queue IN ACCESS EXCLUSIVE MODE")
        thread = threading.Thread(target=lambda: found.append(database.run(count)))
        thread.start()
        wait_for(lambda: bool(said), what="a notice")
        assert not found
    thread.join(60)
    database.close()
    assert found == [0]
    assert "another session's lock is in the way" in said[0]


def test_a_lock_ends_a_command_by_hand(dsn: str, target: Target) -> None:
    database = Database("test", target, stop=Stop(), outages=Outages(lambda _: None))
    with psycopg.connect(dsn) as other:
        other.execute("LOCK TABLE files_queue IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            database.run(count)
    database.close()
