"""cut_over: give the second columns the names of the first ones, in one short transaction."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ragops.campaign.cutover.beside import besides, exchange_problems, matched, new_dimensions, second_type
from ragops.campaign.cutover.results import CutOverResult
from ragops.campaign.cutover.switching import cut_over as exchange_columns
from ragops.campaign.steps.base import PlanFacts, PlannedStep, Run
from ragops.errors import CutoverAwaited
from ragops.findings import PlanProblem
from ragops.playbook.steps import CutOver
from ragops.postgres.connection import transaction
from ragops.postgres.cutover_ddl import exchange_statements
from ragops.postgres.cutovers import set_state
from ragops.session import Session


@dataclass(frozen=True, slots=True)
class CutOverStep:
    settings: CutOver

    def problems(self, facts: PlanFacts) -> Iterator[PlanProblem | str]:
        # Before the column is added, that step says the same.
        dimensions = new_dimensions(facts.playbook, facts.model)
        for one in matched(facts.playbook, facts.targets, facts.besides):
            if one.beside.is_added and one.beside.row is not None and not one.beside.row.is_swapped:
                yield from exchange_problems(one, dimensions)

    def plan(self, facts: PlanFacts, number: int) -> PlannedStep:
        dimensions = new_dimensions(facts.playbook, facts.model)
        found = matched(facts.playbook, facts.targets, facts.besides)
        statements = [
            statement
            for one in found
            if one.beside.row is None or not one.beside.row.is_swapped or not one.beside.is_added
            for statement in exchange_statements(
                one.table,
                name=one.target.embedding,
                aside=one.beside.retired,
                second=one.target.filled_column,
                first=one.beside.old,
                second_type=second_type(one.beside, dimensions) or one.beside.old.type,
                dependents=one.beside.dependents,
            )
        ]
        hooks = facts.playbook.hooks
        notes = [
            "waits for `ragops cutover run`" if self.settings.when == "asked" else "goes on by itself",
            f"waits up to {self.settings.lock_timeout_s:g} s for each lock, and tries again",
            "indexes exchange their names with the columns",
            "statements that name no columns (INSERT INTO … VALUES, COPY … FROM) go by position: they still write "
            "the first column",
            *(f"before: {command}" for command in hooks.before_cut_over),
            *(f"after: {command}" for command in hooks.after_cut_over),
        ]
        if any(one.beside.old.is_not_null for one in found):
            notes.append("NOT NULL moves once the new column has no NULL, without a scan under a lock")
        return PlannedStep(
            number,
            self.settings.step,
            f"exchange {', '.join(one.label for one in found)} with the second column",
            self.settings,
            statements=tuple(statements),
            tables=tuple(one.table.qualified for one in found),
            notes=tuple(notes),
        )

    def run(self, run: Run) -> CutOverResult:
        """Exchange the columns. Raises CutoverAwaited while nobody has asked for it."""
        session = run.session
        found = session.through_outages(lambda: besides(session, is_added=True))
        waiting = [one for one in found if not one.row.is_swapped]
        if self.settings.when == "asked" and any(not one.row.is_asked for one in waiting):
            session.through_outages(lambda: _mark_ready(session))
            raise CutoverAwaited(
                "the second columns are filled and waiting for: ragops cutover run", hint="ragops cutover status"
            )
        return exchange_columns(run, lock_timeout_s=self.settings.lock_timeout_s)


def _mark_ready(session: Session) -> None:
    with transaction(session.connection):
        for one in besides(session, is_added=True):
            if one.row.state == "filling":
                set_state(session.connection, one.row, "ready")
