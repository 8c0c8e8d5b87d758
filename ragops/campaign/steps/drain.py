"""drain: embed what the application wrote since the rows were selected, until next to nothing is left."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ragops.campaign.cutover.draining import DrainResult
from ragops.campaign.cutover.draining import drain as drain_rows
from ragops.campaign.steps.base import PlanFacts, PlannedStep, Run
from ragops.findings import PlanProblem
from ragops.playbook.steps import Drain


@dataclass(frozen=True, slots=True)
class DrainStep:
    settings: Drain

    def problems(self, facts: PlanFacts) -> Iterator[PlanProblem | str]:
        yield from ()

    def plan(self, facts: PlanFacts, number: int) -> PlannedStep:
        names = {one.number for one in facts.besides}
        tables = tuple(one.table.qualified for one in facts.targets if one.number in names)
        return PlannedStep(
            number,
            self.settings.step,
            "embed what the application wrote meanwhile",
            self.settings,
            tables=tables,
            notes=("every row is compared with the text that its vector was made of",),
        )

    def run(self, run: Run) -> DrainResult:
        """Embed noted rows in rounds, then look at every row once. Raises as `embed` does."""
        result = drain_rows(run, sweeps=True)
        run.session.reporter.info(
            f"drained: {result.noted:,} rows were written meanwhile, {result.embedded:,} embedded again"
        )
        run.session.through_outages(lambda: run.record(result))
        return result
