"""One thread's connection: it is reopened after outages and can be interrupted from another thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from ragops.errors import DatabaseUnavailable, Interrupted, OutageTooLong
from ragops.postgres.connection import (
    DATABASE_ERRORS,
    OUTAGES,
    Connection,
    Target,
    close_if_busy,
    connect,
    end_session,
    is_lost,
    session_name,
)
from ragops.postgres.outages import Outage, outage_of, timeout_of
from ragops.postgres.watchdog import cut
from ragops.retry import Backoff
from ragops.workers.state import Stop

# Working again at most 10 s after the database is back: a try may have begun just before, and takes CONNECT_S.
FIRST_S, LONGEST_S = 0.2, 4.0
CONNECT_S = 5
# A restart or a failover of the server takes minutes; a disk that is full, until somebody comes to work.
MAX_OUTAGE_S = 6 * 3600.0
# Deadlocks and serialization failures in a row; more of them is not chance.
MAX_COLLISIONS = 20
# The same of a time limit of the role or the server (transaction_timeout): one was a pause of this machine.
MAX_LIMITS = 8
# A notice of a long outage is repeated this often.
REMIND_S = 300.0
# How long another thread's request to cancel may take before the connection is cut.
CANCEL_S = 3.0

Result = TypeVar("Result")


class Outages:
    """What the operator is told of outages; the connections of a command share it, from all threads."""

    def __init__(
        self,
        info: Callable[[str], None],
        *,
        max_outage_s: float = MAX_OUTAGE_S,
        bytes_needed: Callable[[], int | None] = lambda: None,
    ) -> None:
        """`bytes_needed` is asked when the disk is full: about what the rest of the work writes."""
        self.max_outage_s = max_outage_s
        self._info = info
        self.bytes_needed = bytes_needed
        self._lock = threading.Lock()
        self._away: set[str] = set()
        self._began = self._reminded = 0.0
        self._reasons: set[str] = set()

    @property
    def are_open(self) -> bool:
        """Whether some connection of the command cannot go on now."""
        with self._lock:
            return bool(self._away)

    def note(self, name: str, outage: Outage) -> None:
        """Report a connection that was lost, and opened again at once."""
        self._info(f"{name}: reconnected; before: {outage.reason}")

    def begin(self, name: str, outage: Outage) -> None:
        """Report that the connection `name` cannot go on, each reason once and again every `REMIND_S`."""
        with self._lock:
            now = time.monotonic()
            if not self._away:
                self._began, self._reasons = now, set()
            self._away.add(name)
            # Numbers differ from message to message (a port, a process id).
            key = "".join(c for c in outage.reason if not c.isdigit())
            if key in self._reasons and now - self._reminded < REMIND_S:
                return
            is_new = key not in self._reasons
            self._reasons.add(key)
            self._reminded = now
        if is_new:
            more = f"; {self._room()}" if outage.is_full else ""
            self._info(f"{name}: waiting for the database: {outage.reason}{more}; it goes on by itself")
        else:
            self._info(f"still waiting after {_span(now - self._began)}: {outage.reason}")

    def _room(self) -> str:
        """Say how much room the work needs. The disk is full, but the database can usually be read."""
        try:
            needed = self.bytes_needed()
        except (*DATABASE_ERRORS, DatabaseUnavailable):
            needed = None
        return "make room" if needed is None else f"make room: it needs about {needed / 2**20:,.1f} MiB more"

    def end(self, name: str) -> None:
        """Report that the connection works again; the outage is over when the last one does."""
        with self._lock:
            if name not in self._away:
                return
            self._away.discard(name)
            if self._away:
                return
            seconds = time.monotonic() - self._began
        self._info(f"the database works again after {seconds:,.1f} s")


class Database:
    """A connection that is opened when it is needed, and again after it was lost."""

    def __init__(
        self, name: str, target: Target, *, stop: Stop, outages: Outages, connection: Connection | None = None
    ) -> None:
        """`name` is the thread that uses it, for notices. `connection` is one that is open already."""
        self._name = name
        self._target = target
        self._stop = stop
        self.outages = outages
        self.waits_for_locks = False
        """Whether `run` takes a role's `lock_timeout` for an outage: for campaigns and fleets."""
        self._connection = connection
        self._session = None if connection is None else session_name(connection)
        self._cancelled_at: float | None = None

    @property
    def connection(self) -> Connection:
        """The connection as it is, perhaps lost: only `run` and `try_once` replace it, between transactions."""
        if self._connection is None:
            self._connection = connect(self._target)
            self._session = session_name(self._connection)
        return self._connection

    def run(self, work: Callable[[Connection], Result]) -> Result:
        """Run `work`, again after whatever passes by itself, for up to `max_outage_s`.

        That is a lost connection, a full disk, a read-only database, too many connections, or a deadlock. `work`
        must be one transaction, or safe to run twice. Raises OutageTooLong after that time, Interrupted if a stop
        was requested; any other error of `work` passes through.
        """
        waiting = Waiting(self._name, self._target, stop=self._stop, outages=self.outages)
        while True:
            try:
                result = self.try_once(work)
            except BaseException as error:
                outage = outage_of(error, is_lost=self.is_lost)
                if outage is None and self.waits_for_locks:
                    outage = timeout_of(error)
                if outage is None:
                    raise
                if not outage.is_collision:
                    # A setting of the session would stay as it is: default_transaction_read_only.
                    self.close()
                waiting.wait(outage, error)
                continue
            waiting.end()
            return result

    def try_once(self, work: Callable[[Connection], Result]) -> Result:
        """Run `work` without waiting for a database that is unavailable. Raises one of OUTAGES then."""
        if self._connection is None or is_lost(self._connection):
            self._connection = connect(self._target, timeout_s=CONNECT_S)
            if self._session is not None:
                # A server or pooler that has not noticed the loss keeps the transaction open, with its locks.
                end_session(self._connection, self._session)
            self._session = session_name(self._connection)
        return work(self._connection)

    def cancel(self) -> None:
        """Cancel the statement that runs now, from another thread; harmless if there is none.

        Called again after `CANCEL_S`, it cuts the connection: a server that is not there cancels nothing.
        """
        connection, now = self._connection, time.monotonic()
        if connection is None:
            return
        if self._cancelled_at is not None and now - self._cancelled_at > CANCEL_S:
            cut(connection)
            return
        self._cancelled_at = now if self._cancelled_at is None else self._cancelled_at
        # The connection may be lost or closed by now, which ends the statement too.
        with suppress(*OUTAGES):
            connection.cancel_safe(timeout=CANCEL_S)

    def close_if_busy(self) -> None:
        """Close a connection that a signal interrupted within a statement: it can run nothing more."""
        if self._connection is not None and not self.is_lost:
            close_if_busy(self._connection)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    @property
    def is_lost(self) -> bool:
        """Whether the connection must be opened, again perhaps, before it can be used."""
        return is_lost(self._connection)


