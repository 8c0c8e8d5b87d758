"""Items that another program has in process: the runbook's own workers take items without lease and claim."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ragops.playbook.tables import Tables
from ragops.postgres.connection import Connection
from ragops.postgres.statements import identifiers_of, statement

# Items that are watched at a time.
MOST_TAKEN = 10_000


class TakenItem(NamedTuple):
    """An item that another program has in process. Place and version are those of its row."""

    id: Any
    place: str
    version: str


def taken_items(connection: Connection, tables: Tables) -> list[TakenItem]:
    """Return the items that are in process without lease and claim."""
    query = statement("queue", "taken_by_others", identifiers_of(tables))
    return [TakenItem(*row) for row in connection.execute(query, {"limit": MOST_TAKEN}).fetchall()]


def return_items(connection: Connection, tables: Tables, items: Sequence[TakenItem]) -> int:
    """Put those of the items back into the queue whose rows are unchanged; return their number."""
    if not items:
        return 0
    ids, places, versions = map(list, zip(*items, strict=True))
    query = statement("queue", "return_unchanged", identifiers_of(tables))
    return connection.execute(query, {"ids": ids, "places": places, "versions": versions}).rowcount


def return_all_items(connection: Connection, tables: Tables) -> int:
    """Put every item that is in process without lease and claim back into the queue; return their number."""
    return connection.execute(statement("queue", "return_all", identifiers_of(tables))).rowcount
