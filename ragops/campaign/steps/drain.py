"""drain: not built yet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ragops.campaign.steps.base import PlanFacts, PlannedStep, Run, StepResult
from ragops.findings import PlanProblem
from ragops.playbook.steps import Drain


@dataclass(frozen=True, slots=True)
class DrainStep:
    settings: Drain

    def problems(self, facts: PlanFacts) -> Iterator[PlanProblem | str]:
        yield from ()

    def plan(self, facts: PlanFacts, number: int) -> PlannedStep:
        return PlannedStep(number, self.settings.step, "drain", self.settings)

    def run(self, run: Run) -> StepResult:
        raise NotImplementedError
