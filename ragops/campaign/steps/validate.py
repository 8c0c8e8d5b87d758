"""validate: is what is stored what the reference would store? Decided by embedding stored texts again."""

from __future__ import annotations

import math
import random
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ragops.campaign.context import Effect, StepContext
from ragops.embedder.client import Embedder
from ragops.embedder.config import checked_sha256, embedder_config, side_threads
from ragops.errors import Interrupted, NegativeVerdict, RagopsError
from ragops.postgres.queue import ItemStatus, Queue
from ragops.postgres.reader import Reader, StoredRow
from ragops.quality.drift import cosine_distances
from ragops.quality.validation import (
    ColumnMeasure,
    Measurements,
    QueryMeasure,
    ValidationLimits,
    comparison_stats,
    judge,
    validation_verdict,
)
from ragops.quality.vectors import mean_vector, normalize
from ragops.workers.sources import Preparer

WORDS_A_QUERY = 8
POLL_S = 1.0
SILENT_S = 10.0
REQUEST_TEXTS = 32


def run(context: StepContext, *, after: int | None = None, seed: float | None = None) -> Effect:
    """Wait until `after` documents are embedded, then check. The effect's `verdict` is pass or fail.

    Raises RagopsError when the queue cannot reach `after`, or nothing is stored.
    """
    if after is not None:
        wait_until(context, after)
    started = time.monotonic()
    checked_sha256(context.playbook)
    with Embedder(
        embedder_config(context.playbook, threads=side_threads()), command=context.embedder_command
    ) as e:
        found = measure(context, e, seed=random.uniform(-1, 1) if seed is None else seed)
    validation = context.playbook.validation
    limits = ValidationLimits(validation.max_distance, validation.criterion, validation.max_failed_share)
    checks = judge(found, limits)
    first = found.queries[0] if found.queries else None
    return {
        "verdict": validation_verdict(checks),
        "documents": found.columns[0].total,
        "checks": [check.to_json() for check in checks],
        "query": first.query if first else None,
        "backend_embedding_dims": found.dimensions,
        "processing_time_ms": int((time.monotonic() - started) * 1000),
        "comparison_stats": comparison_stats(first, found.thresholds) if first else {},
        "queries": [query.to_json() for query in found.queries],
        "agreement": _agreement_summary(found.agreement),
    }


def _agreement_summary(distances: Sequence[float]) -> dict[str, Any]:
    """JSON has no NaN: rows without a distance are counted instead."""
    finite = [distance for distance in distances if not math.isnan(distance)]
    return {
        "rows": len(distances),
        "max": max(finite, default=None),
        "not_a_number": len(distances) - len(finite),
    }


def refuse_failure(effect: Effect) -> None:
    """Raise NegativeVerdict when the effect's verdict is `fail`."""
    failed = [check for check in effect["checks"] if check["status"] == "fail"]
    if failed:
        decisive = {check["id"] for check in failed} - {"failed_items"}
        raise NegativeVerdict(
            "validation failed",
            where=f"{effect['documents']:,} documents",
            actual="\n".join(f"{check['id']}: {check['measured']}" for check in failed),
            expected="\n".join(f"{check['id']}: {check['expected']}" for check in failed),
            hint="ragops verify   (is it the build, the pooling, a prefix?), then: ragops reset --resume"
            if decisive and effect["documents"]
            else "ragops queue status   (why did they fail?), ragops queue retry, then: ragops reset --resume",
        )


def wait_until(context: StepContext, after: int) -> None:
    """Wait, with progress, until so many items are completed; fewer are enough when the rest has failed."""
    queue = Queue(context.connection, context.playbook.tables)
    quiet_since, last = time.monotonic(), -1
    while True:
        counts = queue.counts()
        completed = counts[ItemStatus.COMPLETED]
        reachable = sum(counts.values()) - counts[ItemStatus.FAILED]
        within_gate = _is_gate_drained(queue)
        context.reporter.progress(f"waiting for {after:,} documents", completed, after)
        if completed >= after or (within_gate and context.ledger is not None):
            break
        if reachable < after:
            context.reporter.end_progress()
            raise RagopsError(
                f"the queue cannot reach {after:,} documents",
                actual=", ".join(f"{number:,} {status}" for status, number in counts.items()),
                hint=f"ragops validate --after {max(1, min(reachable, completed) or reachable)}"
                "   or: ragops queue reseed",
            )
        if completed != last or counts[ItemStatus.PROCESSING]:
            quiet_since, last = time.monotonic(), completed
        elif time.monotonic() - quiet_since > SILENT_S:
            context.reporter.info("nothing is embedding; in another terminal: ragops embed --workers 3")
            quiet_since = time.monotonic() + 50
        if context.stop.requested.wait(POLL_S):
            raise Interrupted("stopped while waiting", signal_number=context.stop.signal_number)
    context.reporter.end_progress()


