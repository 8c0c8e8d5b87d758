"""Undo: bring back what was archived and dropped last."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ragops.actions import DropIndex, TruncateTables
from ragops.campaign.context import StepContext
from ragops.campaign.run import Heartbeat, adopt_playbook, latest_row
from ragops.campaign.steps import rebuild_indexes
from ragops.errors import RagopsError
from ragops.indexes.plan import droppable_indexes
from ragops.playbook.steps import RebuildIndexes
from ragops.postgres.ddl import LOCK_TIMEOUT_S, restore_rows, sql_of, with_lock_retries
from ragops.postgres.ledger import (
    ArchivedTable,
    CampaignRow,
    Ledger,
    campaign_by_id,
    journaled_indexes,
    mark_archives_restored,
    mark_indexes_unrestored,
    newest_archives,
)


def undo(context: StepContext) -> dict[str, Any]:
    """Bring back the rows that were archived last, and the indexes that their campaign dropped.

    The rows stored since are removed. Raises RagopsError when there is nothing to bring back.
    """
    archives, row = _last(context)
    if row is None:
        return {"campaign": None, "status": "undone", "rows": _restore(context, archives), "indexes": []}
    adopt_playbook(context, row)
    context.ledger = Ledger.take(context.connection, row)
    with Heartbeat(context):
        restored = _restore(context, archives)
        if not archives:
            context.ledger.finish("undone")
    # From here on the campaign is over: a build that fails is `ragops index rebuild`'s to finish.
    context.ledger = None
    return {"campaign": row.id, "status": "undone", "rows": restored, "indexes": _rebuild(context, row.id)}


def what_undo_does(context: StepContext) -> str:
    """In words for a confirmation: which rows, archived by what. Raises RagopsError for nothing."""
    archives, row = _last(context)
    if not archives:
        assert row is not None, "without rows and a campaign there is nothing"
        return f"builds the indexes again that campaign {row.id} dropped"
    number = archives[0].campaign
    origin = "`ragops tables empty`" if number is None else f"campaign {number}"
    listed = ", ".join(f"{archive.rows:,} rows of {archive.table}" for archive in archives)
    return f"replaces what was stored since by what {origin} archived: {listed}"


def _last(context: StepContext) -> tuple[Sequence[ArchivedTable], CampaignRow | None]:
    """The newest archives and their campaign. Raises RagopsError when there is nothing to bring back."""
    archives = newest_archives(context.connection)
    row = _campaign_of(context, archives)
    if not archives and not (row and journaled_indexes(context.connection, row.id)):
        raise RagopsError(
            "there is nothing to bring back",
            where=context.target.label,
            actual="no archived rows that were not restored yet, no dropped index that is still missing",
            hint="ragops archive status   or: ragops index rebuild",
        )
    return archives, row


def _campaign_of(context: StepContext, archives: Sequence[ArchivedTable]) -> CampaignRow | None:
    """The campaign that emptied the tables; without archives the newest one; None for `tables empty`."""
    if not archives:
        return latest_row(context)
    number = archives[0].campaign
    return campaign_by_id(context.connection, number) if number is not None else None


def _restore(context: StepContext, archives: Sequence[ArchivedTable]) -> dict[str, int]:
    """Empty the archived tables and refill them, in one transaction; returns rows by table."""
    if not archives:
        return {}
    facts = context.facts()
    # In the mapping's order: documents come before the chunks that reference them.
    order = list(facts.tables)
    found = [(archive, facts.tables.get(archive.logical)) for archive in archives]
    pairs = sorted(((a, t) for a, t in found if t is not None), key=lambda pair: order.index(pair[0].logical))
    tables = tuple(table for _, table in pairs)
    restored: dict[str, int] = {}

    def act() -> None:
        with context.fenced(lock_timeout_s=LOCK_TIMEOUT_S, is_long=True):
            if context.campaign is not None:
                # An index belongs to its vectors: those built since go with the rows.
                for index in droppable_indexes(facts):
                    context.connection.execute(sql_of(DropIndex(index)))
                mark_indexes_unrestored(context.connection, context.campaign)
            context.connection.execute(sql_of(TruncateTables(tables)))
            for archive, table in pairs:
                restored[table.qualified] = restore_rows(
                    context.connection, table, archive_table=archive.archive_table
                )
            mark_archives_restored(context.connection, archives)
            if context.ledger is not None:
                context.ledger.finish("undone")

    with_lock_retries(context.connection, act, tables=tables, info=context.reporter.info)
    return restored


def _rebuild(context: StepContext, campaign: int) -> list[str]:
    """Build the indexes that the campaign dropped, as they were."""
    names = [entry["name"] for entry in journaled_indexes(context.connection, campaign)]
    if not names:
        return []
    rebuilt = rebuild_indexes.run(context, RebuildIndexes(step="rebuild_indexes"), names=names)
    return [index["name"] for index in rebuilt["indexes"]]
