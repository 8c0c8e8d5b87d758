"""Answer a gate that failed: other limits, or documents that do not count, for a campaign that is resumed."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ragops.documents.patterns import excludes
from ragops.errors import UsageError
from ragops.identity import is_dead_here
from ragops.playbook.model import Playbook
from ragops.playbook.steps import Compare, Step
from ragops.postgres.connection import transaction
from ragops.postgres.copy_binary import text_limit
from ragops.postgres.failures import Exclusion, Failures
from ragops.postgres.ledger import CampaignRow, Ledger, find_campaign, find_latest_campaign, record_change
from ragops.session import Session

# The checks that another limit answers, with the option that sets it.
OPTIONS = {"failed_items": "--max-failed-share", "partial_documents": "--max-partial-share"}
EXCLUDE = "exclude"
# In what the ledger keeps of a comparison that was no GO.
COMPARED = re.compile(r": (index_recall|ndcg) loses ")

Ask = Callable[[Sequence[str]], None]
"""Ask the operator about what would be excluded. Raises RagopsError for any answer but yes."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What an operator decides when a campaign is resumed; None and nothing: as before."""

    max_failed_share: float | None = None
    max_partial_share: float | None = None
    exclude: tuple[str, ...] = ()
    max_loss: float | None = None
    compare_sample: int | None = None

    @property
    def limits(self) -> dict[str, object]:
        """The limits of the playbook's section `validation` that change."""
        given = {"max_failed_share": self.max_failed_share, "max_partial_share": self.max_partial_share}
        return {name: value for name, value in given.items() if value is not None}

    def applied_to(self, playbook: Playbook) -> Playbook:
        """Return the playbook with these limits. Raises OverrideError for a number that is not a share.

        Raises UsageError for an answer to a step that the playbook does not have.
        """
        if self.limits:
            playbook = playbook.with_changes(validation=self.limits)
        given = self.comparison
        if given:
            if not any(isinstance(step, Compare) for step in playbook.steps):
                raise UsageError(
                    "--max-loss and --compare-sample are for a campaign with the step compare",
                    actual=", ".join(step.step for step in playbook.steps),
                    hint="ragops reset --resume",
                )
            steps = [self._step(step) for step in playbook.steps]
            playbook = playbook.with_steps(steps)
        return playbook

    @property
    def comparison(self) -> dict[str, object]:
        """The keys of the step `compare` that change."""
        given = {"max_loss": self.max_loss, "sample": self.compare_sample}
        return {name: value for name, value in given.items() if value is not None}

    def _step(self, step: Step) -> object:
        return {**dict(step), **self.comparison} if isinstance(step, Compare) else step


NO_ANSWERS = Answers()


def planned_exclusions(session: Session, answers: Answers) -> list[Exclusion]:
    """Return what the patterns would exclude now.

    Raises UsageError for a pattern that no failed or pending item matches, unless it has excluded some before.
    """
    failures, found = Failures(session.connection, session.playbook.tables), []
    for pattern in answers.exclude:
        exclusion = failures.matching(pattern, excludes(pattern))
        if exclusion.items:
            found.append(exclusion)
        elif not failures.excluded_by(pattern):
            raise UsageError(
                "no failed or pending item matches a pattern of --exclude; nothing was changed",
                actual=repr(pattern),
                expected="a pattern as in source.patterns: *.png, or scans/**",
                hint="ragops queue status --all   (where the failed items lie)",
            )
    return found


