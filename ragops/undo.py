"""Undo: bring back what a campaign archived and dropped."""

from __future__ import annotations

from typing import Any

from ragops.actions import DropIndex, TruncateTables
from ragops.campaign import Heartbeat, adopt_playbook, latest_row
from ragops.errors import RagopsError
from ragops.plan import droppable_indexes
from ragops.playbook.steps import EmptyTables, RebuildIndexes
from ragops.postgres.ddl import LOCK_TIMEOUT_S, restore_rows, sql_of, with_lock_retries
from ragops.postgres.ledger import (
    Ledger,
    archives_of,
    journaled_indexes,
    mark_archives_restored,
    mark_indexes_unrestored,
)
from ragops.steps import rebuild_indexes
from ragops.steps.context import StepContext


def undo(context: StepContext) -> dict[str, Any]:
    """Bring back the rows that the newest campaign archived and the indexes that it dropped.

    The rows embedded since are removed. Raises RagopsError when there is nothing to bring back.
    """
    row = latest_row(context)
    if row is None or row.status in ("abandoned", "undone"):
        raise RagopsError(
            "there is no campaign to undo",
            where=context.target.label,
            found="none was started" if row is None else f"campaign {row.id} is {row.status}",
        )
    archives = archives_of(context.connection, row.id)
    journal = journaled_indexes(context.connection, row.id)
    if not archives and not journal:
        raise RagopsError(
            f"campaign {row.id} has nothing to bring back",
            found="no archived rows, no dropped index that is still missing",
            hint="ragops status",
        )
    adopt_playbook(context, row)
    context.ledger = Ledger.take(context.connection, row)
    with Heartbeat(context):
        restored = _restore_tables(context, archives)
        indexes = _restore_indexes(context)
    context.ledger.finish(context.connection, "undone")
    return {"campaign": row.id, "status": "undone", "rows": restored, "indexes": indexes}


def _restore_tables(context: StepContext, archives: list[dict[str, Any]]) -> dict[str, int]:
    """Empty the tables that the campaign emptied and refill them from its archive, in one transaction."""
    if not archives:
        return {}
    assert context.ledger is not None
    campaign = context.ledger.campaign
    facts = context.facts()
    emptied = {entry.table for s in context.playbook.steps if isinstance(s, EmptyTables) for entry in s.tables}
    tables = [table for name, table in facts.tables.items() if table and name in emptied]
    # In the mapping's order: documents come before the chunks that reference them.
    order = list(facts.tables)
    restored: dict[str, int] = {}

    def act() -> None:
        with context.fenced(lock_timeout_s=LOCK_TIMEOUT_S, is_long=True):
            for index in droppable_indexes(facts):
                context.connection.execute(sql_of(DropIndex(index)))
            context.connection.execute(sql_of(TruncateTables(tuple(tables))))
            for archive in sorted(archives, key=lambda a: order.index(a["logical"])):
                table = facts.tables[archive["logical"]]
                assert table is not None
                restored[table.qualified] = restore_rows(
                    context.connection, table, archive_table=archive["archive_table"]
                )
            mark_archives_restored(context.connection, campaign)
            # What the campaign had rebuilt was dropped again above.
            mark_indexes_unrestored(context.connection, campaign)

    with_lock_retries(context.connection, act, tables=tables, say=context.voice.say)
    return restored


def _restore_indexes(context: StepContext) -> list[str]:
    names = [entry.name for entry in context.journal()]
    if not names:
        return []
    rebuilt = rebuild_indexes.run(context, RebuildIndexes(step="rebuild_indexes"), names=names)
    return [index["name"] for index in rebuilt["indexes"]]
