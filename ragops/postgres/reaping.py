"""Taking back abandoned items again and again without reading the whole queue's past each time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from ragops.postgres.connection import Connection
from ragops.postgres.queue import Queue

EVERYTHING_EVERY = timedelta(seconds=60)
# A claim that was under way during the last look may have set its lease before it and committed after it.
OVERLAP = timedelta(seconds=10)


class Reaper:
    """One process's reaping: all leases once a minute, in between those that ran out since the last look.

    While a long transaction elsewhere holds vacuum back, the index of leases keeps an entry of every item
    that was ever claimed: a look at all of them takes a second per million. Times are the server's.
    """

    def __init__(self, queue: Queue, *, is_dead: Callable[[str], bool] = lambda _: False) -> None:
        self._queue = queue
        self._is_dead = is_dead
        self._looked: datetime | None = None
        self._looked_at_all: datetime | None = None

    def reap(self, connection: Connection) -> int:
        """Give back items whose lease has run out or whose worker is known to be dead; returns their number."""
        now = self._queue.server_time(connection)
        if self._looked_at_all is None or not timedelta(0) <= now - self._looked_at_all < EVERYTHING_EVERY:
            since, self._looked_at_all = None, now
        else:
            assert self._looked is not None
            since = self._looked - OVERLAP
        reaped = self._queue.reap(connection, is_dead=self._is_dead, since=since)
        self._looked = now
        return reaped
