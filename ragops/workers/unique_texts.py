"""Deduplication: every distinct text is embedded once, and its vector goes to all documents that have it."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Sequence

from ragops.embedder.client import TokenIds
from ragops.workers.inflight import InFlight, UniqueText, UnitVector
from ragops.workers.queues import POLL_S

# Without a cache on disk, equal texts that come later find the latest vectors here: about 10,000 vectors
# of 384 dimensions, little beside what one child takes.
RECENT_BYTES = 16 * 1024 * 1024
# Vectors that may wait for the cache's disk, before the fetcher has to wait for it too.
MOST_UNSAVED = 4096


class UniqueTexts:
    """State of the texts in flight, and the vectors that were computed last.

    The caller holds the lock of `changed`. A vector stays here until `forget`, when the cache on disk has it,
    so that a text is never embedded again in between; with `keeps_recent` there is no cache, and the oldest go.
    """

    def __init__(self, changed: threading.Condition, *, keeps_recent: bool) -> None:
        self._changed = changed
        self._keeps_recent = keeps_recent
        self._in_flight: dict[bytes, UniqueText] = {}
        self._recent: OrderedDict[bytes, UnitVector] = OrderedDict()
        self._unsaved: list[bytes] = []
        self._is_ended = False

    @property
    def are_behind(self) -> bool:
        """Whether the cache on disk does not keep up."""
        return len(self._unsaved) > MOST_UNSAVED

    def admit(self, document: InFlight, texts: Sequence[tuple[bytes, TokenIds]]) -> list[UniqueText]:
        """Give a document the vectors that are known; return its texts that are not in flight yet."""
        new: list[UniqueText] = []
        document.vectors = [None] * len(texts)
        document.missing = len(texts)
        for number, (key, ids) in enumerate(texts):
            if (known := self._recent.get(key)) is not None:
                document.vectors[number] = known
                document.missing -= 1
            elif (text := self._in_flight.get(key)) is not None:
                text.wanted_by.append((document, number))
            else:
                self._in_flight[key] = text = UniqueText(key, ids, [(document, number)])
                new.append(text)
        return new

    def resolve(self, text: UniqueText, vector: UnitVector, *, is_new: bool) -> None:
        """Give all documents that have the text its vector; a new one is kept for those that come later."""
        self._in_flight.pop(text.key, None)
        if is_new:
            self._recent[text.key] = vector
            if not self._keeps_recent:
                self._unsaved.append(text.key)
            elif len(self._recent) * vector.nbytes > RECENT_BYTES:
                self._recent.popitem(last=False)
        for document, number in text.wanted_by:
            if document.vectors[number] is None:
                document.vectors[number] = vector
                document.missing -= 1

    def drop(self, text: UniqueText) -> None:
        """Let a text go without a vector: a document that comes to want it later has it embedded."""
        self._in_flight.pop(text.key, None)

    def take_unsaved(self, *, limit: int, within_s: float) -> list[tuple[bytes, UnitVector]]:
        """Return up to `limit` vectors that the cache lacks, as soon as there are as many or after `within_s`.

        Empty once no more come.
        """
        due_at = time.monotonic() + within_s
        while len(self._unsaved) < limit and not self._is_ended:
            if self._unsaved and time.monotonic() >= due_at:
                break
            self._changed.wait(POLL_S)
        unsaved, self._unsaved = self._unsaved[:limit], self._unsaved[limit:]
        return [(key, self._recent[key]) for key in unsaved]

    def forget(self, keys: Iterable[bytes]) -> None:
        """Let vectors go that the cache has now."""
        for key in keys:
            self._recent.pop(key, None)

    def end(self) -> None:
        """Announce that no more vectors come."""
        self._is_ended = True
        self._changed.notify_all()
