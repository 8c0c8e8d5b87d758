"""One worker: claim → read, cut → embed → check → write and complete, until nothing is left to claim."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ragops.documents.failures import Unreadable
from ragops.errors import EmbedderError, FenceLost, Interrupted
from ragops.facts import TableFacts
from ragops.llama.embedder import Embedder
from ragops.llama.fingerprints import fingerprint_of
from ragops.playbook.model import Playbook
from ragops.postgres.connection import OUTAGES, Connection, Target, connect, unavailable
from ragops.postgres.ledger import save_fingerprint
from ragops.postgres.progress import writing_fingerprints
from ragops.postgres.queue import Claim, Queue
from ragops.postgres.writer import Batch, BatchMetrics, ChunkRow, DocumentRow, Writer
from ragops.retry import Backoff
from ragops.workers.embedding import EmbeddedDocument, EmbedderHolder, Outcome, Strikes
from ragops.workers.prepare import Documents, Prepared, Preparer
from ragops.workers.state import Stop, Tally

IDLE_S = 0.3
# A database that is down for an hour is an incident of its own; until then workers wait.
RECONNECT = Backoff(first_s=0.5, longest_s=15.0, total_s=3600.0)

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Assignment:
    """What every worker of a fleet shares."""

    target: Target
    playbook: Playbook
    tables: dict[str, TableFacts]
    start_embedder: Callable[[], Embedder]
    stop: Stop
    tally: Tally
    model_sha256: str
    batch_size: int
    last_id: Any = None
    strikes: Strikes = field(default_factory=Strikes)


class Worker:
    """One thread of the fleet with its own connection and its own child."""

    def __init__(self, name: str, assignment: Assignment) -> None:
        self.name = name
        self._shared = assignment
        self._queue = Queue(assignment.playbook.tables)
        self._writer = Writer(assignment.playbook.tables, assignment.tables)
        self._documents = Documents(assignment.playbook.source)
        self._connection: Connection | None = None
        self._holder: EmbedderHolder | None = None
        self._fingerprint = ""
        self._writing: Connection | None = None

    def kill(self) -> None:
        """End the child and a write that waits at once, from another thread."""
        if self._holder is not None:
            self._holder.kill()
        writing = self._writing
        if writing is not None:
            with suppress(*OUTAGES):
                writing.cancel_safe()

    def run(self) -> None:
        """Work until nothing is left or a stop is asked for. Raises what ends the whole fleet."""
        try:
            self._holder = EmbedderHolder(
                self._shared.start_embedder,
                document_prefix=self._shared.playbook.model.document_prefix,
                is_aborted=self._shared.stop.aborted.is_set,
                say=self._shared.tally.say,
                strikes=self._shared.strikes,
            )
            model = self._holder.embedder.model
            preparer = Preparer(
                self._shared.playbook, max_tokens=model.max_tokens, count_tokens=self._holder.count_tokens
            )
            self._record_fingerprint(self._holder.embedder)
            while not self._shared.stop.requested.is_set():
                claim = self._with_database(self._claim)
                if claim is not None:
                    self._process(claim, preparer, self._holder)
                elif not self._wait_for_others():
                    return
        finally:
            if self._holder is not None:
                self._holder.close()
            if self._connection is not None:
                self._connection.close()

    def _claim(self, connection: Connection) -> Claim | None:
        claim = self._queue.claim(
            connection,
            size=self._shared.batch_size,
            worker=self.name,
            lease_s=self._shared.playbook.workers.lease_s,
            last_id=self._shared.last_id,
        )
        self._shared.tally.hold(self.name, claim.id if claim else None)
        return claim

    def _wait_for_others(self) -> bool:
        """False when no item is open any more; else wait a little: another worker's item may come back."""
        pending, processing = self._with_database(
            lambda c: self._queue.open_items(c, phase=self._queue.gate(c), last_id=self._shared.last_id)
        )
        if pending + processing == 0:
            return False
        self._shared.stop.requested.wait(IDLE_S)
        return True

    def _process(self, claim: Claim, preparer: Preparer, holder: EmbedderHolder) -> None:
        started = time.monotonic()
        try:
            failures: list[tuple[Any, str]] = []
            prepared, fatal = self._prepare(claim, preparer, holder, failures)
            outcome = Outcome([], [], fatal)
            if fatal is None:
                outcome = holder.embed(prepared, progress=lambda n: self._shared.tally.advance(self.name, n))
            metrics = BatchMetrics(
                worker=self.name,
                fingerprint=self._fingerprint,
                tokens=sum(p.tokens for p in prepared),
                milliseconds=int((time.monotonic() - started) * 1000),
            )
            rows = tuple(_row(document) for document in outcome.documents)
            batch = Batch(claim, rows, (*failures, *outcome.failures), metrics)
            self._store(batch)
            if outcome.fatal is not None:
                raise outcome.fatal
        except BaseException:
            # Whatever ends this worker, its items are nobody's fault: they go back to the queue.
            self._give_back(claim)
            raise
        finally:
            self._shared.tally.hold(self.name, None)

    def _prepare(
        self, claim: Claim, preparer: Preparer, holder: EmbedderHolder, failures: list[tuple[Any, str]]
    ) -> tuple[list[Prepared], EmbedderError | None]:
        """The claim's texts, cut; and why cutting had to stop, if the child fails whatever it is given."""
        prepared: list[Prepared] = []
        for item, read in self._with_database(lambda c: list(self._documents.read(c, claim.items))):
            if self._shared.stop.aborted.is_set():
                raise Interrupted("stopped", signal_number=self._shared.stop.signal_number)
            if isinstance(read, Unreadable):
                failures.append((item.id, read.reason))
                continue
            try:
                prepared.append(holder.guard(lambda item=item, read=read: preparer.prepare(item, read)))  # type: ignore[misc]
            except Unreadable as failure:
                failures.append((item.id, failure.reason))
            except EmbedderError as error:
                if self._shared.stop.aborted.is_set():
                    raise
                return prepared, error
        return prepared, None

    def _store(self, batch: Batch) -> None:
        try:
            # After a lost connection the same batch is written again: if the first COMMIT had worked,
            # the claim is gone and the second attempt matches no row.
            self._with_database(lambda c: self._write(c, batch))
        except FenceLost as lost:
            self._shared.tally.drop(len(batch.documents))
            self._shared.tally.say(lost.what)
            return
        self._shared.tally.add(
            completed=len(batch.documents),
            failed=len(batch.failures),
            chunks=sum(len(document.chunks) for document in batch.documents),
            tokens=batch.metrics.tokens,
        )

    def _write(self, connection: Connection, batch: Batch) -> None:
        self._writing = connection
        try:
            if self._shared.stop.aborted.is_set():
                raise Interrupted("stopped", signal_number=self._shared.stop.signal_number)
            self._writer.write(connection, batch)
        finally:
            self._writing = None

    def _give_back(self, claim: Claim) -> None:
        try:
            connection = self._connection
            if connection is None or connection.broken or connection.closed:
                connection = self._connection = connect(self._shared.target)
            self._queue.release(connection, claim)
        except OUTAGES as error:
            # The lease ends by itself; saying so is all that can be done without a database.
            self._shared.tally.say(f"items could not be given back, their lease will run out: {error}")

    def _record_fingerprint(self, embedder: Embedder) -> None:
        id, document = fingerprint_of(
            embedder.build, embedder.model, self._shared.playbook.model, sha256=self._shared.model_sha256
        )
        self._fingerprint = id
        self._with_database(lambda c: save_fingerprint(c, id=id, document=document))
        tables, metrics = self._shared.playbook.tables, self._shared.tables.get("ingestion_metrics")
        others = self._with_database(lambda c: writing_fingerprints(c, tables, metrics)) - {id}
        if others:
            self._shared.tally.say_once(
                f"other workers wrote here too: fingerprint {', '.join(sorted(others))}, these are {id}; "
                "if their spaces differ, `ragops fingerprint compare` tells and `ragops validate` fails"
            )

    def _with_database(self, work: Callable[[Connection], Result]) -> Result:
        """Run `work`, reconnecting for as long as an outage may last. Raises DatabaseUnavailable after that."""
        delays = RECONNECT.delays()
        while True:
            try:
                if self._connection is None or self._connection.closed or self._connection.broken:
                    self._connection = connect(self._shared.target)
                return work(self._connection)
            except OUTAGES as error:
                connection = self._connection
                is_lost = connection is None or connection.closed or connection.broken
                delay = next(delays, None)
                if not is_lost:
                    raise
                if delay is None or self._shared.stop.requested.is_set():
                    raise unavailable(self._shared.target, error) from error
                reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                self._shared.tally.say(f"{self.name}: the database is away ({reason}); waiting")
                self._shared.stop.requested.wait(delay)


def _row(document: EmbeddedDocument) -> DocumentRow:
    prepared = document.prepared
    return DocumentRow(
        item_id=prepared.item.id,
        location=prepared.item.location,
        text=prepared.extracted.text,
        content_hash=prepared.extracted.content_hash,
        characters=prepared.extracted.characters,
        metadata={"media_type": prepared.extracted.media_type},
        vector=document.vector,
        chunks=tuple(
            ChunkRow(chunk.index, chunk.text, vector)
            for chunk, vector in zip(prepared.chunks, document.chunk_vectors, strict=True)
        ),
    )
