"""One worker: a thread that drives one embedder child, request by request."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from ragops.embedder.client import Embedder
from ragops.workers.buffer import Pipeline
from ragops.workers.state import Stats, Stop
from ragops.workers.supervisor import ConsecutiveFailures, Supervisor


@dataclass(frozen=True, slots=True)
class WorkerContext:
    """What every worker of a fleet shares."""

    pipeline: Pipeline
    start_embedder: Callable[[], Embedder]
    introduce: Callable[[Embedder], None]
    """Told every worker's first child: the first of all says what vector space this is."""
    stop: Stop
    stats: Stats
    failures_in_a_row: ConsecutiveFailures = field(default_factory=ConsecutiveFailures)


class Worker:
    """Takes requests from the pipeline until none is left; knows no database."""

    def __init__(self, name: str, worker_context: WorkerContext) -> None:
        self.name = name
        self._shared = worker_context
        self._holder: Supervisor | None = None

    def kill(self) -> None:
        """End the child at once, from another thread."""
        if self._holder is not None:
            self._holder.kill()

    def run(self) -> None:
        """Embed until nothing is left or a stop is asked for. Raises what ends the whole fleet."""
        shared = self._shared
        self._holder = holder = Supervisor(
            shared.start_embedder,
            is_aborted=shared.stop.aborted.is_set,
            info=shared.stats.info,
            failures_in_a_row=shared.failures_in_a_row,
        )
        try:
            shared.introduce(holder.embedder)
            while (request := shared.pipeline.next_request()) is not None:
                started = time.monotonic()
                outcome = holder.embed(request)
                seconds = time.monotonic() - started
                shared.pipeline.deliver(outcome.done, outcome.failed, worker=self.name, seconds=seconds)
                if outcome.fatal is not None:
                    raise outcome.fatal
        finally:
            holder.close()
