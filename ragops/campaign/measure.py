"""Measure stored vectors: embed a sample of the stored texts again, and compare."""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ragops.campaign.recut import Recut
from ragops.embedder.client import Embedder
from ragops.fingerprint.queries import refuse_faulty, refuse_unfitting
from ragops.playbook.model import Model
from ragops.postgres.connection import UNREADABLE
from ragops.postgres.measured import Measured, read_measured
from ragops.postgres.reader import DistanceStats, Reader, StoredRow
from ragops.quality.drift import cosine_distances
from ragops.quality.validation import ColumnMeasure, Measurements, QueryMeasure
from ragops.quality.vectors import check_vectors, mean_vector, normalize
from ragops.session import Session

Found = tuple[DistanceStats, int | None]
Read = Callable[[Callable[[Reader], Found]], Found]

WORDS_PER_QUERY = 8
# A request stays far below the embedder's deadline, and the progress display moves.
REQUEST_TEXTS = 32
# Chunks of one sampled document that are embedded again: a text of 30 MB has 20,000, which would take hours.
MOST_CHUNKS = 64
NO_TOKEN = "no token for this model"
UNUSABLE = "an unusable vector"


@dataclass(frozen=True, slots=True)
class Embedded:
    """Raw vectors of texts, shape (n, d), and by the text's place why one cannot be compared or searched with."""

    vectors: NDArray[np.float32]
    reasons: Mapping[int, str]


@dataclass(frozen=True, slots=True)
class Agreement:
    """Cosine distances of stored vectors to their texts embedded again; JSON has no NaN, so those are counted."""

    rows: int
    largest: float | None
    not_a_number: int
    disagreeing: int
    changed: tuple[str, ...] = ()
    """What the playbook changes of how texts are cut and embedded; they are compared as they were."""

    @classmethod
    def of(cls, distances: Sequence[float], *, limit: float) -> Agreement:
        finite = [distance for distance in distances if not math.isnan(distance)]
        # Written as `not d <= limit`: a NaN disagrees.
        disagreeing = sum(1 for distance in distances if not distance <= limit)
        return cls(len(distances), max(finite, default=None), len(distances) - len(finite), disagreeing)

    def to_json(self) -> dict[str, object]:
        return {
            "rows": self.rows,
            "max": self.largest,
            "not_a_number": self.not_a_number,
            "disagreeing": self.disagreeing,
        }


def measure(session: Session, embedder: Embedder, *, seed: float) -> Measurements:
    """Collect what the checks judge; `seed` (−1 to 1) draws the sample.

    Raises UsageError for queries that do not fit, RagopsError for one without a usable vector.
    """
    refuse_unfitting(embedder, session.playbook)
    validation = session.playbook.validation
    mapped = session.playbook.tables.mapped()
    columns = [_column(session, "documents", str(mapped["documents"]))]
    if "document_chunks" in mapped:
        columns.append(_column(session, "document_chunks", str(mapped["document_chunks"])))
    has_paths = _has_column(session, "documents", "file_path")
    sample = session.read(lambda reader: reader.sample(size=validation.sample, seed=seed, with_paths=has_paths))
    matching = [row for row in sample if row.vector.size == embedder.model.dimensions]
    recut = Recut.of(session, embedder)
    distances, worst = _agreement(session, embedder, matching, recut)
    # A row of another dimension cannot agree, and the database cannot compare it with a query.
    others = [f"document {row.id}" for row in sample if row.vector.size != embedder.model.dimensions]
    distances += [float("nan")] * len(others)
    is_uniform = columns[0].dimensions == (embedder.model.dimensions,)
    return Measurements(
        dimensions=embedder.model.dimensions,
        columns=tuple(columns),
        queue=session.through_outages(lambda: session.queue.counts()) if session.has_queue else {},
        agreement=tuple(distances),
        thresholds=validation.thresholds,
        queries=tuple(measure_queries(session, embedder, matching)) if is_uniform else (),
        is_sampled=not validation.queries,
        unlike=(*others, *worst),
        changed=recut.changed,
        changed_affixes=recut.changed_affixes,
        repeated_ids=tuple(
            str(id) for id in session.read(lambda reader: reader.repeated_ids([row.id for row in sample]))
        ),
        has_queue=session.has_queue,
        queued_twice=_queued_twice(session),
        stored_twice=_stored_twice(session),
    )


