"""Playbook + facts → the exact list of steps. Pure: no connection, no clock, no file is touched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ragops.campaign.preflight import find_table_problems, refuse_problems
from ragops.campaign.steps.base import PlanFacts, PlannedStep
from ragops.campaign.steps.registry import step_of
from ragops.errors import PlanStale
from ragops.facts import DatabaseFacts
from ragops.findings import PlanProblem


@dataclass(frozen=True, slots=True)
class Outlook:
    """What was found by trying, or by reading more than facts: problems, and notes for the operator."""

    problems: tuple[PlanProblem, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PlannedTable:
    oid: int
    rows: int


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps in order, and the state of the database that they were made for."""

    name: str
    database: str
    database_oid: int
    steps: tuple[PlannedStep, ...]
    tables: Mapping[str, PlannedTable] = field(default_factory=dict)
    """By logical name; acting on anything larger is refused."""
    notes: tuple[str, ...] = ()
    """What the operator should know, about no single step."""

    def to_json(self) -> dict[str, object]:
        """What `--dry-run --json` prints and the ledger keeps."""
        return {
            "name": self.name,
            "database": self.database,
            "database_oid": self.database_oid,
            "tables": {name: {"oid": table.oid, "rows": table.rows} for name, table in self.tables.items()},
            "steps": [step.to_json() for step in self.steps],
            "notes": list(self.notes),
        }

    def check_unchanged(self, now: DatabaseFacts) -> None:
        """Raise PlanStale when the database is another, or a table has grown or been replaced since planning."""
        changes = []
        if (now.server.database_oid, now.server.database) != (self.database_oid, self.database):
            changes.append(f"the database is {now.server.database}, planned for {self.database}")
        for logical, planned in self.tables.items():
            table = now.tables.get(logical)
            if table is None or table.oid != planned.oid:
                changes.append(f"{logical} was replaced")
            elif table.rows > planned.rows:
                changes.append(f"{table.qualified} holds {table.rows:,} rows, planned {planned.rows:,}")
        if changes:
            raise PlanStale(
                "the database changed since the plan was made; nothing was emptied",
                where=now.server.database,
                actual="\n".join(changes),
                hint="stop what writes there, check the new plan with --dry-run, then: ragops reset --resume",
            )


def make_plan(facts: PlanFacts, outlook: Outlook = Outlook()) -> Plan:
    """Plan a campaign. Raises PlanRefused with every problem that stands in the way."""
    playbook, database = facts.playbook, facts.database
    refuse_problems([*find_problems(facts), *outlook.problems], where=database.server.database)
    return Plan(
        name=playbook.name,
        database=database.server.database,
        database_oid=database.server.database_oid,
        steps=tuple(
            step_of(settings).plan(facts, number) for number, settings in enumerate(playbook.steps, start=1)
        ),
        tables={name: PlannedTable(table.oid, table.rows) for name, table in database.tables.items() if table},
        notes=outlook.notes,
    )


def find_problems(facts: PlanFacts) -> Sequence[PlanProblem | str]:
    """Return every reason why the playbook cannot run on this database, each once; empty when it can."""
    problems = find_table_problems(facts.playbook, facts.database, model=facts.model)
    for settings in facts.playbook.steps:
        problems += step_of(settings).problems(facts)
    return list(dict.fromkeys(problems))
