"""Claim documents, read and cut them ahead of the workers, and enqueue each distinct text once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ragops.documents.errors import Missing, Stopped
from ragops.documents.states import FileState
from ragops.errors import RagopsError
from ragops.playbook.tables import Tables
from ragops.postgres.connection import Connection
from ragops.postgres.file_states import present_seeding, read_states
from ragops.postgres.queue import Claim, Cursor, Item, Queue
from ragops.workers.buffer import Pipeline
from ragops.workers.database import Database
from ragops.workers.inflight import InFlight
from ragops.workers.long_documents import LONG, LongDocuments
from ragops.workers.missing import MissingDocuments
from ragops.workers.preparation import Preparation, Sized
from ragops.workers.sources import Documents
from ragops.workers.state import Stop

# Pause between two attempts to claim while other workers hold the last items.
IDLE_S = 0.3
# Bytes of a row up to which its text comes with its claim's, of 1,000 rows at most; a longer one comes alone.
SHORT_ROW = 64 * 1024


class Fetcher:
    """One thread of the fleet: from the queue to requests for the workers."""

    def __init__(
        self,
        pipeline: Pipeline,
        database: Database,
        tables: Tables,
        documents: Documents,
        long: LongDocuments,
        *,
        prepare: Callable[[Callable[[InFlight, Missing], None], Callable[[InFlight], None]], Preparation],
        stop: Stop,
        claimant: str,
        lease_s: float,
        generation: int,
        bound: Cursor | None = None,
        open_items: int | None = None,
    ) -> None:
        """`prepare` makes what reads and cuts the ordinary documents, given what takes a missing one and what sees
        one that was read; the long ones go to `long`.

        `generation` is that of the filling whose source `documents` reads. `bound` is the last place to claim;
        `open_items`, if known, makes claims smaller towards the end.
        """
        self._pipeline = pipeline
        self._database = database
        self._tables = tables
        self._documents = documents
        self._stop = stop
        self._claimant = claimant
        self._lease_s = lease_s
        self._generation = generation
        self._bound = bound
        self._left = open_items
        self._cursor: Cursor | None = None
        self._missing = MissingDocuments(pipeline, database, tables, documents)
        self._long = long
        self._preparation = prepare(self._missing.add, lambda document: self._missing.saw(document.item.location))
        self._queue_name: str | None = None
        self._seeding: int | None = None
        self._knows_seeding = False

    def run(self) -> None:
        """Work until nothing is left to claim or a stop is requested. Raises what ends the whole fleet.

        Among that is RagopsError when the queue was emptied or filled again: the new items are not this fleet's.
        """
        try:
            self._fetch_all()
        except Stopped:
            # In the middle of a document; it goes back to the queue with everything else that is in flight.
            return
        finally:
            self._long.close()
            self._pipeline.close()
            self._preparation.close()

    def _fetch_all(self) -> None:
        while self._pipeline.wait_for_room():
            for document, reason in self._long.take_missing():
                self._missing.add_aside(document, reason)
            self._missing.judge()
            claim = self._database.run(self._claim)
            if claim is not None:
                self._pipeline.hold(claim)
                self._fetch(claim)
            elif self._missing:
                self._missing.judge(is_last=True)
            elif not self._wait_for_others():
                return

    def _claim(self, connection: Connection) -> Claim | None:
        """Claim behind the last claim: what was completed before it leaves dead index entries, read each time."""
        queue = Queue(connection, self._tables)
        if self._queue_name is None:
            self._queue_name = queue.filling().queue
        size = claim_size(self._pipeline.claim_size, open_items=self._left, smallest=self._pipeline.smallest_claim)

        def claim_after(cursor: Cursor | None) -> Claim | None:
            return queue.claim(
                size=size,
                worker=self._claimant,
                lease_s=self._lease_s,
                generation=self._generation,
                queue=self._queue_name,
                bound=self._bound,
                after=cursor,
            )

        claim = claim_after(self._cursor)
        if claim is None and self._cursor is not None:
            # Nothing is left behind the cursor: items before it may have come back to the queue.
            claim = claim_after(None)
        # A short claim has reached the end of the queue: the next one looks for items that came back.
        self._cursor = claim.cursor if claim is not None and len(claim.items) == size else None
        if claim is not None and self._left is not None:
            self._left -= len(claim.items)
        return claim

    def _wait_for_others(self) -> bool:
        """Wait a little for items of other workers that may come back; False if no item is open any more."""
        # Before what is in flight is waited for: the new filling has taken it away.
        self._database.run(self._check_filling)
        if not self._pipeline.wait_until_empty(IDLE_S):
            return True

        def open_items(connection: Connection) -> tuple[int, int]:
            queue = Queue(connection, self._tables)
            return queue.open_items(phase=queue.gate(), bound=self._bound)

        if sum(self._database.run(open_items)) == 0:
            return False
        self._stop.requested.wait(IDLE_S)
        return True

    def _check_filling(self, connection: Connection) -> None:
        """Raise RagopsError when the queue's items are others than those that this fleet was started for."""
        queue = Queue(connection, self._tables)
        filling = queue.filling()
        if filling.generation == self._generation:
            return
        # Of a queue that an older version filled, or of a database that was restored, the time is not known.
        since = f", at {filling.since:%Y-%m-%d %H:%M:%S %Z}" if filling.since else ""
        what = "filled again" if queue.is_filled() else "emptied"
        origin = f", from {filling.origin}" if filling.source and queue.is_filled() else ""
        if filling.generation < self._generation:
            # Numbers only rise.
            what, origin = "set back, by a restore, a failover or by hand,", ""
        raise RagopsError(
            f"the queue was {what} (generation {filling.generation}{since}{origin}) since this command started; "
            "nothing of its new items was taken",
            where=filling.queue,
            actual=f"generation {filling.generation}",
            expected=f"generation {self._generation}, which this command was started for",
            hint="ragops embed   (it reads the queue as it is now)",
        )

    def _fetch(self, claim: Claim) -> None:
        states = self._database.run(lambda connection: self._states(connection, claim.items))
        documents = [InFlight(item, claim, states=states) for item in claim.items]
        rows = self._database.run(
            lambda connection: self._documents.fetch(connection, claim.items, most_bytes=SHORT_ROW)
        )
        ordinary: list[Sized] = []
        for document, size in zip(documents, self._preparation.sizes(documents, rows), strict=True):
            if size > LONG:
                self._long.put(document, size)
            else:
                ordinary.append((document, size))
        self._preparation.take_in(ordinary, rows)

    def _states(self, connection: Connection, items: Sequence[Item]) -> dict[str, FileState] | None:
        """Return how the files were when they were queued; None if that is not known, or does not matter."""
        if not self._documents.notices_changes:
            return None
        if not self._knows_seeding:
            self._seeding, self._knows_seeding = present_seeding(connection, self._tables), True
        if self._seeding is None:
            return None
        return read_states(connection, self._seeding, [item.location for item in items])


def claim_size(wanted: int, *, open_items: int | None, smallest: int = 1) -> int:
    """Return the size of a claim: `wanted`, capped at a quarter of what is left so that others get a share.

    Not less than `smallest`, which is stored in no time; `open_items` may be wrong, as others add and claim too.
    """
    return wanted if open_items is None else max(1, min(wanted, max(smallest, -(-open_items // 4))))
