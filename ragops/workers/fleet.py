"""The fleet: starts intake, workers and outlet, keeps their leases alive, ends them together."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ragops.embedder.client import Embedder
from ragops.embedder.config import checked_sha256, embedder_config
from ragops.errors import Interrupted
from ragops.facts import TableFacts
from ragops.fingerprint.document import fingerprint_of
from ragops.playbook.model import Playbook
from ragops.postgres.connection import Connection, Target
from ragops.postgres.ledger import holder_name, save_fingerprint
from ragops.postgres.progress import writing_fingerprints
from ragops.postgres.writer import Writer
from ragops.workers.buffer import Pipeline
from ragops.workers.cache import VectorCache
from ragops.workers.cache_writer import CacheWriter
from ragops.workers.completer import Completer
from ragops.workers.database import Database
from ragops.workers.fetcher import Fetcher
from ragops.workers.maintenance import Maintenance
from ragops.workers.sizing import Sizing
from ragops.workers.sources import Documents
from ragops.workers.state import Stats, Stop
from ragops.workers.supervisor import ConsecutiveFailures
from ragops.workers.tokenizer import Tokenizer
from ragops.workers.worker import Worker, WorkerContext

POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class FleetResult:
    completed: int
    failed: int
    chunks: int
    tokens: int
    embedded: int
    """Distinct texts that a child embedded."""
    reused: int
    """Chunks whose text was known already."""
    dropped: int
    seconds: float

    @property
    def docs_per_s(self) -> float:
        return self.completed / self.seconds if self.seconds > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a fleet is: documents stored, failed or about to be stored; and those that failed."""

    seen: int
    failed: int


