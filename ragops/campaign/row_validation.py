"""Collect what a validation of rows that stay judges."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

from ragops.campaign.measure import measure_queries
from ragops.campaign.recut import Recut
from ragops.campaign.row_measure import Sampled, measure_targets, queue_is_of, sample_rows
from ragops.embedder.client import Embedder
from ragops.fingerprint.queries import refuse_unfitting
from ragops.postgres.reader import Reader
from ragops.postgres.row_reader import RowReader
from ragops.quality.validation import ColumnMeasure, Measurements, QueryMeasure
from ragops.session import Session

Result = TypeVar("Result")


def measure_rows(session: Session, embedder: Embedder, *, seed: float, in_campaign: bool) -> Measurements:
    """Collect what the checks judge of rows that stay; `seed` (−1 to 1) draws the sample.

    `in_campaign`: a step of one asks, so that rows which it has not written may be anything. Raises as `measure`.
    """
    refuse_unfitting(embedder, session.playbook)
    validation = session.playbook.validation
    sampled = sample_rows(session, size=validation.sample, seed=seed)
    has_queue = session.has_queue and session.through_outages(lambda: queue_is_of(session))
    queue = session.through_outages(lambda: session.queue.counts()) if has_queue else {}
    is_running = in_campaign or bool(
        has_queue and any(session.through_outages(lambda: session.queue.open_items()))
    )
    recut = Recut.of(session, embedder)
    rows = measure_targets(session, embedder, recut, sampled, limit=validation.max_distance, is_running=is_running)
    columns = tuple(
        ColumnMeasure(one.name, one.total, one.with_embedding, one.zero, one.dimensions, missing=one.missing)
        for one in rows.targets
    )
    queries: list[QueryMeasure] = []
    for one, found in zip(sampled, columns, strict=True):
        # The database refuses to compare vectors of different lengths.
        if found.dimensions == (embedder.model.dimensions,):
            share = max(1, validation.sampled_queries // len(sampled))
            read = partial(_read_target, session, one)
            queries += measure_queries(session, embedder, [*one.written, *one.others][:share], read=read)
    written, others = rows.distances(written=True), rows.distances(written=False)
    return Measurements(
        dimensions=embedder.model.dimensions,
        columns=columns,
        queue=queue,
        agreement=written if is_running else (*written, *others),
        thresholds=validation.thresholds,
        queries=tuple(queries),
        is_sampled=not validation.queries,
        unlike=tuple(name for one in rows.targets for name in one.unlike),
        changed=recut.changed,
        changed_affixes=recut.changed_affixes,
        has_queue=has_queue,
        rows=rows,
    )


def _read_target(session: Session, one: Sampled, work: Callable[[Reader], Result]) -> Result:
    """Read from one target, again after an outage."""
    return session.through_outages(lambda: work(RowReader(session.connection, one.target, one.facts)))
