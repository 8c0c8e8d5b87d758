"""Check finished documents and store them, in transactions sized by time.

What the database refuses is bisected down to the document that it refuses, which fails alone. A refused document
is not failed before the database has stored another one: if it refuses every document, the queue must not fail
item by item.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import groupby

import numpy as np

from ragops.errors import FenceLost, Interrupted, RagopsError
from ragops.postgres.connection import Connection
from ragops.postgres.refusals import refusal_of
from ragops.postgres.writer import (
    NOTHING_ELSE,
    Batch,
    BatchMetrics,
    ChunkRow,
    DocumentRow,
    DocumentWriter,
    Stored,
)
from ragops.quality.vectors import check_vectors, mean_vector
from ragops.workers.buffer import Pipeline
from ragops.workers.database import Database
from ragops.workers.inflight import InFlight, UnitVector
from ragops.workers.state import Stats, Stop

# What a crash may cost, and how often the server must sync its log.
STORE_WITHIN_S = 1.0
# Documents per transaction: the first is small, as the speed of the database is not known yet; the next ones
# hold what it stores in STORE_WITHIN_S, between bounds.
FIRST_STORE, FEWEST, MOST = 20, 10, 1000
# Documents in a row that may be failed without a proof that the database still stores others.
MAX_REFUSED = 3
# How long to wait for documents of the next claim before everything counts as refused.
PATIENCE_S = 2.0
# Pause after a transaction all of whose rows are locked by other sessions.
BUSY_ROWS_S = 0.3
# Characters of the document that is kept to ask the database again whether it stores anything.
LIGHT = 64 * 1024
_ZERO_MEAN = "its chunks' vectors cancel out: the mean is zero"
# The lengths of a reason, tried in turn where the queue's column does not take it.
_SHORTER = (250, 80, 30)


class Completer:
    """One thread of the fleet: from finished documents to the tables."""

    def __init__(
        self,
        pipeline: Pipeline,
        database: Database,
        writer: DocumentWriter,
        *,
        fingerprint: str,
        stop: Stop,
        stats: Stats,
        name: str,
        claimant: str,
    ) -> None:
        """`name` is the worker in the metrics of documents whose texts were all known already, `claimant` the one
        that claims the items.
        """
        self._pipeline = pipeline
        self._database = database
        self._writer = writer
        self._fingerprint = fingerprint
        self._stop = stop
        self._stats = stats
        self._name = name
        self._claimant = claimant
        # Refused one by one since the last success, with the reasons; they are in flight until it is known
        # whether the fault is theirs.
        self._refused: list[tuple[InFlight, str]] = []
        self._last_stored: Batch | None = None

    def run(self) -> None:
        """Store until nothing more will be finished. Raises what ends the whole fleet."""
        limit, unsettled = FIRST_STORE, list[InFlight]()
        while documents := self._pipeline.take_finished(limit=limit, within_s=STORE_WITHIN_S):
            began = time.monotonic()
            # Claims side by side, as each may be lost; within them workers, for the metrics.
            self._store(sorted(documents, key=lambda d: (d.claim.id.int, d.worker)))
            self._judge_refused()
            refused = {document for document, _ in self._refused}
            settled = [document for document in [*unsettled, *documents] if document not in refused]
            unsettled = list(refused)
            self._pipeline.settle(settled)
            limit = store_size(len(documents), seconds=time.monotonic() - began)
            # Not while it waits for the next ones: they may be large.
            documents, settled = [], []

    def _store(self, documents: Sequence[InFlight]) -> None:
        """Store documents, sorted by claim, in one transaction; in smaller ones what cannot be stored together."""
        batches = [
            self._batch(list(group)) for _, group in groupby(documents, key=lambda d: (d.claim.id, d.worker))
        ]

        attempts = 0
        became = NOTHING_ELSE

        def write(connection: Connection) -> Stored:
            nonlocal attempts
            attempts += 1
            if self._stop.aborted.is_set():
                raise Interrupted("stopped", signal_number=self._stop.signal_number)
            return self._writer.write(connection, *batches)

        try:
            # After a lost connection the same batches are written again: if the first COMMIT had worked,
            # their claims are gone and the second attempt matches no row.
            became = self._database.run(write)
        except FenceLost as lost:
            if attempts == 1 or not self._is_written(batches):
                self._drop_lost(documents, lost)
                return
            # Only the answer to the COMMIT was lost: the batches are stored, and count.
        except Exception as error:
            reason = refusal_of(error)
            if reason is None:
                raise
            self._bisect(documents, reason, error)
            return
        undone = became.returned | became.refused
        for batch in batches:
            stored_documents = [d for d in batch.documents if d.item_id not in undone]
            self._stats.add(
                completed=len(stored_documents),
                failed=sum(1 for id, _ in batch.failures if id not in became.dropped)
                + sum(1 for d in batch.documents if d.item_id in became.refused),
                chunks=sum(len(document.chunks) for document in stored_documents),
                tokens=batch.metrics.tokens,
            )
        if became.returned:
            self._wait_for_rows(len(became.returned), of=len(documents))
        stored = [batch for batch in batches if any(d.item_id not in undone for d in batch.documents)]
        if stored:
            self._remember(stored[-1])
            self._fail_refused()

    def _wait_for_rows(self, returned: int, *, of: int) -> None:
        """Say that rows return to the queue; wait a moment if nothing else was stored, as they may be locked."""
        self._stats.info_once(
            "rows that changed while they were embedded, or that another session has locked, are embedded again"
        )
        if returned == of:
            self._stop.requested.wait(BUSY_ROWS_S)

    def _remember(self, batch: Batch) -> None:
        """Keep the shortest document of what was stored last, unless it is long and another one is kept."""
        shortest = min(batch.documents, key=lambda document: document.characters)
        if self._last_stored is None or shortest.characters <= LIGHT:
            self._last_stored = Batch(batch.claim, (shortest,), (), batch.metrics)

    def _is_written(self, batches: Sequence[Batch]) -> bool:
        return self._database.run(lambda c: self._writer.is_written(c, *batches, worker=self._claimant))

    def _drop_lost(self, documents: Sequence[InFlight], lost: FenceLost) -> None:
        claims = [list(group) for _, group in groupby(documents, key=lambda d: d.claim.id)]
        if len(claims) > 1:  # one lost claim must not take the others with it
            for group in claims:
                self._store(group)
            return
        embedded = sum(document.failure is None for document in documents)
        self._stats.info(f"{lost.what} ({embedded:,} embedded documents)")

    def _bisect(self, documents: Sequence[InFlight], reason: str, error: Exception) -> None:
        """Store each half of refused documents in a transaction of its own, down to the one that is refused."""
        if len(documents) > 1:
            middle = len(documents) // 2
            self._store(documents[:middle])
            self._store(documents[middle:])
            return
        (document,) = documents
        if document.failure is None:
            self._refuse(document, reason)
            return
        # Its failure is what the queue does not take: the reason has too many characters, or one that the
        # encoding of the database lacks.
        shorter = _plainer(document.failure)
        if shorter is None:
            raise error
        document.failure = shorter
        self._store(documents)

    def _refuse(self, document: InFlight, reason: str) -> None:
        """Keep a refused document until the next success, or a proof that the database still stores others."""
        self._stats.info_once("a document that the database refuses fails alone; reasons: ragops queue status")
        self._pipeline.give_up(document)
        self._refused.append((document, reason))
        if len(self._refused) >= MAX_REFUSED and self._last_stored is not None:
            if not self._still_stores():
                self._give_up()
            self._fail_refused()

    def _judge_refused(self) -> None:
        """Decide about refused documents at the end of a transaction, or keep them while more are to come."""
        if not self._refused:
            return
        # Fewer than what the fetcher claims ahead: it waits for documents that stay in flight.
        few = max(MAX_REFUSED + 1, 2 * self._pipeline.claim_size)
        if self._still_stores():
            self._fail_refused()
        elif len(self._refused) >= few or not self._pipeline.wait_for_more(PATIENCE_S):
            if len(self._refused) > MAX_REFUSED:
                self._give_up()
            self._fail_refused()

    def _still_stores(self) -> bool:
        """Return whether the database takes the document that it took last in this run."""
        last = self._last_stored
        return last is not None and self._database.run(lambda c: self._writer.accepts(c, last))

    def _fail_refused(self) -> None:
        """Fail the refused documents, each with its reason."""
        refused, self._refused = self._refused, []
        for document, reason in refused:
            document.failure = f"the database refused this document: {reason}"
        if refused:
            self._store(sorted((document for document, _ in refused), key=lambda d: (d.claim.id.int, d.worker)))

    def _give_up(self) -> None:
        """Fail the first refused documents and raise RagopsError: the rest goes back to the queue."""
        refused, self._refused = self._refused, self._refused[:MAX_REFUSED]
        # They are stored as failed, so that the next run does not start with them again.
        self._fail_refused()
        raise RagopsError(
            f"the database refused {len(refused):,} documents in a row; stopped before it refuses the whole queue",
            actual=refused[-1][1],
            expected="tables that take the documents of this queue",
            hint="correct the table or its constraint, then: ragops queue retry   and: ragops embed",
        )

    def _batch(self, documents: Sequence[InFlight]) -> Batch:
        rows: list[DocumentRow] = []
        failures: list[tuple[object, str]] = []
        for document in documents:
            if document.failure is None:
                vectors = [vector for vector in document.vectors if vector is not None]
                mean = mean_of(vectors)
                if mean is not None:
                    rows.append(row_of(document, vectors, mean))
                    continue
                document.failure = _ZERO_MEAN
            failures.append((document.item.id, document.failure))
        # Failed documents included: metrics are of the work done.
        metrics = BatchMetrics(
            worker=documents[0].worker or self._name,
            fingerprint=self._fingerprint,
            tokens=sum(document.tokens for document in documents),
            milliseconds=round(sum(document.milliseconds for document in documents)),
        )
        return Batch(documents[0].claim, tuple(rows), tuple(failures), metrics)


def _plainer(reason: str) -> str | None:
    """Return a reason in ASCII, or a shorter one; None if nothing plainer is left."""
    ascii_only = reason.replace("\0", "\\0").encode("ascii", "backslashreplace").decode()
    if ascii_only != reason:
        return ascii_only
    return next((reason[:length] for length in _SHORTER if len(reason) > length), None)


def store_size(documents: int, *, seconds: float) -> int:
    """Return the number of documents for the next transaction, from the duration of the last one."""
    return int(min(max(FEWEST, documents * STORE_WITHIN_S / max(seconds, 1e-3)), MOST))


def mean_of(vectors: Sequence[UnitVector]) -> UnitVector | None:
    """Return a document's vector, the normalised mean of its chunks' vectors; None if they cancel out."""
    if len(vectors) == 1:
        return vectors[0]
    mean = mean_vector(np.stack(vectors))
    return None if check_vectors(mean[None, :], dimensions=mean.size) else mean


def row_of(document: InFlight, vectors: Sequence[UnitVector], mean: UnitVector) -> DocumentRow:
    """Return what is stored of a document that has all of its vectors."""
    extracted = document.extracted
    assert extracted is not None, "a document without failure was read"
    return DocumentRow(
        item_id=document.item.id,
        location=document.item.location,
        text=extracted.text,
        content_hash=extracted.content_hash,
        characters=extracted.characters,
        metadata={"media_type": extracted.media_type},
        change=extracted.change,
        vector=mean,
        chunks=tuple(
            ChunkRow(chunk.index, chunk.text, vector)
            for chunk, vector in zip(document.chunks, vectors, strict=True)
        ),
        partial=extracted.partial,
        unknown=document.unknown,
        version=extracted.version,
    )
