"""compare: is the new column at least as good as the old one? Decided on the same queries, with bounds."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from ragops.campaign.column_scan import ROWS_AS_QUERIES
from ragops.campaign.comparing import compare_target
from ragops.campaign.comparison import INDEX, CompareResult, TargetComparison
from ragops.campaign.steps.base import PlanFacts, PlannedStep, Run
from ragops.errors import NegativeVerdict
from ragops.findings import PlanProblem
from ragops.playbook.steps import Compare
from ragops.quality.losses import fewest_queries
from ragops.row_facts import TargetFacts


@dataclass(frozen=True, slots=True)
class CompareStep:
    settings: Compare

    def problems(self, facts: PlanFacts) -> Iterator[PlanProblem | str]:
        yield from ()

    def plan(self, facts: PlanFacts, number: int) -> PlannedStep:
        settings, beside = self.settings, _beside(facts.targets)
        listed = ", ".join(f"{one.table.quoted}.{one.embedding} and {one.filled}" for one in beside)
        notes = [f"GO: a loss of at most {settings.max_loss:.3g} at {settings.confidence:.3g} confidence"]
        if settings.max_loss == 0:
            notes.append("with max_loss: 0 only a comparison of all rows can end with GO")
        elif settings.sample < (fewest := fewest_queries(settings.max_loss, settings.confidence)):
            notes.append(
                f"{settings.sample:,} queries cannot show that, even if none loses anything: "
                f"sample: {fewest} or more (or as many as the table has rows)"
            )
        return PlannedStep(
            number,
            settings.step,
            f"compare {listed} on {settings.sample:,} queries" if listed else "compare",
            settings,
            rows=sum(one.table.rows for one in beside),
            tables=tuple(one.table.qualified for one in beside),
            notes=tuple(notes),
        )

    def run(self, run: Run) -> CompareResult:
        """Compare every target that is written beside. Raises NegativeVerdict unless all of them are GO."""
        session, started = run.session, time.monotonic()
        facts = session.through_outages(session.targets)
        beside = _beside(facts)
        # The same rows are drawn when the campaign is resumed.
        seed = f"{run.campaign or 0}"
        compared = session.with_embedder(
            lambda embedder: tuple(
                compare_target(
                    session, session.playbook.targets[one.number - 1], one, self.settings, embedder, seed=seed
                )
                for one in beside
            )
        )
        settings = self.settings
        seconds = round(time.monotonic() - started, 3)
        result = CompareResult(compared, settings.k, settings.max_loss, settings.confidence, seconds)
        for target in compared:
            for line in lines(target, k=settings.k):
                session.reporter.info(line)
        if result.verdict == "GO":
            session.through_outages(lambda: run.record(result))
            return result
        session.through_outages(lambda: run.record_failure(f"comparison {result.verdict}", result))
        raise _refusal(result, beside)


def lines(target: TargetComparison, *, k: int) -> Iterator[str]:
    """Yield one target's comparison, for people."""
    yield f"{target.table}: {target.decision} on {target.queries:,} queries ({target.drawn:,} drawn)"
    for side, name in ((target.old, "old"), (target.new, "new")):
        parts = [f"{side.vectors:,} vectors", f"index {side.index}" if side.index else "no index used"]
        if side.recall is not None:
            parts.append(f"recall@{k} against exact search {side.recall:.4f}")
        if side.p50_ms is not None and side.p99_ms is not None:
            parts.append(f"{side.p50_ms:.1f} ms, p99 {side.p99_ms:.1f} ms")
        if side.ndcg is not None:
            parts.append(f"nDCG@{k} {side.ndcg:.4f}")
        yield f"  {name} {side.column}: {', '.join(parts)}; {side.queries}"
    if target.overlap is not None:
        yield f"  rows keep {target.overlap:.0%} of their {k} nearest rows"
    if target.at_first is not None and target.within_k is not None:
        yield f"  a row's first words find it at 1 in {target.at_first:.0%}, within {k} in {target.within_k:.0%}"
    if target.old_ranks:
        better = sum(new < old for old, new in zip(target.old_ranks, target.ranks, strict=False))
        worse = sum(new > old for old, new in zip(target.old_ranks, target.ranks, strict=False))
        yield f"  of {len(target.ranks):,} such rows {better:,} rank better than before, {worse:,} worse"
    for criterion in target.criteria:
        if criterion.loss is None:
            yield f"  {criterion.decision}: {criterion.note}"
            continue
        loss = criterion.loss
        yield (
            f"  {criterion.decision}: {criterion.name} loses {loss.mean:.4f}, between {loss.lower:.4f} and "
            f"{loss.upper:.4f} at {loss.confidence:.3g} confidence"
        )
    for note in target.notes:
        yield f"  note: {note}"


def _refusal(result: CompareResult, beside: list[TargetFacts]) -> NegativeVerdict:
    """Return the error for a comparison that is not GO: what decided, and what to type."""
    open_criteria = [
        (target, criterion)
        for target in result.targets
        for criterion in target.criteria
        if criterion.decision == result.verdict
    ]
    measured = []
    for target, criterion in open_criteria:
        if criterion.loss is None:
            measured.append(f"{target.table}: {criterion.note}")
        else:
            loss = criterion.loss
            measured.append(
                f"{target.table}: {criterion.name} loses {loss.mean:.4f} ({loss.lower:.4f} to {loss.upper:.4f}) "
                f"over {loss.queries:,} queries"
            )
        if criterion.needed is not None:
            measured.append(f"about {criterion.needed:,} queries would decide")
    limit = f"a loss of at most {result.max_loss:.3g}, certain at {result.confidence:.3g}"
    worst = max((c.loss.upper for _, c in open_criteria if c.loss is not None), default=result.max_loss)
    # Rounded up, so that the same measurement passes.
    accepted = min(1.0, int(worst * 1000 + 1) / 1000)
    accept = f"ragops reset --resume --max-loss {accepted:g}   (accept what was measured)"
    if result.verdict == "INCONCLUSIVE":
        needed = max((c.needed or 0 for _, c in open_criteria), default=0)
        first = f"ragops reset --resume --compare-sample {needed}\n" if needed else ""
        return NegativeVerdict(
            "the comparison is INCONCLUSIVE; the application reads the old column as before",
            actual="\n".join(measured) or "nothing could be compared",
            expected=limit,
            hint=f"{first}{'or: ' if first else ''}{accept}",
        )
    if any(criterion.name == INDEX for _, criterion in open_criteria):
        hint = "ragops index rebuild, then: ragops reset --resume"
    else:
        hint = (
            "raise hnsw.ef_search or ivfflat.probes of the role (ALTER ROLE … SET), or build the index with a "
            f"larger ef_construction, then: ragops reset --resume\nor: {accept}"
        )
    return NegativeVerdict(
        "the comparison is NO-GO; the application reads the old column as before",
        actual="\n".join([*measured, *_beside_old(result)]),
        expected=limit,
        hint=hint,
    )


def _beside_old(result: CompareResult) -> Iterator[str]:
    """Yield the recall of the old index, which tells whether the new one is worse."""
    for target in result.targets:
        if target.old.recall is not None:
            how = " (rows as queries)" if target.old.queries == ROWS_AS_QUERIES else ""
            yield f"{target.table}: the old index loses {1 - target.old.recall:.4f}{how}"


def _beside(targets: tuple[TargetFacts, ...]) -> list[TargetFacts]:
    return [one for one in targets if one.filled != one.embedding]
