"""Decide what becomes of items whose vector was not stored, because their row was not as it was read, or held."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from psycopg import sql

from ragops.errors import PlanStale
from ragops.facts import TableFacts
from ragops.postgres.connection import Connection, fetch_row
from ragops.postgres.statements import statement

# How often a row may change between reading and writing before its item fails. A row that is only locked is tried
# for ever. One whose text is another one at each look (an expression with now() or random()) would never be done.
MOST_CHANGES = 10
REFUSED = "the row does not take the vector: its UPDATE changes nothing (a trigger that returns NULL, or a rule)"
CHANGES = (
    f"the row's text or vector was another one each time it was to be written, {MOST_CHANGES} times "
    "(sql: with now() or random(), or another program that writes it all the time)"
)


@dataclass(slots=True)
class Leftovers:
    """What became of items whose vector was not stored, of all targets of a transaction."""

    changed: set[Any] = field(default_factory=set)
    """The row has another text, or another vector, than was read."""
    refused: set[Any] = field(default_factory=set)
    """The row is as it was read, nobody else holds it, and an UPDATE leaves it as it is."""

    def look_at(
        self, connection: Connection, words: Mapping[str, sql.Composable], items: Collection[Any]
    ) -> set[Any]:
        """Return the items whose row is as it was read and not held by another session; lock these rows."""
        rows = connection.execute(statement("rows", "unwritten", words), {"items": list(items)}).fetchall()
        self.changed.update(item for item, is_same in rows if not is_same)
        return {item for item, is_same in rows if is_same}

    def settle(self, connection: Connection, items: Collection[Any]) -> frozenset[Any]:
        """Put the items back into the queue, or fail them; return those that failed."""
        failed = set(self.refused)
        if failed:
            connection.execute(statement("rows", "refuse_items"), {"ids": list(failed), "reason": REFUSED})
        # Held by another session, or gone, which the next look at them finds.
        others = set(items) - failed - self.changed
        if others:
            connection.execute(statement("rows", "return_items"), {"ids": list(others)})
        if self.changed:
            values = {"ids": list(self.changed), "most": MOST_CHANGES, "reason": CHANGES}
            rows = connection.execute(statement("rows", "return_changed"), values).fetchall()
            failed.update(id for id, status in rows if status == "failed")
        return frozenset(failed)


def keep_only(connection: Connection, words: Mapping[str, sql.Composable], items: Collection[Any]) -> None:
    """Take all but some items out of the temporary table, so that they can be stored again."""
    connection.execute(statement("rows", "keep_incoming", words), {"items": list(items)})


def check_same_table(connection: Connection, table: TableFacts) -> None:
    """Raise PlanStale if the table's name belongs to another one now.

    The transaction has written the table of that name, so nobody can rename it before the commit.
    """
    found = fetch_row(connection, statement("rows", "oid_of"), {"name": table.quoted})[0]
    if found != table.oid:
        raise PlanStale(
            f"{table.quoted} is another table now; nothing was written into it",
            actual=f"the table with the oid {found}, planned for {table.oid}: renamed, or made again",
            hint="give the table its name back, then: ragops reset --resume   (for this one: ragops reset --new)",
        )
