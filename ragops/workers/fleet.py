"""The fleet: plans threads, runs the workers, keeps their leases alive, ends them together."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ragops.errors import Interrupted, ModelUnusable, UsageError
from ragops.facts import TableFacts
from ragops.llama.builds import find_build
from ragops.llama.embedder import Embedder, EmbedderConfig, sha256_of
from ragops.playbook.model import Playbook
from ragops.postgres.connection import OUTAGES, Connection, Target, connect
from ragops.postgres.ledger import holder_name, is_dead_here
from ragops.postgres.queue import Queue
from ragops.workers.state import Stop, Tally
from ragops.workers.worker import Assignment, Worker

POLL_S = 0.2
REAP_EVERY_S = 5.0


@dataclass(frozen=True, slots=True)
class FleetShape:
    """How many workers with how many threads each."""

    workers: int
    threads: int
    note: str | None = None


@dataclass(frozen=True, slots=True)
class FleetResult:
    completed: int
    failed: int
    chunks: int
    tokens: int
    dropped: int
    seconds: float

    @property
    def docs_per_s(self) -> float:
        return self.completed / self.seconds if self.seconds > 0 else 0.0


def plan_fleet(*, workers: int, threads: int | str | None, physical_cores: int) -> FleetShape:
    """Workers × threads ≤ physical cores, unless the operator asks for more.

    llama.cpp's threads spin at barriers, so oversubscribed threads cost more than they bring.
    `threads` may be a number, `cpu_count` (the procedure's setting) or None to plan it.
    """
    cores = max(1, physical_cores)
    if threads == "cpu_count":
        threads = os.cpu_count() or cores
    planned = max(1, cores // workers) if threads in (None, "planned") else int(threads or 1)
    used = workers * planned
    if used <= cores:
        return FleetShape(workers, planned)
    fits = f"{cores} × 1" if planned > 1 or workers > cores else f"{cores // planned} × {planned}"
    word = "thread" if planned == 1 else "threads"
    note = f"{workers} workers × {planned} {word} on {cores} physical cores oversubscribes them; {fits} fits"
    return FleetShape(workers, planned, note)


def embedder_config(playbook: Playbook, *, threads: int, pooling: str | None = None) -> EmbedderConfig:
    """The child's configuration. Raises UsageError when the playbook names no model."""
    model, parameters = playbook.model, playbook.model.parameters
    if model.file is None:
        raise UsageError(
            "no model is named",
            where="model.file",
            needed="the path of a GGUF embedding model",
            hint="RAGOPS_MODEL=FILE.gguf ragops …   or set model.file in your playbook; `ragops demo` makes one",
        )
    return EmbedderConfig(
        model=Path(model.file),
        python=worker_python(playbook),
        pooling=pooling or model.pooling,
        n_ctx=parameters.n_ctx,
        n_batch=parameters.n_batch,
        n_ubatch=parameters.n_ubatch,
        n_threads=threads,
        tokens_per_batch=playbook.workers.tokens_per_batch,
        f16_kv=parameters.f16_kv,
        low_vram=parameters.low_vram,
        verbose=parameters.verbose,
        deadline_s=float(playbook.workers.request_deadline_s),
    )


def worker_python(playbook: Playbook) -> str | None:
    """The workers' interpreter: `workers.python`, else that of the build `build.use`; None is this one.

    Raises UsageError for a build that does not exist.
    """
    if playbook.workers.python is not None:
        return str(playbook.workers.python)
    return str(find_build(playbook.build.use).interpreter) if playbook.build.use else None


def checked_sha256(playbook: Playbook) -> str:
    """The model file's SHA-256. Raises ModelUnusable when it is missing or not the pinned one."""
    config = embedder_config(playbook, threads=1)
    if not config.model.is_file():
        raise ModelUnusable(
            "the model file does not exist",
            where=str(config.model),
            needed="a GGUF embedding model",
            hint="set RAGOPS_MODEL or model.file; relative paths start at the current folder",
        )
    found = sha256_of(config.model)
    pinned = playbook.model.sha256
    if pinned and pinned.lower() != found:
        raise ModelUnusable(
            "the model file is not the pinned one",
            where=str(config.model),
            found=f"SHA-256 {found}",
            needed=f"SHA-256 {pinned.lower()} (model.sha256)",
            hint="fetch the right file, or correct the pin",
        )
    return found


def claim_size(batch_size: int, *, workers: int, open_items: int | None) -> int:
    """Items a claim: the batch size, or less where a quarter of a worker's share is less."""
    if open_items is None:
        return batch_size
    return max(1, min(batch_size, -(-open_items // (4 * workers))))


class Fleet:
    """Runs workers until the open part of the queue is drained."""

    def __init__(
        self,
        target: Target,
        playbook: Playbook,
        tables: dict[str, TableFacts],
        *,
        shape: FleetShape,
        stop: Stop,
        last_id: Any = None,
        open_items: int | None = None,
        command: Sequence[str] | None = None,
        heartbeat: Callable[[Connection], None] = lambda _: None,
    ) -> None:
        """`open_items` bounds the claims, so that a short queue keeps every worker busy to its end.

        `heartbeat` is called every few seconds (a campaign renews its lease in it).

        `command` starts another program than the embedder child.
        """
        config = embedder_config(playbook, threads=shape.threads)
        self._shape = shape
        self._stop = stop
        self._tally = Tally()
        self._heartbeat = heartbeat
        self._queue = Queue(playbook.tables)
        self._assignment = Assignment(
            target=target,
            playbook=playbook,
            tables=tables,
            start_embedder=lambda: Embedder(config, command=command),
            stop=stop,
            tally=self._tally,
            model_sha256=checked_sha256(playbook),
            batch_size=claim_size(playbook.workers.batch_size, workers=shape.workers, open_items=open_items),
            last_id=last_id,
        )
        self._errors: list[BaseException] = []
        self._connection: Connection | None = None
        self._beat_at = 0.0

    def run(
        self,
        *,
        progress: Callable[[Tally], None] = lambda _: None,
        say: Callable[[str], None] = lambda _: None,
    ) -> FleetResult:
        """Drain the queue. Raises the first error that ended a worker, or Interrupted after a stop."""
        started = time.monotonic()
        workers = [Worker(f"{holder_name()}:{n}", self._assignment) for n in range(1, self._shape.workers + 1)]
        threads = [threading.Thread(target=self._run_worker, args=(w,), name=w.name) for w in workers]
        for thread in threads:
            thread.start()
        self._stop.is_graceful = True
        try:
            while any(thread.is_alive() for thread in threads):
                self._tend(say)
                progress(self._tally)
                threads[0].join(POLL_S) if threads[0].is_alive() else time.sleep(POLL_S)
        except KeyboardInterrupt:
            self._stop.aborted.set()
        finally:
            self._stop.is_graceful = False
            self._end(workers, threads)
        progress(self._tally)
        for notice in self._tally.take_notices():
            say(notice)
        return self._result(time.monotonic() - started)

    def _run_worker(self, worker: Worker) -> None:
        try:
            worker.run()
        except BaseException as error:  # noqa: BLE001 (handed to the controller's thread, which raises it)
            self._errors.append(error)
            self._stop.requested.set()

    def _end(self, workers: list[Worker], threads: list[threading.Thread]) -> None:
        if self._stop.aborted.is_set():
            self._stop.requested.set()
        for thread in threads:
            while thread.is_alive():
                # Again and again: between two statements there is nothing to cancel.
                for worker in workers if self._stop.aborted.is_set() else ():
                    worker.kill()
                thread.join(POLL_S)
        if self._connection is not None:
            self._connection.close()

    def _result(self, seconds: float) -> FleetResult:
        if self._errors and not self._stop.aborted.is_set():
            raise self._errors[0]
        tally = self._tally
        result = FleetResult(tally.completed, tally.failed, tally.chunks, tally.tokens, tally.dropped, seconds)
        if self._stop.requested.is_set():
            how = (
                "items at hand were given back" if self._stop.aborted.is_set() else "the batch at hand was stored"
            )
            raise Interrupted(
                f"stopped after {result.completed:,} documents; {how}",
                signal_number=self._stop.signal_number,
            )
        return result

    def _tend(self, say: Callable[[str], None]) -> None:
        """Extend leases, take back abandoned items, pass notices on. An outage here is the workers' to report."""
        for notice in self._tally.take_notices():
            say(notice)
        if time.monotonic() < self._beat_at:
            return
        lease_s = self._assignment.playbook.workers.lease_s
        self._beat_at = time.monotonic() + min(REAP_EVERY_S, lease_s / 3)
        try:
            if self._connection is None or self._connection.closed or self._connection.broken:
                self._connection = connect(self._assignment.target)
            self._queue.extend_leases(self._connection, self._tally.held_claims(), lease_s=lease_s)
            back = self._queue.reap(self._connection, is_dead=is_dead_here)
            if back:
                say(f"{back:,} items of dead or stalled workers were put back into the queue")
            self._heartbeat(self._connection)
        except OUTAGES as error:
            say(f"no heartbeat: {str(error).splitlines()[0] if str(error) else type(error).__name__}")
