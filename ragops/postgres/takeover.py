"""Show what a controller that takes a campaign over waits for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ragops.postgres.connection import DATABASE_ERRORS, OUTAGES, Connection
from ragops.postgres.statements import statement

FIRST_S = 1.0
EVERY_S = 10.0
QUERY_CHARACTERS = 100


@dataclass(frozen=True, slots=True)
class Blocker:
    """A session of the server that another one waits for. What this role may not see is None."""

    pid: int
    application: str | None
    state: str | None
    seconds: float | None
    """Since its last statement began."""
    query: str | None

    def __str__(self) -> str:
        if self.pid == 0:
            return "a prepared transaction (SELECT * FROM pg_prepared_xacts)"
        name = f"pid {self.pid} ({self.application})" if self.application else f"pid {self.pid}"
        if self.state is None or self.seconds is None:
            return f"{name}, whose state this role may not see"
        query = " ".join((self.query or "").split())
        if len(query) > QUERY_CHARACTERS:
            query = f"{query[:QUERY_CHARACTERS]}…"
        last = "" if self.state == "active" else ", last"
        return f"{name}, {self.state} for {self.seconds:.0f} s{last}: {query}"


def blockers_of(connection: Connection, pid: int) -> list[Blocker]:
    """Return the sessions that the session with process id `pid` waits for."""
    return [Blocker(*row) for row in connection.execute(statement("ledger", "blockers"), {"pid": pid})]


class TakeoverWatch:
    """Tells every few seconds, from a thread and over a connection of its own, what a takeover waits for."""

    def __init__(self, connect: Callable[[], Connection], info: Callable[[str], None], *, campaign: int) -> None:
        self._connect = connect
        self._info = info
        self._campaign = campaign

    @contextmanager
    def waiting(self, pid: int) -> Iterator[None]:
        """Watch the session `pid` for as long as the context is open."""
        ended = threading.Event()
        thread = threading.Thread(target=self._watch, args=(pid, ended), name="takeover", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join(timeout=5)

    def _watch(self, pid: int, ended: threading.Event) -> None:
        delay = FIRST_S
        while not ended.wait(delay):
            delay = EVERY_S
            try:
                with self._connect() as observer:
                    blockers = blockers_of(observer, pid)
            except (*OUTAGES, *DATABASE_ERRORS):
                continue  # The one that waits will say that the database is away.
            for blocker in blockers:
                if ended.is_set():
                    return
                cure = f"; to end it: SELECT pg_terminate_backend({blocker.pid})" if blocker.pid else ""
                self._info(
                    f"taking campaign {self._campaign} over once this transaction has ended: {blocker}{cure}"
                )
