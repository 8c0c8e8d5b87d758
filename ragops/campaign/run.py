"""Start a campaign, resume it where the ledger has it, or give it up."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from ragops.campaign.answers import (
    NO_ANSWERS,
    Answers,
    Ask,
    answer_lines,
    apply_answers,
    planned_exclusions,
)
from ragops.campaign.confirmed import Confirmed
from ragops.campaign.execution import CampaignRun as CampaignRun
from ragops.campaign.execution import done_steps, run_steps
from ragops.campaign.neighbours import refuse_neighbours
from ragops.campaign.plan import Plan
from ragops.campaign.planning import plan_campaign as plan_campaign
from ragops.campaign.result import CampaignResult as CampaignResult
from ragops.campaign.steps.base import FAILED_GATE
from ragops.campaign.trust import remember_playbook, trusted_playbook
from ragops.campaign.waiting import held
from ragops.errors import (
    PlanStale,
    RagopsError,
    first_line,
)
from ragops.identity import holder_name, short_name
from ragops.playbook.model import Playbook
from ragops.postgres.journal import journaled_indexes
from ragops.postgres.ledger import (
    CampaignRow,
    Ledger,
    abandon,
    check_free,
    find_latest_campaign,
    is_held,
    true_status,
)
from ragops.postgres.ownership import check_owners
from ragops.postgres.setup import ensure_ragops_schema
from ragops.postgres.takeover import TakeoverWatch
from ragops.postgres.vector_archives import UNDOING
from ragops.session import Session


def refuse_unfinished(session: Session) -> None:
    """Raise RagopsError when a campaign is unfinished: starting another one would hide it."""
    row = find_latest_campaign(session.connection, session.playbook.tables)
    refuse_undoing(session, row)
    if row is not None and not row.is_finished:
        raise RagopsError(
            f"campaign {row.id} ({row.name}) is unfinished: {true_status(row)}",
            where=session.target.label,
            actual=row.error or _controller(row),
            hint=(answer_lines(row.error) or FAILED_GATE)
            if row.status == "gate_failed"
            else "ragops reset --resume   or, to give it up and start over: ragops reset --new",
        )
    refuse_neighbours(session)


def refuse_undoing(session: Session, row: CampaignRow | None) -> None:
    """Raise RagopsError for a campaign whose vectors an interrupted undo has begun to put back."""
    if row is not None and row.status == UNDOING:
        raise RagopsError(
            f"an undo of campaign {row.id} ({row.name}) is not finished",
            where=session.target.label,
            actual=row.error,
            expected="all vectors put back, before anything else writes them",
            hint="ragops undo   (it goes on)",
        )


def _controller(row: CampaignRow) -> str | None:
    """Return in words who runs the campaign; None where the ledger names nobody."""
    if row.holder is None:
        return None
    return (
        f"held by {short_name(row.holder)}" if is_held(row) else f"its controller {short_name(row.holder)} is gone"
    )


def refuse_held(session: Session) -> None:
    """Raise CampaignHeld while a living controller holds an unfinished campaign."""
    row = find_latest_campaign(session.connection, session.playbook.tables)
    refuse_undoing(session, row)
    if row is not None and not row.is_finished:
        check_free(row)
    refuse_neighbours(session)


def give_up_unfinished(session: Session) -> None:
    """Abandon an unfinished campaign. Raises CampaignHeld while a controller runs it."""
    row = find_latest_campaign(session.connection, session.playbook.tables)
    refuse_undoing(session, row)
    if row is not None and not row.is_finished:
        abandon(session.connection, row)


def start(session: Session, plan: Plan, *, force: bool = False) -> CampaignResult:
    """Write a new campaign into the ledger and run it to its end. Raises what stops it.

    `force` resets although what is stored agrees already; the ledger keeps it for `resume`.
    """
    plan = replace(plan, force=force)
    session.through_outages(lambda: ensure_ragops_schema(session.connection))
    session.through_outages(lambda: remember_playbook(session, session.playbook))
    newest = session.through_outages(lambda: find_latest_campaign(session.connection, session.playbook.tables))

    def open_new() -> Ledger:
        if (own := _own_hold(session, after=newest)) is not None:
            return own
        return Ledger.open_new(
            session.connection,
            name=session.playbook.name,
            playbook=session.playbook.ledger_copy(),
            plan=plan.to_json(),
            steps=[(step.number, step.verb) for step in plan.steps],
            tables=session.playbook.tables,
            check=lambda: refuse_neighbours(session),
        )

    ledger = session.through_outages(open_new)
    with held(session, ledger):
        return run_steps(session, ledger, plan, done={})


Confirm = Callable[[Sequence[str]], None]
"""Ask the operator about changes since the plan was confirmed. Raises RagopsError for any answer but yes."""


def refuse_changes(changes: Sequence[str]) -> None:
    """Raise PlanStale: what would be wiped now is not what was confirmed, and nobody can be asked."""
    raise PlanStale(
        "the campaign would empty more than was confirmed; no row was removed",
        actual="\n".join(changes),
        hint="ragops reset --resume   on a terminal, without --yes, asks;   or plan anew: ragops reset --new",
    )


def resume(
    session: Session,
    *,
    workers: Mapping[str, object] | None = None,
    force: bool = False,
    confirm: Confirm = refuse_changes,
    answers: Answers = NO_ANSWERS,
    confirm_exclusions: Ask = lambda _: None,
) -> CampaignResult:
    """Go on with the newest campaign, with the playbook that it was started with.

    `workers` are settings of this machine that may change between two runs: keys of the playbook's section.
    `confirm` is asked when the campaign would empty more than its ledger's plan says, or another table.
    `answers` change what decides at its gates, from now on; `confirm_exclusions` is asked about the items that do
    not count then.
    """
    row = session.through_outages(lambda: find_latest_campaign(session.connection, session.playbook.tables))
    if row is None or row.is_finished:
        state = "no campaign was ever started" if row is None else f"campaign {row.id} is {row.status}"
        raise RagopsError(
            "there is nothing to resume",
            where=session.target.label,
            actual=state,
            hint="ragops reset --playbook …",
        )
    refuse_undoing(session, row)
    session = session.through_outages(partial(adopt_playbook, session, row))
    session = session.with_playbook(answers.applied_to(session.playbook))
    if workers:
        session = session.with_playbook(session.playbook.with_changes(workers=dict(workers)))
    check_free(row)
    reporter = session.reporter
    # Planned before it is taken: a plan that is refused leaves the campaign as it was, to be resumed or given up.
    done = session.through_outages(partial(done_steps, session, row.id))
    plan = session.through_outages(lambda: plan_campaign(session, done=done))
    confirmed = Confirmed.from_json(row.plan)
    emptied = plan.emptied(done)
    changes: list[str] = []
    if confirmed and emptied:
        changes = confirmed.changes(session.through_outages(lambda: session.facts(exact=True)), emptied)
    if changes:
        journal = session.through_outages(lambda: journaled_indexes(session.connection))
        dropped = [index.name for index in journal if index.campaign == row.id]
        if dropped:
            changes.append(f"dropped already: {', '.join(dropped)} (`ragops undo` builds them again)")
        confirm(changes)
    elif confirmed is not None:
        plan = plan.as_confirmed(confirmed)
    exclusions = session.through_outages(lambda: planned_exclusions(session, answers))
    if exclusions:
        confirm_exclusions([str(exclusion) for exclusion in exclusions])
    plan = replace(plan, force=force or row.plan.get("force") is True)
    watch = TakeoverWatch(session.connect, reporter.info, campaign=row.id)

    def take() -> Ledger:
        own = _own_hold(session, after=row)
        return own or Ledger.take(session.connection, row, waiting=watch.waiting)

    ledger = session.through_outages(take)
    with held(session, ledger):
        if row.holder:
            reporter.info(f"took campaign {row.id} over from {short_name(row.holder)}")
        done = session.through_outages(partial(done_steps, session, row.id))
        session.through_outages(lambda: ledger.on(session.connection).save_plan(plan.to_json()))
        session.through_outages(lambda: apply_answers(session, ledger, row, answers))
        reporter.info(f"resuming campaign {row.id} ({row.name}) after {len(done)} finished steps")
        return run_steps(session, ledger, plan, done=done)


def _own_hold(session: Session, *, after: CampaignRow | None) -> Ledger | None:
    """Return the hold of a campaign that this process opened or took with a COMMIT whose answer was lost.

    `after` is the newest campaign as it was before.
    """
    row = find_latest_campaign(session.connection, session.playbook.tables)
    if row is None or row.holder != holder_name() or row.is_finished:
        return None
    is_new = after is None or (row.id, row.epoch) != (after.id, after.epoch)
    return Ledger(session.connection, row.id, row.epoch) if is_new else None


def adopt_playbook(session: Session, row: CampaignRow, *, command: str = "ragops reset --resume") -> Session:
    """Return the session with the playbook that the campaign was started with, whatever its file has now.

    `command` is what the operator has typed, for a refusal. It says which files are read and which programs run
    here. Raises PlanRefused if the database alone vouches for those.
    """
    check_owners(session.connection)
    try:
        stored = Playbook.model_validate_json(json.dumps(row.playbook))
    except ValueError as error:
        raise RagopsError(
            f"campaign {row.id} was started by another version of ragops, whose playbook this one cannot read",
            actual=first_line(error),
            hint="finish it with that version, or give it up: ragops reset --new",
        ) from error
    trusted = trusted_playbook(session, stored, campaign=row.id, command=command)
    return session.with_playbook(trusted.with_changes(database={"dsn": session.playbook.database.dsn}))
