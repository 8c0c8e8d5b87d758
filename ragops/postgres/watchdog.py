"""End the wait for an answer that will never come.

A hung pooler, proxy or server goes on acknowledging packets, so that neither keepalives nor `tcp_user_timeout`
notice it, and whoever waits for the answer to a statement waits for ever. How long a statement may take is unknown
(an index build takes hours), so the watchdog asks through another connection whether the server still works on it.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from contextlib import suppress

import psycopg
from psycopg import pq

from ragops.postgres.dsn import Target
from ragops.postgres.statements import statement

# Together less than 60 s: an answer is late after SUSPICIOUS_S, and is given up after a second look says the same.
SUSPICIOUS_S, AGAIN_S, LOOK_S = 20.0, 8.0, 10
# A server that waits for the rest of a COPY may wait for a slow source of rows.
SLOW_SOURCE_S = 120.0
# After the second Ctrl-C: as long as the server may take to cancel a statement.
GRACE_S = 3.0
EVERY_S = 0.5
# How `session_states` ends for a session that waits for its client.
WAITS = "waiting for the client"

_opened: weakref.WeakSet[psycopg.Connection[tuple[object, ...]]] = weakref.WeakSet()
_lock = threading.Lock()


def register(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    """Watch a connection, for as long as it is open."""
    with _lock:
        _opened.add(connection)


def cut(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    """Shut a connection's socket down, from any thread: whoever waits for its answer gets an error."""
    # A copy of the descriptor: the socket object closes its own, and libpq goes on to own the other.
    with suppress(OSError, psycopg.Error), socket.socket(fileno=_duplicate(connection.pgconn.socket)) as copy:
        copy.shutdown(socket.SHUT_RDWR)


def _duplicate(descriptor: int) -> int:
    if os.name != "nt":
        return os.dup(descriptor)
    # On Windows a socket is a handle, which os.dup does not know.
    copy = socket.socket(fileno=descriptor)
    try:
        return copy.dup().detach()
    finally:
        copy.detach()


class Watchdog:
    """A thread beside a command. `with Watchdog(target, is_aborted=…):`"""

    def __init__(
        self,
        target: Target,
        *,
        is_aborted: Callable[[], bool] = lambda: False,
        info: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`is_aborted` tells whether the operator wants an end at once; `info` is called from the thread."""
        self._target = target
        self._is_aborted = is_aborted
        self._info = info
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
        # By connection: since when it waits, and what the last look saw.
        self._waits: dict[int, Wait] = {}
        self._aborted_at: float | None = None
        self._look_at = 0.0

    def __enter__(self) -> Watchdog:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()

    def _run(self) -> None:
        while not self._ended.wait(EVERY_S):
            with _lock:
                waiting = [c for c in _opened if not c.closed and _is_active(c)]
            self._check(waiting, now=time.monotonic())

    def _check(self, waiting: Iterable[psycopg.Connection[tuple[object, ...]]], *, now: float) -> None:
        """Look at the connections that wait for an answer at `now` (seconds, any origin)."""
        waiting = list(waiting)
        self._waits = {id(c): self._waits.get(id(c)) or Wait(now) for c in waiting}
        if self._is_aborted():
            self._aborted_at = now if self._aborted_at is None else self._aborted_at
            if now - self._aborted_at >= GRACE_S:
                for connection in waiting:
                    cut(connection)
            return
        late = [c for c in waiting if now - self._waits[id(c)].since >= SUSPICIOUS_S]
        if not late or now < self._look_at:
            return
        self._look_at = now + AGAIN_S
        seen = self._look(late)
        for connection in late:
            wait = self._waits[id(connection)]
            try:
                answer = _verdict(connection, seen, waited_s=now - wait.since)
            except psycopg.OperationalError:  # closed by its own thread at this moment
                continue
            if answer is not None and answer == wait.verdict:
                self._info(f"a connection gives no answer ({answer}): closing it")
                cut(connection)
            wait.verdict = answer

    def _look(self, connections: list[psycopg.Connection[tuple[object, ...]]]) -> dict[int | str, str] | None:
        """Return the state of the server's sessions, by process id and by application name.

        None if the server does not answer: the thread that asks is left behind then.
        """
        found: list[dict[int | str, str] | None] = []
        pids, names = [], []
        for connection in connections:
            with suppress(psycopg.OperationalError):  # closed by its own thread at this moment
                pids.append(connection.info.backend_pid)
                names.append(connection.info.parameter_status("application_name"))

        def ask() -> None:
            try:
                with psycopg.connect(self._target.conninfo, autocommit=True, connect_timeout=LOOK_S) as own:
                    rows = own.execute(
                        statement("catalog", "session_states"),
                        {"pids": pids, "names": names},
                    ).fetchall()
                found.append({key: state for pid, name, state in rows for key in (pid, name)})
            except psycopg.OperationalError as error:
                # A server that refuses one more connection answers; what it does with the others is unknown.
                found.append({} if "FATAL" in str(error) else None)

        thread = threading.Thread(target=ask, name="watchdog's look", daemon=True)
        thread.start()
        thread.join(LOOK_S)
        return found[0] if found else None


class Wait:
    """One connection that waits for an answer."""

    def __init__(self, since: float) -> None:
        self.since = since
        self.verdict: str | None = None


def _is_active(connection: psycopg.Connection[tuple[object, ...]]) -> bool:
    try:
        return connection.info.transaction_status == pq.TransactionStatus.ACTIVE
    except psycopg.OperationalError:  # closed by its own thread at this moment
        return False


def _verdict(
    connection: psycopg.Connection[tuple[object, ...]], seen: dict[int | str, str] | None, *, waited_s: float
) -> str | None:
    """Return why an answer will not come; None if it may.

    Behind a transaction pooler the process id is the pooler's, so that the session is found by its name, or not at
    all: then nothing is known.
    """
    if seen is None:
        return "nor does a new connection"
    state = seen.get(connection.info.backend_pid) or seen.get(
        connection.info.parameter_status("application_name") or ""
    )
    if state is None or (state.startswith("active") and not state.endswith(WAITS)):
        return None
    if state.startswith("active"):
        return "the server waits for the rest of a COPY" if waited_s >= SLOW_SOURCE_S else None
    # With its time: a session that has worked since is not the same case.
    return f"the server's session is {state}"