class Fleet:
    """Runs until the open part of the queue is drained."""

    def __init__(
        self,
        target: Target,
        playbook: Playbook,
        tables: dict[str, TableFacts],
        *,
        shape: Sizing,
        stop: Stop,
        last_id: Any = None,
        open_items: int | None = None,
        command: Sequence[str] | None = None,
        heartbeat: Callable[[Connection], None] = lambda _: None,
    ) -> None:
        """`open_items` bounds the claims, so that a short queue keeps other machines busy to its end.

        `heartbeat` is called every few seconds (a campaign renews its lease in it).

        `command` starts another program than the embedder child.
        """
        self._playbook = playbook
        self._tables = tables
        self._stop = stop
        self._command = command
        self._config = embedder_config(
            playbook, threads=shape.threads, tokens_per_batch=shape.tokens_per_batch, repack=shape.repack
        )
        self._sha256 = checked_sha256(playbook)
        self._stats = Stats()
        self._name = holder_name()
        self._databases = [
            Database(name, target, stop=stop, info=self._stats.info) for name in ("intake", "outlet", "heartbeat")
        ]
        cache = VectorCache.at_home(limit_mib=playbook.workers.cache_mib)
        self._pipeline = Pipeline(
            workers=shape.workers,
            batch_size=playbook.workers.batch_size,
            stop=stop,
            stats=self._stats,
            keeps_recent=cache is None,
        )
        self._failures_in_a_row = ConsecutiveFailures()
        worker_context = WorkerContext(
            self._pipeline, self._start_embedder, self._introduce, stop, self._stats, self._failures_in_a_row
        )
        self._workers = [Worker(f"{self._name}:{n}", worker_context) for n in range(1, shape.workers + 1)]
        self._fetcher = Fetcher(
            self._pipeline,
            self._databases[0],
            playbook.tables,
            Documents(playbook.source),
            stop=stop,
            claimant=self._name,
            lease_s=playbook.workers.lease_s,
            workers=shape.workers,
            last_id=last_id,
            open_items=open_items,
            cache=cache,
        )
        self._completer = Completer(
            self._pipeline,
            self._databases[1],
            Writer(playbook.tables, tables),
            stop=stop,
            stats=self._stats,
            name=f"{self._name}:cache",
        )
        self._cache_writer = CacheWriter(self._pipeline, cache.sibling(), stats=self._stats) if cache else None
        self._maintenance = Maintenance(
            self._pipeline,
            self._databases[2],
            playbook.tables,
            stats=self._stats,
            lease_s=playbook.workers.lease_s,
            heartbeat=heartbeat,
        )
        self._tokenizer: Tokenizer | None = None
        self._first: Embedder | None = None
        self._is_introduced = threading.Event()
        self._errors: list[BaseException] = []

    def run(
        self,
        *,
        progress: Callable[[Progress], None] = lambda _: None,
        info: Callable[[str], None] = lambda _: None,
    ) -> FleetResult:
        """Drain the queue. Raises the first error that ended a thread, or Interrupted after a stop."""
        started = time.monotonic()
        last = [self._thread(self._completer.run, "outlet")]
        if self._cache_writer is not None:
            last.append(self._thread(self._cache_writer.run, "keeper"))
        others = [self._thread(self._fetch, "intake"), *(self._thread(w.run, w.name) for w in self._workers)]
        for thread in (*last, *others):
            thread.start()
        self._stop.is_graceful = True
        try:
            self._watch(others, progress, info)
            self._pipeline.end()
            self._watch(last, progress, info)
        except KeyboardInterrupt:
            self._stop.aborted.set()
        finally:
            self._stop.is_graceful = False
            self._end(others, last)
        progress(self._progress())
        for notice in self._stats.take_notices():
            info(notice)
        return self._result(time.monotonic() - started)

    def _thread(self, work: Callable[[], None], name: str) -> threading.Thread:
        def run() -> None:
            try:
                work()
            except BaseException as error:  # noqa: BLE001 (handed to the controller's thread, which raises it)
                self._errors.append(error)
                self._stop.requested.set()

        return threading.Thread(target=run, name=name)

    def _watch(
        self, threads: list[threading.Thread], progress: Callable[[Progress], None], info: Callable[[str], None]
    ) -> None:
        while alive := [thread for thread in threads if thread.is_alive()]:
            self._maintenance.maintain(info)
            progress(self._progress())
            alive[0].join(POLL_S)

    def _progress(self) -> Progress:
        return Progress(self._pipeline.seen, self._stats.failed)

    def _start_embedder(self) -> Embedder:
        return Embedder(self._config, command=self._command)

    def _introduce(self, embedder: Embedder) -> None:
        if self._first is None:
            self._first = embedder
            self._is_introduced.set()

    def _fetch(self) -> None:
        """The intake's thread: nothing is claimed before a child has shown that it starts."""
        config = dataclasses.replace(self._config, vocab_only=True)
        try:
            self._tokenizer = Tokenizer(
                lambda: Embedder(config, command=self._command),
                self._playbook,
                is_aborted=self._stop.aborted.is_set,
                info=self._stats.info,
                failures_in_a_row=self._failures_in_a_row,
            )
            while not self._is_introduced.wait(POLL_S):
                if self._stop.requested.is_set():
                    return
            fingerprint = self._record_fingerprint()
            self._completer.fingerprint = fingerprint
            self._fetcher.run(self._tokenizer, fingerprint)
        finally:
            self._pipeline.close()
            if self._tokenizer is not None:
                self._tokenizer.close()

    def _record_fingerprint(self) -> str:
        assert self._first is not None
        build, model = self._first.build, self._first.model
        id, document = fingerprint_of(build, model, self._playbook.model, sha256=self._sha256)
        database, metrics = self._databases[0], self._tables.get("ingestion_metrics")
        database.run(lambda c: save_fingerprint(c, id=id, document=document))
        others = database.run(lambda c: writing_fingerprints(c, self._playbook.tables, metrics)) - {id}
        if others:
            self._stats.info_once(
                f"other workers wrote here too: fingerprint {', '.join(sorted(others))}, these are {id}; "
                "if their spaces differ, `ragops fingerprint compare` tells and `ragops validate` fails"
            )
        return id

    def _end(self, others: list[threading.Thread], last: list[threading.Thread]) -> None:
        if self._stop.aborted.is_set():
            self._stop.requested.set()
        self._pipeline.close()
        for thread in others:
            self._join(thread)
        self._pipeline.end()
        for thread in last:
            self._join(thread)
        self._maintenance.give_back()
        for database in self._databases:
            database.close()

    def _join(self, thread: threading.Thread) -> None:
        while thread.is_alive():
            if self._stop.aborted.is_set():
                # Again and again: between two statements there is nothing to cancel.
                for killable in (*self._workers, self._tokenizer):
                    if killable is not None:
                        killable.kill()
                for database in self._databases[:2]:
                    database.cancel()
            thread.join(POLL_S)

    def _result(self, seconds: float) -> FleetResult:
        if self._errors and not self._stop.aborted.is_set():
            raise self._errors[0]
        t = self._stats
        result = FleetResult(t.completed, t.failed, t.chunks, t.tokens, t.embedded, t.reused, t.dropped, seconds)
        if self._stop.requested.is_set():
            is_aborted = self._stop.aborted.is_set()
            how = "items at hand were given back" if is_aborted else "what was embedded is stored"
            raise Interrupted(
                f"stopped after {result.completed:,} documents; {how}",
                signal_number=self._stop.signal_number,
            )
        return result
