"""What commands call a campaign: as the ledger has it, unless its controller has ended without a word."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from rich.console import Console

from ragops.identity import holder_name
from ragops.postgres.ledger import CampaignRow, ChangeRow, true_status
from ragops.postgres.progress import DocumentCounts, ParsedFilesCounts, QueueCounts
from ragops.report.status import status_screen
from ragops.status import CampaignState, Status


def campaign(status: str, *, holder: str | None, is_live: bool | None) -> CampaignRow:
    return CampaignRow(1, "test", {}, {}, status, 0, 1, holder, None, is_live, None)


@pytest.mark.parametrize(
    ("status", "holder", "is_live", "shown"),
    [
        pytest.param("running", holder_name(), True, "running", id="here"),
        pytest.param("running", holder_name(), False, "interrupted", id="here, expired"),
        ("running", "elsewhere:1", True, "running"),
        ("running", "elsewhere:1", False, "interrupted"),
        ("running", None, None, "interrupted"),
        ("failed", "elsewhere:1", False, "failed"),
        ("gate_failed", None, None, "gate_failed"),
        ("done", None, None, "done"),
    ],
)
def test_a_campaign_that_nobody_runs_is_not_running(
    status: str, holder: str | None, is_live: bool | None, shown: str
) -> None:
    assert true_status(campaign(status, holder=holder, is_live=is_live)) == shown


def lines_of(status: Status) -> str:
    console = Console(width=100)
    with console.capture() as captured:
        console.print(status_screen(status))
    return " ".join(captured.get().split())


def test_the_screen_says_what_was_changed_by_whom_and_when() -> None:
    at = datetime(2026, 11, 27, 12, 30, tzinfo=UTC)
    changes = (
        ChangeRow("validation.max_failed_share", 0.05, 0.3, "bob from host:1", at),
        ChangeRow("exclude", None, {"pattern": "*.png", "failed": 6, "pending": 2}, "bob from host:1", at),
        ChangeRow("exclude", {"items": 8}, None, "eve from host:2", at),
    )
    state = CampaignState(7, "realign", "interrupted", 1, "host:1", False, "killed", "5/9 embed", changes)
    nothing = DocumentCounts(0, 0, 0, is_estimated=False), QueueCounts({"completed": 0}, is_estimated=False)
    shown = lines_of(Status("rag", *nothing, ParsedFilesCounts(0, 0, is_estimated=False), (), state))
    assert "campaign 7 (realign): interrupted, step 5/9 embed" in shown
    assert "killed" in shown
    assert "validation.max_failed_share: 0.05 before, 0.3 since 2026-11-27 12:30 by bob from host:1" in shown
    assert "excluded: 6 failed, 2 pending (*.png), 2026-11-27 12:30 by bob from host:1" in shown
    assert "taken in again: 8 excluded items, 2026-11-27 12:30 by eve from host:2" in shown
