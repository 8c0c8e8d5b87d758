"""Compare updating vectors under their index with dropping and building it again, from measured rates."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from ragops.campaign.row_problems import column_of
from ragops.campaign.steps.base import PlanFacts
from ragops.indexes.beside import is_beside
from ragops.indexes.concerned import indexes_over
from ragops.indexes.rewritten import stale_notes
from ragops.playbook.steps import DropIndexes
from ragops.postgres.index_rates import MOST_BUILT, IndexRates, measure_rates
from ragops.row_facts import TargetFacts
from ragops.session import Session

# Dropping costs the application its index: it has to be that much faster to be worth it.
WORTH = 0.5


def index_notes(session: Session, facts: PlanFacts) -> Iterator[str]:
    """Yield what to know about the indexes over columns that are written in place. Measures for about 2 s each."""
    yield from stale_notes(facts.playbook, facts.targets)
    for target in facts.targets:
        rows = facts.selected.get(target.number, 0)
        indexes = [index for index in indexes_over(target, target.filled) if index.is_valid]
        if is_beside(target) or not indexes or not rows:
            continue
        rates = _measured(session, facts, target)
        drops = any(isinstance(step, DropIndexes) for step in facts.playbook.steps)
        yield choice(target, rows, rates, embedding_s=_embedding_s(facts), drops=drops)


def choice(target: TargetFacts, rows: int, rates: IndexRates, *, embedding_s: float | None, drops: bool) -> str:
    """Return both ways with their times, and the recommendation, in one line."""
    where, total = column_of(target), target.table.rows
    if rates.updates is None or rates.builds is None:
        reason = f" ({rates.reason})" if rates.reason else ""
        return (
            f"{where}: whether to update {rows:,} rows with the index in place or to drop and rebuild it was "
            f"not measured{reason}"
        )
    # The fleet embeds meanwhile: what takes longer counts.
    embedding = embedding_s or 0.0
    kept, build = max(rows / rates.updates, embedding), total / rates.builds
    dropped = build + embedding
    source = "of the last build" if rates.is_recorded else "estimated from a sample"
    lines = (
        f"{where}: updating {rows:,} rows with the index in place: about {about(kept)} (measured: "
        f"{rates.updates:,.0f} rows/s), search keeps its index; dropping and rebuilding: about {about(dropped)} "
        f"without index ({about(build)} of it the build of {total:,} rows, {source})"
    )
    if dropped < kept * WORTH:
        better = "drop_indexes before embed and rebuild_indexes after it"
        return f"{lines}; faster: {'as planned' if drops else better}"
    return f"{lines}; recommended: {'no drop_indexes' if drops else 'as planned'}"


def _measured(session: Session, facts: PlanFacts, target: TargetFacts) -> IndexRates:
    if target.fired and not target.silences_triggers:
        return IndexRates(None, None, reason="triggers would fire for the rows of the sample")
    if "UPDATE" not in target.table.privileges:
        return IndexRates(None, None, reason="the role may not update the table")
    own = [index for index in indexes_over(target, target.filled) if index.is_valid and not index.is_attached]
    recorded = facts.database.index_rows_per_s
    rates = measure_rates(session.connection, target, [] if recorded else own)
    if recorded:
        return replace(rates, builds=recorded, is_recorded=True)
    return replace(rates, builds=_at_scale(rates.builds, target.table.rows))


def _at_scale(rate: float | None, rows: int) -> float | None:
    """Return the rate for a whole table: each row of a larger graph takes longer, by about its logarithm."""
    if rate is None or rows <= MOST_BUILT:
        return rate
    return rate * math.log(MOST_BUILT) / math.log(rows)


def _embedding_s(facts: PlanFacts) -> float | None:
    """Return how long the fleet embeds; None while no batch of this database was measured."""
    rate, workers = facts.database.docs_per_s, facts.sizing.workers if facts.sizing else 1
    return None if not rate or facts.items is None else facts.items / (rate * workers)


def about(seconds: float) -> str:
    """Return a time in the unit that an operator plans in."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"
