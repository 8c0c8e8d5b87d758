"""Find out whether the whole corpus is stored, and not only whether what is stored is right."""

from __future__ import annotations

from collections.abc import Iterator

from ragops.campaign.steps.rebuild_indexes import read_journal
from ragops.indexes.plan import droppable_indexes, index_builds
from ragops.postgres.queue import EXCLUDED, ItemStatus
from ragops.session import Session
from ragops.workers.sources import count_locations


def missing_parts(session: Session) -> list[str]:
    """Return in words what is missing: documents, vectors, indexes, items; empty when nothing is."""
    return [*_items(session), *_vectors(session), *_indexes(session)]


def _items(session: Session) -> Iterator[str]:
    counts = session.queue.counts()
    for status in (ItemStatus.PENDING, ItemStatus.PROCESSING, ItemStatus.FAILED):
        if counts[status]:
            yield f"{counts[status]:,} items of the queue are {status.value}"
    stored = session.reader.counts("documents").total
    completed = counts[ItemStatus.COMPLETED]
    # A queue without items says nothing: the documents may have been stored by another program.
    if completed and completed != stored:
        yield f"{completed:,} items are completed, and {stored:,} documents are stored"
    if not any(step.step == "reseed_queue" for step in session.playbook.steps):
        return
    items = count_locations(session.playbook.source, session.connection).documents
    excluded = counts.get(EXCLUDED, 0)
    if items != stored + excluded:
        yield f"the source has {items:,} documents, and {stored:,} are stored"


def _vectors(session: Session) -> Iterator[str]:
    mapped = session.playbook.tables.mapped()
    for logical in ("documents", "document_chunks"):
        if logical not in mapped:
            continue
        counts = session.reader.counts(logical)
        if counts.total != counts.with_embedding:
            yield f"{counts.total - counts.with_embedding:,} rows of {mapped[logical]} have no vector"
        if counts.zero:
            yield f"{counts.zero:,} rows of {mapped[logical]} have a zero vector"
        if logical == "document_chunks" and (bare := session.reader.documents_without_chunks()):
            yield f"{bare:,} documents have no chunk"


def _indexes(session: Session) -> Iterator[str]:
    facts, playbook = session.facts(), session.playbook
    existing = droppable_indexes(facts)
    if not any(step.step == "rebuild_indexes" for step in playbook.steps):
        # No step of this playbook would make its indexes.
        playbook = playbook.model_copy(update={"indexes": ()})
    builds = index_builds(
        playbook, facts, existing=existing, journal=read_journal(session.connection), concurrently=False
    )
    present = {index.name for index in existing}
    for build in builds:
        state = "invalid" if build.name in present else "missing"
        yield f"index {build.name} on {build.table.qualified} is {state}"
