"""Runs a plan step by step, resumes it where the ledger says, and undoes it."""

from __future__ import annotations

import json
import threading
from typing import Any

from ragops.campaign.context import Effect, StepContext
from ragops.campaign.plan import Plan, PlannedStep, make_plan, plan_as_dict
from ragops.campaign.steps import (
    drop_indexes,
    embed,
    empty_tables,
    rebuild_indexes,
    reseed_queue,
    validate,
    verify_build,
)
from ragops.errors import Interrupted, NegativeVerdict, NothingToReset, RagopsError
from ragops.facts import ModelFacts
from ragops.playbook.model import Playbook
from ragops.playbook.steps import (
    DropIndexes,
    Embed,
    EmptyTables,
    RebuildIndexes,
    ReseedQueue,
    Validate,
    VerifyBuild,
)
from ragops.postgres.connection import DATABASE_ERRORS, OUTAGES
from ragops.postgres.ddl import sql_text
from ragops.postgres.ledger import (
    CampaignRow,
    Ledger,
    StepRow,
    abandon,
    campaign_steps,
    find_latest_campaign,
)
from ragops.postgres.queue import ItemStatus, Queue
from ragops.postgres.setup import ensure_ragops_schema
from ragops.workers.sizing import size_fleet

HEARTBEAT_S = 15.0


def describe(plan: Plan) -> dict[str, Any]:
    """The plan as JSON, with the SQL of every action."""
    return plan_as_dict(plan, sql={s.number: [sql_text(action) for action in s.actions] for s in plan.steps})


def plan_campaign(context: StepContext, *, model: ModelFacts | None = None, items: int | None = None) -> Plan:
    """Plan the playbook against the database as it is. Raises PlanRefused with every problem."""
    has_ledger = latest_row(context) is not None
    journal = context.journal() if has_ledger else []
    embeds = any(isinstance(step, Embed) for step in context.playbook.steps)
    return make_plan(
        context.playbook,
        context.facts(exact=True),
        model=model,
        journal=journal,
        items=items,
        fleet=size_fleet(context.playbook) if embeds else None,
    )


def latest_row(context: StepContext) -> CampaignRow | None:
    """The newest campaign of this database, or None where there was none yet."""
    return find_latest_campaign(context.connection)


def refuse_unfinished(context: StepContext) -> None:
    """Raise RagopsError when a campaign is unfinished: starting another one would hide it."""
    row = latest_row(context)
    if row is not None and not row.is_finished:
        raise RagopsError(
            f"campaign {row.id} ({row.name}) is unfinished: {row.status}",
            where=context.target.label,
            actual=row.error or (f"held by {row.holder}" if row.holder else None),
            hint="ragops reset --resume   or, to give it up and start anew: ragops reset --new",
        )


def give_up_unfinished(context: StepContext) -> None:
    """Abandon an unfinished campaign. Raises CampaignHeld while a controller runs it."""
    row = latest_row(context)
    if row is not None and not row.is_finished:
        abandon(context.connection, row)


def start(context: StepContext, plan: Plan) -> dict[str, Any]:
    """Write a new campaign into the ledger and run it to its end. Raises what stops it."""
    ensure_ragops_schema(context.connection)
    context.ledger = Ledger.open_new(
        context.connection,
        name=context.playbook.name,
        playbook=context.playbook.ledger_copy(),
        plan=describe(plan),
    )
    context.plan = plan
    return _run(context, plan, done={})


def resume(context: StepContext) -> dict[str, Any]:
    """Go on with the newest campaign, with the playbook that it was started with."""
    row = latest_row(context)
    if row is None or row.is_finished:
        state = "no campaign was ever started" if row is None else f"campaign {row.id} is {row.status}"
        raise RagopsError(
            "there is nothing to resume",
            where=context.target.label,
            actual=state,
            hint="ragops reset --playbook …",
        )
    adopt_playbook(context, row)
    if row.holder:
        context.reporter.info(
            f"taking campaign {row.id} over from {row.holder}, once its last transaction has ended"
        )
    context.ledger = Ledger.take(context.connection, row)
    done = {s.number: s for s in campaign_steps(context.connection, row.id) if s.status == "done"}
    context.reporter.info(f"resuming campaign {row.id} ({row.name}) after {len(done)} finished steps")
    plan = plan_campaign(context)
    context.plan = plan
    return _run(context, plan, done=done)


def adopt_playbook(context: StepContext, row: CampaignRow) -> None:
    """Take the playbook that the campaign was started with, whatever its file says now."""
    try:
        stored = Playbook.model_validate_json(json.dumps(row.playbook))
    except ValueError as error:
        raise RagopsError(
            f"campaign {row.id} was started by another version of ragops, whose playbook this one cannot read",
            actual=str(error).splitlines()[0],
            hint="finish it with that version, or give it up: ragops reset --new",
        ) from error
    context.playbook = stored.with_changes(database={"dsn": context.playbook.database.dsn})


