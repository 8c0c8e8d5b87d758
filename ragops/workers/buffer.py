"""What stands between the stages of a fleet: documents in hand, each distinct text of theirs once.

    intake ─▶ requests ─▶ workers ─▶ finished ─▶ outlet
                                  └▶ fresh ─▶ keeper

The intake claims and cuts ahead, workers embed requests, the outlet stores what is finished. Everything is
bounded by the documents in hand: the intake waits while enough is queued or too much is unstored.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence

from ragops.embedder.client import TokenIds
from ragops.postgres.queue import Claim
from ragops.workers.inflight import InFlight, Throughput, UniqueText, UnitVector
from ragops.workers.state import Stats, Stop

# A request stays well below the deadline even in a build that makes 200 tokens a second, and progress
# and a stop that comes at once never wait long for one.
REQUEST_TOKENS = 4096
REQUESTS_AHEAD = 2
"""Requests a worker that lie ready, so that no child waits for a claim or a file."""
CLAIM_S, SMALLEST_CLAIM_S = 0.25, 0.05
"""A claim is as large as what the fleet embeds and stores in this time, from one to `LARGEST_CLAIM` batches."""
LARGEST_CLAIM = 10
UNSTORED_CLAIMS = 4
"""Documents in hand, in claims: what waits for a slow database."""
UNKEPT_VECTORS = 4096
"""Vectors that wait for the cache's disk."""
# Vectors that stay at hand for equal texts while no cache on disk does it.
RECENT_BYTES = 16 * 1024 * 1024
POLL_S = 0.1


