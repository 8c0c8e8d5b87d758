"""The thread that reads and cuts long documents, with its own tokenizer, while the fetcher goes on with others."""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable

from ragops.documents.errors import Missing, Stopped
from ragops.workers.buffer import Pipeline
from ragops.workers.inflight import InFlight
from ragops.workers.preparation import HELD, Preparation

# Bytes of a file or a row. Cutting takes about a second per million characters, so that of ordinary documents one
# holds up the others for no longer than that.
LONG = 1024 * 1024

# Makes a Preparation with a tokenizer of its own, given what takes a document that does not exist.
Prepare = Callable[[Callable[[InFlight, Missing], None]], Preparation]


class LongDocuments:
    """Documents that wait for this thread; they stay in flight, so that the fleet does not end before them."""

    def __init__(self, pipeline: Pipeline, prepare: Prepare) -> None:
        """`prepare` is called with the first document, in this thread: most corpora have no long one."""
        self._pipeline = pipeline
        self._prepare = prepare
        self._changed = threading.Condition()
        self._waiting: deque[tuple[InFlight, int]] = deque()
        self._missing: deque[tuple[InFlight, Missing]] = deque()
        self._is_closed = False

    def put(self, document: InFlight, size: int) -> None:
        """Hand over a document; `size` is that of its source in bytes."""
        document.is_long = True
        with self._changed:
            self._waiting.append((document, size))
            self._changed.notify_all()

    def take_over(self, document: InFlight) -> bool:
        """Take a document whose text turned out long after it was read, as soon as there is room for it."""
        assert document.extracted is not None, "it was read"
        self._pipeline.make_long(document, HELD * sys.getsizeof(document.extracted.text))
        self.put(document, 0)
        return True

    def take_missing(self) -> list[tuple[InFlight, Missing]]:
        """Return the documents that were found to be missing since the last call; they are set aside."""
        with self._changed:
            found, self._missing = list(self._missing), deque()
        return found

    def close(self) -> None:
        """Announce that no more documents come; those that wait are dropped, as only a stop leaves any."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def run(self) -> None:
        """Work until it is closed. Raises what ends the whole fleet."""
        preparation: Preparation | None = None
        try:
            while documents := self._next():
                if preparation is None:
                    preparation = self._prepare(self._set_aside)
                preparation.take_in(documents, {})
                del documents
        except Stopped:
            return
        finally:
            if preparation is not None:
                preparation.close()

    def _next(self) -> list[tuple[InFlight, int]]:
        """Wait for documents; empty once it is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_closed)
            taken, self._waiting = list(self._waiting), deque()
            return [] if self._is_closed else taken

    def _set_aside(self, document: InFlight, reason: Missing) -> None:
        # At once: the fetcher may wait for room that documents in flight take.
        self._pipeline.set_aside(document)
        with self._changed:
            self._missing.append((document, reason))
