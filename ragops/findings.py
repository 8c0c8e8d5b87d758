"""Findings: what a check observed, how bad it is, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Literal

Severity = Literal["error", "warning", "info"]
_ORDER: tuple[Severity, ...] = ("error", "warning", "info")


@dataclass(frozen=True, slots=True)
class Finding:
    """One observation of a check; an `error` makes the verdict negative."""

    # Stable across releases, for scripts: `flag-avx`, `illegal-avx2`, `pooling`.
    id: str
    severity: Severity
    message: str
    # What to type or to check next; empty if there is nothing to do.
    hint: str = ""

    def to_json(self) -> dict[str, object]:
        """Return the finding as `--json` prints it."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class PlanProblem:
    """One thing that stands in a command's way, and what cures it."""

    what: str
    # SQL that can be run as it is, by a role that may; empty where no SQL helps.
    cure: str = ""

    def __str__(self) -> str:
        return f"{self.what}: {self.cure}" if self.cure else self.what

    def to_json(self) -> dict[str, object]:
        """Return what `--json` prints in the list `problems`."""
        return {"what": self.what, "cure": self.cure or None}


def sorted_findings(findings: Iterable[Finding]) -> list[Finding]:
    """Return errors first, then warnings; findings of one severity keep their order."""
    return sorted(findings, key=lambda finding: _ORDER.index(finding.severity))
