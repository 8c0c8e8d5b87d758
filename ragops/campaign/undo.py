"""Undo: bring back what was archived and dropped last."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from ragops.campaign.run import adopt_playbook, heartbeat
from ragops.campaign.steps.base import SingleCommand
from ragops.campaign.steps.rebuild_indexes import rebuild
from ragops.errors import RagopsError
from ragops.indexes.plan import droppable_indexes
from ragops.playbook.steps import RebuildIndexes
from ragops.postgres.archive import ArchivedTable, mark_archives_restored, newest_archives, restore_rows
from ragops.postgres.connection import transaction
from ragops.postgres.ddl import drop_index_sql, truncate_sql
from ragops.postgres.ledger import (
    CampaignRow,
    Ledger,
    campaign_by_id,
    find_latest_campaign,
    journaled_indexes,
    mark_indexes_unrestored,
)
from ragops.postgres.locks import LOCK_TIMEOUT_S, with_lock_retries
from ragops.session import Session


@dataclass(frozen=True, slots=True)
class UndoResult:
    campaign: int | None
    """None for what `ragops tables empty` archived."""
    rows: dict[str, int]
    """Restored rows by table."""
    indexes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, object]:
        return {
            "campaign": self.campaign,
            "status": "undone",
            "rows": dict(self.rows),
            "indexes": list(self.indexes),
        }


@dataclass(frozen=True, slots=True)
class Undoable:
    """The archives that were made together last, and the campaign that made them."""

    archives: Sequence[ArchivedTable]
    row: CampaignRow | None

    def describe(self) -> str:
        """Return in words, for a confirmation, which rows and indexes come back."""
        if not self.archives:
            return f"builds the indexes again that campaign {self.row.id if self.row else '?'} dropped"
        number = self.archives[0].campaign
        origin = "`ragops tables empty`" if number is None else f"campaign {number}"
        listed = ", ".join(f"{archive.rows:,} rows of {archive.table}" for archive in self.archives)
        return f"replaces what was stored since by what {origin} archived: {listed}"


def find_undoable(session: Session) -> Undoable:
    """Return what `undo` would bring back. Raises RagopsError when there is nothing."""
    connection = session.connection
    archives = newest_archives(connection)
    # Without archives the newest campaign counts; rows of `tables empty` belong to none.
    row = find_latest_campaign(connection)
    if archives:
        number = archives[0].campaign
        row = campaign_by_id(connection, number) if number is not None else None
    if not archives and not (row and journaled_indexes(connection, row.id)):
        raise RagopsError(
            "there is nothing to bring back",
            where=session.target.label,
            actual="no archived rows that were not restored yet, no dropped index that is still missing",
            hint="ragops archive status   or: ragops index rebuild",
        )
    return Undoable(archives, row)


def undo(session: Session) -> UndoResult:
    """Bring back the rows that were archived last, and the indexes that their campaign dropped.

    The rows stored since are removed. Raises RagopsError when there is nothing to bring back.
    """
    undoable = find_undoable(session)
    row = undoable.row
    if row is None:

        def plain() -> AbstractContextManager[object]:
            return transaction(session.connection, lock_timeout_s=LOCK_TIMEOUT_S, is_long=True)

        return UndoResult(None, _restore(session, undoable.archives, plain, lambda: None, drop=False))
    session = adopt_playbook(session, row, is_local=False)
    ledger = Ledger.take(session.connection, row)

    def fenced() -> AbstractContextManager[object]:
        return ledger.fenced(lock_timeout_s=LOCK_TIMEOUT_S, is_long=True)

    def finish() -> None:
        mark_indexes_unrestored(session.connection, row.id)
        ledger.finish("undone")

    with heartbeat(session, ledger):
        if undoable.archives:
            restored = _restore(session, undoable.archives, fenced, finish, drop=True)
        else:
            restored = {}
            ledger.finish("undone")
    # From here on the campaign is over: a build that fails is `ragops index rebuild`'s to finish.
    names = [index.name for index in journaled_indexes(session.connection, row.id)]
    if not names:
        return UndoResult(row.id, restored)
    rebuilt = rebuild(SingleCommand(session), RebuildIndexes(step="rebuild_indexes"), names=names)
    return UndoResult(row.id, restored, tuple(index.build.name for index in rebuilt.indexes))


def _restore(
    session: Session,
    archives: Sequence[ArchivedTable],
    open_transaction: Callable[[], AbstractContextManager[object]],
    finish: Callable[[], None],
    *,
    drop: bool,
) -> dict[str, int]:
    """Empty the archived tables and refill them, in one transaction with `finish`; returns rows by table.

    `drop` removes the indexes that were built since: an index belongs to its vectors.
    """
    connection, facts = session.connection, session.facts()
    # In the mapping's order: documents come before the chunks that reference them.
    order = list(facts.tables)
    present = [(archive, table) for archive in archives if (table := facts.tables.get(archive.logical))]
    pairs = sorted(present, key=lambda pair: order.index(pair[0].logical))
    tables = [table for _, table in pairs]
    restored: dict[str, int] = {}

    def act() -> None:
        with open_transaction():
            for index in droppable_indexes(facts) if drop else ():
                connection.execute(drop_index_sql(index))
            connection.execute(truncate_sql(tables))
            for archive, table in pairs:
                restored[table.qualified] = restore_rows(connection, table, archive_table=archive.archive_table)
            mark_archives_restored(connection, archives)
            finish()

    with_lock_retries(connection, act, tables=tables, reporter=session.reporter)
    return restored
