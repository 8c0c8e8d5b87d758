"""Run the steps of a campaign that this process holds, each again after an outage, and record how it ends."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from ragops.campaign.confirmed import RESUME
from ragops.campaign.plan import Plan
from ragops.campaign.planning import plan_campaign as plan_campaign
from ragops.campaign.result import CampaignResult as CampaignResult
from ragops.campaign.result import summary
from ragops.campaign.steps.base import NOTHING_DONE, PlannedStep, StepResult
from ragops.campaign.steps.embed import bytes_to_embed
from ragops.campaign.steps.registry import step_of
from ragops.campaign.steps.validate import ValidationResult
from ragops.errors import (
    CutoverAwaited,
    DatabaseUnavailable,
    FenceLost,
    Interrupted,
    NegativeVerdict,
    NothingToReset,
    RagopsError,
    first_line,
)
from ragops.facts import DatabaseFacts
from ragops.playbook.steps import Embed
from ragops.postgres.connection import DATABASE_ERRORS, Connection
from ragops.postgres.ledger import (
    Ledger,
    StepRow,
    campaign_steps,
    find_campaign,
)
from ragops.session import Session
from ragops.workers.database import Database

Result = TypeVar("Result")
HEARTBEAT_S = 15.0
# Renewals in a row that may fail before the lease runs out.
MISSED = 3


@dataclass(frozen=True, slots=True)
class CampaignRun:
    """One step of a campaign that this process holds: fenced transactions, and a record of what it did."""

    session: Session
    hold: Ledger
    plan: Plan
    number: int
    force: bool

    @property
    def campaign(self) -> int:
        return self.hold.campaign

    @property
    def ledger(self) -> Ledger:
        """The hold over the session's connection, which is another one after an outage."""
        return self.hold.on(self.session.connection)

    def transaction(
        self, *, lock_timeout_s: float | None = None, is_long: bool = False
    ) -> AbstractContextManager[object]:
        return self.ledger.fenced(lock_timeout_s=lock_timeout_s, is_long=is_long)

    def record(self, result: StepResult) -> None:
        self.ledger.step_done(self.number, result.to_json())

    def record_failure(self, reason: str, result: StepResult) -> None:
        self.ledger.step_failed(self.number, reason, result.to_json())

    def note(self, intended: StepResult) -> None:
        self.ledger.step_noted(self.number, intended.to_json())

    def noted(self) -> Mapping[str, object]:
        steps = campaign_steps(self.session.connection, self.campaign)
        return next((step.effect or {} for step in steps if step.number == self.number), {})

    @property
    def emptied_later(self) -> tuple[str, ...]:
        return self.plan.emptied_after(self.number)

    def check_unchanged(self, now: DatabaseFacts, names: Sequence[str], *, done: str = NOTHING_DONE) -> None:
        self.plan.confirmed.check(now, names, done=done, hint=RESUME)

    def open_phase(self, phase: int) -> None:
        self.ledger.set_phase(phase)

    def renew(self, connection: Connection) -> None:
        self.ledger.on(connection).renew()


def done_steps(session: Session, campaign: int) -> dict[int, StepRow]:
    """Return the steps that the ledger has as done, by their numbers."""
    steps = campaign_steps(session.connection, campaign)
    return {step.number: step for step in steps if step.status == "done"}


def run_steps(session: Session, ledger: Ledger, plan: Plan, *, done: Mapping[int, StepRow]) -> CampaignResult:
    """Run the steps that are not `done`, to the end of the campaign. Raises what stops it."""
    verdict: str | None = None
    session.database.waits_for_locks = True
    with heartbeat(session, ledger):
        for step in plan.steps:
            if step.number in done:
                # A validation that an earlier controller recorded counts until a later one.
                verdict = _verdict_of(done[step.number]) or verdict
                continue
            session.reporter.info(f"step {step.number}/{len(plan.steps)} {step.title}")
            try:
                result = _run_step(CampaignRun(session, ledger, plan, step.number, plan.force), step)
            except NothingToReset as nothing:
                # That nothing had to be reset is a result, too.
                ended = summary(session, ledger, status="nothing_to_reset", verdict="pass")
                return replace(ended, nothing_to_reset=nothing)
            except CutoverAwaited as awaited:
                session.reporter.info(awaited.what)
                ended = session.through_outages(
                    partial(summary, session, ledger, status="stopped", verdict=verdict)
                )
                return replace(ended, waiting_for="ragops cutover run")
            if isinstance(result, ValidationResult):
                verdict = result.verdict
            elif isinstance(result, StepRow):
                verdict = _verdict_of(result) or verdict
    session.through_outages(lambda: _finish(session, ledger))
    return session.through_outages(lambda: summary(session, ledger, status="done", verdict=verdict))


def _verdict_of(step: StepRow) -> str | None:
    recorded = (step.effect or {}).get("verdict") if step.verb == "validate" else None
    return None if recorded is None else str(recorded)


def _finish(session: Session, ledger: Ledger) -> None:
    """Write that the campaign is done, unless a COMMIT whose answer was lost has done so."""
    row = find_campaign(session.connection, ledger.campaign)
    if row is None or row.status != "done":
        ledger.on(session.connection).finish("done")


