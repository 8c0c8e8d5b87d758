"""One thread's connection: it is reopened after outages and can be interrupted from another thread."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from ragops.errors import first_line
from ragops.postgres.connection import COLLISIONS, OUTAGES, Connection, Target, connect, is_lost, unavailable
from ragops.retry import Backoff
from ragops.workers.state import Stats, Stop

# A restart or a failover of the server takes minutes; a longer outage is an incident that a person must see.
RECONNECT = Backoff(first_s=0.5, longest_s=15.0, total_s=3600.0)

Result = TypeVar("Result")


class Database:
    """A connection that is opened when it is needed, and again after it was lost."""

    def __init__(self, name: str, target: Target, *, stop: Stop, stats: Stats) -> None:
        """`name` is the thread that uses it, for notices."""
        self._name = name
        self._target = target
        self._stop = stop
        self._stats = stats
        self._connection: Connection | None = None

    def run(self, work: Callable[[Connection], Result]) -> Result:
        """Run `work`, again after a lost connection or a deadlock, for as long as `RECONNECT` allows.

        Raises DatabaseUnavailable after that, or if a stop was requested; any other error of `work` passes
        through.
        """
        delays = RECONNECT.delays()
        while True:
            try:
                return self.try_once(work)
            except OUTAGES as error:
                # What a living connection refuses, such as a full disk, it would refuse again; a deadlock passes.
                if not self._is_lost and not isinstance(error, COLLISIONS):
                    raise
                delay = next(delays, None)
                if delay is None or self._stop.requested.is_set():
                    raise unavailable(self._target, error) from error
                if self._is_lost:
                    self._stats.info(
                        f"{self._name}: no connection to the database ({first_line(error)}); retrying"
                    )
                self._stop.requested.wait(delay)

    def try_once(self, work: Callable[[Connection], Result]) -> Result:
        """Run `work` without waiting for a database that is unavailable. Raises one of OUTAGES then."""
        if self._is_lost:
            self._connection = connect(self._target)
        assert self._connection is not None
        return work(self._connection)

    def cancel(self) -> None:
        """Cancel the statement that runs now, from another thread; harmless if there is none."""
        connection = self._connection
        if connection is not None:
            # The connection may be lost or closed by now, which ends the statement too.
            with suppress(*OUTAGES):
                connection.cancel_safe()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    @property
    def _is_lost(self) -> bool:
        return is_lost(self._connection)
