"""One thread's connection: it waits through outages and can be interrupted from another thread."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from ragops.postgres.connection import COLLISIONS, OUTAGES, Connection, Target, connect, unavailable
from ragops.retry import Backoff
from ragops.workers.state import Stop

# A database that is down for an hour is an incident of its own; until then workers wait.
RECONNECT = Backoff(first_s=0.5, longest_s=15.0, total_s=3600.0)

Result = TypeVar("Result")


class Database:
    """A connection that is opened when it is needed and opened anew when it is lost."""

    def __init__(self, name: str, target: Target, *, stop: Stop, info: Callable[[str], None]) -> None:
        self._name = name
        self._target = target
        self._stop = stop
        self._info = info
        self._connection: Connection | None = None

    def run(self, work: Callable[[Connection], Result]) -> Result:
        """Run `work`, again after a lost connection or a deadlock, for as long as an outage may last.

        Raises DatabaseUnavailable after that, or when a stop was asked for; what else `work` raises
        passes through.
        """
        delays = RECONNECT.delays()
        while True:
            try:
                if self._is_lost:
                    self._connection = connect(self._target)
                assert self._connection is not None
                return work(self._connection)
            except OUTAGES as error:
                if not self._is_lost and not isinstance(error, COLLISIONS):
                    raise
                delay = next(delays, None)
                if delay is None or self._stop.requested.is_set():
                    raise unavailable(self._target, error) from error
                if self._is_lost:
                    self._info(f"{self._name}: the database is away ({_first_line(error)}); waiting")
                self._stop.requested.wait(delay)

    def try_once(self, work: Callable[[Connection], Result]) -> Result:
        """Run `work` without waiting for a database that is away. Raises one of OUTAGES then."""
        if self._is_lost:
            self._connection = connect(self._target)
        assert self._connection is not None
        return work(self._connection)

    def cancel(self) -> None:
        """End the statement that runs now, from another thread; harmless when there is none."""
        connection = self._connection
        if connection is not None:
            with suppress(*OUTAGES):
                connection.cancel_safe()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    @property
    def _is_lost(self) -> bool:
        return self._connection is None or self._connection.closed or self._connection.broken


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
