"""Run every transaction as READ COMMITTED, and run again what collided with another transaction.

Claims skip locked rows, and a record waits for a row and then looks at what it holds now: both need READ
COMMITTED. A role or a database may have another default (`ALTER DATABASE … SET default_transaction_isolation`). A
transaction says its level itself. A statement alone would take the default, so where that is another one it gets a
transaction. A session's SET would need fewer round trips, but would stay with a pooler's connection.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, Self, TypeVar

import psycopg
from psycopg import pq
from psycopg.rows import Row

# A deadlock, and a snapshot that is too old.
COLLIDED = (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure)
# How often something that collides is run, and the longest pause between two attempts.
ATTEMPTS = 6
PAUSE_S = 0.2

Result = TypeVar("Result")


def retry_collisions(act: Callable[[], Result]) -> Result:
    """Run `act`, a transaction or a statement alone, until it collides with nobody. Raises the last collision."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return act()
        except COLLIDED:
            if attempt == ATTEMPTS:
                raise
            time.sleep(PAUSE_S * random.random())
    raise AssertionError("the last attempt returns or raises")


class ReadCommittedCursor(psycopg.Cursor[Row]):
    """A cursor that gives a statement outside of a transaction its level, and runs it again if it collided."""

    # Typed as the method that it replaces, whose types of queries are those of psycopg.
    def execute(self, query: Any, params: Any = None, **options: Any) -> Self:
        """Run a statement. Raises the last collision."""
        connection = self.connection
        if connection.info.transaction_status != pq.TransactionStatus.IDLE:
            # Only its whole transaction can be run again, by whoever began it.
            return super().execute(query, params, **options)
        run = super().execute

        def alone() -> None:
            with nullcontext() if default_is_read_committed(connection) else connection.transaction():
                run(query, params, **options)

        retry_collisions(alone)
        return self


def default_is_read_committed(connection: psycopg.Connection[Any]) -> bool:
    """Return whether a statement alone runs in READ COMMITTED, as far as that is known."""
    return not isinstance(connection, ReadCommittedConnection) or connection.default_is_read_committed


class ReadCommittedConnection(psycopg.Connection[tuple[Any, ...]]):
    """A connection in autocommit mode whose every statement runs in READ COMMITTED."""

    default_is_read_committed = True

    def keep_read_committed(self) -> None:
        """Say the level in explicit transactions, and give statements alone one where the default is another."""
        self.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        row = self.execute("SHOW default_transaction_isolation").fetchone()
        self.default_is_read_committed = row is not None and row[0] == "read committed"
        self.cursor_factory = ReadCommittedCursor


def execute_outside(connection: psycopg.Connection[Any], query: Any, *, binary: bool = False) -> None:
    """Run a statement that the server may refuse in a transaction, such as VACUUM, as it stands."""
    with psycopg.Cursor(connection) as cursor:
        cursor.format = pq.Format.BINARY if binary else pq.Format.TEXT
        cursor.execute(query)
