"""Check finished documents and store them, in transactions sized by time."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import groupby

import numpy as np

from ragops.errors import FenceLost, Interrupted
from ragops.postgres.connection import Connection
from ragops.postgres.writer import Batch, BatchMetrics, ChunkRow, DocumentRow, Writer
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
_ZERO_MEAN = "its chunks' vectors cancel out: the mean is zero"


class Completer:
    """One thread of the fleet: from finished documents to the tables."""

    def __init__(
        self,
        pipeline: Pipeline,
        database: Database,
        writer: Writer,
        *,
        fingerprint: str,
        stop: Stop,
        stats: Stats,
        name: str,
    ) -> None:
        """`name` is the worker in the metrics of documents whose texts were all known already."""
        self._pipeline = pipeline
        self._database = database
        self._writer = writer
        self._fingerprint = fingerprint
        self._stop = stop
        self._stats = stats
        self._name = name

    def run(self) -> None:
        """Store until nothing more will be finished. Raises what ends the whole fleet."""
        limit = FIRST_STORE
        while documents := self._pipeline.take_finished(limit=limit, within_s=STORE_WITHIN_S):
            began = time.monotonic()
            # One batch per claim, which may be lost, and worker, for its metrics.
            ordered = sorted(documents, key=lambda d: (d.claim.id.int, d.worker))
            groups = groupby(ordered, key=lambda d: (d.claim.id, d.worker))
            self._store([self._batch(list(group)) for _, group in groups])
            self._pipeline.settle(documents)
            limit = store_size(len(documents), seconds=time.monotonic() - began)

    def _store(self, batches: Sequence[Batch]) -> None:
        def write(connection: Connection) -> None:
            if self._stop.aborted.is_set():
                raise Interrupted("stopped", signal_number=self._stop.signal_number)
            self._writer.write(connection, *batches)

        try:
            # After a lost connection the same batches are written again: if the first COMMIT had worked,
            # their claims are gone and the second attempt matches no row.
            self._database.run(write)
        except FenceLost as lost:
            if len(batches) > 1:  # one lost claim must not take the others with it
                for batch in batches:
                    self._store([batch])
                return
            self._stats.info(f"{lost.what} ({len(batches[0].documents):,} embedded documents)")
            return
        for batch in batches:
            self._stats.add(
                completed=len(batch.documents),
                failed=len(batch.failures),
                chunks=sum(len(document.chunks) for document in batch.documents),
                tokens=batch.metrics.tokens,
            )

    def _batch(self, documents: Sequence[InFlight]) -> Batch:
        rows: list[DocumentRow] = []
        failures: list[tuple[object, str]] = []
        for document in documents:
            vectors = [vector for vector in document.vectors if vector is not None]
            mean = None if document.failure else mean_of(vectors)
            if mean is None:
                failures.append((document.item.id, document.failure or _ZERO_MEAN))
            else:
                rows.append(row_of(document, vectors, mean))
        # Failed documents included: metrics are of the work done.
        metrics = BatchMetrics(
            worker=documents[0].worker or self._name,
            fingerprint=self._fingerprint,
            tokens=sum(document.tokens for document in documents),
            milliseconds=round(sum(document.milliseconds for document in documents)),
        )
        return Batch(documents[0].claim, tuple(rows), tuple(failures), metrics)


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
        vector=mean,
        chunks=tuple(
            ChunkRow(chunk.index, chunk.text, vector)
            for chunk, vector in zip(document.chunks, vectors, strict=True)
        ),
    )
