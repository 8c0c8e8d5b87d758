"""add_column: add the second vector column of every target that is written beside."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from ragops.campaign.cutover.beside import Beside, besides, column_problems, matched, new_dimensions
from ragops.campaign.steps.base import PlanFacts, PlannedStep, Run
from ragops.embedder.config import probe_model
from ragops.errors import PlanRefused
from ragops.findings import PlanProblem
from ragops.playbook.steps import AddColumn
from ragops.postgres.cutover_ddl import add_column_statements, column_type
from ragops.postgres.cutovers import create_cutover
from ragops.postgres.locks import LOCK_TIMEOUT_S, with_lock_retries
from ragops.postgres.row_work import target_id
from ragops.postgres.statements import Statement, text_of


@dataclass(frozen=True, slots=True)
class AddColumnResult:
    columns: tuple[str, ...]
    sql: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        return {"columns": list(self.columns), "sql": list(self.sql)}


@dataclass(frozen=True, slots=True)
class AddColumnStep:
    settings: AddColumn

    def problems(self, facts: PlanFacts) -> Iterator[PlanProblem | str]:
        dimensions = new_dimensions(facts.playbook, facts.model)
        for one in matched(facts.playbook, facts.targets, facts.besides):
            yield from column_problems(one, dimensions)

    def plan(self, facts: PlanFacts, number: int) -> PlannedStep:
        dimensions = new_dimensions(facts.playbook, facts.model)
        found = matched(facts.playbook, facts.targets, facts.besides)
        names = ", ".join(f"{one.table.quoted}.{one.target.filled_column}" for one in found)
        statements = [s for one in found if dimensions for s in _statements(one, dimensions)]
        return PlannedStep(
            number,
            self.settings.step,
            f"add {names}",
            self.settings,
            statements=tuple(statements),
            tables=tuple(one.table.qualified for one in found),
            notes=() if dimensions else ("its dimensions are the model's",),
        )

    def run(self, run: Run) -> AddColumnResult:
        """Add the columns, and record them, in one transaction. Raises PlanRefused if a name is taken."""
        session = run.session
        dimensions = session.playbook.model.dimensions or probe_model(session.playbook).dimensions
        tables = [facts.table for facts in session.targets()]

        def act() -> AddColumnResult:
            with run.transaction(lock_timeout_s=LOCK_TIMEOUT_S):
                found = besides(session)
                problems = [problem for one in found for problem in column_problems(one, dimensions)]
                if problems:
                    raise PlanRefused(
                        "a second column cannot be added; nothing was changed",
                        problems=problems,
                        hint="then: ragops reset --resume",
                    )
                executed = []
                for one in found:
                    for statement in _statements(one, dimensions):
                        session.connection.execute(statement)
                        executed.append(text_of(statement))
                    _record(run, one)
                names = tuple(f"{one.table.qualified}.{one.target.filled_column}" for one in found)
                result = AddColumnResult(names, tuple(executed))
                run.record(result)
            return result

        return with_lock_retries(session.connection, act, tables=tables, reporter=session.reporter)


def _record(run: Run, one: Beside) -> None:
    # The number of the second column, whatever a cutover calls it.
    connection = run.session.connection
    create_cutover(
        connection,
        campaign=run.campaign,
        target=target_id(connection, replace(one.facts, filled=one.target.filled_column)),
        old=one.target.embedding,
        new=one.target.filled_column,
        definition={
            "retired": one.beside.retired,
            "old_type": one.beside.old.type,
            "not_null": one.beside.old.is_not_null,
        },
    )


def _statements(one: Beside, dimensions: int) -> Iterator[Statement]:
    type = column_type(one.beside, dimensions)
    return add_column_statements(one.table, one.target.filled_column, type, one.beside.old)
