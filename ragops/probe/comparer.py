"""One query against the stored vectors: one at a time, in transactions that can only read."""

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
from ragops.playbook.model import Playbook
from ragops.postgres.connection import Connection, Target, connect
from ragops.postgres.reader import DistanceStats, Reader, VectorCounts
from ragops.quality.validation import QueryMeasure, comparison_stats
from ragops.quality.vectors import check_vectors, normalize

EmbedderFactory = Callable[[], Embedder]


def embedder_factory_of(playbook: Playbook) -> EmbedderFactory:
    """Starts the playbook's embedder on all physical cores; raises as `checked_sha256` and Embedder do."""

    def start() -> Embedder:
        checked_sha256(playbook)
        return Embedder(embedder_config(playbook, threads=side_threads()))

    return start


class Comparer:
    """Holds the embedder, which starts with the first query and again after it died."""

    def __init__(self, target: Target, playbook: Playbook, start_embedder: EmbedderFactory) -> None:
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

    def compare(self, query: str) -> dict[str, Any]:
        """The procedure's answer to a query.

        Raises TextTooLong, EmbedderError, DatabaseUnavailable, PlanRefused; RagopsError for whatever
        else the database refuses.
        """
        started = time.monotonic()
        with self._lock:
            vector = self._embed(query)
            stats = self._stats(query, vector)
        return {
            "success": True,
            "query": query,
            "backend_embedding_dims": int(vector.size),
            "processing_time_ms": int((time.monotonic() - started) * 1000),
            "comparison_stats": stats,
        }

    def close(self) -> None:
        """End the embedder and cancel what the database is asked, from any thread."""
        self._is_closed = True
        connection, embedder = self._connection, self._embedder
        if connection is not None:
            with suppress(connection.Error):
                connection.cancel_safe(timeout=2.0)
        if embedder is not None:
            embedder.close(timeout_s=0.5)

    def _running(self) -> Embedder:
        if self._is_closed:
            raise EmbedderError("the probe is shutting down")
        if self._embedder is not None and not self._embedder.is_alive:
            self._embedder.close(timeout_s=0.5)
            self._embedder = None
        if self._embedder is None:
            self._embedder = self._start_embedder()
        if self._is_closed:  # meanwhile, from another thread
            self._embedder.close(timeout_s=0.5)
        return self._embedder

    def _embed(self, query: str) -> NDArray[np.float32]:
        """The normalised vector of a query, shape (d,)."""
        embedder = self._running()
        vectors = normalize(embedder.embed([self._playbook.model.query_prefix + query]).vectors)
        faults = check_vectors(vectors, dimensions=embedder.model.dimensions)
        if faults:
            raise EmbedderError(
                "the query's own embedding has no direction",
                actual=faults[0].reason,
                hint="ragops verify   (the build or the model is broken, not the stored vectors)",
            )
        vector: NDArray[np.float32] = vectors[0]
        return vector

    def _stats(self, query: str, vector: NDArray[np.float32]) -> dict[str, Any]:
        thresholds = self._playbook.validation.thresholds
        connection = connect(self._target, timeout_s=self._playbook.database.connect_timeout_s)
        try:
            # Said at every BEGIN, so that it holds behind a transaction pooler too.
            connection.read_only = True
            self._connection = connection
            found = self._measure(connection, vector)
            measure = QueryMeasure(
                query, found.total, found.finite, found.minimum, found.maximum, found.mean, found.under
            )
            cause = self._cause(connection, found)
        except connection.Error as error:
            raise self._refused(error) from error
        finally:
            self._connection = None
            connection.close()
        return comparison_stats(measure, thresholds) | ({"cause": cause} if cause else {})

    def _measure(self, connection: Connection, vector: NDArray[np.float32]) -> DistanceStats:
        reader, thresholds = Reader(connection, self._playbook.tables), self._playbook.validation.thresholds
        try:
            return reader.distance_stats(vector, thresholds=thresholds)
        except connection.DataError as error:
            stored = reader.counts().dimensions
            if stored in ((), (vector.size,)):
                raise
            raise RagopsError(
                "the stored vectors cannot be compared with the query's",
                actual=f"stored: {' and '.join(map(str, stored))} dimensions; the model's: {vector.size}",
                expected="one dimension",
                hint="ragops validate   shows the columns; is model.file the model that they were made with?",
            ) from error

    def _cause(self, connection: Connection, found: DistanceStats) -> str | None:
        """Why some distance is no number; None when each is one."""
        if found.total == 0:
            return "no row is stored: nothing was compared"
        if found.finite == found.total:
            return None
        return explain(found, Reader(connection, self._playbook.tables).counts())

    def _refused(self, error: Exception) -> RagopsError:
        first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        return RagopsError(
            "the database refused the comparison",
            where=self._target.label,
            actual=first,
            hint="ragops status   (are the playbook's tables those of this database?)",
        )


def explain(found: DistanceStats, counts: VectorCounts) -> str:
    """Why `total - finite` distances are no numbers: zero vectors, rows without one, the rest."""
    missing = found.total - found.finite
    without = counts.total - counts.with_embedding
    parts = []
    if counts.zero:
        zero = _plural(counts.zero, "stored zero vector")
        parts.append(f"{zero} (the cosine distance to a zero vector is not a number)")
    if without:
        parts.append(f"{_plural(without, 'row')} without an embedding")
    rest = missing - counts.zero - without
    if rest > 0:
        parts.append(f"{_plural(rest, 'vector')} beyond what float32 can multiply")
    return ", ".join(parts)


def finite_or_none(value: Any) -> Any:
    """JSON has neither NaN nor Inf: such a number becomes None, wherever it stands."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite_or_none(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [finite_or_none(one) for one in value]
    return value


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
