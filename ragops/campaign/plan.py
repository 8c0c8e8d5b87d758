"""Playbook + facts → the exact list of steps. Pure: no connection, no clock, no file is touched."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from ragops.campaign.confirmed import Confirmed, PlannedTable
from ragops.campaign.preflight import find_table_problems, refuse_problems
from ragops.campaign.steps.base import PlanFacts, PlannedStep
from ragops.campaign.steps.registry import step_of
from ragops.findings import PlanProblem
from ragops.playbook.steps import EmptyTables


@dataclass(frozen=True, slots=True)
class Outlook:
    """What was found by trying, or by reading more than facts: problems, and notes for the operator."""

    problems: tuple[PlanProblem, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps in order, and the state of the database that they were made for."""

    name: str
    steps: tuple[PlannedStep, ...]
    confirmed: Confirmed
    force: bool = False
    """Reset although what is stored agrees with the workers already."""
    notes: tuple[str, ...] = ()
    """What the operator should know, about no single step."""

    @property
    def database(self) -> str:
        return self.confirmed.database

    @property
    def database_oid(self) -> int:
        return self.confirmed.database_oid

    @property
    def tables(self) -> Mapping[str, PlannedTable]:
        return self.confirmed.tables

    def emptied(self, done: Collection[int] = ()) -> tuple[str, ...]:
        """Return the logical names of the tables that the steps still empty, those in `done` left out."""
        return tuple(
            dict.fromkeys(
                entry.table
                for step in self.steps
                if isinstance(step.settings, EmptyTables) and step.number not in done
                for entry in step.settings.tables
            )
        )

    def emptied_after(self, number: int) -> tuple[str, ...]:
        """Return the logical names of the tables that the steps behind step `number` empty."""
        return self.emptied(range(1, number + 1))

    def as_confirmed(self, confirmed: Confirmed) -> Plan:
        """Return the plan with what the operator confirmed at another time."""
        return replace(self, confirmed=confirmed)

    def to_json(self) -> dict[str, object]:
        """What `--dry-run --json` prints and the ledger keeps."""
        return {
            "name": self.name,
            "database": self.database,
            "database_oid": self.database_oid,
            "tables": {name: {"oid": table.oid, "rows": table.rows} for name, table in self.tables.items()},
            "force": self.force,
            "steps": [step.to_json() for step in self.steps],
            "notes": list(self.notes),
        }


def make_plan(facts: PlanFacts, outlook: Outlook = Outlook()) -> Plan:
    """Plan a campaign. Raises PlanRefused with every problem that stands in the way."""
    playbook, database = facts.playbook, facts.database
    refuse_problems([*find_problems(facts), *outlook.problems], where=database.server.database)
    return Plan(
        name=playbook.name,
        steps=tuple(
            step_of(settings).plan(facts, number) for number, settings in enumerate(playbook.steps, start=1)
        ),
        confirmed=Confirmed.of(database),
        notes=outlook.notes,
    )


def find_problems(facts: PlanFacts) -> Sequence[PlanProblem | str]:
    """Return every reason why the playbook cannot run on this database, each once; empty when it can."""
    problems = find_table_problems(facts.playbook, facts.database, model=facts.model)
    for settings in facts.playbook.steps:
        problems += step_of(settings).problems(facts)
    return list(dict.fromkeys(problems))
