"""Items that another program has in process: the runbook's own workers share the queue, without leases."""

from __future__ import annotations

import time
from dataclasses import dataclass

from ragops.playbook.tables import Tables
from ragops.postgres.connection import Connection
from ragops.postgres.taken_items import TakenItem, return_items, taken_items

# Nobody knows whether such a program still lives. One that has not touched an item for this long, while a fleet
# watched, has left it.
LEFT_AFTER_S = 600.0


@dataclass(frozen=True, slots=True)
class Look:
    """What other programs have in process."""

    taken: int
    returned: int = 0
    """Items that nobody has touched for so long that they are pending again."""

    @property
    def notice(self) -> str:
        """Return in words why a fleet may wait, and what to do about it."""
        have = "1 item is" if self.taken == 1 else f"{self.taken:,} items are"
        return (
            f"{have} in process without a lease or claim: another program has taken them, and this command waits "
            "for it. If that program is gone: ragops queue release   (what nobody touches for "
            f"{LEFT_AFTER_S / 60:g} minutes is pending again by itself)"
        )


class OtherPrograms:
    """Watch over items that other programs have taken; only what this process saw unchanged is returned."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._since: dict[TakenItem, float] = {}

    def look(self, connection: Connection) -> Look:
        """Return how many items others have, after those that were left have been returned to the queue."""
        taken, now = taken_items(connection, self._tables), time.monotonic()
        self._since = {item: self._since.get(item, now) for item in taken}
        left = [item for item, since in self._since.items() if now - since >= LEFT_AFTER_S]
        returned = return_items(connection, self._tables, left)
        for item in left:
            del self._since[item]
        return Look(len(taken) - len(left), returned)
