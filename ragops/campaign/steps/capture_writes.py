"""capture_writes: note the keys of rows that the application writes, with a trigger that cannot fail its write."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ragops.campaign.cutover.beside import Beside, besides, matched
from ragops.campaign.steps.base import PlanFacts, PlannedStep, Run
from ragops.findings import PlanProblem
from ragops.playbook.steps import CaptureWrites
from ragops.postgres.cutover_ddl import capture_statements
from ragops.postgres.locks import LOCK_TIMEOUT_S, with_lock_retries
from ragops.postgres.statements import Statement, text_of


@dataclass(frozen=True, slots=True)
class CaptureResult:
    tables: tuple[str, ...]
    sql: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        return {"tables": list(self.tables), "sql": list(self.sql)}


@dataclass(frozen=True, slots=True)
class CaptureWritesStep:
    settings: CaptureWrites

    def problems(self, facts: PlanFacts) -> Iterator[PlanProblem | str]:
        # That the table is the role's own is asked by add_column.
        yield from ()

    def plan(self, facts: PlanFacts, number: int) -> PlannedStep:
        found = matched(facts.playbook, facts.targets, facts.besides)
        tables = dict.fromkeys(one.table.quoted for one in found)
        return PlannedStep(
            number,
            self.settings.step,
            f"note the keys of rows that are written in {', '.join(tables)}",
            self.settings,
            statements=tuple(statement for one in found for statement in _statements(one)),
            tables=tuple(one.table.qualified for one in found),
        )

    def run(self, run: Run) -> CaptureResult:
        """Create the triggers in one transaction: what was written before is seen by what selects rows later."""
        session = run.session
        found = besides(session, is_added=True)

        def act() -> CaptureResult:
            executed = []
            with run.transaction(lock_timeout_s=LOCK_TIMEOUT_S):
                for one in found:
                    for statement in _statements(one):
                        session.connection.execute(statement)
                        executed.append(text_of(statement))
                result = CaptureResult(tuple(one.table.qualified for one in found), tuple(executed))
                run.record(result)
            return result

        tables = [one.table for one in found]
        return with_lock_retries(session.connection, act, tables=tables, reporter=session.reporter)


def _statements(one: Beside) -> Iterator[Statement]:
    return capture_statements(one.planned, one.table, one.facts.key)
