"""validate: is what is stored what the reference would store? Decided by embedding stored texts again."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

from ragops.campaign.answers import OPTIONS, answer_lines
from ragops.campaign.measure import Agreement, measure, read_recorded
from ragops.campaign.row_validation import measure_rows
from ragops.campaign.steps.base import PlanFacts, PlannedStep, Run
from ragops.campaign.steps.embed import drain
from ragops.embedder.config import checked_sha256
from ragops.errors import Interrupted, NegativeVerdict, RagopsError
from ragops.playbook.steps import Validate
from ragops.postgres.failures import Failures
from ragops.postgres.ledger import campaign_steps
from ragops.postgres.measured import STRANGE_SCRIPT, Measured
from ragops.postgres.queue import ItemStatus
from ragops.quality.validation import (
    Check,
    Measurements,
    ValidationLimits,
    comparison_stats,
    judge,
    validation_verdict,
)
from ragops.session import Session

# Partial documents that a validation lists, and the ledger keeps; `ragops queue status --json` has them all.
LISTED = 100
POLL_S = 1.0
SILENT_S = 10.0
# The id of the check that only a campaign has.
REMOVED = "queued_items"


@dataclass(frozen=True, slots=True)
class ValidationResult:
    """The checks with their verdict, and the measurements that they rest on."""

    checks: tuple[Check, ...]
    measurements: Measurements
    agreement: Agreement
    processing_time_ms: int
    recorded: Measured | None = None
    """What was recorded of the stored documents; None: not known."""
    answers: str | None = None
    """What to type where the limits alone decide; None without an answer."""
    limit: float = 0.0
    """`validation.max_distance`."""

    @property
    def verdict(self) -> str:
        """`pass` or `fail`."""
        return validation_verdict(self.checks)

    @property
    def documents(self) -> int:
        return self.measurements.documents

    def refuse_failure(self) -> None:
        """Raise NegativeVerdict when a check failed."""
        failed = [check for check in self.checks if check.status == "fail"]
        if not failed:
            return
        ids = {check.id for check in failed}
        # What is stored fails the same check again: resuming alone cannot pass.
        if self.answers is not None:
            hint = self.answers
        elif ids == {REMOVED}:
            hint = "ragops queue reseed --append   (it adds what is missing), then: ragops reset --resume"
        elif ids - OPTIONS.keys() and self.documents:
            hint = (
                "ragops verify   (is it the build, the pooling, a prefix, a suffix?), then fix it and: "
                "ragops reset --new   or bring the old rows back: ragops undo"
            )
        else:
            hint = "ragops queue status   (why did they fail?), ragops queue retry, then: ragops reset --resume"
        raise NegativeVerdict(
            "validation failed",
            where=f"{self.documents:,} {'rows' if self.measurements.rows else 'documents'}",
            actual="\n".join(f"{check.id}: {check.measured}" for check in failed),
            expected="\n".join(f"{check.id}: {check.expected}" for check in failed),
            hint=hint,
        )

    def to_json(self) -> dict[str, object]:
        measured = self.measurements
        first = measured.queries[0] if measured.queries else None
        agreement = self.agreement.to_json()
        return {
            "verdict": self.verdict,
            "documents": self.documents,
            "checks": [check.to_json() for check in self.checks],
            "query": first.query if first else None,
            "backend_embedding_dims": measured.dimensions,
            "processing_time_ms": self.processing_time_ms,
            "comparison_stats": comparison_stats(first, measured.thresholds) if first else {},
            "queries": [query.to_json() for query in measured.queries],
            "agreement": {key: agreement[key] for key in ("rows", "max", "not_a_number")},
            "disagreeing": list(measured.unlike),
            "targets": [one.to_json(limit=self.limit) for one in measured.rows.targets] if measured.rows else [],
            "repeated_ids": list(measured.repeated_ids),
            "partial": self.recorded and self.recorded.partial_to_json(completed=measured.queue.get("completed")),
            "unknown_tokens": self.recorded and self.recorded.unknown_to_json(),
        }


@dataclass(frozen=True, slots=True)
class ValidateStep:
    settings: Validate

    def problems(self, facts: PlanFacts) -> Iterator[str]:
        yield from ()

    def plan(self, facts: PlanFacts, number: int) -> PlannedStep:
        after = self.settings.after
        title = "validate" + (f" at {after:,} documents" if after else " the whole corpus")
        return PlannedStep(number, self.settings.step, title, self.settings)

    def run(self, run: Run) -> ValidationResult:
        """Embed what is open again, then check. Raises NegativeVerdict when a check fails."""
        # Items may be open again behind an earlier embed step: retried after a failed gate.
        drain(run)
        result = validate(run, after=self.settings.after)
        if (removed := _removed_items(run, result)) is not None:
            result = replace(result, checks=(*result.checks, removed))
        if result.verdict == "fail":
            result = replace(result, answers=run.session.through_outages(lambda: _answers(run, result)))
            run.session.through_outages(lambda: run.record_failure("validation failed", result))
        else:
            run.session.through_outages(lambda: run.record(result))
        result.refuse_failure()
        return result


def _removed_items(run: Run, result: ValidationResult) -> Check | None:
    """Return a failed check if the queue holds fewer items than the campaign has queued: nobody embeds those."""
    campaign = run.campaign
    if campaign is None or not result.measurements.has_queue:
        return None
    steps = run.session.through_outages(lambda: campaign_steps(run.session.connection, campaign))
    queued = max((step.recorded_number("seeded") for step in steps if step.verb == "reseed_queue"), default=0)
    now = sum(result.measurements.queue.values())
    if now >= queued:
        return None
    return Check(REMOVED, "fail", f"{now:,} items are in the queue", f"{queued:,}, which the campaign has queued")


def _answers(run: Run, result: ValidationResult) -> str | None:
    """Return what to type after this failure; None outside of a campaign, and where no answer helps."""
    if run.campaign is None:
        return None
    failed = "\n".join(f"{check.id}: {check.measured}" for check in result.checks if check.status == "fail")
    tables = run.session.playbook.tables
    return answer_lines(failed, suffix=Failures(run.session.connection, tables).frequent_suffix())


def validate(run: Run, *, after: int | None = None, seed: float | None = None) -> ValidationResult:
    """Wait until `after` documents are embedded, then check; `seed` (−1 to 1) draws the sample.

    Raises RagopsError when the queue cannot reach `after`, or nothing is stored.
    """
    session = run.session
    if after is not None:
        wait_until(run, after)
    started = time.monotonic()
    checked_sha256(session.playbook)
    drawn = random.uniform(-1, 1) if seed is None else seed
    in_campaign = run.campaign is not None
    measured = session.with_embedder(
        lambda embedder: (
            measure_rows(session, embedder, seed=drawn, in_campaign=in_campaign)
            if session.playbook.targets
            else measure(session, embedder, seed=drawn)
        )
    )
    recorded = read_recorded(session, limit=LISTED) if session.has_queue else None
    if recorded is not None:
        measured = replace(
            measured,
            partial=recorded.partial,
            partial_examples=tuple(f"{one.location}: {one.partial}" for one in recorded.partial_documents[:1]),
            unknown_tokens=recorded.words if recorded.documents else None,
            knows_script=recorded.knows_script,
        )
        if not recorded.knows_script:
            session.reporter.warning(f"{STRANGE_SCRIPT} ({recorded.words})")
    settings = session.playbook.validation
    limits = ValidationLimits(
        settings.max_distance, settings.criterion, settings.max_failed_share, settings.max_partial_share
    )
    return ValidationResult(
        checks=tuple(judge(measured, limits)),
        measurements=measured,
        agreement=Agreement.of(measured.agreement, limit=settings.max_distance),
        processing_time_ms=int((time.monotonic() - started) * 1000),
        recorded=recorded,
        limit=settings.max_distance,
    )


def wait_until(run: Run, after: int) -> None:
    """Wait, with progress, until `after` items are completed; fewer are enough when the rest has failed."""
    session = run.session
    quiet_since, last = time.monotonic(), -1
    while True:
        counts, open_items = session.through_outages(lambda: _standing(session))
        completed = counts[ItemStatus.COMPLETED]
        reachable = sum(counts[status] for status in ItemStatus if status is not ItemStatus.FAILED)
        # In a campaign the phase of the gate decides, not a number: some of its items may have failed.
        within_gate = open_items == 0
        session.reporter.progress(f"waiting for {after:,} documents", completed, after)
        if completed >= after or (within_gate and run.campaign is not None):
            break
        if reachable < after:
            session.reporter.end_progress()
            raise RagopsError(
                f"the queue cannot reach {after:,} documents",
                actual=", ".join(f"{number:,} {status}" for status, number in counts.items()),
                hint=f"ragops validate --after {max(1, min(reachable, completed) or reachable)}"
                + ("" if session.playbook.targets else "   or: ragops queue reseed"),
            )
        if completed != last or counts[ItemStatus.PROCESSING]:
            quiet_since, last = time.monotonic(), completed
        elif time.monotonic() - quiet_since > SILENT_S:
            session.reporter.info("nothing is embedding; in another terminal: ragops embed --workers 3")
            quiet_since = time.monotonic() + 50
        if session.stop.requested.wait(POLL_S):
            raise Interrupted("stopped while waiting", signal_number=session.stop.signal_number)
    session.reporter.end_progress()


def _standing(session: Session) -> tuple[dict[str, int], int]:
    """Return the items by status, and how many of the open phases are not finished."""
    queue = session.queue
    return queue.counts(), sum(queue.open_items(phase=queue.gate()))
