"""What a campaign did, from its steps and the queue."""

from __future__ import annotations

from dataclasses import dataclass

from ragops.errors import NothingToReset
from ragops.postgres.ledger import Ledger, StepRow, campaign_steps
from ragops.postgres.queue import EXCLUDED, ItemStatus
from ragops.session import Session


@dataclass(frozen=True, slots=True)
class CampaignResult:
    """What `reset --json` prints."""

    campaign: int
    status: str
    seeded: int
    completed: int
    failed: int
    verdict: str | None
    steps: tuple[StepRow, ...]
    nothing_to_reset: NothingToReset | None = None
    excluded: int = 0
    """Items that do not count, because somebody said so when the campaign was resumed."""
    waiting_for: str | None = None
    """The command that a campaign which ended before its cutover waits for."""

    @property
    def bytes_freed(self) -> int:
        """Bytes of emptied tables and of dropped indexes."""
        emptied = sum(step.recorded_number("bytes_freed") for step in self.steps)
        return emptied + sum(step.recorded_number("bytes") for step in self.steps if step.verb == "drop_indexes")

    def to_json(self) -> dict[str, object]:
        steps = [
            {"number": s.number, "name": s.verb, "status": s.status, "seconds": s.seconds, "effect": s.effect}
            for s in self.steps
        ]
        reason = self.nothing_to_reset.as_dict() if self.nothing_to_reset else {}
        return {
            "campaign": self.campaign,
            "status": self.status,
            "seeded": self.seeded,
            "completed": self.completed,
            "failed": self.failed,
            "excluded": self.excluded,
            "verdict": self.verdict,
            "bytes_freed": self.bytes_freed,
            "steps": steps,
            **({"waiting_for": self.waiting_for} if self.waiting_for else {}),
            **reason,
        }


def summary(session: Session, ledger: Ledger, *, status: str, verdict: str | None) -> CampaignResult:
    """Read the campaign's steps and the queue's counts."""
    counts = session.queue.counts()
    return CampaignResult(
        campaign=ledger.campaign,
        status=status,
        seeded=sum(counts.values()),
        completed=counts[ItemStatus.COMPLETED],
        failed=counts[ItemStatus.FAILED],
        verdict=verdict,
        steps=tuple(campaign_steps(session.connection, ledger.campaign)),
        excluded=counts.get(EXCLUDED, 0),
    )
