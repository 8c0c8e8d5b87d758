"""The intake: claims, reads and cuts ahead of the workers, and hands out each distinct text once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ragops.documents.errors import Unreadable
from ragops.documents.extraction import Extracted
from ragops.playbook.tables import Tables
from ragops.postgres.connection import Connection
from ragops.postgres.queue import Claim, Cursor, Item, Queue
from ragops.workers.buffer import REQUEST_TOKENS, Pipeline
from ragops.workers.cache import VectorCache
from ragops.workers.database import Database
from ragops.workers.inflight import InFlight, UniqueText
from ragops.workers.sources import Documents
from ragops.workers.state import Stop
from ragops.workers.tokenizer import Tokenizer

IDLE_S = 0.3
SMALLEST_REQUEST = 512


class Fetcher:
    """One thread of the fleet: from the queue to requests for the workers."""

    def __init__(
        self,
        pipeline: Pipeline,
        database: Database,
        tables: Tables,
        documents: Documents,
        *,
        stop: Stop,
        claimant: str,
        lease_s: float,
        workers: int,
        last_id: Any = None,
        open_items: int | None = None,
        cache: VectorCache | None = None,
    ) -> None:
        self._pipeline = pipeline
        self._database = database
        self._tables = tables
        self._documents = documents
        self._stop = stop
        self._claimant = claimant
        self._lease_s = lease_s
        self._workers = workers
        self._last_id = last_id
        self._left = open_items
        self._cache = cache
        self._cursor: Cursor | None = None

    def run(self, tokenizer: Tokenizer, fingerprint: str) -> None:
        """Work until nothing is left to claim or a stop is asked for. Raises what ends the whole fleet."""
        self._key = fingerprint.encode()
        # Files take threads of their own: a parser in its child process must not hold up the next file.
        with ThreadPoolExecutor(self._workers + 1, thread_name_prefix="extract") as pool:
            try:
                while self._pipeline.wait_for_room():
                    claim = self._database.run(self._claim)
                    if claim is not None:
                        self._pipeline.hold(claim)
                        self._take(claim, tokenizer, pool)
                    elif not self._wait_for_others():
                        return
            finally:
                pool.shutdown(wait=False, cancel_futures=True)
                if self._cache is not None:
                    self._cache.close()

    def _claim(self, connection: Connection) -> Claim | None:
        size = claim_size(self._pipeline.claim_size, open_items=self._left, smallest=self._pipeline.smallest_claim)
        claim = self._claim_after(connection, self._cursor, size)
        if claim is None and self._cursor is not None:
            # Nothing behind the mark: items before it may have come back to the queue.
            claim = self._claim_after(connection, None, size)
        self._cursor = claim.cursor if claim is not None and len(claim.items) == size else None
        if claim is not None and self._left is not None:
            self._left -= len(claim.items)
        return claim

    def _claim_after(self, connection: Connection, cursor: Cursor | None, size: int) -> Claim | None:
        return Queue(connection, self._tables).claim(
            size=size,
            worker=self._claimant,
            lease_s=self._lease_s,
            last_id=self._last_id,
            after=cursor,
        )

    def _wait_for_others(self) -> bool:
        """False when no item is open any more; else wait a little: another worker's item may come back."""
        if not self._pipeline.wait_until_empty(IDLE_S):
            return True
        pending, processing = self._database.run(self._open_items)
        if pending + processing == 0:
            return False
        self._stop.requested.wait(IDLE_S)
        return True

    def _open_items(self, connection: Connection) -> tuple[int, int]:
        queue = Queue(connection, self._tables)
        return queue.open_items(phase=queue.gate(), last_id=self._last_id)

    def _take(self, claim: Claim, tokenizer: Tokenizer, pool: ThreadPoolExecutor) -> None:
        readable: list[tuple[InFlight, Extracted]] = []
        for item, read in self._read(claim, pool):
            document = InFlight(item, claim)
            if isinstance(read, Unreadable):
                self._pipeline.refuse(document, read.reason)
            else:
                readable.append((document, read))
        prepared = tokenizer.prepare([(document.item, read) for document, read in readable])
        admitted = []
        for (document, _), found in zip(readable, prepared, strict=True):
            if isinstance(found, Unreadable):
                self._pipeline.refuse(document, found.reason)
            else:
                document.prepared = found
                admitted.append((document, [(self._key_of(ids.tobytes()), ids) for ids in found.ids]))
        pieces = self._pipeline.admit(admitted)
        self._pipeline.enqueue(requests_of(self._without_known(pieces), workers=self._workers))

    def _read(self, claim: Claim, pool: ThreadPoolExecutor) -> Iterator[tuple[Item, Extracted | Unreadable]]:
        texts = self._database.run(lambda c: self._documents.fetch(c, claim.items))
        extract = self._documents.extract
        if self._documents.are_rows:
            return ((item, extract(item, texts)) for item in claim.items)
        return zip(claim.items, pool.map(lambda item: extract(item, texts), claim.items), strict=True)

    def _key_of(self, text: bytes) -> bytes:
        """What a text is known by: the same ids in the same vector space have the same vector."""
        return hashlib.blake2b(text, digest_size=16, key=self._key).digest()

    def _without_known(self, pieces: list[UniqueText]) -> list[UniqueText]:
        """The texts that must be embedded; the others get their vector from the cache at once."""
        if self._cache is None or not pieces:
            return pieces
        known = self._cache.get([piece.key for piece in pieces])
        if known:
            self._pipeline.deliver([(piece, known[piece.key]) for piece in pieces if piece.key in known], [])
        return [piece for piece in pieces if piece.key not in known]


def claim_size(wanted: int, *, open_items: int | None, smallest: int = 1) -> int:
    """Items a claim: as wanted, or less where a quarter of what is left is less, so that others find work too."""
    return wanted if open_items is None else max(1, min(wanted, max(smallest, -(-open_items // 4))))


def requests_of(pieces: Sequence[UniqueText], *, workers: int) -> Iterator[list[UniqueText]]:
    """Requests of bounded size, texts of like length together; a short claim is spread over all workers.

    Every token of a batch attends to every other: a long text would drag short ones along.
    """
    share = -(-sum(len(piece.ids) for piece in pieces) // workers)
    limit = min(REQUEST_TOKENS, max(SMALLEST_REQUEST, share))
    request: list[UniqueText] = []
    tokens = 0
    for piece in sorted(pieces, key=lambda piece: len(piece.ids)):
        if request and tokens + len(piece.ids) > limit:
            yield request
            request, tokens = [], 0
        request.append(piece)
        tokens += len(piece.ids)
    if request:
        yield request
