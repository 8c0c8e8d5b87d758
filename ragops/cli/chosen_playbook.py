"""Which playbook a command works with: the one that is named, or that of the newest campaign over rows."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from ragops.session import Session

# When the newest campaign's playbook is taken: for a command that goes on with it or looks at it, for one that may
# start another campaign, and for one that knows files alone.
Adopts = Literal["always", "unfinished", "never"]


_IS_NAMED = ContextVar("playbook is named", default=True)


def note_command_line(typed: Mapping[str, object]) -> None:
    """Remember whether the command line, given as its values by parameter, or RAGOPS_PLAYBOOK names a playbook."""
    _IS_NAMED.set(bool(typed.get("playbook") or os.environ.get("RAGOPS_PLAYBOOK")))


def with_campaign_playbook(
    session: Session, *, adopts: Adopts, changes: Mapping[str, Mapping[str, object]]
) -> Session:
    """Return the session with the stored playbook of the newest campaign, if that one works on rows that stay.

    `changes` are the command line's. Raises PlanRefused if the database alone vouches for what it reads or runs.
    """
    if adopts == "never" or _IS_NAMED.get():
        return session
    from ragops.campaign.run import adopt_playbook
    from ragops.postgres.catalog import LedgerAccess, ledger_access
    from ragops.postgres.connection import UNREADABLE, transaction
    from ragops.postgres.ledger import newest_campaign

    if ledger_access(session.connection) is not LedgerAccess.READABLE:
        return session
    try:
        # A command that looks waits for no lock.
        with transaction(session.connection, lock_timeout_s=0.2):
            row = newest_campaign(session.connection)
    except UNREADABLE:
        return session
    if row is None or not row.playbook.get("targets") or (adopts == "unfinished" and row.is_finished):
        return session
    adopted = adopt_playbook(session, row, command="the same command")
    session.reporter.info(f"with the playbook of campaign {row.id} ({row.name}); another one: --playbook FILE")
    return adopted.with_playbook(adopted.playbook.with_changes(**changes))
