"""What holds vacuum back: sessions, prepared transactions and replication slots."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

import psycopg
import pytest
from campaigns import execute
from conftest import Server
from psycopg import sql

from ragops.postgres import vacuum_blockers
from ragops.postgres.connection import Connection, Target, connect
from ragops.postgres.vacuum_blockers import VacuumBlocker, oldest_blocker


@contextmanager
def repeatable_read(dsn: str, *, application: str) -> Iterator[psycopg.Connection]:
    """A transaction that has its snapshot and idles."""
    with psycopg.connect(dsn, application_name=application) as other:
        other.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        other.execute("SELECT 1 FROM files_queue")
        yield other
        other.rollback()


def spend_transactions(dsn: str, count: int) -> None:
    execute(dsn, f"DO 'BEGIN FOR i IN 1..{count} LOOP PERFORM txid_current(); COMMIT; END LOOP; END'")


def test_nothing_blocks_in_a_quiet_database(connection: Connection) -> None:
    assert oldest_blocker(connection, min_age_s=0) is None


def test_the_oldest_session_is_named_with_what_it_does(connection: Connection, dsn: str) -> None:
    with repeatable_read(dsn, application="report") as older:
        spend_transactions(dsn, 5)
        with repeatable_read(dsn, application="newer"):
            oldest = oldest_blocker(connection, min_age_s=0)
            assert oldest_blocker(connection, min_age_s=3600) is None
        pid = older.info.backend_pid
    assert oldest is not None
    assert (oldest.kind, oldest.name, oldest.pid) == ("session", "report", pid)
    assert (oldest.user, oldest.state) == ("postgres", "idle in transaction")
    assert oldest.transactions >= 5
    assert oldest.query == "SELECT 1 FROM files_queue"
    assert oldest.age_s is not None
    start = f"pid {oldest.pid} (report), user postgres, idle in transaction, transaction open for "
    assert str(oldest).startswith(start)
    assert oldest.remedy == f"SELECT pg_terminate_backend({oldest.pid})"


def test_a_session_that_only_wrote_counts_too(connection: Connection, dsn: str) -> None:
    with psycopg.connect(dsn, application_name="writer") as other:
        other.execute("INSERT INTO files_queue (file_path) VALUES ('x')")
        oldest = oldest_blocker(connection, min_age_s=0)
        other.rollback()
    assert oldest is not None and oldest.name == "writer"


def test_other_databases_hold_nothing_back(connection: Connection, server: Server) -> None:
    with psycopg.connect(server.dsn("postgres")) as other:
        other.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        other.execute("SELECT 1 FROM pg_class LIMIT 1")
        assert oldest_blocker(connection, min_age_s=0) is None


def test_an_unprivileged_role_sees_less(dsn: str, monkeypatch: pytest.MonkeyPatch, server: Server) -> None:
    role = sql.Identifier(f"blind_{dsn.split('dbname=')[1].split()[0]}")
    with connect(Target(dsn, "test")) as connection, repeatable_read(dsn, application="report"):
        spend_transactions(dsn, 5)
        connection.execute(sql.SQL("CREATE ROLE {}").format(role))
        try:
            with connection.transaction():
                connection.execute(sql.SQL("SET LOCAL ROLE {}").format(role))
                # The age is unknown, and a few transactions are not enough to report it.
                assert oldest_blocker(connection, min_age_s=0) is None
                monkeypatch.setattr(vacuum_blockers, "MANY_TRANSACTIONS", 5)
                oldest = oldest_blocker(connection, min_age_s=300)
        finally:
            connection.execute(sql.SQL("DROP ROLE {}").format(role))
    assert oldest is not None
    assert (oldest.name, oldest.user, oldest.age_s, oldest.state, oldest.query) == (
        "report",
        "postgres",
        None,
        None,
        None,
    )
    assert str(oldest) == f"pid {oldest.pid} (report), user postgres, {oldest.transactions} transactions behind"


def blocker(**values: object) -> VacuumBlocker:
    plain = VacuumBlocker("session", "x", None, None, None, 12_000, None, None)
    return VacuumBlocker(**{**asdict(plain), **values})


def test_prepared_transactions_and_slots_have_their_own_remedy() -> None:
    prepared = blocker(kind="prepared transaction", name="it's", user="app", age_s=4000)
    assert str(prepared) == (
        "prepared transaction it's, user app, transaction open for 4,000 s, 12,000 transactions behind"
    )
    assert prepared.remedy.startswith("ROLLBACK PREPARED 'it''s'")
    slot = blocker(kind="replication slot", name="standby", state="inactive")
    assert str(slot) == "replication slot standby, inactive, 12,000 transactions behind"
    assert "pg_drop_replication_slot('standby')" in slot.remedy
