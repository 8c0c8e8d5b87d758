"""Measure which text, prefix and pooling made the vectors of a column."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ragops.facts import TableFacts
from ragops.forensics.candidates import (
    Candidate,
    Samples,
    candidates_of,
    json_columns,
    text_columns,
)
from ragops.forensics.embedding import Embedding
from ragops.forensics.findings import Findings, Ranked, Recipe, Writer
from ragops.forensics.groups import condition_for, groups_of
from ragops.forensics.sample import Row, Sample, draw, spread
from ragops.forensics.search import Distances, Limits, Search, Trial
from ragops.playbook.model import Model
from ragops.postgres.stored_texts import StoredTexts
from ragops.quality.vectors import SMALLEST_NORM
from ragops.session import Session

# The rows that candidates are tried on, before the best ones meet the whole sample.
PROBED = 12
MOST_WRITERS = 4
# Rows of which it is tried whether their texts were cut.
CUT_ROWS = 6
SHOWN = 10
# Another quantisation of the same weights moves vectors no further: `fingerprint.causes.NEAR_WEIGHTS`.
NEAR = 0.05
# Rows whose values tell prose from identifiers.
SAMPLED_VALUES = 20


@dataclass(frozen=True, slots=True, eq=False)
class _Explained:
    """A trial on all rows of the sample, with the rows that it explains."""

    trial: Trial
    is_exact: bool
    rows: frozenset[int]
    tried: Sequence[Trial]
    """What was tried with it, on some of the rows."""


def sample_values(session: Session, table: TableFacts, column: str, *, where: str | None = None) -> Samples:
    """Return the starts of the text and JSON columns of some rows, for `candidates_of`."""
    names = [one.name for one in (*text_columns(table), *json_columns(table))]

    def read() -> Samples:
        stored = StoredTexts(session.connection, table, column, where)
        return stored.starts(names, stored.places(size=SAMPLED_VALUES)[0])

    return session.through_outages(read)


def measure_texts(
    session: Session,
    table: TableFacts,
    column: str,
    candidates: Sequence[Candidate] = (),
    *,
    model: Model,
    sample: int = 50,
    where: str | None = None,
    max_distance: float = 1e-3,
    near: float = NEAR,
) -> Findings:
    """Embed a sample of rows in every way that may have made their vectors, and tell which ones did.

    Reads only. Without candidates those of `candidates_of` are tried. Raises Stopped, and as `Embedder` does.
    """
    if not candidates:
        candidates = candidates_of(table, sample_values(session, table, column, where=where))
    names = [one.name for one in text_columns(table)]

    def stored() -> StoredTexts:
        return StoredTexts(session.connection, table, column, where)

    drawn = session.through_outages(lambda: draw(stored(), names, size=sample))
    with Embedding(session, model) as embedding:
        search = Search(session, stored(), embedding, candidates, Limits(max_distance, near))
        trials, explained = _explain(search, drawn.rows)
        return _findings(search, drawn, trials, explained, table=table, column=column)


def _explain(search: Search, rows: Sequence[Row]) -> tuple[list[Trial], list[_Explained]]:
    """Return what was tried at first, and what explains rows: each is searched on the rows that are still open."""
    usable = [place for place, row in enumerate(rows) if np.linalg.norm(row.vector) >= SMALLEST_NORM]
    left, explained = usable, list[_Explained]()
    first: list[Trial] = []
    trials: list[Trial] = []
    while left and len(explained) < MOST_WRITERS:
        search.session.stop.check()
        trials = search.trials(spread([rows[place] for place in left], PROBED))
        first = first or trials
        best = search.best(trials, search.limits.exact)
        if best is None:
            break
        explained.append(_on_all(search, best, trials, rows, left, search.limits.exact))
        left = [place for place in left if place not in explained[-1].rows]
    if left:
        nearest = search.best(trials, search.limits.near)
        # Those of the same settings first: a text that changed since is no other writer.
        for trial in (*(one.trial for one in explained), *([nearest] if nearest else [])):
            explained.append(_on_all(search, trial, trials, rows, left, search.limits.near))
            left = [place for place in left if place not in explained[-1].rows]
    return first, [one for one in explained if one.rows]


def _on_all(
    search: Search,
    best: Trial,
    tried: Sequence[Trial],
    rows: Sequence[Row],
    left: Sequence[int],
    limit: float,
) -> _Explained:
    """Return the trial on all rows, with the way to make long texts fit that explains most of the open ones."""
    own = best.candidate, best.prefix, best.pooling
    measured = search.measure(*own, rows)
    hit = {place for trial in measured for place in _within(trial.distances, left, limit)}
    missed = [rows[place] for place in left if place not in hit]
    # Texts may have been cut where another tool cuts them: a few tell whether to try that with all.
    sample = spread(missed, CUT_ROWS)
    is_cut = best.fit.tokens < search.embedding.model.max_tokens
    if is_cut or any(t.hits(limit) for t in search.measure(*own, sample, with_cuts=True)):
        measured += search.measure(*own, rows, with_cuts=True)
    trial = max(measured, key=lambda one: (len(_within(one.distances, left, limit)), one.fit == best.fit))
    return _Explained(trial, limit == search.limits.exact, _within(trial.distances, left, limit), tried)


def _within(distances: Distances, places: Sequence[int], limit: float) -> frozenset[int]:
    return frozenset(place for place in places if distances[place] <= limit)


def _findings(
    search: Search,
    drawn: Sample,
    trials: Sequence[Trial],
    explained: Sequence[_Explained],
    *,
    table: TableFacts,
    column: str,
) -> Findings:
    rows, model = drawn.rows, search.embedding.model
    counted = frozenset(place for place, row in enumerate(rows) if not row.is_extra)
    explained = sorted(explained, key=lambda one: (not one.is_exact, -len(one.rows & counted)))
    nobody = len(explained)
    writer_of = [next((i for i, one in enumerate(explained) if p in one.rows), nobody) for p in range(len(rows))]
    groups = groups_of(rows, writer_of, nobody)
    conditions = [condition_for(groups, writer) for writer in range(nobody + 1)]
    last = conditions[nobody]
    telling = {found[0] for found in conditions if found}
    norms = [float(np.linalg.norm(row.vector)) for row in rows]
    alike = max(search.structures.items(), key=lambda item: item[1], default=None)
    return Findings(
        table=table.quoted,
        column=column,
        model=model.name or model.description,
        total=drawn.total,
        sampled=len(counted),
        writers=tuple(
            replace(
                _writer(one, rows, counted, search),
                same=_same(one),
                where=found[1] if found and nobody + bool(nobody in writer_of) > 1 else None,
            )
            for one, found in zip(explained, conditions, strict=False)
        ),
        unexplained=sum(writer_of[place] == nobody for place in counted),
        zero=sum(norms[place] < SMALLEST_NORM for place in counted),
        dimensions=tuple(sorted({len(row.vector) for row in rows})),
        model_dimensions=model.dimensions,
        # Of a sample with vectors that somebody else made, those that were understood.
        is_normalised=_are_units([norms[place] for one in explained for place in one.rows] or norms),
        ranking=_ranking(trials, rows, search),
        groups=tuple(group for group in groups if group.column in telling),
        alike=(alike[0].label, alike[1]) if alike and not explained else None,
        unexplained_where=last[1] if last and explained else None,
        unreadable=tuple((candidate.label, reason) for candidate, reason in search.unreadable.items()),
    )


def _writer(one: _Explained, rows: Sequence[Row], counted: frozenset[int], search: Search) -> Writer:
    distances, limits = one.trial.distances, search.limits
    own = distances[sorted(one.rows)]
    return Writer(
        _recipe(one.trial, [rows[place] for place in one.rows], search),
        one.is_exact,
        rows=len(one.rows & counted),
        agreeing=len(_within(distances, sorted(counted), limits.exact)),
        near=len(_within(distances, sorted(counted), limits.near)),
        median=float(np.median(own)),
    )


def _recipe(trial: Trial, rows: Sequence[Row], search: Search) -> Recipe:
    model = search.embedding.model
    dimensions = {len(row.vector) for row in rows}
    cut = max(dimensions, default=model.dimensions)
    return Recipe(
        trial.candidate,
        trial.prefix,
        trial.pooling,
        long_text=("mean" if trial.fit.how == "mean" else "truncate") if trial.is_fitted else None,
        max_tokens=trial.fit.tokens if trial.is_fitted else None,
        dimensions=cut if cut < model.dimensions else None,
    )


def _are_units(norms: Sequence[float]) -> bool | None:
    """Return whether all vectors but zero ones have length 1; None without any. halfvec keeps three digits."""
    known = [norm for norm in norms if norm >= SMALLEST_NORM]
    return bool(np.allclose(known, 1.0, atol=2e-3)) if known else None


def _same(one: _Explained) -> tuple[str, ...]:
    """Return the other texts that gave the same vectors: this model sees no difference."""
    labels = [
        other.candidate.label
        for own in one.tried
        for other in one.tried
        if own.candidate == one.trial.candidate != other.candidate
        and (other.prefix, other.pooling, other.fit) == (own.prefix, own.pooling, own.fit)
        and len(other.distances) == len(own.distances)
        and np.allclose(other.distances, own.distances, atol=1e-9, equal_nan=True)
    ]
    return tuple(dict.fromkeys(labels))


def _ranking(trials: Sequence[Trial], rows: Sequence[Row], search: Search) -> tuple[Ranked, ...]:
    """Return the best of what was tried at first, on the few rows that it was tried on."""
    limits = search.limits
    best = sorted(trials, key=lambda t: (-t.hits(limits.exact), -t.hits(limits.near), t.low))[:SHOWN]
    return tuple(
        Ranked(
            _recipe(trial, rows, search),
            rows=len(trial.distances),
            agreeing=trial.hits(limits.exact),
            near=trial.hits(limits.near),
            median=None if np.isnan(trial.distances).all() else float(np.nanmedian(trial.distances)),
        )
        for trial in best
    )
