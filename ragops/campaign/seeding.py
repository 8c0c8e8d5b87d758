"""The locations that a source gives a queue: what the queue's column takes, and what is left out and said."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

from ragops.campaign.source_ids import location_column
from ragops.documents.left_out import IsStorable, LeftOut, storable
from ragops.documents.state_log import StateLog
from ragops.postgres.copy_binary import text_limit
from ragops.postgres.encodings import codec_of
from ragops.postgres.file_states import new_seeding, present_seeding
from ragops.session import Session
from ragops.workers.sources import locations_of, source_root

REPORT_EVERY = 1000


def location_test(session: Session) -> IsStorable:
    """Return a test of whether the queue's column and the database's encoding take a location."""
    column = location_column(session.playbook, session.facts(scans=False))
    limit = text_limit(column.stored_type) if column else None
    return storable(limit, codec_of(session.connection))


def found_locations(session: Session, left_out: LeftOut) -> Iterator[str]:
    """Return the source's locations, with progress; note in `left_out` what cannot be queued."""
    # Asked now: the session's connection is busy with the COPY that the locations go into.
    is_storable = location_test(session)
    source = session.playbook.source
    return _with_progress(
        session, locations_of(source, session.connect, left_out=left_out, is_storable=is_storable)
    )


def _with_progress(session: Session, locations: Iterator[str]) -> Iterator[str]:
    for number, location in enumerate(locations, start=1):
        if number % REPORT_EVERY == 0:
            session.reporter.progress("queueing", number, None)
        yield location


def state_log(session: Session, stack: ExitStack, *, is_new: bool) -> StateLog | None:
    """Return what notes the files' states while they are queued, until `stack` ends; None if nobody wants them.

    `is_new`: nothing is in the queue yet.
    """
    source = session.playbook.source
    root = source_root(source)
    if root is None or source.changed == "ignore":
        return None
    present = None if is_new else present_seeding(session.connection, session.playbook.tables)
    seeding = new_seeding() if present is None else present
    log = StateLog(root, seeding=seeding, follow_links=source.follow_links)
    stack.callback(log.close)
    return log


def report_left_out(session: Session, left_out: LeftOut) -> None:
    """Warn of what the source has and the queue has not."""
    for line in left_out.lines():
        session.reporter.warning(f"left out: {line}")
    if left_out.is_problem:
        session.reporter.info(f"next: {left_out.cure}; then: ragops queue reseed --append")
