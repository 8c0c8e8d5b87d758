"""drop_indexes: journal every HNSW index of the vector tables, then drop it, in one transaction."""

from __future__ import annotations

from collections.abc import Sequence

from ragops.actions import DropIndex
from ragops.campaign.context import Effect, StepContext
from ragops.errors import UsageError
from ragops.facts import IndexFacts
from ragops.indexes.plan import droppable_indexes
from ragops.postgres.ddl import LOCK_TIMEOUT_S, journal_and_drop, sql_text, with_lock_retries


def run(context: StepContext, *, names: Sequence[str] = ()) -> Effect:
    """Drop the HNSW indexes found in the catalog, or only those named.

    Raises UsageError for a name that is none of them, RagopsError when a lock cannot be had.
    """
    facts = context.facts()
    indexes = select_indexes(droppable_indexes(facts), names)
    tables = [table for table in facts.tables.values() if table and any(i in indexes for i in table.indexes)]

    def act() -> Effect:
        with context.fenced(lock_timeout_s=LOCK_TIMEOUT_S, is_long=True):
            for index in indexes:
                journal_and_drop(context.connection, index, campaign=context.campaign)
            effect: Effect = {
                "dropped": [index.name for index in indexes],
                "bytes": sum(index.bytes for index in indexes),
                "sql": [sql_text(DropIndex(index)) for index in indexes],
            }
            context.record(effect)
        return effect

    if not indexes:
        context.reporter.info("no HNSW index exists: nothing to drop")
    return with_lock_retries(context.connection, act, tables=tables, info=context.reporter.info)


def select_indexes(found: Sequence[IndexFacts], names: Sequence[str]) -> list[IndexFacts]:
    """The named ones among `found`, or all. Raises UsageError for an unknown name."""
    unknown = set(names) - {index.name for index in found}
    if unknown:
        raise UsageError(
            f"no such HNSW index: {', '.join(sorted(unknown))}",
            actual=", ".join(index.name for index in found) or "no HNSW index on the vector tables",
            hint="ragops index status",
        )
    return [index for index in found if not names or index.name in names]
