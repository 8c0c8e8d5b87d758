"""Judge the ids of a table or a query: each must stand for one row, and find it again."""

from __future__ import annotations

from collections.abc import Iterator

from ragops.campaign.privileges import QUEUE
from ragops.facts import ColumnFacts, DatabaseFacts, SourceFacts
from ragops.findings import PlanProblem
from ragops.playbook.model import Playbook, Source
from ragops.postgres.copy_binary import text_limit


def id_problems(facts: SourceFacts, source: Source, column: ColumnFacts | None = None) -> Iterator[PlanProblem]:
    """Yield why the ids of a table or query cannot stand for its rows: text would be lost in silence.

    `column` is the queue's, which the ids go into.
    """
    name = f"source.table {source.table}" if source.table else "source.query"
    limit = text_limit(column.stored_type) if column else None
    if column is not None and limit is not None and facts.longest > limit:
        yield PlanProblem(
            f"{name} has ids of up to {facts.longest:,} characters, and column {column.name} of the queue takes "
            f"{limit:,}. Make it longer (ALTER TABLE … ALTER COLUMN {column.name} TYPE text), or take other ids"
        )
    if facts.with_id < facts.rows:
        yield PlanProblem(
            f"{name} gives {facts.rows - facts.with_id:,} of {facts.rows:,} rows no id (NULL): their texts would "
            "never be embedded. Give them one, or leave them out with source.query (… WHERE id IS NOT NULL)"
        )
    if facts.distinct < facts.with_id:
        examples = ", ".join(f"{id!r} {times:,} times" for id, times in facts.repeated) or "none found again"
        yield PlanProblem(
            f"{name} gives {facts.with_id:,} rows only {facts.distinct:,} different ids (e.g. {examples}): one "
            "text of each id would be embedded, the others never. Take a unique column as the id, or a "
            "source.query that makes one (SELECT DISTINCT ON (id) …, or id || ':' || part AS id)"
        )
    if facts.lost is not None:
        wanted, found = facts.lost
        yield PlanProblem(
            f"{name}: the id {wanted!r}, asked for as a worker asks, gives {found}: its text would be lost. "
            "Take a column that stays the same and whose text form reads back, e.g. id::text in source.query"
        )


def location_column(playbook: Playbook, facts: DatabaseFacts) -> ColumnFacts | None:
    """Return the column of the queue that holds locations; None if there is no such queue."""
    queue = facts.tables.get(QUEUE)
    return queue.columns.get(playbook.tables.columns_of(QUEUE)["location"]) if queue else None
