"""A long statement ends soon after its client was killed; its transaction is rolled back."""

from __future__ import annotations

import subprocess
import sys

import pytest
from campaigns import value
from conftest import wait_for

LONG = """
import sys
from ragops.postgres.connection import Target, connect, transaction
with connect(Target(sys.argv[1], "the test database")) as connection:
    with transaction(connection, is_long=True):
        connection.execute("LOCK TABLE documents")
        connection.execute("SELECT count(*) FROM generate_series(1, 1e12)")
"""
RUNNING = (
    "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%generate_series(1, 1e12)%'"
    " AND datname = current_database() AND pid <> pg_backend_pid()"
)


@pytest.mark.skipif(sys.platform != "linux", reason="only a server on Linux can look whether its client lives")
def test_a_statement_ends_with_its_client(dsn: str) -> None:
    client = subprocess.Popen([sys.executable, "-c", LONG, dsn])
    try:
        wait_for(lambda: value(dsn, RUNNING) == 1, what="the long statement")
    finally:
        client.kill()
        client.wait()
    wait_for(lambda: value(dsn, RUNNING) == 0, what="its end")
    assert value(dsn, "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock'") == 0
