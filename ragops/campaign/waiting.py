"""Wait while another controller holds the campaign (`ragops reset --resume --wait`), and give a lease back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from ragops.campaign.result import CampaignResult, summary
from ragops.errors import CampaignHeld
from ragops.identity import is_dead_here, short_name
from ragops.postgres.connection import DATABASE_ERRORS, OUTAGES
from ragops.postgres.ledger import CampaignRow, Ledger, campaign_steps, check_free, find_latest_campaign
from ragops.session import Session

POLL_S = 1.0
AFTER_OUTAGE_S = 20.0
"""A controller that could not reach the database either renews its lease within this time (`HEARTBEAT_S`)."""


def wait_for_holder(session: Session, *, sleep: Callable[[float], None] = time.sleep) -> CampaignRow | None:
    """Wait until no living controller holds the newest campaign; return at once if none does.

    Returns the campaign if the controller that was waited for has brought it to its end, otherwise None.
    """
    waited: CampaignRow | None = None
    looks, back_at = 0, -AFTER_OUTAGE_S

    def look() -> CampaignRow | None:
        nonlocal looks
        looks += 1
        return find_latest_campaign(session.connection, session.playbook.tables)

    while True:
        before = looks
        row = session.through_outages(look)
        if looks > before + 1:
            back_at = time.monotonic()
        if row is None or row.is_finished:
            is_done = row is not None and waited is not None and (row.id, row.status) == (waited.id, "done")
            return row if is_done else None
        try:
            check_free(row)
        except CampaignHeld as held:
            if waited is None or waited.holder != row.holder:
                session.reporter.info(f"{held.what}; waiting until it has ended or that lease has run out")
            waited = row
            sleep(POLL_S)
            continue
        if row.holder and not is_dead_here(row.holder) and time.monotonic() < back_at + AFTER_OUTAGE_S:
            sleep(POLL_S)
            continue
        if waited is not None:
            who = short_name(waited.holder or "another controller")
            session.reporter.info(f"campaign {row.id} is no longer held by {who}: {row.status}")
        return None


def finished_elsewhere(session: Session, row: CampaignRow) -> CampaignResult:
    """Return the result of a campaign that another controller has finished."""
    ledger = Ledger(session.connection, row.id, row.epoch)
    steps = campaign_steps(session.connection, row.id)
    verdicts = [step.effect["verdict"] for step in steps if step.effect and "verdict" in step.effect]
    return summary(session, ledger, status=row.status, verdict=str(verdicts[-1]) if verdicts else None)


@contextmanager
def held(session: Session, ledger: Ledger) -> Iterator[None]:
    """End the campaign's lease when an error leaves the context: nobody has to wait for a process that ended."""
    try:
        yield
    except BaseException:
        session.database.close_if_busy()
        with suppress(*OUTAGES, *DATABASE_ERRORS):
            session.database.try_once(lambda connection: ledger.on(connection).end_lease())
        raise
