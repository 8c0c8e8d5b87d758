"""The buffer between the stages of a fleet: documents in flight, each distinct text of theirs once.

    fetcher ─▶ requests ─▶ workers ─▶ finished ─▶ completer
                                   └▶ unsaved ─▶ cache writer

The fetcher claims and cuts ahead, workers embed requests, the completer stores what is finished. Everything is
bounded by the documents in flight and by their bytes: the fetcher waits while enough is queued or too much is not
stored yet. Long documents take a way beside the fetcher (`long_documents`), with their own room and requests.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence

from ragops.embedder.client import TokenIds
from ragops.postgres.queue import Claim
from ragops.workers.claims import Claims
from ragops.workers.inflight import InFlight, UniqueText, UnitVector
from ragops.workers.queues import POLL_S, FinishedQueue, RequestQueue
from ragops.workers.room import Room
from ragops.workers.state import Stats, Stop
from ragops.workers.unique_texts import UniqueTexts

# Documents in flight, in claims: how far the fleet runs ahead of a slow database.
UNSTORED_CLAIMS = 4


class Pipeline:
    """Shared by all threads of a fleet; every method is safe to call from any of them.

    One condition guards all parts: a delivered vector changes texts, requests and finished documents at once.
    """

    def __init__(self, *, workers: int, batch_size: int, stop: Stop, stats: Stats, keeps_recent: bool) -> None:
        """`keeps_recent`: there is no cache on disk, so some vectors are kept in memory."""
        self._changed = threading.Condition()
        self._stop = stop
        self._stats = stats
        self._set_aside = 0
        self._room = Room()
        self._claims = Claims(batch_size=batch_size)
        self._texts = UniqueTexts(self._changed, keeps_recent=keeps_recent)
        self._requests = RequestQueue(self._changed, stop=stop, workers=workers)
        self._finished = FinishedQueue(self._changed, stop=stop)

    # Progress and leases: the controller's thread.

    @property
    def seen(self) -> int:
        """Documents that are stored, failed, or embedded and about to be stored."""
        with self._changed:
            finished = self._claims.in_flight - self._finished.expected - self._set_aside
            return self._stats.completed + self._stats.failed + finished

    def held_claims(self) -> list[Claim]:
        """Return the claims of which something is not stored yet."""
        with self._changed:
            return self._claims.held()

    # The fetcher's side.

    @property
    def claim_size(self) -> int:
        """Items to claim next."""
        with self._changed:
            return self._claims.next_size

    @property
    def smallest_claim(self) -> int:
        """Items below which a claim is not worth its round trip."""
        with self._changed:
            return self._claims.smallest_size

    def wait_for_room(self) -> bool:
        """Wait until more is to be claimed; False once a stop was requested."""
        with self._changed:
            unstored = UNSTORED_CLAIMS * self._claims.next_size
            while not self._stop.requested.is_set():
                is_behind = self._claims.in_flight - self._set_aside > unstored or self._texts.are_behind
                if not (self._requests.is_full or self._room.is_full or is_behind):
                    return True
                self._changed.wait(POLL_S)
        return False

    def wait_until_empty(self, timeout_s: float) -> bool:
        """Wait up to `timeout_s` until everything in flight is stored; return whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: self._claims.in_flight == 0, timeout_s)

    def hold(self, claim: Claim) -> None:
        """Put a new claim in flight: its lease is extended from now on."""
        with self._changed:
            self._claims.add(claim)
            self._finished.expected += len(claim.items)

    def reserve(self, documents: Sequence[tuple[InFlight, int]]) -> int:
        """Wait for room for the first of the documents, each with its bytes; return how many have room now.

        0 once a stop was requested. One that is larger than all of the room waits until no other takes any.
        """
        with self._changed:
            while not self._stop.requested.is_set():
                count = 0
                for document, weight in documents:
                    if not self._room.take(document, weight):
                        break
                    count += 1
                if count:
                    return count
                self._changed.wait(POLL_S)
        return 0

    def weigh(self, document: InFlight, weight: int) -> None:
        """Note that a document takes other room than it was given."""
        with self._changed:
            self._room.weigh(document, weight)

    def make_long(self, document: InFlight, weight: int) -> None:
        """Move a document that has been read among the long ones, as soon as they have room for its bytes."""
        with self._changed:
            self._room.weigh(document, 0)
            document.is_long = True
            self._changed.notify_all()
            while not (self._room.take(document, weight) or self._stop.requested.is_set()):
                self._changed.wait(POLL_S)

    def admit(
        self, documents: Sequence[tuple[InFlight, Sequence[tuple[bytes, TokenIds]], int]]
    ) -> list[UniqueText]:
        """Admit documents, each with a text per chunk as (key, token ids) and its bytes; return the new texts.

        Many documents at once: the lock is contended by every other thread.
        """
        new: list[UniqueText] = []
        with self._changed:
            for document, texts, weight in documents:
                self._room.weigh(document, weight)
                new += self._texts.admit(document, texts)
                if document.missing == 0:
                    self._finished.put(document)
        self._stats.count(reused=sum(len(texts) for _, texts, _ in documents) - len(new))
        return new

    def refuse(self, document: InFlight, reason: str) -> None:
        """Fail a document before any of its texts was embedded."""
        with self._changed:
            self._lighten(document)
            document.failure = reason
            self._finished.put(document)

    def _lighten(self, document: InFlight) -> None:
        """Let go what a document takes that will not be stored."""
        document.drop_contents()
        self._room.weigh(document, 0)

    def set_aside(self, document: InFlight) -> None:
        """Let a document wait for a judgement: it stays in flight, takes no room, and nobody waits for it."""
        with self._changed:
            self._lighten(document)
            self._set_aside += 1
            self._finished.expected -= 1
            self._changed.notify_all()

    def refuse_set_aside(self, document: InFlight, reason: str) -> None:
        """Fail a document that was set aside."""
        with self._changed:
            self._set_aside -= 1
            self._finished.expected += 1
            document.failure = reason
            self._finished.put(document)

    def enqueue(self, requests: Iterable[list[UniqueText]], *, is_long: bool = False) -> None:
        """Put requests into the queue, behind those that lie there; long documents' take turns with the others."""
        with self._changed:
            self._requests.put(requests, is_long=is_long)

    def close(self) -> None:
        """Announce that nothing more will be enqueued."""
        with self._changed:
            self._requests.close()

    # The workers' side.

    def next_request(self) -> list[UniqueText] | None:
        """Wait for texts to embed; None if none are left to come or a stop was requested."""
        with self._changed:
            while (request := self._requests.take()) is not None:
                # Their documents may have failed since, by another text.
                wanted = [text for text in request if text.is_wanted]
                for text in request:
                    if not text.is_wanted:
                        self._texts.drop(text)
                if wanted:
                    return wanted
        return None

    def deliver(
        self,
        done: Sequence[tuple[UniqueText, UnitVector]],
        failed: Sequence[UniqueText],
        *,
        worker: str = "",
        seconds: float = 0.0,
    ) -> None:
        """Hand vectors to every document that waits for them. `worker` is empty for vectors of the cache."""
        tokens = sum(len(text.ids) for text, _ in done) or 1
        with self._changed:
            for text, vector in done:
                self._texts.resolve(text, vector, is_new=bool(worker))
                # The time of a request is shared by its tokens; a text that several documents have counts once.
                text.wanted_by[0][0].milliseconds += seconds * 1000 * len(text.ids) / tokens
                for document, _ in text.wanted_by:
                    document.worker = worker or document.worker
                    if document.missing == 0:
                        self._finished.put(document)
            for text in failed:
                self._fail(text, worker)
            self._changed.notify_all()
        if worker:
            self._stats.count(embedded=len(done))
        else:
            self._stats.count(reused=len(done))

    def _fail(self, text: UniqueText, worker: str) -> None:
        if text.reason is None and text.is_wanted:
            # The worker passed it over because its documents had failed; another document came meanwhile.
            self._requests.put_first(text)
            return
        text.fail_documents()
        self._texts.drop(text)
        for document, _ in text.wanted_by:
            document.worker = worker
            self._finished.put(document)

    # The completer's side.

    def take_finished(self, *, limit: int, within_s: float) -> list[InFlight]:
        """Wait for finished documents as `FinishedQueue.take` does; empty once no more come."""
        with self._changed:
            return self._finished.take(limit=limit, within_s=within_s)

    def give_up(self, document: InFlight) -> None:
        """Let go the contents of a document that the database refuses: the fetcher may wait for its room."""
        with self._changed:
            self._lighten(document)
            self._changed.notify_all()

    def wait_for_more(self, timeout_s: float) -> bool:
        """Wait up to `timeout_s` for documents that are finished or will be; return whether there are any."""
        with self._changed:
            return self._finished.wait_for_more(timeout_s)

    def settle(self, documents: Sequence[InFlight]) -> None:
        """Take documents out of flight that are stored, failed or dropped."""
        with self._changed:
            for document in documents:
                # A thread may keep its last document for long.
                self._lighten(document)
            self._claims.settle(documents, now=time.monotonic())
            self._changed.notify_all()

    def end(self) -> None:
        """Announce that nothing more will be finished."""
        with self._changed:
            self._finished.end()
            self._texts.end()

    # The cache writer's side.

    def take_unsaved(self, *, limit: int, within_s: float) -> list[tuple[bytes, UnitVector]]:
        """Wait for vectors that the cache lacks, as `UniqueTexts.take_unsaved` does; empty once no more come."""
        with self._changed:
            return self._texts.take_unsaved(limit=limit, within_s=within_s)

    def forget(self, keys: Iterable[bytes]) -> None:
        """Let vectors go that the cache has now."""
        with self._changed:
            self._texts.forget(keys)
