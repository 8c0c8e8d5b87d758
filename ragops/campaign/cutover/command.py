"""What `ragops cutover run` does: go on with the campaign that waits, or exchange the columns by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ragops.campaign.cutover.beside import Beside, besides
from ragops.campaign.cutover.results import CutOverResult
from ragops.campaign.cutover.switching import ask, cut_over
from ragops.campaign.run import adopt_playbook, resume
from ragops.campaign.steps.base import SingleCommand
from ragops.errors import RagopsError, UsageError
from ragops.playbook.steps import CutOver
from ragops.playbook.targets import work_tables
from ragops.postgres.catalog import LedgerAccess, ledger_access
from ragops.postgres.ledger import CampaignRow, StepRow, campaign_steps, check_free, find_latest_campaign
from ragops.postgres.ownership import check_owners
from ragops.postgres.setup import ensure_ragops_schema
from ragops.session import Session

LOCK_TIMEOUT_S = 2.0


def prepare(session: Session, *, is_named: bool, writes: bool) -> Session:
    """Return the session with a playbook whose targets are written beside: the named one, or the last campaign's.

    Raises UsageError if there is none, CampaignHeld while a controller runs a campaign over rows.
    """
    is_readable = ledger_access(session.connection) is LedgerAccess.READABLE
    row = find_latest_campaign(session.connection, work_tables()) if is_readable else None
    if writes:
        check_owners(session.connection)
        if row is not None and not row.is_finished:
            check_free(row)
        ensure_ragops_schema(session.connection)
    if not is_named and row is not None:
        session = adopt_playbook(session, row)
    if not any(target.write == "beside" for target in session.playbook.targets):
        raise UsageError(
            "the playbook has no target that is written beside",
            where=session.playbook.name,
            expected="targets: with `write: beside`, as in reembed.yaml",
            hint="ragops cutover status --playbook FILE",
        )
    return session


def run_cutover(session: Session, *, workers: Mapping[str, object] | None = None) -> CutOverResult:
    """Exchange the columns: as the rest of the campaign that waits for it, or by itself where that has ended.

    Raises RagopsError before they are filled, after they were finished, and as `cut_over` does.
    """
    row = session.through_outages(lambda: find_latest_campaign(session.connection, work_tables()))
    steps = session.through_outages(lambda: campaign_steps(session.connection, row.id)) if row is not None else []
    found = session.through_outages(lambda: besides(session, is_added=True))
    if row is not None and not row.is_finished and (waiting := _waiting_step(row, steps)) is not None:
        session.through_outages(lambda: ask(session, found, asked=True))
        result = resume(session, workers=workers)
        effect = next((step.effect for step in result.steps if step.number == waiting), None)
        return CutOverResult.from_json(effect or {})
    for one in found:
        _refuse_unready(one)
    if workers:
        session = session.with_playbook(session.playbook.with_changes(workers=dict(workers)))
    settings = next((step for step in session.playbook.steps if isinstance(step, CutOver)), None)
    within = settings.lock_timeout_s if settings else LOCK_TIMEOUT_S
    return cut_over(SingleCommand(session), lock_timeout_s=within, sweeps=True)


def _waiting_step(row: CampaignRow, steps: Sequence[StepRow]) -> int | None:
    """Return the number of the step cut_over that an unfinished campaign has come to; None if it is done.

    Raises RagopsError if the campaign has not come to it.
    """
    own = next((step for step in steps if step.verb == "cut_over"), None)
    if own is None or own.status == "done":
        return None
    earlier = [step for step in steps if step.number < own.number and step.status != "done"]
    if earlier:
        raise RagopsError(
            f"campaign {row.id} has not come to its cutover; nothing was exchanged",
            actual=f"step {earlier[0].number} ({earlier[0].verb}) is {earlier[0].status}",
            expected="every step before cut_over done",
            hint="ragops reset --resume",
        )
    return own.number


def _refuse_unready(one: Beside) -> None:
    """Raise RagopsError for a second column that was not filled, or whose cutover was finished."""
    row = one.row
    if row.state in ("ready", "rolled_back", "cut_over"):
        return
    if row.state == "finished":
        raise RagopsError(
            f"the cutover of {one.label} is finished: the former column is dropped",
            hint="ragops cutover status",
        )
    raise RagopsError(
        f"the second column of {one.label} is not filled; nothing was exchanged",
        actual=row.state,
        expected="a campaign that has come to its step cut_over",
        hint="ragops reset --resume   or: ragops undo   (it drops the column)",
    )
