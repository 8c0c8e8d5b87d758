"""drop_indexes: journal every HNSW index of the vector tables, then drop it, in one transaction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ragops.campaign.privileges import privilege_problems
from ragops.campaign.steps.base import PlanFacts, PlannedStep, Run
from ragops.errors import UsageError
from ragops.facts import IndexFacts
from ragops.findings import PlanProblem
from ragops.indexes.plan import VECTOR_TABLES, droppable_indexes
from ragops.playbook.steps import DropIndexes
from ragops.postgres.ddl import drop_index_sql
from ragops.postgres.ledger import journal_index
from ragops.postgres.locks import LOCK_TIMEOUT_S, with_lock_retries
from ragops.postgres.statements import text_of


@dataclass(frozen=True, slots=True)
class DropResult:
    dropped: tuple[str, ...]
    bytes: int
    sql: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        return {"dropped": list(self.dropped), "bytes": self.bytes, "sql": list(self.sql)}


@dataclass(frozen=True, slots=True)
class DropIndexesStep:
    settings: DropIndexes

    def problems(self, facts: PlanFacts) -> Iterator[PlanProblem | str]:
        for logical in VECTOR_TABLES:
            table = facts.database.tables.get(logical)
            if table is not None and any(index.method == "hnsw" for index in table.indexes):
                yield from privilege_problems(facts.database, logical, "OWN")

    def plan(self, facts: PlanFacts, number: int) -> PlannedStep:
        indexes = droppable_indexes(facts.database)
        return PlannedStep(
            number,
            self.settings.step,
            f"journal and drop {len(indexes)} HNSW index{'es' if len(indexes) != 1 else ''}",
            self.settings,
            statements=tuple(map(drop_index_sql, indexes)),
            bytes=sum(index.bytes for index in indexes),
            tables=tuple(dict.fromkeys(index.table for index in indexes)),
            notes=() if indexes else ("no HNSW index exists: nothing to drop",),
        )

    def run(self, run: Run) -> DropResult:
        return drop(run)


def drop(run: Run, *, names: Sequence[str] = ()) -> DropResult:
    """Drop the HNSW indexes that the catalog has, or only those named.

    Raises UsageError for a name that is none of them, RagopsError when a lock cannot be had.
    """
    session = run.session
    facts = session.facts()
    indexes = select_indexes(droppable_indexes(facts), names)
    tables = [table for table in facts.tables.values() if table and any(i in indexes for i in table.indexes)]

    def act() -> DropResult:
        executed = []
        with run.transaction(lock_timeout_s=LOCK_TIMEOUT_S, is_long=True):
            for index in indexes:
                # Journaled first: whatever happens next, the definition can be found again.
                journal_index(session.connection, index, campaign=run.campaign)
                statement = drop_index_sql(index)
                session.connection.execute(statement)
                executed.append(text_of(statement))
            result = DropResult(
                tuple(index.name for index in indexes), sum(index.bytes for index in indexes), tuple(executed)
            )
            run.record(result)
        return result

    if not indexes:
        session.reporter.info("no HNSW index exists: nothing to drop")
    return with_lock_retries(session.connection, act, tables=tables, reporter=session.reporter)


def select_indexes(present: Sequence[IndexFacts], names: Sequence[str]) -> list[IndexFacts]:
    """Return the named ones among `present`, or all. Raises UsageError for an unknown name."""
    unknown = set(names) - {index.name for index in present}
    if unknown:
        raise UsageError(
            f"no such HNSW index: {', '.join(sorted(unknown))}",
            actual=", ".join(index.name for index in present) or "no HNSW index on the vector tables",
            hint="ragops index status",
        )
    return [index for index in present if not names or index.name in names]
