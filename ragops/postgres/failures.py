"""Failed items of the queue: in groups by reason, one by one, and excluded from the count."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ragops.documents.reasons import FailureGroup, grouped
from ragops.playbook.tables import Tables
from ragops.postgres.connection import Connection, fetch_row, transaction
from ragops.postgres.encodings import storable
from ragops.postgres.statements import Statement, identifiers_of, statement

# Rows that the client holds at a time while it reads a long queue.
BLOCK_ROWS = 5_000
EXAMPLES = 3
UNLIMITED = 1_000_000


class FailedItem(NamedTuple):
    """One failed item; `reason` is None if another tool marked it."""

    location: str
    reason: str | None


@dataclass
class Exclusion:
    """The items that a pattern excludes."""

    pattern: str
    failed: int = 0
    pending: int = 0
    examples: list[str] = field(default_factory=list)

    @property
    def items(self) -> int:
        return self.failed + self.pending

    def __str__(self) -> str:
        return (
            f"{self.failed:,} failed and {self.pending:,} pending items match {self.pattern!r}: "
            f"{', '.join(self.examples)}" + (", …" if self.items > len(self.examples) else "")
        )

    def to_json(self) -> dict[str, object]:
        return {"pattern": self.pattern, "failed": self.failed, "pending": self.pending}


class Failures:
    """Statements on the failed items of the mapped queue, over one connection."""

    def __init__(self, connection: Connection, tables: Tables) -> None:
        self._connection = connection
        self._identifiers = identifiers_of(tables)

    def _sql(self, name: str) -> Statement:
        return statement("queue", name, self._identifiers)

    def groups(self) -> tuple[FailureGroup, ...]:
        """Return all failures by reason, the largest group first; in bounded memory, however many there are."""
        return grouped(self._rows("reasons"))

    def items(self, *, limit: int | None = None) -> list[FailedItem]:
        """Return the first failed items with their reasons; all of them without a limit."""
        rows = self._connection.execute(self._sql("failures"), {"limit": limit}).fetchall()
        return [FailedItem(*row) for row in rows]

    def excluded(self, *, limit: int | None = None) -> list[FailedItem]:
        """Return the first excluded items; all of them without a limit."""
        rows = self._connection.execute(self._sql("excluded"), {"limit": limit}).fetchall()
        return [FailedItem(*row) for row in rows]

    def excluded_by(self, pattern: str) -> bool:
        """Return whether a pattern has excluded items before."""
        values = {"pattern": storable(self._connection, pattern)}
        return bool(fetch_row(self._connection, self._sql("excluded_by"), values)[0])

    def frequent_suffix(self) -> tuple[str, int] | None:
        """Return the suffix that most failed items have, and their number; None if none has one."""
        row = self._connection.execute(self._sql("frequent_suffix")).fetchone()
        return (row[0], row[1]) if row else None

    def matching(self, pattern: str, matches: Callable[[str], bool]) -> Exclusion:
        """Return what `exclude` would exclude."""
        found = Exclusion(pattern)
        for _ in self._matching(found, matches):
            pass
        return found

    def exclude(self, pattern: str, matches: Callable[[str], bool], *, limit: int | None) -> Exclusion:
        """Exclude the failed and pending items whose location matches, in the caller's transaction.

        `limit` is how many characters the queue's column for reasons holds.
        """
        found, ids = Exclusion(pattern), list[Any]()
        values = {"pattern": storable(self._connection, pattern), "limit": limit or UNLIMITED}

        def act() -> None:
            self._connection.execute(self._sql("exclude"), {**values, "ids": ids})
            ids.clear()

        # The cursor sees the rows as they were when it was opened.
        for id in self._matching(found, matches):
            ids.append(id)
            if len(ids) == BLOCK_ROWS:
                act()
        if ids:
            act()
        return found

    def _matching(self, found: Exclusion, matches: Callable[[str], bool]) -> Iterator[Any]:
        for id, location, is_failed in self._rows("candidates"):
            if not matches(location):
                continue
            if is_failed:
                found.failed += 1
            else:
                found.pending += 1
            if len(found.examples) < EXAMPLES:
                found.examples.append(location)
            yield id

    def _rows(self, name: str) -> Iterator[Any]:
        """Yield rows through a cursor on the server, which needs a transaction."""
        with transaction(self._connection, is_long=True), self._connection.cursor(name="failures") as cursor:
            cursor.itersize = BLOCK_ROWS
            yield from cursor.execute(self._sql(name))
