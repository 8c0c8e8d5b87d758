"""A pipeline that a test drives: fetcher, worker and completer in its own thread, waits in others."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TypeVar

import numpy as np
from fake_embedder import ids_of, text_of

from ragops.postgres.queue import Claim, Item
from ragops.workers.buffer import Pipeline
from ragops.workers.inflight import InFlight, UniqueText, UnitVector
from ragops.workers.state import Stats, Stop

BATCH = 10
DEADLINE_S = 20.0
DIMENSIONS = 4
Result = TypeVar("Result")


class Line:
    """A pipeline with what its threads share; plays fetcher, worker and completer in the test's thread."""

    def __init__(self, *, workers: int = 1, keeps_recent: bool = True) -> None:
        self.stop, self.stats = Stop(), Stats()
        self.pipe = Pipeline(
            workers=workers, batch_size=BATCH, stop=self.stop, stats=self.stats, keeps_recent=keeps_recent
        )

    def take_in(self, *documents: Sequence[str]) -> list[InFlight]:
        """Claim documents of these texts; each text that nobody has yet becomes a request."""
        claimed = claim(len(documents))
        self.pipe.hold(claimed)
        taken = [InFlight(item, claimed) for item in claimed.items]
        new = [
            text for document, texts in zip(taken, documents, strict=True) for text in self.admit(document, *texts)
        ]
        self.pipe.enqueue([text] for text in new)
        return taken

    def admit(self, document: InFlight, *texts: str) -> list[UniqueText]:
        return self.pipe.admit([(document, [(text.encode(), ids_of(text)) for text in texts], 0)])

    def next(self) -> list[str]:
        """The texts of the next request, which must lie ready."""
        return texts_of(self.request())

    def request(self) -> list[UniqueText]:
        request = within(self.pipe.next_request)
        assert request is not None
        return request

    def embed(self, request: Sequence[UniqueText], worker: str = "w") -> None:
        self.pipe.deliver([(text, vector_of(text)) for text in request], [], worker=worker)

    def finished(self) -> list[InFlight]:
        return within(lambda: self.pipe.take_finished(limit=20_000, within_s=0))

    def unsaved(self) -> list[tuple[bytes, UnitVector]]:
        return within(lambda: self.pipe.take_unsaved(limit=1000, within_s=0))

    def is_idle(self) -> bool:
        """No request lies ready."""
        self.pipe.close()
        return within(self.pipe.next_request) is None


def claim(size: int) -> Claim:
    return Claim(uuid.uuid4(), tuple(Item(number, f"{number}.txt") for number in range(size)))


def texts_of(request: Sequence[UniqueText]) -> list[str]:
    return [text_of(text.ids) for text in request]


def vector_of(text: UniqueText) -> UnitVector:
    return unit(text_of(text.ids))


def unit(text: str) -> UnitVector:
    """A vector that no two texts share."""
    seeds = np.random.default_rng([ord(character) for character in text] or [0])
    vector = seeds.normal(size=DIMENSIONS)
    return np.asarray(vector / np.linalg.norm(vector), np.float32)


def within(work: Callable[[], Result]) -> Result:
    """The result of `work`; a deadlock fails the test."""
    return started(work).result(DEADLINE_S)


def started(work: Callable[[], Result]) -> Future[Result]:
    """`work` on its way in a thread of its own."""
    future: Future[Result] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 (raised by `result()`)
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def is_waiting(future: Future[Result]) -> bool:
    """It has not come back, although it had the time."""
    time.sleep(0.2)
    return not future.done()


def assert_vectors(document: InFlight, *texts: str) -> None:
    assert document.failure is None
    np.testing.assert_array_equal(document.vectors, [unit(text) for text in texts])
