"""Undo: bring the rows and indexes back as they were before a campaign, and keep what goes.

Rows, ledger and journal change in one transaction: an undo that fails has changed nothing. The indexes are built
after it, one by one; an undo that was interrupted there is finished by the next `ragops undo`. Vectors that were
replaced in place are put back part by part (`undo_vectors`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ragops.campaign.steps.base import SingleCommand
from ragops.campaign.steps.building import build_index
from ragops.campaign.steps.rebuild_indexes import entry_of
from ragops.campaign.undo_vectors import VectorsRestored, restore_vectors, restored_by
from ragops.campaign.undoable import Restoration, Undoable, find_undoable, uses_truncate, visible_campaigns
from ragops.errors import RagopsError, first_line
from ragops.facts import TableFacts
from ragops.indexes.plan import in_build_order, restoration
from ragops.playbook.names import TableName
from ragops.playbook.steps import RebuildIndexes
from ragops.playbook.targets import WORK_TABLE
from ragops.postgres.archive import (
    Archiving,
    UndoRow,
    archive_rows,
    begin_undo,
    finish_undo,
    mark_archives_restored,
    newest_undo,
    record_restored,
    take_numbers,
)
from ragops.postgres.catalog import Rows, read_table
from ragops.postgres.connection import DATABASE_ERRORS, Connection, is_lost, transaction, unavailable
from ragops.postgres.ddl import analyze_sql, delete_sql, drop_index_sql, truncate_sql
from ragops.postgres.filling import end_filling, restore_filling
from ragops.postgres.index_builds import find_index
from ragops.postgres.journal import due_indexes, journal_index, mark_due, mark_restored
from ragops.postgres.ledger import all_campaigns, check_free, lock_campaigns, mark_undone
from ragops.postgres.locks import LOCK_TIMEOUT_S, lock_tables, with_lock_retries
from ragops.postgres.ownership import check_owners
from ragops.postgres.restore import disable_triggers, enable_triggers, restore_rows
from ragops.postgres.statements import statement
from ragops.postgres.vector_archives import begin_vectors
from ragops.session import Session


@dataclass(frozen=True, slots=True)
class UndoResult:
    campaign: int | None
    """None for what `ragops tables empty` archived."""
    rows: Mapping[str, int]
    """Restored rows by table."""
    indexes: tuple[str, ...] = ()
    """Built again."""
    removed: int | None = None
    """The generation in which the removed rows are kept; None if there were none."""
    was_undone: bool = False
    """It was undone before: nothing was changed."""
    vectors: tuple[VectorsRestored, ...] = ()
    """What became of vectors that were replaced in place."""

    def to_json(self) -> dict[str, object]:
        return {
            "campaign": self.campaign,
            "status": "undone",
            "rows": dict(self.rows),
            "indexes": list(self.indexes),
            "removed_generation": self.removed,
            "was_undone": self.was_undone,
            "vectors": [one.to_json() for one in self.vectors],
        }


def undo(
    session: Session,
    *,
    campaign: int | None = None,
    generation: int | None = None,
    archive: bool = True,
    last: int | None = None,
) -> UndoResult:
    """Bring back the rows and indexes of the newest campaign, or of the one asked for.

    The rows stored since are removed, into an archive of their own unless `archive` is false. Raises RagopsError
    when there is nothing to bring back, PlanRefused with everything that stands in the way, CampaignHeld while a
    controller runs the newest campaign. Nothing was changed then. `last` is the newest undo when the command
    began, if that is known: a later one is its own, of which only the answer was lost.
    """
    # What the ledger says decides which statements run.
    check_owners(session.connection)
    undoable = find_undoable(session, campaign=campaign, generation=generation)
    earlier = newest_undo(session.connection, visible_campaigns(session, campaign))
    if earlier is not None and undoable.unfinished is None:
        # Interrupted after its last index, before it was noted.
        finish_undo(session.connection, earlier.id)
    if undoable.is_done:
        if earlier is not None and last is not None and last < earlier.id:
            return UndoResult(earlier.campaign, earlier.rows, removed=earlier.removed)
        return UndoResult(undoable.campaign, {}, was_undone=True)
    begun = undoable.unfinished
    if begun is not None:
        of = "an undo" if begun.campaign is None else f"the undo of campaign {begun.campaign}"
        session.reporter.info(f"finishing {of} that was interrupted")
    else:
        begun = _restore(session, undoable, campaign=campaign, generation=generation, archive=archive)
    vectors: tuple[VectorsRestored, ...] = ()
    if undoable.vectors:
        vectors = _put_back(session, begun, campaign=campaign)
    indexes = _build_due(session, begun)
    _finish(session.connection, begun, undoable)
    return UndoResult(begun.campaign, begun.rows, indexes, begun.removed, vectors=vectors)


def _put_back(session: Session, begun: UndoRow, *, campaign: int | None) -> tuple[VectorsRestored, ...]:
    """Put the vectors back that the undo has begun with, in transactions of their own."""
    connection = session.connection
    # As the ledger has them now: another `ragops undo` may have come further.
    now = find_undoable(session, campaign=campaign)
    try:
        restore_vectors(session, now.vectors, now.campaigns)
    except DATABASE_ERRORS as error:
        if is_lost(connection):
            raise
        raise RagopsError(
            "the database refused to put vectors back; those that are back stay",
            where=session.target.label,
            actual=f"{type(error).__name__}: {first_line(error)}",
            hint="fix the cause, then: ragops undo   (it goes on)",
        ) from error
    return restored_by(connection, begun.id)


def _finish(connection: Connection, begun: UndoRow, undoable: Undoable) -> None:
    """Record that the undo has nothing left to do, and the end of campaigns whose vectors are back."""
    with transaction(connection):
        if undoable.vectors:
            mark_undone(connection, undoable.campaigns)
        finish_undo(connection, begun.id)


def last_undo(session: Session, campaign: int | None = None) -> int:
    """Return the number of the newest undo so far; 0 before the first."""
    newest = newest_undo(session.connection, visible_campaigns(session, campaign))
    return newest.id if newest else 0


def _restore(
    session: Session, undoable: Undoable, *, campaign: int | None, generation: int | None, archive: bool
) -> UndoRow:
    """Bring the rows back and say which indexes are due, in one transaction; return the recorded undo."""
    connection = session.connection
    visible = visible_campaigns(session, campaign)

    def act() -> None:
        # An archive holds every row that a policy would hide, or nothing is changed.
        settings = {"row_security": "off"}
        with transaction(connection, lock_timeout_s=LOCK_TIMEOUT_S, is_long=True, settings=settings):
            lock_campaigns(connection)
            for row in all_campaigns(connection):
                if row.id in visible and not row.is_finished:
                    check_free(row)
            work = _work(session) if undoable.vectors else None
            emptied = [r.table for r in undoable.restorations] + ([work] if work else [])
            lock_tables(connection, emptied, "ACCESS EXCLUSIVE")
            # Read again under the locks: another undo may have run, rows, indexes and triggers may have changed.
            now = find_undoable(session, campaign=campaign, generation=generation)
            if (now.campaigns, now.generation, now.is_done) != (undoable.campaigns, undoable.generation, False):
                raise RagopsError("another undo ran at this moment; nothing was changed", hint="ragops undo")
            if now.vectors:
                _begin_vectors(connection, now, work)
            else:
                _change(session, now, archive=archive)

    tables = [r.table for r in undoable.restorations]
    try:
        with_lock_retries(connection, act, tables=tables, reporter=session.reporter)
    except DATABASE_ERRORS as error:
        if is_lost(connection):
            lost = unavailable(session.target, error)
            lost.hint = "ragops undo   (it finishes what was begun, or starts again where nothing was changed)"
            raise lost from error
        raise RagopsError(
            "the database refused the undo; nothing was changed",
            where=session.target.label,
            actual=f"{type(error).__name__}: {first_line(error)}",
            hint="fix the cause, then: ragops undo",
        ) from error
    begun = newest_undo(connection, visible)
    assert begun is not None, "it was just recorded"
    return begun


def _work(session: Session) -> TableFacts | None:
    """Return the queue of rows that stay."""
    return read_table(session.connection, TableName.parse(WORK_TABLE), rows=Rows.CATALOG_ONLY)


def _begin_vectors(connection: Connection, now: Undoable, work: TableFacts | None) -> None:
    """Record the undo, end the campaigns for their fleets, and say which indexes are due."""
    undo_id = begin_undo(connection, campaign=now.campaign, generation=None, rows={})
    begin_vectors(connection, now.campaigns, undo=undo_id)
    if work is not None:
        # Items of the campaign would be embedded again; a fleet that still runs ends with the filling.
        connection.execute(statement("rows", "clear_work"))
        end_filling(connection, work)
    for entry in now.missing:
        mark_due(connection, entry, undo=undo_id)


def _change(session: Session, now: Undoable, *, archive: bool) -> None:
    """Do everything that one transaction holds."""
    connection = session.connection
    undo_id = begin_undo(connection, campaign=now.campaign, generation=now.generation, rows={})
    removed = _archive_removed(session, now.restorations, undo_id) if archive else None
    _drop_indexes(connection, now, undo_id)
    triggers = [trigger for r in now.restorations for trigger in r.triggers]
    disable_triggers(connection, triggers)
    _remove(connection, now.restorations)
    restored = {}
    for r in now.restorations:
        session.reporter.info(f"bringing back {r.archive.rows:,} rows of {r.table.qualified}")
        restored[r.table.qualified] = restore_rows(connection, r.table, r.archive, r.columns)
        if r.archive.is_queue:
            restore_filling(connection, r.table, r.archive.queue_source)
    enable_triggers(connection, triggers)
    for r in now.restorations:
        connection.execute(analyze_sql(r.table))
    mark_archives_restored(connection, [r.archive for r in now.restorations])
    if now.campaigns:
        mark_undone(connection, now.campaigns)
    record_restored(connection, undo_id, rows=restored, removed=removed)


def _archive_removed(session: Session, restorations: Sequence[Restoration], undo_id: int) -> int | None:
    """Keep the rows that are about to go; return their generation, None if there are none."""
    if not any(r.table.rows for r in restorations):
        return None
    connection = session.connection
    numbers = take_numbers(connection, len(restorations))
    for number, r in zip(numbers, restorations, strict=True):
        archive_rows(
            connection,
            Archiving(number, r.archive.logical, r.table),
            campaign=None,
            generation=numbers[0],
            undo=undo_id,
        )
    return numbers[0]


def _drop_indexes(connection: Connection, now: Undoable, undo_id: int) -> None:
    """Drop the vector indexes of the tables to refill, and journal which are due afterwards.

    An index belongs to its vectors: filling one row by row takes several times as long as building it, and the
    lists of an IVFFlat index would be those of other vectors.
    """
    # Built again: what the campaign found, and what is there now and was not made by the campaign.
    before = {(entry.schema, entry.name) for entry in now.missing}
    present = [index for r in now.restorations for index in r.table.indexes]
    for index in present:
        is_due = (index.schema, index.name) not in before and (index.table, index.name) not in now.made
        journal_index(connection, index, campaign=None, undo=undo_id if is_due else None)
        if (index.table, index.name) in now.made:
            # It goes with its campaign. The next one makes it from the playbook again.
            mark_restored(connection, schema=index.schema, name=index.name)
    for index in present:
        if not index.is_attached:
            connection.execute(drop_index_sql(index))
    for entry in now.missing:
        mark_due(connection, entry, undo=undo_id)


def _remove(connection: Connection, restorations: Sequence[Restoration]) -> None:
    if not restorations:
        return
    if uses_truncate(restorations):
        connection.execute(truncate_sql([r.table for r in restorations]))
        return
    for r in reversed(restorations):
        connection.execute(delete_sql(r.table))


def _build_due(session: Session, begun: UndoRow) -> tuple[str, ...]:
    """Build the indexes that the undo has not built yet; return the names of those that it built now."""
    connection = session.connection
    entries = {(entry.schema, entry.name): entry_of(entry) for entry in due_indexes(connection, begun.id)}
    if not entries:
        return ()
    tables: dict[str, TableFacts] = {}
    for entry in entries.values():
        if entry.table not in tables:
            # An index is in the schema of its table.
            name = TableName(entry.schema, entry.table.removeprefix(f"{entry.schema}."))
            table = read_table(connection, name, rows=Rows.EXACT)
            if table is not None:
                tables[entry.table] = table
    run, server, built = SingleCommand(session), session.facts().server, []
    for _, entry in in_build_order(entries, tables):
        found = tables.get(entry.table)
        if found is None:
            session.reporter.warning(f"index {entry.name} is not built: its table {entry.table} is gone")
        present = find_index(connection, found, entry.name) if found else None
        if found is None or (present is not None and present.is_valid):
            mark_restored(connection, schema=entry.schema, name=entry.name)
            continue
        build = restoration(entry, found, concurrently=False)
        settings = RebuildIndexes(step="rebuild_indexes")
        build_index(run, build.equipped(rows=found.rows, server=server, settings=settings))
        built.append(entry.name)
    return tuple(built)