def _queued_twice(session: Session) -> int | None:
    """Count the locations that are queued again; None where the queue or its locations cannot be read."""
    if not session.has_queue or not _has_column(session, "files_queue", "location"):
        return None
    try:
        return session.through_outages(lambda: session.queue.repeated_locations())
    except UNREADABLE:
        return None


def _stored_twice(session: Session) -> int | None:
    """Count the documents whose path is stored again; None where paths are not stored or cannot be read."""
    if not _has_column(session, "documents", "file_path"):
        return None
    try:
        return session.read(lambda reader: reader.repeated_paths())
    except UNREADABLE:
        return None


def read_recorded(session: Session, *, limit: int) -> Measured | None:
    """Return what was recorded of the stored documents, with up to `limit` of them; None: not known."""
    tables = session.playbook.tables
    if not _has_column(session, "files_queue", "id") or not _has_column(session, "files_queue", "location"):
        return None
    try:
        return session.through_outages(lambda: read_measured(session.connection, tables, limit=limit))
    except UNREADABLE:
        return None


def _has_column(session: Session, logical: str, word: str) -> bool:
    column = session.playbook.tables.columns_of(logical).get(word)
    table = session.through_outages(lambda: session.facts(scans=False)).tables.get(logical)
    return table is not None and column in table.columns


def measure_stored(session: Session, embedder: Embedder) -> Agreement:
    """How a random sample of stored vectors agrees with the same texts embedded now."""
    limit = session.playbook.validation.max_distance
    size = session.playbook.validation.sample
    seed = random.uniform(-1, 1)
    has_paths = _has_column(session, "documents", "file_path")
    sample = session.read(lambda reader: reader.sample(size=size, seed=seed, with_paths=has_paths))
    matching = [row for row in sample if row.vector.size == embedder.model.dimensions]
    recut = Recut.of(session, embedder)
    distances, _ = _agreement(session, embedder, matching, recut)
    session.reporter.end_progress()
    # A row of another dimension cannot agree.
    distances += [math.nan] * (len(sample) - len(matching))
    agreement = Agreement.of(distances, limit=limit)
    affixes = (f"{name} {before!r}, now {now!r}" for name, before, now in recut.changed_affixes)
    return replace(agreement, changed=(*recut.changed, *affixes))


def _column(session: Session, logical: str, name: str) -> ColumnMeasure:
    counts = session.read(lambda reader: reader.counts(logical))
    return ColumnMeasure(
        name, counts.total, counts.with_embedding, counts.zero, counts.dimensions, missing=counts.missing
    )


def _agreement(
    session: Session, embedder: Embedder, sample: Sequence[StoredRow], recut: Recut
) -> tuple[list[float], tuple[str, ...]]:
    """Cosine distances of stored vectors, of documents and chunks, to their texts embedded again."""
    if not sample:
        return [], ()
    limit = session.playbook.validation.max_distance
    stored = _stored_chunks(session, sample)
    own = [stored.get(row.id) or _unstored(recut.chunks(row.text, row.path)) for row in sample]
    found = _compared(session, embedder, recut.model, sample, own)
    # Of a document without stored chunks it is not known for certain which kind of text it was cut as.
    others: dict[int, list[StoredRow]] = {}
    for place, row in enumerate(sample):
        if not stored.get(row.id) and not found[place][0].distance <= limit:
            other = recut.other_chunks(row.text, row.path)
            if other is not None:
                others[place] = _unstored(other)
    again = [sample[place] for place in others]
    for place, compared in zip(
        others, _compared(session, embedder, recut.model, again, list(others.values())), strict=True
    ):
        if compared[0].distance <= limit:
            found[place] = compared
    every = [compared for group in found for compared in group]
    worst = sorted(every, key=lambda compared: -np.nan_to_num(compared.distance, nan=np.inf))
    unlike = tuple(compared.name for compared in worst if not compared.distance <= limit)
    return [compared.distance for compared in every], unlike


