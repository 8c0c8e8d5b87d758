"""When documents were stored, and how long after each fault the next one was."""

from __future__ import annotations

import contextlib
import threading
import time
from bisect import bisect_right
from collections.abc import Callable

import psycopg

POLL_S = 0.04
VERB = "(SELECT max(verb) FROM ragops.step WHERE status = 'running')"
IS_THERE = "SELECT to_regclass('ragops.step') IS NOT NULL"
LOOK = "SELECT max(id), (SELECT count(*) FROM files_queue WHERE status = 'completed'), {verb} FROM documents"
Connect = Callable[[], psycopg.Connection[tuple[object, ...]]]


class Recorder:
    """Looks at the newest document all the time, over a connection that no fault of the network reaches."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._ended = threading.Event()
        self.stored_at: list[float] = []
        self.verbs: list[tuple[float, object]] = []
        """The running step of the newest campaign, and since when."""
        self.completed = 0
        self._thread = threading.Thread(target=self._watch, name="recorder", daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._ended.wait(POLL_S):
            # Whatever happens to the server happens to this connection too.
            with contextlib.suppress(psycopg.Error), self._connect() as connection:
                self._look(connection)

    def _look(self, connection: psycopg.Connection[tuple[object, ...]]) -> None:
        newest: object = None
        look = LOOK.format(verb="NULL")
        while not self._ended.wait(POLL_S):
            if "NULL" in look and connection.execute(IS_THERE).fetchone() == (True,):
                look = LOOK.format(verb=VERB)
            row = connection.execute(look.encode()).fetchone()
            assert row is not None
            if row[0] != newest and row[0] is not None:
                self.stored_at.append(time.monotonic())
            newest, self.completed = row[0], int(str(row[1]))
            if not self.verbs or self.verbs[-1][1] != row[2]:
                self.verbs.append((time.monotonic(), row[2]))

    def close(self) -> None:
        self._ended.set()
        self._thread.join(timeout=10)

    def recovery_s(self, fault_ended: float) -> float | None:
        """Seconds from the end of a fault to the next stored document.

        None when there was nothing to store: outside the embed steps, or when one ended in between.
        """
        place = bisect_right(self.stored_at, fault_ended)
        if place == len(self.stored_at):
            return None
        verbs = [at for at, _ in self.verbs]
        then, later = (bisect_right(verbs, at) - 1 for at in (fault_ended, self.stored_at[place]))
        if then < 0 or then != later or self.verbs[then][1] != "embed":
            return None
        return self.stored_at[place] - fault_ended
