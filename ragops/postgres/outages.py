"""Tell what passes by itself (a lost server, a full disk, too many connections) from what must be corrected.

psycopg's classes do not help: a full disk is an OperationalError as a lost connection is, a database that turned
read-only an InternalError. SQLSTATE decides (https://www.postgresql.org/docs/current/errcodes-appendix.html).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import psycopg

from ragops.errors import (
    CampaignHeld,
    DatabaseUnavailable,
    FenceLost,
    Interrupted,
    NegativeVerdict,
    OutageTooLong,
    PlanStale,
    RagopsError,
    first_line,
)

FULL_DISK = "53100"
_READ_ONLY = "25006"
# What the server answers on a living connection, and what the operator reads about it.
_PAUSES = {
    FULL_DISK: "the server's disk is full",
    "53000": "the server lacks resources",
    "53200": "the server is out of memory",
    "53300": "too many connections",
    _READ_ONLY: "the database is read-only",
}
# Limits of the role or the server, which the same work may hit each time.
_LIMITS = ("25P03", "25P04")
# The server ended the session or the statement for a reason that is not in it.
_ENDINGS = {
    "57P01": "an administrator ended the connection, or the server shuts down",
    "57P02": "the server crashed and restarts",
    "57P03": "the server is starting up or shutting down",
    "57P05": "the server ended an idle connection (idle_session_timeout)",
    "25P03": "the server ended an idle transaction (idle_in_transaction_session_timeout)",
    "25P04": "the transaction took longer than transaction_timeout",
}
# A timeout of the role ended a statement by itself, and not what ragops had limited: that is an error of its own.
_LOCKED, _CANCELLED = "55P03", "57014"
# Decisions, whatever led to them.
_FINAL = (OutageTooLong, Interrupted, FenceLost, CampaignHeld, NegativeVerdict, PlanStale)
# Serialization failures and deadlocks: the server rolled one of the transactions back, to be run again at once.
_COLLISIONS = ("40001", "40P01")


@dataclass(frozen=True, slots=True)
class Outage:
    """Why work cannot go on now, although nothing is wrong with it."""

    reason: str
    """In one line, with the server's own words."""
    is_collision: bool = False
    """Another transaction was in the way: try again at once, there is nothing to wait for."""
    is_full: bool = False
    """The disk is full: say how many bytes are missing."""
    is_limit: bool = False
    """A time limit ended the work: it passes by itself where something else held the work up, but not for ever."""


def outage_of(error: BaseException, *, is_lost: bool) -> Outage | None:
    """Return why an operation failed, if the same operation can succeed later; None for every other error.

    `is_lost`: its connection is gone. Errors that ragops made of the server's are looked through.
    """
    if isinstance(error, _FINAL):
        return None
    if isinstance(error, DatabaseUnavailable):
        # libpq says it in the words of whoever connects: `connection to server at "db" … failed: …`.
        words = error.actual or error.what
        return Outage(words.removeprefix("connection failed: ").removeprefix("connection is bad: "))
    for cause in _causes(error):
        state = cause.sqlstate or ""
        if state in _COLLISIONS:
            return Outage(first_line(cause), is_collision=True)
        if (reason := _PAUSES.get(state) or _ENDINGS.get(state)) is not None:
            return Outage(f"{reason} ({first_line(cause)})", is_full=state == FULL_DISK, is_limit=state in _LIMITS)
        if state.startswith("08"):
            return Outage(f"the connection was lost ({first_line(cause)})")
    if isinstance(error, RagopsError) or not is_lost or not isinstance(error, Exception):
        return None
    # Not only psycopg's errors: two answers of a pooler to one COPY are a ValueError in psycopg 3.3.
    return Outage(f"the connection was lost ({first_line(error)})")


def timeout_of(error: BaseException) -> Outage | None:
    """Return the outage of work that runs under a role's `lock_timeout` or `statement_timeout` and may wait.

    Locks are waited for as they are without such a timeout. A statement may be slow by itself, each time.
    """
    if not isinstance(error, psycopg.Error) or error.sqlstate not in (_LOCKED, _CANCELLED):
        return None
    reason = f"another session's lock is in the way, or a timeout of the role is short ({first_line(error)})"
    return Outage(reason, is_limit=error.sqlstate == _CANCELLED)


def _causes(error: BaseException) -> Iterator[psycopg.Error]:
    """Yield the server's errors that an error is or was made of."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, psycopg.Error):
            yield found
        found = found.__cause__
