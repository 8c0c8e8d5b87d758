"""Find what keeps vacuum from removing dead rows: while it lasts, a busy queue grows and slows down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from psycopg.rows import class_row

from ragops.postgres.connection import Connection
from ragops.postgres.statements import statement

# Report a blocker of unknown age once it is this many transactions behind. Fewer would report every session of
# another role that has just begun in a busy database.
MANY_TRANSACTIONS = 10_000


@dataclass(frozen=True, slots=True)
class VacuumBlocker:
    """A transaction or slot whose snapshot vacuum must respect in this database.

    A field is None if the role may not see it, or if a blocker of that kind does not have it.
    """

    kind: Literal["session", "prepared transaction", "replication slot"]
    name: str
    """A session's application_name, a prepared transaction's identifier, or a slot's name."""
    pid: int | None
    user: str | None
    age_s: int | None
    """Seconds since the transaction began. Slots do not have an age."""
    transactions: int
    """Number of transactions that began since."""
    state: str | None
    """A session's state, such as `idle in transaction`; for a slot, active or inactive."""
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
            f"transaction open for {self.age_s:,} s" if self.age_s is not None else "",
            f"{self.transactions:,} transactions behind",
        ]
        return ", ".join(filter(None, parts)) + (f": {self.query}" if self.query else "")

    @property
    def remedy(self) -> str:
        """Return what to type to end it."""
        if self.kind == "session":
            return f"SELECT pg_terminate_backend({self.pid})"
        # Names are any text, so they are quoted as SQL literals.
        quoted = "'" + self.name.replace("'", "''") + "'"
        if self.kind == "prepared transaction":
            return f"ROLLBACK PREPARED {quoted}   (or COMMIT PREPARED)"
        return f"let its consumer catch up, or: SELECT pg_drop_replication_slot({quoted})"


def oldest_blocker(connection: Connection, *, min_age_s: float) -> VacuumBlocker | None:
    """Return what holds vacuum back furthest, if it is older than `min_age_s`; None if nothing is.

    For a blocker of unknown age (another role's session, a slot) the number of transactions decides.
    """
    values = {"min_age_s": min_age_s, "many": MANY_TRANSACTIONS}
    with connection.cursor(row_factory=class_row(VacuumBlocker)) as cursor:
        return cursor.execute(statement("catalog", "oldest_vacuum_blocker"), values).fetchone()
