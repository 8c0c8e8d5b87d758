"""Try on the server what a campaign over rows will do: its conditions, and one UPDATE that is rolled back."""

from __future__ import annotations

from collections.abc import Iterator

from ragops.campaign.row_problems import column_of, model_dimensions
from ragops.campaign.steps.base import PlanFacts
from ragops.findings import PlanProblem
from ragops.playbook.steps import SelectRows
from ragops.postgres.connection import Connection
from ragops.postgres.locks import PLAN_PATIENCE, with_lock_retries
from ragops.postgres.target_reads import condition_problems, rehearse_update
from ragops.session import Session


def row_condition_problems(connection: Connection, facts: PlanFacts) -> Iterator[PlanProblem]:
    """Yield what the server refuses of the conditions of `select_rows`, which hold for every target."""
    for place, step in enumerate(facts.playbook.steps):
        if isinstance(step, SelectRows) and step.where is not None:
            for found in facts.targets:
                yield from condition_problems(connection, found, step.where, place=f"steps[{place}].where")


def rehearse_updates(session: Session, facts: PlanFacts) -> list[PlanProblem]:
    """Return what the server says against a vector in one row of each target that is written in place."""
    problems: list[PlanProblem] = []
    for found in facts.targets:
        target = facts.playbook.targets[found.number - 1]
        dimensions = found.dimensions or model_dimensions(facts)
        if target.write != "in_place" or dimensions is None:
            continue

        refusal = with_lock_retries(
            session.connection,
            lambda found=found, target=target, dimensions=dimensions: rehearse_update(  # type: ignore[misc]
                session.connection, target, found, dimensions=dimensions
            ),
            tables=[found.table],
            backoff=PLAN_PATIENCE,
            reporter=session.reporter,
        )
        if refusal is not None:
            problems.append(PlanProblem(f"writing a vector into {column_of(found)} fails: {refusal}"))
    return problems