class Waiting:
    """The tries of one piece of work: what is waited for, how long, and when to give up."""

    def __init__(self, name: str, target: Target, *, stop: Stop, outages: Outages) -> None:
        self._name = name
        self._target = target
        self._stop = stop
        self._outages = outages
        self._delays = Backoff(first_s=FIRST_S, longest_s=LONGEST_S, total_s=float("inf")).delays()
        self._since: float | None = None
        self._first: Outage | None = None
        self._collisions = self._limits = 0

    def wait(self, outage: Outage, error: BaseException) -> None:
        """Wait a moment before the next try. Raises `error`, OutageTooLong or Interrupted when there is none."""
        now = time.monotonic()
        if outage.is_collision:
            self._collisions += 1
            if self._collisions > MAX_COLLISIONS:
                raise error
        else:
            if self._since is None and not outage.is_full:
                # Often a connection that rested too long, or a server that is back at once.
                self._since, self._first = now, outage
            else:
                self._since, self._first = self._since or now, None
                self._outages.begin(self._name, outage)
            if now - self._since > self._outages.max_outage_s:
                raise OutageTooLong(
                    f"the database was away for {_span(now - self._since)}; gave up",
                    where=self._target.label,
                    actual=outage.reason,
                    expected=f"a database that works again within {self._outages.max_outage_s:g} s "
                    "(database.max_outage_s)",
                ) from error
        self._limits = self._limits + 1 if outage.is_limit else 0
        if self._limits > MAX_LIMITS:
            raise OutageTooLong(
                f"a time limit of the server ended the same work {self._limits} times in a row; gave up",
                where=self._target.label,
                actual=outage.reason,
                expected="a role whose transactions may take as long as they need",
                hint="ALTER ROLE … SET transaction_timeout = 0, or idle_in_transaction_session_timeout",
            ) from error
        if self._stop.requested.wait(next(self._delays)):
            raise Interrupted(
                f"stopped while the database was away: {outage.reason}", signal_number=self._stop.signal_number
            ) from error

    def end(self) -> None:
        """Note that the work was done."""
        if self._first is not None:
            self._outages.note(self._name, self._first)
        self._outages.end(self._name)


def _span(seconds: float) -> str:
    return f"{seconds:,.0f} s" if seconds < 120 else f"{seconds / 60:,.0f} minutes"
