"""What `ragops init` found, chose, wrote and proved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ragops.findings import PlanProblem


@dataclass(frozen=True, slots=True)
class Decision:
    """One thing that the playbook says, and why."""

    what: str
    value: str
    certainty: str
    """given, sure, measured or guess."""
    why: str = ""

    def to_json(self) -> dict[str, object]:
        return {"what": self.what, "value": self.value, "certainty": self.certainty, "why": self.why}


@dataclass(frozen=True, slots=True)
class InitResult:
    """The playbook that was written, and what speaks for it."""

    file: str
    campaign: str
    database: str
    column: str
    """The vector column in words."""
    client: str | None
    """The program that made the table, and how that is known."""
    decisions: tuple[Decision, ...]
    also: tuple[str, ...] = ()
    """What must be changed or known beside the vectors."""
    warnings: tuple[str, ...] = ()
    untouched: tuple[str, ...] = ()
    texts: tuple[str | None, ...] = ()
    """The beginnings of some rows' texts."""
    measured: Mapping[str, object] | None = None
    """None: nothing was measured."""
    measured_lines: tuple[str, ...] = ()
    planned: bool = False
    """The campaign was planned against the database."""
    steps: tuple[str, ...] = ()
    problems: tuple[PlanProblem, ...] = ()
    next: str = ""

    def to_json(self) -> dict[str, object]:
        return {
            "status": "problems" if self.problems else "written",
            "file": self.file,
            "campaign": self.campaign,
            "database": self.database,
            "column": self.column,
            "client": self.client,
            "decisions": [one.to_json() for one in self.decisions],
            "also": list(self.also),
            "warnings": list(self.warnings),
            "untouched": list(self.untouched),
            "texts": list(self.texts),
            "measured": self.measured,
            "planned": self.planned,
            "steps": list(self.steps),
            "problems": [problem.to_json() for problem in self.problems],
            "next": self.next,
        }