def _run_step(run: CampaignRun, step: PlannedStep) -> StepResult | StepRow:
    """Run one step, again after an outage. Whatever else ends it early becomes the campaign's status.

    Each step is made to be run again from its beginning, as `--resume` does it. Returns what the ledger has where
    the step was done, and only the answer to its COMMIT was lost.
    """
    session = run.session

    def attempt() -> StepResult | StepRow:
        done = done_steps(session, run.campaign)
        if (recorded := done.get(step.number)) is not None:
            return recorded
        if (lost := _lost_steps(run, done, before=step)) is not None:
            raise lost
        run.ledger.step_started(step.number)
        return step_of(step.settings).run(run)

    session.database.outages.bytes_needed = lambda: _bytes_needed(run, step)
    try:
        return session.through_outages(attempt)
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
    except CutoverAwaited as awaited:
        _end(run, "stopped", awaited.what)
        raise
    except NothingToReset as nothing:
        agreed = {"nothing_to_reset": nothing.actual}
        session.through_outages(lambda: run.ledger.step_done(step.number, agreed))
        _end(run, "abandoned", nothing.what)
        raise
    except NegativeVerdict as negative:
        # In the first step nothing was changed yet: a campaign with the same playbook would fail again.
        is_harmless = step.verb == "verify_build" and step.number == 1
        _end(run, "abandoned" if is_harmless else "gate_failed", negative.actual or negative.what)
        raise
    except RagopsError as error:
        # In a database that is older than it was, a step fails for a reason that misleads.
        with suppress(*DATABASE_ERRORS, DatabaseUnavailable):
            done = _once_more(session.database, lambda _: done_steps(session, run.campaign))
            if (lost := _lost_steps(run, done, before=step)) is not None:
                _end(run, "failed", lost.what)
                raise lost from error
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
    except BaseException as error:
        # A fault of ragops itself. Without this the ledger would say that the step still runs. What pyo3 raises
        # for a panic of a library in Rust is no Exception.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        first = f"{type(error).__name__}: {first_line(error)}"
        _end(run, "failed", first, step_failed=True)
        raise


def _lost_steps(run: CampaignRun, done: Mapping[int, StepRow], *, before: PlannedStep) -> RagopsError | None:
    """Return the error if the ledger does not have every step before this one as done any more."""
    session = run.session
    lost = [number for number in range(1, before.number) if number not in done]
    if not lost:
        return None
    if find_campaign(session.connection, run.campaign) is None:
        return RagopsError(
            f"the database does not know campaign {run.campaign} any more",
            where=session.target.label,
            actual="another database of that name (dropped and made again, or an older backup)",
            expected="the database as this campaign left it",
            hint="restore the right one; or start again: ragops reset --playbook …",
        )
    return RagopsError(
        f"the database has lost what it had confirmed: step{'s' if len(lost) > 1 else ''} "
        f"{', '.join(map(str, lost))} of this campaign",
        where=session.target.label,
        actual="an earlier state: a failover to a server that lacked the last seconds, or a restored backup",
        expected="the database as this campaign left it",
        hint="ragops reset --resume   (it runs these steps again)",
    )


def _bytes_needed(run: CampaignRun, step: PlannedStep) -> int | None:
    """Return about how many bytes the step writes, for an operator who makes room; None if that is unknown."""
    if isinstance(step.settings, Embed):
        return bytes_to_embed(run.session)
    return step.writes_bytes


def _end(run: CampaignRun, status: str, error: str, *, step_failed: bool = False) -> None:
    """Write how the campaign ended; without a database the lease runs out by itself."""
    database = run.session.database
    database.close_if_busy()

    def write(connection: Connection) -> None:
        ledger = run.hold.on(connection)
        if step_failed:
            ledger.step_failed(run.number, error)
        ledger.finish(status, error)

    try:
        _once_more(database, write)
    except (*DATABASE_ERRORS, DatabaseUnavailable, FenceLost) as outage:
        run.session.reporter.warning(f"the ledger could not be written: {first_line(outage)}")


def _once_more(database: Database, work: Callable[[Connection], Result]) -> Result:
    """Run `work` without waiting, but on a new connection if the present one turns out to be lost.

    Minutes of embedding may lie between two statements. `Database.run` waits for nothing once a fleet's error has
    requested a stop.
    """
    try:
        return database.try_once(work)
    except DATABASE_ERRORS:
        if not database.is_lost:
            raise
        return database.try_once(work)


@contextmanager
def heartbeat(session: Session, ledger: Ledger) -> Iterator[None]:
    """Extend the campaign's lease every 15 seconds, through a connection and a thread beside the steps'."""
    ended = threading.Event()

    def beat() -> None:
        own = Database("heartbeat", session.target, stop=session.stop, outages=session.database.outages)
        missed = 0
        while not ended.wait(HEARTBEAT_S):
            try:
                own.try_once(lambda connection: ledger.on(connection).renew())
                missed = 0
            except (*DATABASE_ERRORS, DatabaseUnavailable) as error:
                missed += 1
                # The steps report an outage themselves; this is said where only the lease suffers.
                if missed == MISSED and not session.database.outages.are_open:
                    session.reporter.warning(f"the campaign's lease could not be renewed: {first_line(error)}")
        own.close()

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(timeout=5)
