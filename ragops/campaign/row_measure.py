"""Measure the vectors of rows that stay: embed a sample of their texts again, and compare."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ragops.campaign.measure import embed_all, report_without_vector
from ragops.campaign.recut import Recut
from ragops.campaign.row_names import row_name
from ragops.documents.errors import Unreadable
from ragops.documents.extraction import extract_text
from ragops.embedder.client import Embedder
from ragops.playbook.targets import LongText, RowTarget
from ragops.postgres.connection import UNREADABLE
from ragops.postgres.reader import StoredRow, VectorCounts
from ragops.postgres.row_reader import RowReader
from ragops.postgres.row_work import RowFilling
from ragops.quality.drift import cosine_distances
from ragops.quality.row_validation import RowMeasure, TargetMeasure
from ragops.quality.vectors import mean_vector, normalize
from ragops.row_facts import TargetFacts
from ragops.session import Session
from ragops.workers.long_texts import beginning, tail_length, truncated


@dataclass(frozen=True, slots=True)
class Sampled:
    """A target with the rows that were drawn from it."""

    target: RowTarget
    facts: TargetFacts
    counts: VectorCounts
    written: tuple[StoredRow, ...]
    """Completed items of the queue."""
    others: tuple[StoredRow, ...]
    edited: int = 0
    """How many of the others are completed items whose text is another one now."""

    @property
    def rows(self) -> tuple[StoredRow, ...]:
        return (*self.written, *self.others)


def sample_rows(session: Session, *, size: int, seed: float) -> list[Sampled]:
    """Count the vectors of every target, and draw rows: half of them among those that a campaign has written."""
    facts = session.through_outages(lambda: session.targets(scans=False))
    share = max(1, math.ceil(size / max(1, len(facts))))
    has_items = session.has_queue and session.through_outages(lambda: queue_is_of(session))
    return [
        session.through_outages(lambda found=found: _sampled(session, found, share, seed, has_items))  # type: ignore[misc]
        for found in facts
    ]


def queue_is_of(session: Session) -> bool:
    """Return whether the items of `ragops.work` are rows of the playbook's targets."""
    try:
        recorded = RowFilling.parse(session.queue.filling().source)
    except UNREADABLE:
        return False
    given = [target.model_dump(mode="json") for target in session.playbook.targets]
    return recorded is not None and [dict(target) for target in recorded.targets] == given


def _sampled(session: Session, facts: TargetFacts, size: int, seed: float, has_items: bool) -> Sampled:
    target = session.playbook.targets[facts.number - 1]
    if facts.column(facts.filled) is None:
        return Sampled(target, facts, VectorCounts(0, 0, 0, ()), (), ())
    reader = RowReader(session.connection, target, facts)
    written = reader.draw_completed(size=(size + 1) // 2) if has_items else []
    seen = {row.id for row in written}
    drawn = [row for row in reader.sample(size=size, seed=seed) if row.id not in seen and row.text.strip()]
    drawn = drawn[: size - len(written)]
    again = reader.completed(drawn) if has_items else set()
    written += [row for row in drawn if row.id in again]
    others = [row for row in drawn if row.id not in again]
    # A text that the application has changed since says nothing about the vectors that the campaign wrote.
    edited = reader.edited(written) if written else set[str]()
    others += [row for row in written if row.id in edited]
    written = [row for row in written if row.id not in edited]
    return Sampled(target, facts, reader.counts(), tuple(written), tuple(others), len(edited))


def measure_targets(
    session: Session,
    embedder: Embedder,
    recut: Recut,
    sampled: Sequence[Sampled],
    *,
    limit: float,
    is_running: bool,
) -> RowMeasure:
    """Embed the sampled rows of every target again, and compare."""
    return RowMeasure(
        tuple(_measured(session, embedder, recut, one, limit) for one in sampled), is_running=is_running
    )


def _measured(session: Session, embedder: Embedder, recut: Recut, one: Sampled, limit: float) -> TargetMeasure:
    distances = row_distances(session, embedder, recut, one.rows, long_text=one.target.long_text)
    pairs = sorted(zip(distances, one.rows, strict=True), key=lambda pair: -np.nan_to_num(pair[0], nan=np.inf))
    end = len(one.written)
    return TargetMeasure(
        table=one.facts.table.quoted,
        column=one.facts.filled,
        total=one.counts.total,
        with_embedding=one.counts.with_embedding,
        zero=one.counts.zero,
        missing=one.counts.missing,
        dimensions=one.counts.dimensions,
        written=tuple(distances[:end]),
        others=tuple(distances[end:]),
        edited=one.edited,
        unlike=tuple(row_name(one.target, row.id) for distance, row in pairs if not distance <= limit),
    )


def row_distances(
    session: Session, embedder: Embedder, recut: Recut, rows: Sequence[StoredRow], *, long_text: LongText
) -> list[float]:
    """Return the cosine distance of each row's vector to its text embedded again; NaN where there is none."""
    size = embedder.model.dimensions
    distances = [math.nan] * len(rows)
    # A row of another dimension cannot agree.
    places = [place for place, row in enumerate(rows) if row.vector.size == size]
    if not places:
        return distances
    texts = [_as_embedded(rows[place].text) for place in places]
    fresh = embed_rows(session, embedder, recut, texts, long_text=long_text)
    stored = np.stack([rows[place].vector for place in places])
    for place, distance in zip(places, cosine_distances(stored, fresh).tolist(), strict=True):
        distances[place] = distance
    return distances


def embed_rows(
    session: Session, embedder: Embedder, recut: Recut, texts: Sequence[str], *, long_text: LongText
) -> NDArray[np.float32]:
    """Return the vectors (n, d) that texts of rows get, long ones as their target says; NaN for one without."""
    model = recut.model
    if long_text != "mean":
        return _cut_off(embedder, recut, texts, refuses=long_text == "fail")
    chunks = [recut.chunks(text, None) or [text] for text in texts]
    prefixed = [model.document_prefix + chunk for own in chunks for chunk in own]
    embedded = embed_all(session, embedder, prefixed, suffix=model.document_suffix)
    report_without_vector(session, embedded)
    vectors, start = normalize(embedded.vectors), 0
    means = np.empty((len(texts), embedder.model.dimensions), dtype=np.float32)
    for place, own in enumerate(chunks):
        means[place] = mean_vector(vectors[start : start + len(own)])
        start += len(own)
    return means


def _cut_off(embedder: Embedder, recut: Recut, texts: Sequence[str], *, refuses: bool) -> NDArray[np.float32]:
    """Return the vectors of the beginnings of texts, as `workers.tokenizer` cuts them."""
    model, limit = recut.model, recut.cutting.max_tokens
    suffix = model.document_suffix
    tail = tail_length(embedder, suffix=suffix)
    vectors = np.full((len(texts), embedder.model.dimensions), np.nan, dtype=np.float32)
    for place, text in enumerate(texts):
        begun = model.document_prefix + beginning(text.strip(), limit=limit)
        ids = embedder.tokenise([begun], suffix=suffix)[0]
        if len(ids) and not (refuses and len(ids) > limit):
            cut = truncated(ids, limit=limit, tail=tail)
            vectors[place] = embedder.embed_tokens([cut], tokens_per_batch=1).vectors[0]
    return vectors


def _as_embedded(text: str) -> str:
    try:
        return extract_text(text).text
    except Unreadable:
        # Its item has failed; another writer may have embedded it nevertheless.
        return text
