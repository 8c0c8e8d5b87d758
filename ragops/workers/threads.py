"""Threads of a fleet as futures: the first error in any of them stops all."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Any, TypeVar

from ragops.workers.state import Stop

# A stop is noticed, and progress shown, this often.
POLL_S = 0.2

Result = TypeVar("Result")


class Threads:
    """A group of threads that is joined together. Not an executor: each thread has a name and starts at once."""

    def __init__(self, stop: Stop, errors: list[BaseException]) -> None:
        """`errors` collects what ended a thread, in the order of time; groups of one fleet share it."""
        self._stop = stop
        self._errors = errors
        self.futures: list[Future[Any]] = []

    def start(self, work: Callable[[], Result], name: str) -> Future[Result]:
        """Run `work` in a new thread; an error in it requests a stop of the whole fleet."""
        future: Future[Result] = Future()

        def run() -> None:
            try:
                future.set_result(work())
            except BaseException as error:  # noqa: BLE001 (raised in the controller's thread)
                # In this order: a thread that is woken by the future finds the error and the stop.
                self._errors.append(error)
                self._stop.requested.set()
                future.set_exception(error)

        threading.Thread(target=run, name=name).start()
        self.futures.append(future)
        return future

    def join(self, kill: Callable[[], None]) -> None:
        """Wait until all threads have ended; after an abort call `kill` until they have."""
        while not all(future.done() for future in self.futures):
            if self._stop.aborted.is_set():
                # Repeatedly: between two statements there is nothing to cancel, and a child may be starting.
                kill()
            wait(self.futures, POLL_S)