@dataclass(frozen=True, slots=True)
class _Compared:
    """The distance of one stored vector to its text embedded again."""

    name: str
    distance: float


def _compared(
    session: Session,
    embedder: Embedder,
    model: Model,
    sample: Sequence[StoredRow],
    chunks: Sequence[Sequence[StoredRow]],
) -> list[list[_Compared]]:
    """Embed the chunks of documents again; return for each its own distance, then those of its stored chunks.

    Of a document with more than MOST_CHUNKS of them some are; its mean is that of these and of the stored ones.
    """
    if not sample:
        return []
    drawn = [chunks_to_compare(own, dimensions=embedder.model.dimensions) for own in chunks]
    texts = [model.document_prefix + own[n].text for own, few in zip(chunks, drawn, strict=True) for n in few]
    embedded = embed_all(session, embedder, texts, suffix=model.document_suffix)
    report_without_vector(session, embedded)
    again = iter(normalize(embedded.vectors))
    stored, fresh, names = [], [], []
    for place, (row, own, few) in enumerate(zip(sample, chunks, drawn, strict=True)):
        vectors = {number: next(again) for number in few}
        stored.append(row.vector)
        fresh.append(mean_vector(np.stack([vectors.get(n, chunk.vector) for n, chunk in enumerate(own)])))
        names.append((place, f"document {row.id}"))
        for number, vector in vectors.items():
            chunk = own[number]
            if chunk.vector.size == vector.size:
                stored.append(chunk.vector)
                fresh.append(vector)
                names.append((place, f"document {row.id} chunk {chunk.id}"))
    found: list[list[_Compared]] = [[] for _ in sample]
    for (place, name), distance in zip(
        names, cosine_distances(np.stack(stored), np.stack(fresh)).tolist(), strict=True
    ):
        found[place].append(_Compared(name, distance))
    return found


def chunks_to_compare(chunks: Sequence[StoredRow], *, dimensions: int) -> list[int]:
    """Return which chunks of a document to embed again: all, or some of many that are stored, evenly spread."""
    if len(chunks) <= MOST_CHUNKS or any(chunk.vector.size != dimensions for chunk in chunks):
        return list(range(len(chunks)))
    return [round(place) for place in np.linspace(0, len(chunks) - 1, MOST_CHUNKS)]


def _stored_chunks(session: Session, sample: Sequence[StoredRow]) -> Mapping[Any, list[StoredRow]]:
    """Return the stored chunks of sampled documents by the documents' ids; none without a chunk table."""
    # Not by id alone: several documents may have the same one, which is a finding and no reason to stop.
    chunks: dict[Any, list[StoredRow]] = defaultdict(list)
    if session.playbook.tables.document_chunks is not None:
        for chunk in session.read(lambda reader: reader.chunks_of([row.id for row in sample])):
            chunks[chunk.group].append(chunk)
    return chunks


def _unstored(chunks: Sequence[str]) -> list[StoredRow]:
    """Return chunks that have no vector of their own; a text without any is embedded as it is."""
    nothing = np.empty(0, dtype=np.float32)
    return [StoredRow(index, text, nothing) for index, text in enumerate(chunks or [""])]


