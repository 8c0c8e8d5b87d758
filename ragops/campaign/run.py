"""Run a plan step by step, and resume it where the ledger has it."""

from __future__ import annotations

import json
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace

from ragops.campaign.plan import Plan, make_plan
from ragops.campaign.rehearsal import look_ahead
from ragops.campaign.steps.base import PlanFacts, PlannedStep, StepResult
from ragops.campaign.steps.rebuild_indexes import read_journal
from ragops.campaign.steps.registry import step_of
from ragops.campaign.steps.validate import ValidationResult
from ragops.errors import Interrupted, NegativeVerdict, NothingToReset, RagopsError, first_line
from ragops.facts import DatabaseFacts, ModelFacts
from ragops.playbook.model import Playbook
from ragops.postgres.archive import expected_number
from ragops.postgres.connection import DATABASE_ERRORS, OUTAGES, Connection, is_lost
from ragops.postgres.ledger import (
    CampaignRow,
    Ledger,
    StepRow,
    abandon,
    campaign_steps,
    find_latest_campaign,
)
from ragops.postgres.queue import ItemStatus
from ragops.postgres.setup import ensure_ragops_schema
from ragops.session import Session
from ragops.workers.sizing import size_fleet

HEARTBEAT_S = 15.0


@dataclass(frozen=True, slots=True)
class CampaignRun:
    """One step of a campaign that this process holds: fenced transactions, and a record of what it did."""

    session: Session
    ledger: Ledger
    plan: Plan
    number: int
    force: bool

    @property
    def campaign(self) -> int:
        return self.ledger.campaign

    def transaction(
        self, *, lock_timeout_s: float | None = None, is_long: bool = False
    ) -> AbstractContextManager[object]:
        return self.ledger.fenced(lock_timeout_s=lock_timeout_s, is_long=is_long)

    def record(self, result: StepResult) -> None:
        self.ledger.step_done(self.number, result.to_json())

    def record_failure(self, reason: str, result: StepResult) -> None:
        self.ledger.step_failed(self.number, reason, result.to_json())

    def check_unchanged(self, now: DatabaseFacts) -> None:
        self.plan.check_unchanged(now)

    def open_phase(self, phase: int) -> None:
        self.ledger.set_phase(phase)

    def renew(self, connection: Connection) -> None:
        self.ledger.on(connection).renew()


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
            "verdict": self.verdict,
            "bytes_freed": self.bytes_freed,
            "steps": steps,
            **reason,
        }


def plan_campaign(
    session: Session,
    *,
    model: ModelFacts | None = None,
    items: int | None = None,
    done: Collection[int] = (),
) -> Plan:
    """Plan the playbook against the database as it is. Raises PlanRefused with every problem.

    The writes of the steps that are not `done` are rehearsed in a transaction that is rolled back.
    """
    has_ledger = find_latest_campaign(session.connection) is not None
    embeds = any(step.step == "embed" for step in session.playbook.steps)
    facts = PlanFacts(
        playbook=session.playbook,
        database=session.facts(exact=True),
        journal=read_journal(session.connection) if has_ledger else (),
        next_archive=expected_number(session.connection),
        model=model,
        items=items,
        sizing=size_fleet(session.playbook) if embeds else None,
    )
    return make_plan(facts, look_ahead(session, facts, done=done))


def refuse_unfinished(session: Session) -> None:
    """Raise RagopsError when a campaign is unfinished: starting another one would hide it."""
    row = find_latest_campaign(session.connection)
    if row is not None and not row.is_finished:
        raise RagopsError(
            f"campaign {row.id} ({row.name}) is unfinished: {row.status}",
            where=session.target.label,
            actual=row.error or (f"held by {row.holder}" if row.holder else None),
            hint="ragops reset --resume   or, to give it up and start over: ragops reset --new",
        )


def give_up_unfinished(session: Session) -> None:
    """Abandon an unfinished campaign. Raises CampaignHeld while a controller runs it."""
    row = find_latest_campaign(session.connection)
    if row is not None and not row.is_finished:
        abandon(session.connection, row)


def start(session: Session, plan: Plan, *, force: bool = False) -> CampaignResult:
    """Write a new campaign into the ledger and run it to its end. Raises what stops it.

    `force` resets although what is stored agrees already.
    """
    ensure_ragops_schema(session.connection)
    ledger = Ledger.open_new(
        session.connection,
        name=session.playbook.name,
        playbook=session.playbook.ledger_copy(),
        plan=plan.to_json(),
        steps=[(step.number, step.verb) for step in plan.steps],
    )
    return _run(session, ledger, plan, done={}, force=force)


