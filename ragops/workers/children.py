"""The child processes of a fleet: one that tokenizes, and one per worker that embeds."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future

from ragops.embedder.client import Embedder, EmbedderConfig
from ragops.playbook.model import Playbook
from ragops.workers.state import Stats, Stop
from ragops.workers.supervisor import Batching, ConsecutiveFailures, Supervisor
from ragops.workers.threads import Threads
from ragops.workers.tokenizer import Tokenizer


class Children:
    """Children that start in parallel, each in a thread; `kill` works from any other thread."""

    def __init__(self, *, stop: Stop, stats: Stats, threads: Threads) -> None:
        """Start none yet: whoever ends them must know of them before the first one runs."""
        self._stop = stop
        self._stats = stats
        self._threads = threads
        self.tokenizer: Future[Tokenizer] = Future()
        self._second: Future[Tokenizer] = Future()
        self._start_second: Callable[[], Tokenizer] | None = None
        self.batching = Batching()
        self.embedders: dict[str, Future[Supervisor]] = {}

    def start(
        self, config: EmbedderConfig, playbook: Playbook, *, workers: Sequence[str], command: Sequence[str] | None
    ) -> None:
        """Start a tokenizer, and an embedder per worker; `command` replaces the program of all of them.

        An error of a start ends its thread, and so stops the fleet: a build that cannot start once is broken.
        """
        # Shared by all embedders: a broken build shows in the first documents of any of them. The tokenizer counts
        # by itself, as its documents are not those that an embedder has succeeded on.
        failures = ConsecutiveFailures()
        vocabulary, stop, stats = dataclasses.replace(config, vocab_only=True), self._stop, self._stats
        batching = self.batching

        def start_tokenizer() -> Tokenizer:
            return Tokenizer(
                lambda: Embedder(vocabulary, command=command),
                playbook,
                stop=stop,
                stats=stats,
                failures=ConsecutiveFailures(),
            )

        def start_embedder() -> Supervisor:
            return Supervisor(
                lambda: Embedder(config, command=command),
                stop=stop,
                stats=stats,
                failures=failures,
                batching=batching,
            )

        self._start_second = start_tokenizer
        self.tokenizer = self._threads.start(start_tokenizer, "start tokenizer")
        for worker in workers:
            self.embedders[worker] = self._threads.start(start_embedder, f"start {worker}")

    @property
    def first(self) -> Supervisor:
        """The first embedder that is ready; wait for one of `embedders` before."""
        return next(child.result() for child in self.embedders.values() if child.done())

    def second_tokenizer(self) -> Tokenizer:
        """Start another tokenizer in the caller's thread, once. Raises as `Tokenizer` does."""
        assert self._start_second is not None, "the children were started"
        tokenizer = self._start_second()
        self._second.set_result(tokenizer)
        return tokenizer

    def kill(self) -> None:
        """End all children at once; one that is starting cannot be killed before it is ready."""
        for child in self._ready():
            child.kill()

    def close(self) -> None:
        """End the children that no worker has closed; none may be starting any more."""
        # Killed first: closing waits for a child's exit, and they have nothing left to do.
        self.kill()
        for child in self._ready():
            child.close()

    def _ready(self) -> Iterator[Supervisor | Tokenizer]:
        futures: list[Future[Tokenizer] | Future[Supervisor]] = [
            self.tokenizer,
            self._second,
            *self.embedders.values(),
        ]
        for future in futures:
            if future.done() and future.exception() is None:
                yield future.result()
