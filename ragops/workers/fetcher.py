"""Claim documents, read and cut them ahead of the workers, and enqueue each distinct text once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from ragops.documents.errors import Missing, Stopped, Unreadable
from ragops.documents.extraction import Extracted
from ragops.documents.states import FileState
from ragops.errors import RagopsError
from ragops.playbook.tables import Tables
from ragops.postgres.connection import Connection
from ragops.postgres.file_states import present_seeding, read_states
from ragops.postgres.queue import Claim, Cursor, Item, Queue
from ragops.workers.buffer import Pipeline
from ragops.workers.cache import VectorCache
from ragops.workers.database import Database
from ragops.workers.inflight import InFlight, UniqueText
from ragops.workers.missing import MissingDocuments
from ragops.workers.packing import pack
from ragops.workers.queues import REQUEST_TOKENS
from ragops.workers.sources import Documents
from ragops.workers.state import Stop
from ragops.workers.tokenizer import Tokenizer

# Pause between two attempts to claim while other workers hold the last items.
IDLE_S = 0.3
# A request of fewer tokens costs more in its round trip to a child than it gains by keeping one more busy.
SMALLEST_REQUEST = 512


class Fetcher:
    """One thread of the fleet: from the queue to requests for the workers."""

    def __init__(
        self,
        pipeline: Pipeline,
        database: Database,
        tables: Tables,
        documents: Documents,
        tokenizer: Tokenizer,
        *,
        fingerprint: str,
        dimensions: int,
        stop: Stop,
        claimant: str,
        lease_s: float,
        workers: int,
        generation: int,
        bound: Cursor | None = None,
        open_items: int | None = None,
        cache: VectorCache | None = None,
    ) -> None:
        """`fingerprint` names the vector space: a text has another key, and another vector, in each of them, which
        has `dimensions`.

        `generation` is that of the filling whose source `documents` reads. `bound` is the last place to claim;
        `open_items`, if known, makes claims smaller towards the end.
        """
        self._pipeline = pipeline
        self._database = database
        self._tables = tables
        self._documents = documents
        self._tokenizer = tokenizer
        self._key = fingerprint.encode()
        self._dimensions = dimensions
        self._stop = stop
        self._claimant = claimant
        self._lease_s = lease_s
        self._workers = workers
        self._generation = generation
        self._bound = bound
        self._left = open_items
        self._cache = cache
        self._cursor: Cursor | None = None
        self._missing = MissingDocuments(pipeline, database, tables, documents)
        self._queue_name: str | None = None
        self._seeding: int | None = None
        self._knows_seeding = False

    def run(self) -> None:
        """Work until nothing is left to claim or a stop is requested. Raises what ends the whole fleet.

        Among that is RagopsError when the queue was emptied or filled again: the new items are not this fleet's.
        """
        # Files are read in more threads: a parser in its child process must not hold up the next file.
        with ThreadPoolExecutor(self._workers + 1, thread_name_prefix="extract") as pool:
            try:
                self._fetch_all(pool)
            except Stopped:
                # In the middle of a document; it goes back to the queue with everything else that is in flight.
                return
            finally:
                self._pipeline.close()
                pool.shutdown(wait=False, cancel_futures=True)
                self._tokenizer.close()
                if self._cache is not None:
                    self._cache.close()

    def _fetch_all(self, pool: ThreadPoolExecutor) -> None:
        while self._pipeline.wait_for_room():
            self._missing.judge()
            claim = self._database.run(self._claim)
            if claim is not None:
                self._pipeline.hold(claim)
                self._fetch(claim, pool)
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

    def _fetch(self, claim: Claim, pool: ThreadPoolExecutor) -> None:
        readable: list[tuple[Item, Extracted]] = []
        for item, extracted in self._read(claim, pool):
            if isinstance(extracted, Missing):
                self._missing.add(InFlight(item, claim), extracted)
            elif isinstance(extracted, Unreadable):
                self._pipeline.refuse(InFlight(item, claim), extracted.reason)
            else:
                self._missing.saw(item.location)
                readable.append((item, extracted))
        prepared = self._tokenizer.prepare([(item.id, extracted) for item, extracted in readable])
        admitted = []
        for (item, extracted), cut in zip(readable, prepared, strict=True):
            if isinstance(cut, Unreadable):
                self._pipeline.refuse(InFlight(item, claim), cut.reason)
            else:
                # The same ids in the same vector space have the same vector. 16 bytes: for 2^32 texts the
                # probability of a collision is 2^-65.
                keys = [hashlib.blake2b(ids.tobytes(), digest_size=16, key=self._key).digest() for ids in cut.ids]
                document = InFlight(item, claim, extracted, cut.chunks, unknown=cut.unknown)
                admitted.append((document, list(zip(keys, cut.ids, strict=True))))
        texts = self._without_known(self._pipeline.admit(admitted))
        self._pipeline.enqueue(requests_of(texts, workers=self._workers))

    def _read(self, claim: Claim, pool: ThreadPoolExecutor) -> Iterator[tuple[Item, Extracted | Unreadable]]:
        texts = self._database.run(lambda connection: self._documents.fetch(connection, claim.items))
        states = self._database.run(lambda connection: self._states(connection, claim.items))
        extract = self._documents.extract
        # Rows need no parser, which is what the threads are for.
        if self._documents.are_rows:
            return ((item, extract(item, texts)) for item in claim.items)
        return zip(claim.items, pool.map(lambda item: extract(item, texts, states), claim.items), strict=True)

    def _states(self, connection: Connection, items: Sequence[Item]) -> dict[str, FileState] | None:
        """Return how the files were when they were queued; None if that is not known, or does not matter."""
        if not self._documents.notices_changes:
            return None
        if not self._knows_seeding:
            self._seeding, self._knows_seeding = present_seeding(connection, self._tables), True
        if self._seeding is None:
            return None
        return read_states(connection, self._seeding, [item.location for item in items])

    def _without_known(self, texts: list[UniqueText]) -> list[UniqueText]:
        """Return the texts that must be embedded; the others get their vector from the cache at once."""
        if self._cache is None or not texts:
            return texts
        known = self._cache.get([text.key for text in texts], dimensions=self._dimensions)
        if known:
            self._pipeline.deliver([(text, known[text.key]) for text in texts if text.key in known], [])
        return [text for text in texts if text.key not in known]


def claim_size(wanted: int, *, open_items: int | None, smallest: int = 1) -> int:
    """Return the size of a claim: `wanted`, capped at a quarter of what is left so that others get a share.

    Not less than `smallest`, which is stored in no time; `open_items` may be wrong, as others add and claim too.
    """
    return wanted if open_items is None else max(1, min(wanted, max(smallest, -(-open_items // 4))))


def requests_of(texts: Sequence[UniqueText], *, workers: int) -> Iterator[list[UniqueText]]:
    """Pack texts into requests for the workers; a short claim is spread over all of them."""
    share = -(-sum(len(text.ids) for text in texts) // workers)
    limit = min(REQUEST_TOKENS, max(SMALLEST_REQUEST, share))
    return pack(texts, tokens_of=lambda text: len(text.ids), limit=limit)
