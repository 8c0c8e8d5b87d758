"""drop_indexes: journal every vector index of the vector tables, then drop it, in one transaction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ragops.campaign.privileges import privilege_problems, table_privilege_problems
from ragops.campaign.steps.base import PlanFacts, PlannedStep, Run
from ragops.errors import UsageError
from ragops.facts import IndexFacts
from ragops.findings import PlanProblem
from ragops.indexes.concerned import VECTOR_TABLES, concerned_tables, droppable_indexes, indexes_over
from ragops.playbook.steps import DropIndexes
from ragops.postgres.ddl import drop_index_sql
from ragops.postgres.journal import journal_index
from ragops.postgres.locks import LOCK_TIMEOUT_S, lock_tables, with_lock_retries
from ragops.postgres.statements import text_of

NOTHING_TO_DROP = "no vector index exists: nothing to drop"


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
            if table is not None and table.indexes:
                yield from privilege_problems(facts.database, logical, "OWN")
        for target in facts.targets:
            if indexes_over(target, target.filled):
                yield from table_privilege_problems(target.table, facts.database.server.role, "OWN")

    def plan(self, facts: PlanFacts, number: int) -> PlannedStep:
        indexes = droppable_indexes(facts.database, facts.targets)
        dropped = _dropped_alone(indexes)
        return PlannedStep(
            number,
            self.settings.step,
            f"journal and drop {len(dropped)} vector index{'es' if len(dropped) != 1 else ''}",
            self.settings,
            statements=tuple(map(drop_index_sql, dropped)),
            bytes=sum(index.bytes for index in indexes),
            tables=tuple(dict.fromkeys(index.table for index in indexes)),
            notes=() if indexes else (NOTHING_TO_DROP,),
        )

    def run(self, run: Run) -> DropResult:
        return drop(run)


def drop(run: Run, *, names: Sequence[str] = ()) -> DropResult:
    """Drop the vector indexes that the catalog has, or only those named.

    Raises UsageError for a name that is none of them, RagopsError when a lock cannot be had.
    """
    session = run.session
    facts, targets = session.facts(), session.targets()
    indexes = select_indexes(droppable_indexes(facts, targets), names)
    tables = [t for t in concerned_tables(facts, targets) if any(index in indexes for index in t.indexes)]

    def act() -> DropResult:
        executed = []
        with run.transaction(lock_timeout_s=LOCK_TIMEOUT_S, is_long=True):
            refuse_stale_plan(run)
            # One after the other within one time limit: a lock that is had shuts readers out until all are had.
            lock_tables(session.connection, tables, "ACCESS EXCLUSIVE")
            for index in indexes:
                # Journaled first: whatever happens next, the definition can be found again.
                journal_index(session.connection, index, campaign=run.campaign)
            for index in _dropped_alone(indexes):
                statement = drop_index_sql(index)
                session.connection.execute(statement)
                executed.append(text_of(statement))
            result = DropResult(
                tuple(index.name for index in indexes), sum(index.bytes for index in indexes), tuple(executed)
            )
            run.record(result)
        return result

    if not indexes:
        session.reporter.info(NOTHING_TO_DROP)
    return with_lock_retries(session.connection, act, tables=tables, reporter=session.reporter)


def refuse_stale_plan(run: Run) -> None:
    """Raise PlanStale when what the campaign will empty is not what was planned: no index is dropped in vain.

    Counted under a lock that keeps writers out and lets readers go on, in the caller's transaction.
    """
    if not run.emptied_later:
        return
    session = run.session
    wiped = [table for name, table in session.tables().items() if name in run.emptied_later]
    lock_tables(session.connection, wiped, "SHARE ROW EXCLUSIVE")
    run.check_unchanged(session.facts(exact=True), run.emptied_later)


def select_indexes(present: Sequence[IndexFacts], names: Sequence[str]) -> list[IndexFacts]:
    """Return the named ones among `present` with the partitions' indexes attached to them, or all.

    Raises UsageError for an unknown name, or for the index of a partition that cannot be dropped alone.
    """
    unknown = set(names) - {index.name for index in present}
    if unknown:
        raise UsageError(
            f"no such vector index: {', '.join(sorted(unknown))}",
            actual=", ".join(index.name for index in present) or "no vector index on the vector tables",
            hint="ragops index status",
        )
    chosen = [index for index in present if not names or index.name in names]
    qualified = {f"{index.schema}.{index.name}" for index in chosen}
    while added := [i for i in present if i.properties.parent in qualified and i not in chosen]:
        chosen += added
        qualified |= {f"{index.schema}.{index.name}" for index in added}
    for index in chosen:
        if index.properties.parent is not None and index.properties.parent not in qualified:
            raise UsageError(
                f"{index.name} belongs to the index {index.properties.parent} and cannot be dropped alone",
                hint=f"ragops index drop {index.properties.parent.partition('.')[2]}",
            )
    return [index for index in present if index in chosen]


def _dropped_alone(indexes: Sequence[IndexFacts]) -> list[IndexFacts]:
    """Return the indexes that DROP INDEX takes: those of partitions go with that of their partitioned table."""
    return [index for index in indexes if not index.is_attached]
