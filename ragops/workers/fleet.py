"""The fleet: start its children, assemble its stages, keep its leases alive, end all of it together."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, Future, wait
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from ragops.embedder.config import checked_sha256, embedder_config
from ragops.errors import EmbedderDied, EmbedderError, Interrupted, ModelUnusable
from ragops.facts import TableFacts
from ragops.fingerprint.batches import Batches, measure_batches
from ragops.identity import holder_name, short_name
from ragops.playbook.model import Playbook
from ragops.postgres.connection import Connection, Target
from ragops.postgres.progress import writing_fingerprints
from ragops.postgres.queue import Cursor
from ragops.postgres.row_work import RowWork
from ragops.postgres.row_writer import RowWriter
from ragops.postgres.writer import Writer
from ragops.workers.buffer import Pipeline
from ragops.workers.cache import VectorCache
from ragops.workers.cache_writer import CacheWriter
from ragops.workers.children import Children
from ragops.workers.completer import Completer
from ragops.workers.database import Database, Outages
from ragops.workers.fetcher import Fetcher
from ragops.workers.lock_watch import LockWatch
from ragops.workers.long_documents import LongDocuments
from ragops.workers.maintenance import Maintenance
from ragops.workers.preparation import Preparation
from ragops.workers.sizing import Sizing
from ragops.workers.sources import Documents
from ragops.workers.space import SpaceGuard
from ragops.workers.state import Stats, Stop
from ragops.workers.threads import POLL_S, Threads
from ragops.workers.worker import Worker


@dataclass(frozen=True, slots=True)
class FleetResult:
    """Counts of one run."""

    completed: int
    failed: int
    chunks: int
    tokens: int
    embedded: int
    """Distinct texts that a child embedded."""
    reused: int
    """Chunks whose vector was known already."""
    seconds: float
    batches: Batches | None = None
    """The batches that it embedded in; None where they could not be measured."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of a run: documents stored, failed or about to be stored; and those that failed."""

    seen: int
    failed: int


class Watch(Protocol):
    """Wait for futures, until all or the first of them are done, while leases, notices and progress go on."""

    def __call__(self, futures: Iterable[Future[Any]], until: str = ALL_COMPLETED) -> None: ...


