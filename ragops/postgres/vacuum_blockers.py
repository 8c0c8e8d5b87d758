"""Who keeps vacuum from removing dead rows: an old transaction elsewhere makes a busy queue grow and slow down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ragops.postgres.connection import Connection
from ragops.postgres.statements import statement

MANY_TRANSACTIONS = 10_000
"""So far back a holder is named although its age is not to be seen, or it has none."""


@dataclass(frozen=True, slots=True)
class Holder:
    """The oldest transaction or slot that vacuum must respect in this database. None: the role may not see it."""

    kind: Literal["session", "prepared transaction", "replication slot"]
    name: str
    """A session's application, a prepared transaction's identifier, a slot's name."""
    pid: int | None
    user: str | None
    age_s: int | None
    """Since its transaction began; a slot has none."""
    transactions: int
    """Transactions that began since."""
    state: str | None
    """A session's, e.g. `idle in transaction`; a slot's: active or inactive."""
    query: str | None

    def __str__(self) -> str:
        if self.kind == "session":
            who = f"pid {self.pid}" + (f" ({self.name})" if self.name else "")
        else:
            who = f"{self.kind} {self.name}"
        parts = [
            who,
            f"user {self.user}" if self.user else "",
            self.state or "",
            f"in a transaction for {self.age_s:,} s" if self.age_s is not None else "",
            f"{self.transactions:,} transactions back",
        ]
        return ", ".join(filter(None, parts)) + (f": {self.query}" if self.query else "")

    @property
    def remedy(self) -> str:
        """How to end it."""
        if self.kind == "session":
            return f"SELECT pg_terminate_backend({self.pid})"
        quoted = "'" + self.name.replace("'", "''") + "'"
        if self.kind == "prepared transaction":
            return f"ROLLBACK PREPARED {quoted}   (or COMMIT PREPARED)"
        return f"let its consumer catch up, or: SELECT pg_drop_replication_slot({quoted})"


def oldest_blocker(connection: Connection, *, min_age_s: float) -> Holder | None:
    """What holds vacuum back furthest, when it is older than `min_age_s`; None when nothing is.

    Where the age is unknown (another role's session, a slot), many transactions since stand for it.
    """
    values = {"min_age_s": min_age_s, "many": MANY_TRANSACTIONS}
    row = connection.execute(statement("catalog", "oldest_holder"), values).fetchone()
    return Holder(*row) if row else None