def _run(context: StepContext, plan: Plan, *, done: dict[int, StepRow]) -> dict[str, Any]:
    assert context.ledger is not None
    verdict = None
    with Heartbeat(context):
        for step in plan.steps:
            if step.number in done:
                verdict = (done[step.number].effect or {}).get("verdict", verdict) if _judges(step) else verdict
                continue
            effect = _run_step(context, step)
            verdict = effect["verdict"] if _judges(step) else verdict
    context.ledger.finish("done")
    return summary(context, status="done", verdict=verdict)


def _judges(step: PlannedStep) -> bool:
    return isinstance(step.settings, Validate)


def _run_step(context: StepContext, step: PlannedStep) -> Effect:
    ledger = context.ledger
    assert ledger is not None
    context.step_number = step.number
    assert context.plan is not None
    context.reporter.info(f"step {step.number}/{len(context.plan.steps)} {step.title}")
    ledger.step_started(step.number)
    try:
        return perform(context, step)
    except Interrupted as stopped:
        _end(context, "stopped", stopped.what)
        stopped.hint = stopped.hint or "ragops reset --resume"
        raise
    except KeyboardInterrupt:
        _end(context, "stopped", "interrupted")
        raise Interrupted(
            f"stopped in step {step.number} ({step.verb})",
            signal_number=context.stop.signal_number,
            hint="ragops reset --resume",
        ) from None
    except NothingToReset as nothing:
        ledger.step_done(step.number, {"nothing_to_reset": nothing.actual})
        _end(context, "abandoned", nothing.what)
        raise
    except NegativeVerdict as negative:
        if isinstance(step.settings, VerifyBuild) and step.number == 1:
            # Nothing was changed yet: a campaign with the same playbook would fail again.
            _end(context, "abandoned", negative.actual or negative.what)
        else:
            _end(context, "gate_failed", negative.actual or negative.what)
        raise
    except RagopsError as error:
        _end(context, "failed", error.what)
        error.hint = error.hint or "ragops reset --resume"
        raise
    except DATABASE_ERRORS as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        _end(context, "failed", first)
        raise RagopsError(
            f"the database refused step {step.number} ({step.verb})",
            where=context.target.label,
            actual=f"{type(error).__name__}: {first}",
            hint="mend the cause, then: ragops reset --resume",
        ) from error


def perform(context: StepContext, step: PlannedStep) -> Effect:
    """Run one planned step and return its effect, recorded in the ledger."""
    settings = step.settings
    match settings:
        case DropIndexes():
            return drop_indexes.run(context)
        case EmptyTables():
            return empty_tables.run(context, settings)
        case ReseedQueue():
            return reseed_queue.run(context)
        case Embed():
            return embed.run(context, phase=step.phase)
        case RebuildIndexes():
            return rebuild_indexes.run(context, settings)
        case Validate():
            # Items may be open again behind an earlier embed step: retried after a failed gate.
            embed.drain(context)
            effect = validate.run(context, after=settings.after)
            if context.ledger is not None and effect["verdict"] == "fail":
                context.ledger.step_failed(step.number, "validation failed", effect)
            validate.refuse_failure(effect)
        case _:
            effect = verify_build.run(context)
    context.record(effect)
    return effect


def _end(context: StepContext, status: str, error: str) -> None:
    """Write how the campaign ended; without a database the lease runs out by itself."""
    assert context.ledger is not None
    try:
        if context.connection.closed or context.connection.broken:
            context.connection = context.connect()
        context.ledger.on(context.connection).finish(status, error)
    except OUTAGES as outage:
        context.reporter.info(f"the ledger could not be written: {str(outage).splitlines()[0]}")


def summary(context: StepContext, *, status: str, verdict: str | None) -> dict[str, Any]:
    """What `reset --json` prints."""
    assert context.ledger is not None
    steps = campaign_steps(context.connection, context.ledger.campaign)
    counts = Queue(context.connection, context.playbook.tables).counts()
    return {
        "campaign": context.ledger.campaign,
        "status": status,
        "seeded": sum(counts.values()),
        "completed": counts[ItemStatus.COMPLETED],
        "failed": counts[ItemStatus.FAILED],
        "verdict": verdict,
        "bytes_freed": sum((s.effect or {}).get("bytes_freed", 0) for s in steps)
        + sum((s.effect or {}).get("bytes", 0) for s in steps if s.verb == "drop_indexes"),
        "steps": [
            {"number": s.number, "name": s.verb, "status": s.status, "seconds": s.seconds, "effect": s.effect}
            for s in steps
        ],
    }


class Heartbeat:
    """Extends the campaign's lease from a thread of its own while a step works."""

    def __init__(self, context: StepContext) -> None:
        self._context = context
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(timeout=5)

    def _beat(self) -> None:
        connection = None
        while not self._ended.wait(HEARTBEAT_S):
            try:
                if connection is None or connection.closed or connection.broken:
                    connection = self._context.connect()
                if self._context.ledger is not None:
                    self._context.ledger.on(connection).renew()
            except OUTAGES as error:
                self._context.reporter.info(f"the lease could not be renewed: {str(error).splitlines()[0]}")
        if connection is not None:
            connection.close()
