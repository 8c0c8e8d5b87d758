"""Say who holds the locks that a fleet waits for: a claim passes over locked rows, and a store waits for them."""

from __future__ import annotations

import time

from ragops.facts import TableFacts
from ragops.playbook.tables import Tables
from ragops.postgres.connection import Connection
from ragops.postgres.lock_waits import lock_waits, row_lockers
from ragops.postgres.locks import find_sessions
from ragops.postgres.queue import Queue
from ragops.workers.buffer import Pipeline
from ragops.workers.state import Stats

# A store takes about a second; what holds locks longer than this is not a part of the work.
HELD_S = 10.0


class LockWatch:
    """Looks every few seconds, over the connection of a fleet's maintenance."""

    def __init__(self, pipeline: Pipeline, tables: Tables, queue: TableFacts, *, stats: Stats) -> None:
        self._pipeline = pipeline
        self._tables = tables
        self._queue = queue
        self._stats = stats
        self._idle_since: float | None = None
        self._said: set[int] = set()

    def look(self, connection: Connection) -> None:
        """Report each session once that keeps ragops waiting."""
        for wait in lock_waits(connection, min_s=HELD_S):
            self._say(
                connection,
                list(wait.waits_for),
                f"a statement of ragops (pid {wait.pid}) has waited {wait.seconds:,} s for a lock that is held by",
            )
        if self._pipeline.held_claims():
            self._idle_since = None
            return
        queue = Queue(connection, self._tables)
        pending = queue.open_items(phase=queue.gate()).pending
        now = time.monotonic()
        if pending == 0:
            self._idle_since = None
        elif self._idle_since is None:
            self._idle_since = now
        elif now - self._idle_since >= HELD_S:
            self._say(
                connection,
                row_lockers(connection, self._queue.oid, min_s=HELD_S),
                f"{pending:,} documents are pending and none can be claimed: rows of {self._queue.qualified} are "
                "locked by",
            )

    def _say(self, connection: Connection, pids: list[int], words: str) -> None:
        new = [pid for pid in pids if pid not in self._said]
        self._said.update(new)
        for blocker in find_sessions(connection, new):
            end = "" if blocker.pid == 0 else f"; to end it: SELECT pg_terminate_backend({blocker.pid})"
            self._stats.info(f"{words} {blocker}{end}")