def measure_queries(
    session: Session, embedder: Embedder, sample: Sequence[StoredRow], *, read: Read | None = None
) -> list[QueryMeasure]:
    """Search for the playbook's queries, or for words of sampled rows; `read` reads from another place."""
    read, validation = read or session.read, session.playbook.validation
    drawn = sample[: validation.sampled_queries]
    prefix, suffix = session.playbook.model.query_prefix, session.playbook.model.query_suffix
    first_words = (" ".join(row.text.split()[:WORDS_PER_QUERY]) for row in drawn)
    texts = list(validation.queries) or [
        shortened(embedder, words, prefix=prefix, suffix=suffix) for words in first_words
    ]
    sources = [None] * len(texts) if validation.queries else [row.id for row in drawn]
    embedded = embed_all(session, embedder, [prefix + text for text in texts], suffix=suffix)
    if validation.queries:
        refuse_faulty(session.playbook, embedded.reasons)
    # The row that such words were taken from disagrees already.
    usable = [place for place in range(len(texts)) if place not in embedded.reasons]
    texts, sources = [texts[place] for place in usable], [sources[place] for place in usable]
    vectors = normalize(embedded.vectors[usable])
    measures = []
    for number, (text, source, vector) in enumerate(zip(texts, sources, vectors, strict=True), start=1):
        session.reporter.progress("validating", number, len(texts))
        stats, rank = read(partial(_search, vector, source, validation.thresholds))
        measures.append(
            QueryMeasure(
                text,
                stats.total,
                stats.finite,
                stats.minimum,
                stats.maximum,
                stats.mean,
                stats.under,
                rank,
                stats.total - stats.compared,
            )
        )
    session.reporter.end_progress()
    return measures


def _search(
    vector: NDArray[np.float32], source: object, thresholds: Sequence[float], reader: Reader
) -> tuple[DistanceStats, int | None]:
    """Return the distances of a query to every document, and the rank of the document that it was taken from."""
    stats = reader.distance_stats(vector, thresholds=thresholds)
    return stats, reader.rank_of(vector, source) if source is not None else None


def embed_all(session: Session, embedder: Embedder, texts: Sequence[str], *, suffix: str) -> Embedded:
    """Embed texts, each alone; those that the model cannot embed whole have a vector of NaN and a reason."""
    vectors = np.full((len(texts), embedder.model.dimensions), np.nan, dtype=np.float32)
    reasons: dict[int, str] = {}
    most = embedder.model.max_tokens
    too_long = f"longer than the {most} tokens that this model embeds whole"
    for start in range(0, len(texts), REQUEST_TEXTS):
        session.reporter.progress("embedding again", start, len(texts))
        part = texts[start : start + REQUEST_TEXTS]
        fitting = []
        for place, tokens in enumerate(embedder.count_tokens(part, suffix=suffix), start=start):
            if 0 < tokens <= most:
                fitting.append(place)
            else:
                reasons[place] = too_long if tokens else NO_TOKEN
        if fitting:
            chosen = [texts[place] for place in fitting]
            vectors[fitting] = embedder.embed(chosen, suffix=suffix, tokens_per_batch=1).vectors
    for fault in check_vectors(vectors, dimensions=vectors.shape[1]):
        reasons.setdefault(fault.index, f"{UNUSABLE} ({fault.reason})")
    return Embedded(vectors, reasons)


def report_without_vector(session: Session, embedded: Embedded) -> None:
    """Say how many stored texts have no vector, and why; their rows cannot agree with anything."""
    # NaN at which position does not matter here.
    kinds = Counter(reason.partition(" (")[0] for reason in embedded.reasons.values())
    for kind, count in kinds.items():
        session.reporter.end_progress()
        verb = "is" if count == 1 else "are"
        which = f"{count} of {len(embedded.vectors)} stored texts"
        if kind == NO_TOKEN:
            said = f"{which} {'has' if count == 1 else 'have'} {NO_TOKEN}"
        elif kind == UNUSABLE:
            said = f"{which} {'gets' if count == 1 else 'get'} {UNUSABLE} from this model (ragops verify)"
        else:
            said = f"{which} {verb} {kind}"
        session.reporter.info(f"{said}: {'it counts' if count == 1 else 'they count'} as disagreeing")


def shortened(embedder: Embedder, text: str, *, prefix: str, suffix: str) -> str:
    """The text, cut until the model can embed it whole: without spaces a few words may be a whole page."""
    while text and embedder.count_tokens([prefix + text], suffix=suffix)[0] > embedder.model.max_tokens:
        text = text[: len(text) // 2]
    return text
