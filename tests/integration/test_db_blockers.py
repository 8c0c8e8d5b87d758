"""Sessions that stand in the way, in words: also for a role that may not see what they do."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from campaigns import Recorder, execute
from conftest import wait_for
from psycopg.conninfo import make_conninfo

from ragops.errors import RagopsError
from ragops.playbook.names import TableName
from ragops.postgres.catalog import read_table
from ragops.postgres.connection import Connection, Target, connect, transaction
from ragops.postgres.locks import SAY_AGAIN_S, Blocker, Waiting, find_blockers, with_lock_retries
from ragops.postgres.running_builds import running_builds
from ragops.retry import Backoff


@pytest.fixture
def plain(dsn: str) -> Iterator[Connection]:
    """A connection of a role that owns nothing and sees nobody else's statements."""
    name = f"plain_{uuid.uuid4().hex[:8]}"
    execute(dsn, f"CREATE ROLE {name} LOGIN", f"GRANT SELECT, TRUNCATE ON documents TO {name}")
    with connect(Target(make_conninfo(dsn, user=name), "the test database")) as connection:
        yield connection
    execute(dsn, f"DROP OWNED BY {name}", f"DROP ROLE {name}")


def test_what_a_role_may_not_see_is_said_to_be_unknown(plain: Connection, dsn: str) -> None:
    table = read_table(plain, TableName(None, "documents"))
    assert table is not None
    with psycopg.connect(dsn, application_name="the reader") as reader:
        reader.execute("SELECT count(*) FROM documents")
        (blocker,) = find_blockers(plain, [table])
        (seen,) = find_blockers_as(dsn)
        pid, user = reader.info.backend_pid, reader.info.user
    assert str(blocker) == (
        f"pid {pid} (the reader), user {user}, state not visible to this role (GRANT pg_read_all_stats)"
    )
    assert str(seen) == (
        f"pid {pid} (the reader), idle in transaction, in a transaction for 0 s: SELECT count(*) FROM documents"
    )


def find_blockers_as(dsn: str) -> list[Blocker]:
    """The same question of a role that may see everything."""
    with connect(Target(dsn, "the test database")) as connection:
        table = read_table(connection, TableName(None, "documents"))
        assert table is not None
        return find_blockers(connection, [table])


def test_the_same_sessions_are_named_once(connection: Connection, dsn: str) -> None:
    table = read_table(connection, TableName(None, "documents"))
    assert table is not None
    reporter = Recorder()

    def act() -> None:
        with transaction(connection, lock_timeout_s=0.05):
            connection.execute("LOCK TABLE documents")

    with psycopg.connect(dsn, application_name="the reader") as reader:
        reader.execute("SELECT count(*) FROM documents")
        backoff = Backoff(first_s=0.1, longest_s=0.2, total_s=2)
        with pytest.raises(RagopsError, match="could not get a lock; nothing was changed") as caught:
            with_lock_retries(connection, act, tables=[table], backoff=backoff, reporter=reporter)
    assert caught.value.actual is not None and "the reader" in caught.value.actual
    assert len(reporter.notices) == 1 and "the reader" in reporter.notices[0]


def test_a_long_wait_is_said_now_and_then() -> None:
    now, reporter = [0.0], Recorder()
    waiting = Waiting(reporter, "a lock on t", clock=lambda: now[0])
    one, other = (Blocker(pid, "", "", "active", 3, "SELECT 1") for pid in (7, 8))
    for _ in range(5):
        waiting.say([one], otherwise="nobody")
        now[0] += SAY_AGAIN_S / 2
    waiting.say([one, other], otherwise="nobody")
    waiting.say([], otherwise="nobody")
    assert reporter.notices == [
        f"waiting for a lock on t: {one}",
        "still waiting for a lock on t, 15 s",
        "still waiting for a lock on t, 30 s",
        f"waiting for a lock on t: {one}\n{other}",
        "waiting for a lock on t: nobody",
    ]


def test_a_statement_that_collides_each_time_is_not_called_a_lock(connection: Connection) -> None:
    table = read_table(connection, TableName(None, "documents"))
    assert table is not None
    reporter = Recorder()

    def act() -> None:
        raise psycopg.errors.DeadlockDetected("deadlock detected")

    with pytest.raises(RagopsError, match="collided with other transactions each time"):
        with_lock_retries(connection, act, tables=[table], backoff=Backoff(total_s=0.5), reporter=reporter)
    assert set(reporter.notices) == {"collided with another transaction (deadlock detected); trying again"}


def test_a_build_of_another_role_is_found_by_its_locks(plain: Connection, dsn: str) -> None:
    table = read_table(plain, TableName(None, "documents"))
    assert table is not None
    create = "CREATE INDEX CONCURRENTLY theirs ON documents USING hnsw (embedding vector_cosine_ops)"
    with psycopg.connect(dsn) as writer, ThreadPoolExecutor(1) as threads:
        # The build waits for this transaction.
        writer.execute("INSERT INTO documents (content) VALUES ('x')")
        building = threads.submit(execute, dsn, create)
        wait_for(lambda: bool(running_builds(plain, table.oid)), what="the build")
        (build,) = running_builds(plain, table.oid)
        with connect(Target(dsn, "the test database")) as owner:
            (seen,) = running_builds(owner, table.oid)
        assert (build.pid, build.index, build.progress, build.since_s) == (seen.pid, None, None, None)
        assert build.waits_for == (writer.info.backend_pid,)
        assert str(build) == f"pid {seen.pid}, user {writer.info.user}, has been building an index"
        assert seen.index == "theirs" and seen.progress is not None and "waiting for" in seen.progress.phase
        assert running_builds(plain, table.oid + 1) == []
        writer.rollback()
        building.result(60)
    assert running_builds(plain, table.oid) == []
