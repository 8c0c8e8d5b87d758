"""Find what ragops waits for without a word: locks on rows, which it skips over, and statements that wait."""

from __future__ import annotations

from dataclasses import dataclass

from ragops.postgres.connection import Connection
from ragops.postgres.statements import statement


@dataclass(frozen=True, slots=True)
class LockWait:
    """A session of ragops that waits for a lock."""

    pid: int
    seconds: int
    waits_for: tuple[int, ...]
    """Sessions; 0 is a prepared transaction."""


def lock_waits(connection: Connection, *, min_s: float) -> list[LockWait]:
    """Return the sessions of this program and role that have waited for a lock for `min_s` or longer."""
    rows = connection.execute(statement("catalog", "lock_waits"), {"min_s": min_s}).fetchall()
    return [LockWait(pid, seconds, tuple(waits_for)) for pid, seconds, waits_for in rows]


def row_lockers(connection: Connection, oid: int, *, min_s: float) -> list[int]:
    """Return the sessions that may have held locks on rows of the table for `min_s` or longer."""
    rows = connection.execute(statement("catalog", "row_lockers"), {"oid": oid, "min_s": min_s}).fetchall()
    return [pid for (pid,) in rows]
