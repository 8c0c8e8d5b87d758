"""When documents were stored, and how long after each fault the next one was."""

from __future__ import annotations

import contextlib
import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Sequence

import psycopg

POLL_S = 0.04
Connect = Callable[[], psycopg.Connection[tuple[object, ...]]]


class Recorder:
    """Looks at the newest document all the time, over a connection that no fault of the network reaches."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._ended = threading.Event()
        self.stored_at: list[float] = []
        self.completed = 0
        self._thread = threading.Thread(target=self._watch, name="recorder", daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        newest: object = None
        while not self._ended.is_set():
            # Whatever happens to the server happens to this connection too.
            with contextlib.suppress(psycopg.Error), self._connect() as connection:
                while not self._ended.wait(POLL_S):
                    row = connection.execute(
                        "SELECT max(id), (SELECT count(*) FROM files_queue WHERE status = 'completed')"
                        " FROM documents"
                    ).fetchone()
                    assert row is not None
                    if row[0] != newest and row[0] is not None:
                        self.stored_at.append(time.monotonic())
                    newest, self.completed = row[0], int(str(row[1]))
            self._ended.wait(POLL_S)

    def close(self) -> None:
        self._ended.set()
        self._thread.join(timeout=10)


def recovery_s(fault_ended: float, stored_at: Sequence[float], *, until: float) -> float | None:
    """Seconds to the next stored document before `until`, when the campaign ended; None without one."""
    place = bisect_right(stored_at, fault_ended)
    found = stored_at[place] if place < len(stored_at) else None
    return found - fault_ended if found is not None and found <= until else None
