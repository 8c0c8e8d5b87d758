"""Counts that give up in time: a full scan of a large table is no answer to a look."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import psycopg
from psycopg import sql

from ragops.facts import TableFacts
from ragops.postgres.connection import Connection, transaction
from ragops.postgres.estimates import estimated_rows

OUT_OF_TIME = (psycopg.errors.QueryCanceled, psycopg.errors.LockNotAvailable)


class Counter:
    """Runs counting statements that share `budget_s` seconds; None: each takes as long as it takes.

    The limits are local to a transaction of their own, so they work behind a transaction pooler.
    """

    def __init__(
        self, connection: Connection, *, budget_s: float | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._connection = connection
        self._clock = clock
        self._until = None if budget_s is None else clock() + budget_s
        self._too_many: int | None = None
        """The fewest rows, as estimated, of a table that was not counted in time."""

    def count(
        self, query: sql.Composed, *, share: float, table: TableFacts | None = None
    ) -> tuple[tuple[Any, ...], ...] | None:
        """The statement's rows, or None when that takes longer than `share` of the time that is left.

        `table` is the table that it scans: after one that took too long, no larger one is tried.
        """
        if self._until is None:
            return self._run(query, {"statement_timeout": "0", "idle_in_transaction_session_timeout": "0"})
        timeout_ms = int((self._until - self._clock()) * 1000 * share)
        if timeout_ms <= 0 or (table and self._is_hopeless(table)):
            return None
        try:
            return self._run(query, {"statement_timeout": f"{timeout_ms}ms"})
        except OUT_OF_TIME:
            # The time may run out at COMMIT, which leaves an aborted transaction open.
            self._connection.rollback()
            if table:
                self._remember(table)
            return None

    def _run(self, query: sql.Composed, limits: dict[str, str]) -> tuple[tuple[Any, ...], ...]:
        # Compiling such a statement takes longer than it saves.
        settings = {"transaction_read_only": "on", "jit": "off", **limits}
        with transaction(self._connection, settings=settings):
            return tuple(self._connection.execute(query).fetchall())

    def _is_hopeless(self, table: TableFacts) -> bool:
        if self._too_many is None:
            return False
        rows = estimated_rows(self._connection, table)
        return rows is not None and rows >= self._too_many

    def _remember(self, table: TableFacts) -> None:
        rows = estimated_rows(self._connection, table)
        if rows is not None:
            self._too_many = rows if self._too_many is None else min(rows, self._too_many)