class Fleet:
    """Workers that run until the open part of the queue is drained."""

    def __init__(
        self,
        target: Target,
        playbook: Playbook,
        tables: dict[str, TableFacts],
        *,
        sizing: Sizing,
        stop: Stop,
        generation: int = 0,
        bound: Cursor | None = None,
        open_items: int | None = None,
        command: Sequence[str] | None = None,
        heartbeat: Callable[[Connection], None] = lambda _: None,
        opening: Callable[[], None] = lambda: None,
        is_campaign: bool = False,
        bytes_needed: Callable[[], int | None] = lambda: None,
        work: RowWork | None = None,
    ) -> None:
        """Check what can be checked before anything starts.

        `generation` is that of the filling whose source the playbook names here, and `bound` the last place of the
        queue to claim. `open_items` bounds the claims, so that a short queue keeps other machines busy to its end.
        `heartbeat` is called every few seconds; a campaign renews its lease in it. `command` starts another
        program than the embedder child. `opening` is called before the first claim, when the fleet has joined the
        filling's vector space. `bytes_needed` is asked when the server's disk is full. `work` are the targets
        whose rows it embeds, instead of the playbook's source.

        Raises UsageError without a model or a source, ModelUnusable for a wrong file, PlanRefused for tables
        that cannot be written.
        """
        self._playbook = playbook
        self._tables = tables
        self._sizing = sizing
        self._stop = stop
        self.generation = generation
        """The filling that it claims from: another one after it took the place of a fleet that did nothing."""
        self._batches: Batches | None = None
        self._bound = bound
        self._open_items = open_items
        self._command = command
        self._opening = opening
        self._is_campaign = is_campaign
        self._config = embedder_config(
            playbook, threads=sizing.threads, tokens_per_batch=sizing.tokens_per_batch, repack=sizing.repack
        )
        # Before any child loads the file: a wrong model must not write a vector.
        self._sha256 = checked_sha256(playbook)
        self._documents = Documents(playbook.source, work=work, check_stop=stop.check)
        self._writer = RowWriter(playbook.tables, work) if work else Writer(playbook.tables, tables)
        # Claims need the name that tells whether their process still runs; metrics are for people.
        self._claimant = holder_name()
        self._name = short_name(self._claimant)
        self._stats = Stats()
        # A connection per thread that needs one: fetcher, completer, and the controller's own.
        outages = Outages(self._stats.info, max_outage_s=playbook.database.max_outage_s, bytes_needed=bytes_needed)
        self._fetcher_db = Database("fetcher", target, stop=stop, outages=outages)
        self._completer_db = Database("completer", target, stop=stop, outages=outages)
        # Opened only for rows that are long.
        self._long_db = Database("long documents", target, stop=stop, outages=outages)
        for database in (self._fetcher_db, self._completer_db, self._long_db):
            database.waits_for_locks = True
        self._heartbeat_db = Database("heartbeat", target, stop=stop, outages=outages)
        self._cache = VectorCache.at_home(limit_mib=playbook.workers.cache_mib)
        self._pipeline = Pipeline(
            workers=sizing.workers,
            batch_size=playbook.workers.batch_size,
            stop=stop,
            stats=self._stats,
            keeps_recent=self._cache is None,
        )
        self._maintenance = Maintenance(
            self._pipeline,
            self._heartbeat_db,
            playbook.tables,
            stats=self._stats,
            lease_s=playbook.workers.lease_s,
            heartbeat=heartbeat,
            locks=LockWatch(self._pipeline, playbook.tables, tables["files_queue"], stats=self._stats),
        )

    def run(
        self,
        *,
        progress: Callable[[Progress], None] = lambda _: None,
        info: Callable[[str], None] = lambda _: None,
    ) -> FleetResult:
        """Drain the queue.

        Raises the first error that ended a thread or the controller's watch, or Interrupted after a stop.
        """
        began = time.monotonic()
        errors: list[BaseException] = []
        working, storing = Threads(self._stop, errors), Threads(self._stop, errors)

        def watch(futures: Iterable[Future[Any]], until: str = ALL_COMPLETED) -> None:
            left = set(futures)
            while left:
                self._maintenance.maintain(info)
                progress(Progress(self._pipeline.seen, self._stats.failed))
                done, left = wait(left, POLL_S, until)
                if self._stop.aborted.is_set():
                    raise KeyboardInterrupt
                if done and until == FIRST_COMPLETED:
                    return

        self._stop.is_graceful = True
        # Callbacks run in the reverse order: stages end first, connections last.
        with ExitStack() as ending:
            for database in (self._fetcher_db, self._completer_db, self._long_db, self._heartbeat_db):
                ending.callback(database.close)
            ending.callback(self._maintenance.give_back)
            children = Children(stop=self._stop, stats=self._stats, threads=working)
            ending.callback(children.close)
            ending.callback(self._end, working, storing, children)
            try:
                children.start(
                    self._config,
                    self._playbook,
                    workers=[f"{self._name}:{number}" for number in range(1, self._sizing.workers + 1)],
                    command=self._command,
                )
                self._drain(children, working, storing, watch)
            except KeyboardInterrupt:
                # The second signal, seen by `watch`; the first one only requests a stop.
                self._stop.aborted.set()
            except BaseException as error:  # noqa: BLE001 (raised by `_result`, once all threads have ended)
                # As in a thread: without a stop the stages would wait for each other for ever.
                errors.append(error)
                self._stop.requested.set()
            finally:
                self._stop.is_graceful = False
        progress(Progress(self._pipeline.seen, self._stats.failed))
        for notice in self._stats.take_notices():
            info(notice)
        return self._result(errors, time.monotonic() - began)

    def _drain(self, children: Children, working: Threads, storing: Threads, watch: Watch) -> None:
        """Start the stages once a child is ready, and wait for their end; without them after an early stop."""
        # Nothing is claimed before a child has shown that it starts. The others may follow later.
        watch(children.embedders.values(), FIRST_COMPLETED)
        watch([children.tokenizer])
        if not self._stop.requested.is_set():
            # In a thread, as it waits for a database that is unavailable.
            fingerprint = working.start(lambda: self._join_space(children), "fingerprint")
            watch([fingerprint])
            if not self._stop.requested.is_set():
                self._opening()
                self._start_stages(children, fingerprint.result(), working, storing)
        watch(working.futures)
        self._pipeline.end()
        watch(storing.futures)

    def _choose_batches(self, children: Children) -> None:
        """Choose batches that keep vectors within `validation.max_distance`. Raises ModelUnusable, UsageError."""
        first = children.first
        try:
            # Again with a new child if somebody killed it: nothing else keeps vectors within the limit.
            chosen = first.ask(
                lambda embedder: measure_batches(
                    embedder,
                    self._playbook,
                    tokens_per_batch=self._sizing.tokens_per_batch,
                    is_stopped=self._stop.requested.is_set,
                )
            )
        except ModelUnusable:
            raise
        except EmbedderDied as death:
            if self._stop.aborted.is_set():  # it was killed to end at once
                raise Interrupted("stopped", signal_number=self._stop.signal_number) from death
            first.restart(death)
            return
        except EmbedderError as error:
            # Its documents will show what it is.
            self._stats.info_once(f"the test texts cannot be embedded: {error.actual or error.what}")
            return
        self._batches = children.batching.chosen = chosen
        # What costs nothing stands in the result.
        if (finding := chosen.finding()) is not None and finding.severity == "warning":
            self._stats.info_once(". ".join(filter(None, (finding.message, finding.hint))))

    def _join_space(self, children: Children) -> str:
        """Record the vector space that this fleet writes, and report other spaces in the same tables.

        Raises RagopsError if it is not that of the vectors which the queue's items have already, ModelUnusable.
        """
        self._choose_batches(children)
        guard = SpaceGuard(
            self._playbook,
            self._tables,
            self._fetcher_db,
            sha256=self._sha256,
            generation=self.generation,
            is_campaign=self._is_campaign,
            stop=self._stop,
            stats=self._stats,
        )
        joined = guard.join(children.first)
        id, self.generation = joined.fingerprint, joined.generation
        tables, metrics = self._playbook.tables, self._tables.get("ingestion_metrics")
        others = self._fetcher_db.run(lambda c: writing_fingerprints(c, tables, metrics)) - joined.known
        if others:
            self._stats.info_once(
                f"other workers wrote here too: fingerprint {', '.join(sorted(others))}, these are {id}; compare "
                "them with `ragops fingerprint compare`: if their spaces differ, `ragops validate` fails"
            )
        return id

    def _start_stages(self, children: Children, fingerprint: str, working: Threads, storing: Threads) -> None:
        """Assemble the stages of one vector space and start them, those that take before those that give."""
        completer = Completer(
            self._pipeline,
            self._completer_db,
            self._writer,
            fingerprint=fingerprint,
            stop=self._stop,
            stats=self._stats,
            name=f"{self._name}:cache",
            claimant=self._claimant,
        )
        prepare = partial(
            Preparation,
            self._pipeline,
            documents=self._documents,
            fingerprint=fingerprint,
            batches=self._batches,
            dimensions=children.first.embedder.model.dimensions,
            workers=self._sizing.workers,
        )
        # A connection of sqlite3 belongs to one thread.
        long = LongDocuments(
            self._pipeline,
            lambda on_missing: prepare(
                database=self._long_db,
                tokenizer=children.second_tokenizer(),
                on_missing=on_missing,
                cache=self._cache.sibling() if self._cache is not None else None,
            ),
        )
        fetcher = Fetcher(
            self._pipeline,
            self._fetcher_db,
            self._playbook.tables,
            self._documents,
            long,
            prepare=lambda on_missing, on_read: prepare(
                database=self._fetcher_db,
                tokenizer=children.tokenizer.result(),
                on_missing=on_missing,
                on_read=on_read,
                on_long=long.take_over,
                cache=self._cache,
            ),
            stop=self._stop,
            claimant=self._claimant,
            lease_s=self._playbook.workers.lease_s,
            generation=self.generation,
            bound=self._bound,
            open_items=self._open_items,
        )
        storing.start(completer.run, "completer")
        if self._cache is not None:
            cache_writer = CacheWriter(self._pipeline, self._cache.sibling(), stats=self._stats)
            storing.start(cache_writer.run, "cache writer")
        for name, child in children.embedders.items():
            working.start(Worker(name, child, self._pipeline).run, name)
        working.start(long.run, "long documents")
        working.start(fetcher.run, "fetcher")

    def _end(self, working: Threads, storing: Threads, children: Children) -> None:
        """Wait for all threads; after an abort end what they wait for."""

        def kill() -> None:
            children.kill()
            self._fetcher_db.cancel()
            self._completer_db.cancel()
            self._long_db.cancel()

        if self._stop.aborted.is_set():
            self._stop.requested.set()
        self._pipeline.close()
        working.join(kill)
        # Not earlier: workers deliver until they end, and the completer stores what they delivered.
        self._pipeline.end()
        storing.join(kill)

    def _result(self, errors: Sequence[BaseException], seconds: float) -> FleetResult:
        # After an abort, errors are those of killed children and cancelled statements. Otherwise the first is
        # the cause, and later ones may follow from the stop that it requested.
        if errors and not self._stop.aborted.is_set():
            raise errors[0]
        stats = self._stats
        if self._stop.requested.is_set():
            if not self._maintenance.has_given_back:
                how = "items in flight come back when their leases have run out"
            elif self._stop.aborted.is_set():
                how = "items in flight were given back to the queue"
            else:
                how = "what was embedded is stored"
            raise Interrupted(
                f"stopped after {stats.completed:,} documents; {how}", signal_number=self._stop.signal_number
            )
        return FleetResult(
            stats.completed,
            stats.failed,
            stats.chunks,
            stats.tokens,
            stats.embedded,
            stats.reused,
            seconds,
            self._batches,
        )