class Pipeline:
    """Shared by all threads of a fleet; every method is safe to call from any of them."""

    def __init__(self, *, workers: int, batch_size: int, stop: Stop, stats: Stats, keeps_recent: bool) -> None:
        """`keeps_recent`: no cache on disk stands behind this, so that some vectors stay in memory."""
        self._changed = threading.Condition()
        self._stop = stop
        self._stats = stats
        self._ahead = workers * REQUESTS_AHEAD * REQUEST_TOKENS
        self._batch_size = batch_size
        self._keeps_recent = keeps_recent
        self._requests: deque[list[UniqueText]] = deque()
        self._queued_tokens = 0
        self._flying: dict[bytes, UniqueText] = {}
        self._recent: OrderedDict[bytes, UnitVector] = OrderedDict()
        self._fresh: list[bytes] = []
        self._claims: dict[uuid.UUID, tuple[Claim, int]] = {}
        self._in_flight = self._waiting = 0
        self._finished: list[InFlight] = []
        self._finished_at = 0.0
        self._throughput = Throughput()
        self._is_closed = self._is_ending = False

    @property
    def claim_size(self) -> int:
        """Items to claim next: a batch, or more where a batch is embedded in no time."""
        with self._changed:
            wanted = int(self._throughput.docs_per_s * CLAIM_S)
        return min(max(self._batch_size, wanted), LARGEST_CLAIM * self._batch_size)

    @property
    def smallest_claim(self) -> int:
        """Items that are embedded in no time: to claim fewer only costs claims."""
        with self._changed:
            return max(1, int(self._throughput.docs_per_s * SMALLEST_CLAIM_S))

    @property
    def in_flight(self) -> int:
        """Documents claimed and not stored yet."""
        return self._in_flight

    @property
    def seen(self) -> int:
        """Documents that are stored, failed, or embedded and about to be stored."""
        with self._changed:
            return self._stats.completed + self._stats.failed + self._in_flight - self._waiting

    def held_claims(self) -> list[Claim]:
        """Claims of which something is not stored yet."""
        with self._changed:
            return [claim for claim, _ in self._claims.values()]

    # The intake's side

    def wait_for_room(self) -> bool:
        """Wait until more is to be claimed; False once a stop was asked for."""
        unstored = UNSTORED_CLAIMS * self.claim_size
        with self._changed:
            while not self._stop.requested.is_set():
                is_behind = self._in_flight > unstored or len(self._fresh) > UNKEPT_VECTORS
                if self._queued_tokens < self._ahead and not is_behind:
                    return True
                self._changed.wait(POLL_S)
        return False

    def wait_until_empty(self, timeout_s: float) -> bool:
        """Wait at most so long until everything in hand is stored; whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: self._in_flight == 0, timeout_s)

    def hold(self, claim: Claim) -> None:
        """Take a claim in hand: its lease is extended from now on."""
        with self._changed:
            self._claims[claim.id] = (claim, len(claim.items))
            self._in_flight += len(claim.items)
            self._waiting += len(claim.items)

    def admit(self, documents: Sequence[tuple[InFlight, Sequence[tuple[bytes, TokenIds]]]]) -> list[UniqueText]:
        """Take documents in, with a text for each chunk as (key, token ids); returns the texts nobody has yet."""
        new: list[UniqueText] = []
        with self._changed:
            for document, texts in documents:
                new += self._admit(document, texts)
        self._stats.count(reused=sum(len(texts) for _, texts in documents) - len(new))
        return new

    def _admit(self, document: InFlight, texts: Sequence[tuple[bytes, TokenIds]]) -> list[UniqueText]:
        new: list[UniqueText] = []
        document.vectors = [None] * len(texts)
        document.missing = len(texts)
        for number, (key, ids) in enumerate(texts):
            if (known := self._recent.get(key)) is not None:
                document.vectors[number] = known
                document.missing -= 1
            elif (piece := self._flying.get(key)) is not None:
                piece.wanted_by.append((document, number))
            else:
                self._flying[key] = piece = UniqueText(key, ids, [(document, number)])
                new.append(piece)
        if document.missing == 0:
            self._finish(document)
        return new

    def refuse(self, document: InFlight, reason: str) -> None:
        """Fail a document before any of its texts was embedded."""
        with self._changed:
            document.failure = reason
            self._finish(document)

    def enqueue(self, requests: Iterable[list[UniqueText]]) -> None:
        with self._changed:
            for request in requests:
                self._requests.append(request)
                self._queued_tokens += sum(len(piece.ids) for piece in request)
            self._changed.notify_all()

    def close(self) -> None:
        """Nothing more will be enqueued."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    # The workers' side

    def next_request(self) -> list[UniqueText] | None:
        """Texts to embed; None when there is none to come or a stop was asked for."""
        with self._changed:
            while not self._stop.requested.is_set():
                if self._requests:
                    request = self._requests.popleft()
                    self._queued_tokens -= sum(len(piece.ids) for piece in request)
                    self._changed.notify_all()
                    wanted = [piece for piece in request if piece.is_wanted]
                    for piece in request:
                        if not piece.is_wanted:
                            self._flying.pop(piece.key, None)
                    if wanted:
                        return wanted
                elif self._is_closed:
                    return None
                else:
                    self._changed.wait(POLL_S)
        return None

    def deliver(
        self,
        done: Sequence[tuple[UniqueText, UnitVector]],
        failed: Sequence[UniqueText],
        *,
        worker: str = "",
        seconds: float = 0.0,
    ) -> None:
        """Hand vectors to every document that waits for them. `worker` is empty for what the cache knew."""
        tokens = sum(len(piece.ids) for piece, _ in done) or 1
        with self._changed:
            for piece, vector in done:
                self._flying.pop(piece.key, None)
                self._remember(piece.key, vector, is_fresh=bool(worker))
                share = seconds * 1000 * len(piece.ids) / tokens
                piece.wanted_by[0][0].milliseconds += share
                for document, number in piece.wanted_by:
                    document.worker = worker or document.worker
                    self._take(document, number, vector)
            for piece in failed:
                self._give_up(piece, worker)
            self._changed.notify_all()
        self._stats.count(**({"embedded": len(done)} if worker else {"reused": len(done)}))

    def _give_up(self, piece: UniqueText, worker: str) -> None:
        if piece.reason is None and piece.is_wanted:
            # Passed over because its documents had failed; another one came to want it in the meantime.
            self._requests.appendleft([piece])
            self._queued_tokens += len(piece.ids)
            return
        piece.blame()
        self._flying.pop(piece.key, None)
        for document, _ in piece.wanted_by:
            document.worker = worker
            self._finish(document)

    def _take(self, document: InFlight, number: int, vector: UnitVector) -> None:
        if document.vectors[number] is None:
            document.vectors[number] = vector
            document.missing -= 1
        if document.missing == 0:
            self._finish(document)

    def _finish(self, document: InFlight) -> None:
        if document.is_finished:
            return
        document.is_finished = True
        if not self._finished:
            self._finished_at = time.monotonic()
        self._finished.append(document)
        self._waiting -= 1

    def _remember(self, key: bytes, vector: UnitVector, *, is_fresh: bool) -> None:
        """Keep a vector at hand until the cache has it; without a cache the latest few megabytes."""
        if not is_fresh:
            return
        self._recent[key] = vector
        if not self._keeps_recent:
            self._fresh.append(key)
        elif len(self._recent) * vector.nbytes > RECENT_BYTES:
            self._recent.popitem(last=False)

    # The outlet's side

    def take_finished(self, *, limit: int, within_s: float) -> list[InFlight]:
        """At most `limit` finished documents: once there are as many, the oldest waits so long, or it is the last.

        Empty once nothing will be finished any more.
        """
        with self._changed:
            while not self._is_due(limit, within_s):
                if self._is_ending:
                    return []
                self._changed.wait(POLL_S)
            taken, self._finished = self._finished[:limit], self._finished[limit:]
            self._finished_at = time.monotonic()
            return taken

    def _is_due(self, limit: int, within_s: float) -> bool:
        is_old = time.monotonic() - self._finished_at >= within_s
        is_last = self._waiting == 0 or self._is_ending or self._stop.requested.is_set()
        return bool(self._finished) and (len(self._finished) >= limit or is_old or is_last)

    # The keeper's side

    def take_fresh(self, *, limit: int, within_s: float) -> list[tuple[bytes, UnitVector]]:
        """At most `limit` vectors that the cache has not yet, when there are as many or after `within_s`.

        They stay at hand until `forget`. Empty once no more come.
        """
        due_at = time.monotonic() + within_s
        with self._changed:
            while len(self._fresh) < limit and not self._is_ending:
                if self._fresh and time.monotonic() >= due_at:
                    break
                self._changed.wait(POLL_S)
            fresh, self._fresh = self._fresh[:limit], self._fresh[limit:]
            return [(key, self._recent[key]) for key in fresh]

    def forget(self, keys: Iterable[bytes]) -> None:
        """The cache has these now."""
        with self._changed:
            for key in keys:
                self._recent.pop(key, None)

    def settle(self, documents: Sequence[InFlight]) -> None:
        """These are stored, failed or dropped: nothing of them is in hand any more."""
        with self._changed:
            for document in documents:
                claim, left = self._claims[document.claim.id]
                if left == 1:
                    del self._claims[claim.id]
                else:
                    self._claims[claim.id] = (claim, left - 1)
            self._in_flight -= len(documents)
            self._throughput.add(len(documents), now=time.monotonic())
            self._changed.notify_all()

    def end(self) -> None:
        """Nothing more will be finished."""
        with self._changed:
            self._is_ending = True
            self._changed.notify_all()
