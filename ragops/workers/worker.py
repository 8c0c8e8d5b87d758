"""One worker: a thread that drives one embedder child, request by request."""

from __future__ import annotations

import time
from concurrent.futures import Future

from ragops.workers.buffer import Pipeline
from ragops.workers.supervisor import Supervisor


class Worker:
    """Take requests from the pipeline until none is left, without any access to the database."""

    def __init__(self, name: str, child: Future[Supervisor], pipeline: Pipeline) -> None:
        """`child` may still be starting: the first child that is ready begins, the others join in."""
        self.name = name
        self._child = child
        self._pipeline = pipeline

    def run(self) -> None:
        """Embed until nothing is left or a stop is requested. Raises what ends the whole fleet."""
        supervisor = self._child.result()
        try:
            while (request := self._pipeline.next_request()) is not None:
                started = time.monotonic()
                outcome = supervisor.embed(request)
                seconds = time.monotonic() - started
                self._pipeline.deliver(outcome.done, outcome.failed, worker=self.name, seconds=seconds)
                if outcome.fatal is not None:
                    raise outcome.fatal
        finally:
            # Here and not at the fleet's end: children need their time to end, and do so in parallel.
            supervisor.close()
