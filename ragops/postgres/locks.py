"""Ask for locks briefly and again, and name who holds them.

A DDL statement that waits behind one idle reader makes every later query wait behind it, so no statement
here queues for a lock: it gives up after `LOCK_TIMEOUT_S` and comes back.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import psycopg

from ragops.errors import RagopsError, first_line
from ragops.facts import TableFacts
from ragops.postgres.connection import COLLISIONS, Connection, set_parameter_sql, transaction
from ragops.postgres.ddl import LockMode, analyze_sql, lock_sql
from ragops.postgres.statements import statement
from ragops.reporter import NullReporter, Reporter
from ragops.retry import Backoff

LOCK_TIMEOUT_S = 2.0

# A locked table is waited for, but a plan is not to take minutes.
PLAN_PATIENCE = Backoff(first_s=0.5, longest_s=2.0, total_s=15.0)
# A lock that the catalog's shortest wait may still need when the time of a whole list of tables is used up.
SHORTEST_LOCK_TIMEOUT_S = 0.1
TIMED_OUT = (psycopg.errors.LockNotAvailable,)
TIMED_OUT_OR_CANCELLED = (*TIMED_OUT, psycopg.errors.QueryCanceled)
# Seconds between two notices about the same sessions.
SAY_AGAIN_S = 15.0

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Blocker:
    """A session that holds a lock. A field is None if this role may not see it."""

    pid: int
    """0 for a prepared transaction, which has no session."""
    application: str
    user: str
    state: str | None
    transaction_s: int | None
    query: str | None

    def __str__(self) -> str:
        if self.pid == 0:
            return "a prepared transaction (SELECT * FROM pg_prepared_xacts)"
        parts = [f"pid {self.pid}" + (f" ({self.application})" if self.application else "")]
        if self.state is None:
            parts.append(f"user {self.user}, state not visible to this role (GRANT pg_read_all_stats)")
        else:
            parts.append(self.state)
            if self.transaction_s is not None:
                parts.append(f"in a transaction for {self.transaction_s:,} s")
        return ", ".join(parts) + (f": {self.query}" if self.query else "")


class Waiting:
    """Says who is waited for: each set of sessions once, then now and then for how long."""

    def __init__(self, reporter: Reporter, what: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        """`what` is what is awaited, such as `a lock on public.documents`."""
        self._reporter = reporter
        self._what = what
        self._clock = clock
        self._began = self._said_at = clock()
        self._said: set[frozenset[int]] = set()

    def say(self, blockers: Sequence[Blocker], *, otherwise: str) -> None:
        """Name the blockers, or `otherwise` if there are none any more."""
        now, who = self._clock(), frozenset(blocker.pid for blocker in blockers)
        if who not in self._said:
            self._said.add(who)
            listed = "\n".join(map(str, blockers)) or otherwise
            self._reporter.info(f"waiting for {self._what}: {listed}")
        elif now - self._said_at >= SAY_AGAIN_S:
            self._reporter.info(f"still waiting for {self._what}, {now - self._began:,.0f} s")
        else:
            return
        self._said_at = now


def with_lock_retries(
    connection: Connection,
    act: Callable[[], Result],
    *,
    tables: Sequence[TableFacts],
    backoff: Backoff = Backoff(first_s=0.5, longest_s=5.0, total_s=60.0),  # noqa: B008 (a frozen value)
    reporter: Reporter = NullReporter(),  # noqa: B008 (it has no state)
    sleep: Callable[[float], None] = time.sleep,
    repeats: tuple[type[psycopg.Error], ...] = TIMED_OUT + COLLISIONS,
) -> Result:
    """Run `act` (a whole transaction with a lock timeout) until it gets its locks and collides with nobody.

    Raises RagopsError that lists the blocking sessions when the backoff is used up.
    """
    delays = backoff.delays()
    names = ", ".join(table.qualified for table in tables)
    waiting = Waiting(reporter, f"a lock on {names}")
    while True:
        try:
            return act()
        except repeats as error:
            blockers = find_blockers(connection, tables)
            delay = next(delays, None)
            if delay is None:
                is_collision = isinstance(error, COLLISIONS)
                raise RagopsError(
                    f"collided with other transactions each time ({first_line(error)}); nothing was changed"
                    if is_collision
                    else "could not get a lock; nothing was changed",
                    where=names,
                    actual="\n".join(map(str, blockers)) or "no session holds a lock any more",
                    expected="an exclusive lock for a moment",
                    hint="end those transactions (SELECT pg_terminate_backend(PID)), then run the command again",
                ) from error
            if isinstance(error, COLLISIONS):
                reporter.info(f"collided with another transaction ({first_line(error)}); trying again")
            else:
                waiting.say(blockers, otherwise="no session holds a lock any more")
            sleep(delay)


def analyze_if_free(connection: Connection, table: TableFacts) -> bool:
    """Refresh the planner's statistics of a table; False if another session's lock (VACUUM's) is in the way."""
    try:
        with transaction(connection, lock_timeout_s=LOCK_TIMEOUT_S, is_long=True):
            connection.execute(analyze_sql(table))
    except psycopg.errors.LockNotAvailable:
        return False
    return True


def lock_tables(
    connection: Connection, tables: Iterable[TableFacts], mode: LockMode, *, within_s: float = LOCK_TIMEOUT_S
) -> None:
    """Lock the tables one by one in the caller's transaction. Raises LockNotAvailable after `within_s` in all.

    One LOCK TABLE of all of them would wait `lock_timeout` for each: readers of the first table would wait for
    five tables ten seconds.
    """
    until = time.monotonic() + within_s
    for table in tables:
        left = max(SHORTEST_LOCK_TIMEOUT_S, until - time.monotonic())
        connection.execute(set_parameter_sql("lock_timeout", f"{int(left * 1000)}ms"))
        connection.execute(lock_sql([table], mode))
    connection.execute(set_parameter_sql("lock_timeout", f"{int(within_s * 1000)}ms"))


def close_to_readers(connection: Connection, tables: Sequence[TableFacts], *, reporter: Reporter) -> None:
    """Turn the caller's SHARE ROW EXCLUSIVE locks into ACCESS EXCLUSIVE ones, keeping what it did so far.

    A try that fails is rolled back to a savepoint, which gives readers their turn. Raises DeadlockDetected when a
    reader waits for this transaction in turn: only a rollback helps, and the caller's `with_lock_retries` does it.
    """

    def act() -> None:
        with connection.transaction():
            lock_tables(connection, tables, "ACCESS EXCLUSIVE")

    with_lock_retries(connection, act, tables=tables, reporter=reporter, repeats=TIMED_OUT)


def find_blockers(connection: Connection, tables: Iterable[TableFacts]) -> list[Blocker]:
    """Return the sessions other than this one that hold a lock on one of the tables."""
    oids = [table.oid for table in tables]
    return [Blocker(*row) for row in connection.execute(statement("catalog", "blockers"), {"oids": oids})]


def find_sessions(connection: Connection, pids: Iterable[int]) -> list[Blocker]:
    """Return those of some sessions that are still there; 0 stands for a prepared transaction."""
    return [Blocker(*row) for row in connection.execute(statement("catalog", "sessions"), {"pids": list(pids)})]


def find_ledger_blockers(connection: Connection) -> list[Blocker]:
    """Return the sessions that keep readers out of one of ragops' own tables."""
    return find_sessions(
        connection, [pid for (pid,) in connection.execute(statement("catalog", "ragops_lockers"))]
    )
