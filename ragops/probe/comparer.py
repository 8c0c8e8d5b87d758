"""Compare a query with the stored vectors: one query at a time, in read-only transactions."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ragops.embedder.client import Embedder
from ragops.embedder.config import checked_sha256, embedder_config, side_threads
from ragops.errors import EmbedderError, RagopsError
from ragops.fingerprint.batches import measure_batches
from ragops.playbook.model import Playbook
from ragops.postgres.connection import Connection, Target, connect
from ragops.postgres.reader import DistanceStats, VectorCounts
from ragops.postgres.row_reader import reader_of
from ragops.quality.validation import QueryMeasure, comparison_stats
from ragops.quality.vectors import check_vectors, normalize

# One query runs at a time: a scan of 100 million rows would keep all others waiting for hours.
QUERY_TIMEOUT_S = 60.0
# https://www.postgresql.org/docs/current/errcodes-appendix.html: query_canceled
_CANCELLED = "57014"

EmbedderFactory = Callable[[], Embedder]


def embedder_factory_of(playbook: Playbook) -> EmbedderFactory:
    """Return a function that starts the playbook's embedder and tries its model.

    It raises as `checked_sha256`, Embedder and `measure_batches` do.
    """

    def start() -> Embedder:
        checked_sha256(playbook)
        embedder = Embedder(embedder_config(playbook, threads=side_threads(), tokens_per_batch=1))
        try:
            measure_batches(embedder, playbook, tokens_per_batch=1)
        except BaseException:
            embedder.close(timeout_s=0.5)
            raise
        return embedder

    return start


class Comparer:
    """Owns the embedder, which starts with the first query and again after a crash."""

    def __init__(
        self,
        target: Target,
        playbook: Playbook,
        start_embedder: EmbedderFactory,
        *,
        timeout_s: float = QUERY_TIMEOUT_S,
    ) -> None:
        self._timeout_s = timeout_s
        self._target = target
        self._playbook = playbook
        self._start_embedder = start_embedder
        self._lock = threading.Lock()
        self._embedder: Embedder | None = None
        self._connection: Connection | None = None
        self._is_closed = False

    def start(self) -> None:
        """Start the embedder now. Raises EmbedderError, ModelUnusable, UsageError."""
        with self._lock:
            self._running()

    def compare(self, query: str) -> dict[str, object]:
        """Return the runbook's response to a query.

        Raises TextTooLong, EmbedderError, DatabaseUnavailable, PlanRefused; RagopsError for anything else
        that the database refuses.
        """
        started = time.monotonic()
        with self._lock:
            embedder = self._running()
            model = self._playbook.model
            raw = embedder.embed([model.query_prefix + query], suffix=model.query_suffix).vectors
            vectors = normalize(raw)
            faults = check_vectors(vectors, dimensions=embedder.model.dimensions)
            if faults:
                raise EmbedderError(
                    "the query's embedding is unusable",
                    actual=faults[0].reason,
                    hint="ragops verify   (the build or the model is broken, not the stored vectors)",
                )
            vector: NDArray[np.float32] = vectors[0]
            stats = self._measure(query, vector)
        return {
            "success": True,
            "query": query,
            "backend_embedding_dims": int(vector.size),
            "processing_time_ms": int((time.monotonic() - started) * 1000),
            "comparison_stats": stats,
        }

    def close(self) -> None:
        """End the embedder and cancel the running query, from any thread."""
        # Without the lock, which a query holds for as long as its scan takes.
        self._is_closed = True
        connection, embedder = self._connection, self._embedder
        if connection is not None:
            with suppress(connection.Error):
                connection.cancel_safe(timeout=2.0)
        if embedder is not None:
            embedder.close(timeout_s=0.5)

    def _running(self) -> Embedder:
        """Return the embedder, started if it is not alive. Raises EmbedderError after `close`."""
        if self._is_closed:
            raise EmbedderError("the probe is shutting down")
        if self._embedder is not None and not self._embedder.is_alive:
            self._embedder.close(timeout_s=0.5)
            self._embedder = None
        if self._embedder is None:
            self._embedder = self._start_embedder()
        if self._is_closed:  # by another thread, while the embedder was starting
            self._embedder.close(timeout_s=0.5)
        return self._embedder

    def _measure(self, query: str, vector: NDArray[np.float32]) -> dict[str, object]:
        """Return the statistics of the query's distances. Raises RagopsError for what the database refuses."""
        thresholds = self._playbook.validation.thresholds
        # One connection per query: a probe may wait for days, and poolers and firewalls drop idle connections.
        connection = connect(self._target, timeout_s=self._playbook.database.connect_timeout_s)
        try:
            # psycopg sends it with every BEGIN, so that it also holds behind a transaction pooler.
            connection.read_only = True
            self._connection = connection
            reader = reader_of(connection, self._playbook, timeout_s=self._timeout_s)
            try:
                stats = reader.distance_stats(vector, thresholds=thresholds)
            except connection.DataError as error:
                stored = reader.counts().dimensions
                if stored in ((), (vector.size,)):
                    raise
                raise RagopsError(
                    "the stored vectors and the query's have different dimensions",
                    actual=f"stored: {' and '.join(map(str, stored))} dimensions; the model's: {vector.size}",
                    expected="one dimension",
                    hint="ragops validate   shows the columns; is model.file the model that made these vectors?",
                ) from error
            cause = None
            if stats.total == 0:
                cause = "no row is stored: nothing was compared"
            elif stats.finite < stats.total:
                # Rows without a vector are named as well, although they are no broken distances.
                cause = explain(stats, reader.counts())
        except connection.Error as error:
            first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            if error.sqlstate == _CANCELLED and not self._is_closed:
                raise RagopsError(
                    "the comparison takes too long and was cancelled",
                    where=self._target.label,
                    actual=first,
                    expected=f"a scan of the documents within {self._timeout_s:g} s",
                    hint="ragops probe serve --query-timeout SECONDS",
                ) from error
            raise RagopsError(
                "the database refused the comparison",
                where=self._target.label,
                actual=first,
                hint="ragops status   (do the playbook's tables exist in this database?)",
            ) from error
        finally:
            self._connection = None
            connection.close()
        measure = QueryMeasure(
            query,
            stats.total,
            stats.finite,
            stats.minimum,
            stats.maximum,
            stats.mean,
            stats.under,
            without_vector=stats.total - stats.compared,
        )
        return {**comparison_stats(measure, thresholds), **({"cause": cause} if cause else {})}


def explain(stats: DistanceStats, counts: VectorCounts) -> str:
    """Return why `total - finite` distances are not numbers: zero vectors, rows without a vector, the rest."""
    missing = stats.total - stats.finite
    without = counts.total - counts.with_embedding
    parts = []
    if counts.zero:
        zero = _plural(counts.zero, "stored zero vector")
        parts.append(f"{zero} (the cosine distance to a zero vector is not a number)")
    if without:
        parts.append(f"{_plural(without, 'row')} without an embedding")
    rest = missing - counts.zero - without
    if rest > 0:
        # pgvector multiplies in float32: components above 1.8e19 overflow to infinity.
        parts.append(f"{_plural(rest, 'vector')} too large for float32 arithmetic")
    return ", ".join(parts)


def finite_or_none(value: Any) -> Any:
    """Return a JSON value with None in place of NaN and Inf, which JSON does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite_or_none(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite_or_none(item) for item in value]
    return value


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