def resume(
    session: Session, *, workers: Mapping[str, object] | None = None, force: bool = False
) -> CampaignResult:
    """Go on with the newest campaign, with the playbook that it was started with.

    `workers` are settings of this machine that may change between two runs: keys of the playbook's section.
    """
    row = find_latest_campaign(session.connection)
    if row is None or row.is_finished:
        state = "no campaign was ever started" if row is None else f"campaign {row.id} is {row.status}"
        raise RagopsError(
            "there is nothing to resume",
            where=session.target.label,
            actual=state,
            hint="ragops reset --playbook …",
        )
    session = adopt_playbook(session, row)
    if workers:
        session = session.with_playbook(session.playbook.with_changes(workers=dict(workers)))
    reporter = session.reporter
    if row.holder:
        reporter.info(f"taking campaign {row.id} over from {row.holder}, once its last transaction has ended")
    ledger = Ledger.take(session.connection, row)
    done = {step.number: step for step in campaign_steps(session.connection, row.id) if step.status == "done"}
    reporter.info(f"resuming campaign {row.id} ({row.name}) after {len(done)} finished steps")
    return _run(session, ledger, plan_campaign(session, done=done.keys()), done=done, force=force)


def adopt_playbook(session: Session, row: CampaignRow) -> Session:
    """Return the session with the playbook that the campaign was started with, whatever its file has now."""
    try:
        stored = Playbook.model_validate_json(json.dumps(row.playbook))
    except ValueError as error:
        raise RagopsError(
            f"campaign {row.id} was started by another version of ragops, whose playbook this one cannot read",
            actual=first_line(error),
            hint="finish it with that version, or give it up: ragops reset --new",
        ) from error
    return session.with_playbook(stored.with_changes(database={"dsn": session.playbook.database.dsn}))


def _run(
    session: Session, ledger: Ledger, plan: Plan, *, done: Mapping[int, StepRow], force: bool
) -> CampaignResult:
    verdict: str | None = None
    with heartbeat(session, ledger):
        for step in plan.steps:
            if step.number in done:
                # A validation that an earlier controller recorded counts until a later one.
                recorded = (done[step.number].effect or {}).get("verdict") if step.verb == "validate" else None
                verdict = verdict if recorded is None else str(recorded)
                continue
            session.reporter.info(f"step {step.number}/{len(plan.steps)} {step.title}")
            try:
                result = _run_step(CampaignRun(session, ledger, plan, step.number, force), step)
            except NothingToReset as nothing:
                # That nothing had to be reset is a result, too.
                ended = summary(session, ledger, status="nothing_to_reset", verdict="pass")
                return replace(ended, nothing_to_reset=nothing)
            if isinstance(result, ValidationResult):
                verdict = result.verdict
    ledger.finish("done")
    return summary(session, ledger, status="done", verdict=verdict)


def _run_step(run: CampaignRun, step: PlannedStep) -> StepResult:
    """Run one step. Whatever ends it early is written into the ledger as the campaign's status."""
    session, ledger = run.session, run.ledger
    ledger.step_started(step.number)
    try:
        return step_of(step.settings).run(run)
    except Interrupted as stopped:
        _end(run, "stopped", stopped.what)
        stopped.hint = stopped.hint or "ragops reset --resume"
        raise
    except KeyboardInterrupt:
        _end(run, "stopped", "interrupted")
        raise Interrupted(
            f"stopped in step {step.number} ({step.verb})",
            signal_number=session.stop.signal_number,
            hint="ragops reset --resume",
        ) from None
    except NothingToReset as nothing:
        ledger.step_done(step.number, {"nothing_to_reset": nothing.actual})
        _end(run, "abandoned", nothing.what)
        raise
    except NegativeVerdict as negative:
        # In the first step nothing was changed yet: a campaign with the same playbook would fail again.
        is_harmless = step.verb == "verify_build" and step.number == 1
        _end(run, "abandoned" if is_harmless else "gate_failed", negative.actual or negative.what)
        raise
    except RagopsError as error:
        _end(run, "failed", error.what)
        error.hint = error.hint or "ragops reset --resume"
        raise
    except DATABASE_ERRORS as error:
        first = first_line(error)
        _end(run, "failed", first)
        raise RagopsError(
            f"the database refused step {step.number} ({step.verb})",
            where=session.target.label,
            actual=f"{type(error).__name__}: {first}",
            hint="fix the cause, then: ragops reset --resume",
        ) from error


def _end(run: CampaignRun, status: str, error: str) -> None:
    """Write how the campaign ended; without a database the lease runs out by itself."""
    connection = run.session.connection
    try:
        if is_lost(connection):
            with run.session.connect() as fresh:
                run.ledger.on(fresh).finish(status, error)
        else:
            run.ledger.finish(status, error)
    except OUTAGES as outage:
        run.session.reporter.warning(f"the ledger could not be written: {first_line(outage)}")


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
    )


@contextmanager
def heartbeat(session: Session, ledger: Ledger) -> Iterator[None]:
    """Extend the campaign's lease every 15 seconds, through a connection and a thread beside the steps'."""
    ended = threading.Event()

    def beat() -> None:
        connection = None
        while not ended.wait(HEARTBEAT_S):
            try:
                if connection is None or is_lost(connection):
                    connection = session.connect()
                ledger.on(connection).renew()
            except OUTAGES as error:
                session.reporter.warning(f"the lease could not be renewed: {first_line(error)}")
        if connection is not None:
            connection.close()

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(timeout=5)