def _is_gate_drained(queue: Queue) -> bool:
    """In a campaign the gate's phase decides, not a number: some of its items may have failed."""
    return sum(queue.open_items(phase=queue.gate())) == 0


def measure(context: StepContext, embedder: Embedder, *, seed: float) -> Measurements:
    """Collect what the checks judge; `seed` (−1 to 1) draws the sample."""
    reader, validation = Reader(context.connection, context.playbook.tables), context.playbook.validation
    mapped = context.playbook.tables.mapped()
    columns = [_column(reader, "documents", str(mapped["documents"]))]
    if "document_chunks" in mapped:
        columns.append(_column(reader, "document_chunks", str(mapped["document_chunks"])))
    sample = reader.sample(size=validation.sample, seed=seed)
    matching = [row for row in sample if row.vector.size == embedder.model.dimensions]
    distances, worst = _agreement(context, reader, embedder, matching)
    # A row of another dimension cannot agree, and the database cannot compare it with a query.
    distances += [float("nan")] * (len(sample) - len(matching))
    is_uniform = columns[0].dimensions == (embedder.model.dimensions,)
    return Measurements(
        dimensions=embedder.model.dimensions,
        columns=tuple(columns),
        queue=Queue(context.connection, context.playbook.tables).counts(),
        agreement=tuple(distances),
        thresholds=validation.thresholds,
        queries=tuple(_queries(context, reader, embedder, matching)) if is_uniform else (),
        is_sampled=not validation.queries,
        unlike=worst,
    )


def measure_stored(context: StepContext, embedder: Embedder) -> dict[str, Any]:
    """How a random sample of stored vectors agrees with the same texts embedded now."""
    reader, limit = Reader(context.connection, context.playbook.tables), context.playbook.validation.max_distance
    size = context.playbook.validation.sample
    sample = reader.sample(size=size, seed=random.uniform(-1, 1))
    matching = [row for row in sample if row.vector.size == embedder.model.dimensions]
    distances, _ = _agreement(context, reader, embedder, matching)
    context.reporter.end_progress()
    unlike = sum(1 for distance in distances if not distance <= limit) + len(sample) - len(matching)
    summary = _agreement_summary(distances)
    return {**summary, "rows": len(distances) + len(sample) - len(matching), "disagreeing": unlike}


def _column(reader: Reader, logical: str, name: str) -> ColumnMeasure:
    counts = reader.counts(logical)
    return ColumnMeasure(name, counts.total, counts.with_embedding, counts.zero, counts.dimensions)


def _agreement(
    context: StepContext, reader: Reader, embedder: Embedder, sample: Sequence[StoredRow]
) -> tuple[list[float], tuple[str, ...]]:
    """Cosine distances of stored vectors, of documents and chunks, to their texts embedded again."""
    if not sample:
        return [], ()
    chunks = _chunks(context, reader, embedder, sample)
    prefix = context.playbook.model.document_prefix
    texts = [prefix + chunk.text for rows in chunks.values() for chunk in rows]
    raw = embed_all(context, embedder, texts)
    report_unfitting(context, embedder, raw)
    again = iter(normalize(raw))
    stored, fresh, names = [], [], []
    for row in sample:
        vectors = np.stack([next(again) for _ in chunks[row.id]])
        stored.append(row.vector)
        fresh.append(mean_vector(vectors))
        names.append(f"document {row.id}")
        for chunk, vector in zip(chunks[row.id], vectors, strict=True):
            if chunk.vector.size == vector.size:
                stored.append(chunk.vector)
                fresh.append(vector)
                names.append(f"document {row.id} chunk {chunk.id}")
    distances = cosine_distances(np.stack(stored), np.stack(fresh))
    limit = context.playbook.validation.max_distance
    order = sorted(range(len(names)), key=lambda i: -np.nan_to_num(distances[i], nan=np.inf))
    return distances.tolist(), tuple(names[i] for i in order if not distances[i] <= limit)


