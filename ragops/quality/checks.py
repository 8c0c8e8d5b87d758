"""One check of a validation."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

CheckStatus = Literal["pass", "fail", "info"]


@dataclass(frozen=True, slots=True)
class Check:
    """One check; `info` is shown and decides nothing."""

    id: str
    status: CheckStatus
    measured: str
    expected: str

    def to_json(self) -> dict[str, object]:
        """Return what `ragops validate --json` prints in the list `checks`."""
        return asdict(self)