def apply_answers(session: Session, ledger: Ledger, row: CampaignRow, answers: Answers) -> None:
    """Exclude items and keep the new limits, with a record of both, in one transaction of the held campaign."""
    if answers == NO_ANSWERS:
        return
    connection, tables = session.connection, session.playbook.tables
    # Items of a controller that died are pending again before the patterns are compared with them.
    session.queue.reap(is_dead=is_dead_here)
    queue = session.facts(scans=False).tables["files_queue"]
    reasons = queue.columns.get(tables.files_queue.columns.last_error) if queue else None
    held = ledger.on(connection)
    said = []
    with held.fenced(is_long=True):
        # As it is now: a COMMIT whose answer was lost may have done this before.
        stored = (find_campaign(connection, row.id) or row).playbook
        before = stored.get("validation", {})
        changed = {name: value for name, value in answers.limits.items() if before.get(name) != value}
        steps, answered = _answered_steps(stored, answers)
        if changed or answered:
            kept = {**stored, "validation": {**before, **changed}} if changed else stored
            held.save_playbook({**kept, "steps": steps})
        for name, (was, now) in answered.items():
            record_change(connection, row.id, f"compare.{name}", before=was, after=now)
            said.append(f"compare.{name}: {was:g} before, {now:g} from now on")
        for name, value in changed.items():
            old = before.get(name, getattr(type(session.playbook.validation)(), name))
            record_change(connection, row.id, f"validation.{name}", before=old, after=value)
            said.append(f"validation.{name}: {old:g} before, {value:g} from now on")
        failures = Failures(connection, tables)
        for pattern in answers.exclude:
            excluded = failures.exclude(
                pattern, excludes(pattern), limit=text_limit(reasons.stored_type) if reasons else None
            )
            if excluded.items:
                record_change(connection, row.id, EXCLUDE, before=None, after=excluded.to_json())
                said.append(f"excluded: {excluded}")
    for line in said:
        session.reporter.info(line)


def _answered_steps(
    stored: Mapping[str, Any], answers: Answers
) -> tuple[list[Mapping[str, Any]], dict[str, tuple[float, float]]]:
    """Return the stored steps with the answers to `compare`, and what changes: before and after by key."""
    steps: list[Mapping[str, Any]] = list(stored.get("steps", ()))
    changed: dict[str, tuple[float, float]] = {}
    for place, step in enumerate(steps):
        if step.get("step") != "compare":
            continue
        for name, value in answers.comparison.items():
            was = step.get(name, Compare.model_fields[name].default)
            if was != value:
                assert isinstance(value, int | float)
                changed[name] = (was, value)
        steps[place] = {**step, **answers.comparison}
    return steps, changed


def include_again(session: Session) -> int:
    """Put the excluded items back into the queue; return their number."""
    with transaction(session.connection):
        included = session.queue.retry_failed(excluded=True)
        row = find_latest_campaign(session.connection, session.playbook.tables)
        if included and row is not None and not row.is_finished:
            record_change(session.connection, row.id, EXCLUDE, before={"items": included}, after=None)
    return included


def answer_lines(error: str | None, *, suffix: tuple[str, int] | None = None) -> str | None:
    """Return what to type after a gate that failed for its shares alone; None for one that cannot be answered.

    `error` has a line per failed check, as the ledger keeps it; `suffix` is one that many failed items have.
    """
    if error and COMPARED.search(error):
        return (
            "ragops reset --resume   (compares again, e.g. with another hnsw.ef_search of the role), or with: "
            "--compare-sample N, --max-loss SHARE"
        )
    checks = dict(line.split(": ", 1) for line in (error or "").splitlines() if ": " in line)
    if not checks or not checks.keys() <= OPTIONS.keys():
        return None
    lines = ["ragops queue status   (why did they fail, what is missing?), then one of:"]
    limits = [f"{OPTIONS[check]} {_above(words):g}" for check, words in checks.items()]
    if "failed_items" in checks:
        lines.append("ragops queue retry   and: ragops reset --resume   (once their cause is gone)")
        others = "".join(f" {limit}" for limit in limits[1:])
        if suffix is not None:
            lines.append(
                f'ragops reset --resume{others} --exclude "*{suffix[0]}"   ({suffix[1]:,} that do not count then)'
            )
        else:
            lines.append(f'ragops reset --resume{others} --exclude "PATTERN"   (what does not count then)')
    lines.append(f"ragops reset --resume {' '.join(limits)}")
    return "\n".join(lines)


def _above(measured: str) -> float:
    """Return a limit, in whole percent, that the measured share keeps."""
    found = re.search(r"([0-9.]+)%", measured)
    # The percentage was rounded to one decimal.
    return min(1.0, math.ceil(float(found[1]) + 0.05) / 100) if found else 1.0
