"""The two queues of a fleet: requests that workers take, finished documents that the completer takes."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable

from ragops.workers.inflight import InFlight, UniqueText
from ragops.workers.state import Stop

# A request stays well below its deadline even in a build that makes 200 tokens per second, and neither
# progress nor an immediate stop waits long for one.
REQUEST_TOKENS = 4096
# Requests per worker that lie ready, so that no child waits for a claim or a file.
REQUESTS_AHEAD = 2
# Bytes of documents that are stored in one transaction: COPY takes as much again for what it sends.
STORE_BYTES = 32 * 1024 * 1024
# A stop is a separate event, which does not notify the condition: waits check it this often.
POLL_S = 0.1


class RequestQueue:
    """Requests that lie ready for the workers. The caller holds the lock of `changed`."""

    def __init__(self, changed: threading.Condition, *, stop: Stop, workers: int) -> None:
        self._changed = changed
        self._stop = stop
        self._requests: deque[list[UniqueText]] = deque()
        # Of long documents: hours of work, which others do not wait for.
        self._long: deque[list[UniqueText]] = deque()
        self._is_long_next = False
        self._tokens = 0
        self._enough = workers * REQUESTS_AHEAD * REQUEST_TOKENS
        self._is_closed = False

    @property
    def is_full(self) -> bool:
        """Whether enough lies ready for every worker."""
        return self._tokens >= self._enough

    def put(self, requests: Iterable[list[UniqueText]], *, is_long: bool = False) -> None:
        for request in requests:
            if is_long:
                self._long.append(request)
                continue
            self._requests.append(request)
            self._tokens += sum(len(text.ids) for text in request)
        self._changed.notify_all()

    def put_first(self, text: UniqueText) -> None:
        """Put one text in front of all others: documents have waited for it already."""
        self._requests.appendleft([text])
        self._tokens += len(text.ids)
        self._changed.notify_all()

    def take(self) -> list[UniqueText] | None:
        """Wait for a request; None if none is left to come or a stop was requested."""
        while not self._stop.requested.is_set():
            if self._long and (self._is_long_next or not self._requests):
                self._is_long_next = False
                return self._long.popleft()
            if self._requests:
                self._is_long_next = True
                request = self._requests.popleft()
                self._tokens -= sum(len(text.ids) for text in request)
                self._changed.notify_all()  # the fetcher may wait for room
                return request
            if self._is_closed:
                return None
            self._changed.wait(POLL_S)
        return None

    def close(self) -> None:
        """Announce that no more requests come; those that lie ready are still taken."""
        self._is_closed = True
        self._changed.notify_all()


class FinishedQueue:
    """Documents that are ready to be stored or failed. The caller holds the lock of `changed`."""

    def __init__(self, changed: threading.Condition, *, stop: Stop) -> None:
        self._changed = changed
        self._stop = stop
        self._documents: list[InFlight] = []
        self._bytes = 0
        self._since = 0.0
        self._is_ended = False
        self.expected = 0
        """Documents that were claimed and are not finished yet."""

    def wait_for_more(self, timeout_s: float) -> bool:
        """Wait up to `timeout_s` for documents that are here or expected; False at once if no more come."""
        due_at = time.monotonic() + timeout_s
        while not self._documents and (self.expected == 0 or self._is_ended):
            if self._is_ended or self._stop.requested.is_set() or time.monotonic() >= due_at:
                return False
            self._changed.wait(POLL_S)
        return True

    def put(self, document: InFlight) -> None:
        """Add a document, unless it is here or gone already: several of its texts may fail it."""
        if document.is_finished:
            return
        document.is_finished = True
        if not self._documents:
            self._since = time.monotonic()
        self._documents.append(document)
        self._bytes += document.weight
        self.expected -= 1

    def take(self, *, limit: int, within_s: float) -> list[InFlight]:
        """Return up to `limit` documents as soon as `limit` are ready or the oldest has waited `within_s`.

        Fewer, and as soon as there are as many, if they take STORE_BYTES together; one that is larger comes alone.
        Returns earlier if no more are expected or a stop was requested; empty once `end` was called.
        """
        while True:
            is_old = time.monotonic() - self._since >= within_s
            is_last = self.expected == 0 or self._is_ended or self._stop.requested.is_set()
            fitting = self._fitting(limit)
            is_enough = len(self._documents) >= limit or fitting < len(self._documents)
            if self._documents and (is_enough or is_old or is_last):
                break
            if self._is_ended:
                return []
            self._changed.wait(POLL_S)
        taken, self._documents = self._documents[:fitting], self._documents[fitting:]
        self._bytes = sum(document.weight for document in self._documents)
        # The age of the rest restarts: it would be due at once otherwise, in a transaction of a few documents.
        self._since = time.monotonic()
        return taken

    def _fitting(self, limit: int) -> int:
        """Return how many of the first `limit` documents take STORE_BYTES together, at least one."""
        if self._bytes <= STORE_BYTES:
            return min(limit, len(self._documents))
        held = 0
        for count, document in enumerate(self._documents[:limit]):
            held += document.weight
            if count and held > STORE_BYTES:
                return count
        return min(limit, len(self._documents))

    def end(self) -> None:
        """Announce that no more documents come; those that are here are still taken."""
        self._is_ended = True
        self._changed.notify_all()
