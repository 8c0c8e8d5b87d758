"""Findings: what a check observed, how bad it is, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Literal

Severity = Literal["error", "warning", "info"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that verification noticed; an `error` makes the verdict negative."""

    id: str
    severity: Severity
    message: str
    hint: str = ""

    def to_json(self) -> dict[str, object]:
        return asdict(self)


def sorted_findings(findings: Iterable[Finding]) -> list[Finding]:
    """Errors first, then warnings."""
    order = {"error": 0, "warning": 1, "info": 2}
    return sorted(findings, key=lambda finding: order[finding.severity])