def _chunks(
    context: StepContext, reader: Reader, embedder: Embedder, sample: Sequence[StoredRow]
) -> dict[Any, list[StoredRow]]:
    """The stored chunks of each sampled document; without a chunk table, its text cut again."""
    chunks: dict[Any, list[StoredRow]] = defaultdict(list)
    if context.playbook.tables.document_chunks is not None:
        for chunk in reader.chunks_of([row.id for row in sample]):
            chunks[chunk.group].append(chunk)
    preparer = Preparer(context.playbook, max_tokens=embedder.model.max_tokens, count_tokens=embedder.count_tokens)
    nothing = np.empty(0, dtype=np.float32)
    for row in sample:
        if not chunks[row.id]:
            cut = preparer.chunk(row.text, markdown=False)
            chunks[row.id] = [StoredRow(c.index, c.text, nothing) for c in cut] or [StoredRow(0, "", nothing)]
    return chunks


def _queries(
    context: StepContext, reader: Reader, embedder: Embedder, sample: Sequence[StoredRow]
) -> list[QueryMeasure]:
    validation = context.playbook.validation
    drawn = sample[: validation.sampled_queries]
    prefix = context.playbook.model.query_prefix
    first_words = (" ".join(row.text.split()[:WORDS_A_QUERY]) for row in drawn)
    texts = list(validation.queries) or [shortened(embedder, words, prefix=prefix) for words in first_words]
    sources = [None] * len(texts) if validation.queries else [row.id for row in drawn]
    vectors = normalize(embed_all(context, embedder, [prefix + text for text in texts]))
    measures = []
    for number, (text, source, vector) in enumerate(zip(texts, sources, vectors, strict=True), start=1):
        context.reporter.progress("validating", number, len(texts))
        stats = reader.distance_stats(vector, thresholds=validation.thresholds)
        rank = reader.rank_of(vector, source) if source is not None else None
        measures.append(
            QueryMeasure(
                text, stats.total, stats.finite, stats.minimum, stats.maximum, stats.mean, stats.under, rank
            )
        )
    context.reporter.end_progress()
    return measures


def embed_all(context: StepContext, embedder: Embedder, texts: Sequence[str]) -> NDArray[np.float32]:
    """Raw vectors of the texts, shape (n, d); NaN for a text that the model cannot embed whole."""
    vectors = np.full((len(texts), embedder.model.dimensions), np.nan, dtype=np.float32)
    for start in range(0, len(texts), REQUEST_TEXTS):
        context.reporter.progress("embedding again", start, len(texts))
        part = texts[start : start + REQUEST_TEXTS]
        lengths = embedder.count_tokens(part)
        fitting = [place for place, tokens in enumerate(lengths) if tokens <= embedder.model.max_tokens]
        if fitting:
            found = embedder.embed([part[place] for place in fitting]).vectors
            vectors[[start + place for place in fitting]] = found
    return vectors


def report_unfitting(context: StepContext, embedder: Embedder, vectors: NDArray[np.float32]) -> None:
    """Say how many texts were too long; their rows cannot agree with anything."""
    count = int(np.isnan(vectors).any(axis=1).sum())
    if count:
        context.reporter.end_progress()
        context.reporter.info(
            f"{count} of {len(vectors)} stored texts are longer than the {embedder.model.max_tokens} tokens that "
            "this model embeds whole: they count as disagreeing"
        )


def shortened(embedder: Embedder, text: str, *, prefix: str) -> str:
    """The text, cut until the model can embed it whole: without spaces a few words may be a whole page."""
    while text and embedder.count_tokens([prefix + text])[0] > embedder.model.max_tokens:
        text = text[: len(text) // 2]
    return text
