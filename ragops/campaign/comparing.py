"""Compare two vector columns of a target: the same queries, each searched in its own space.

Queries are embedded for the new column. The model of the old one is usually not at hand: its side is asked with
the stored old vectors of the drawn rows, unless `reference.openai` turns out to have made them. Exact neighbours
of all queries are found in one pass over the table; indexes are asked query by query, as an application does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TypeVar

import numpy as np

from ragops.campaign.column_scan import ROWS_AS_QUERIES, Matrix, Queries, Scan
from ragops.campaign.comparison import INDEX, NDCG, RECALL, Criterion, Side, TargetComparison
from ragops.campaign.judgments import read_judgments
from ragops.campaign.measure import WORDS_PER_QUERY, embed_all, shortened
from ragops.campaign.old_queries import old_query_vectors
from ragops.embedder.client import Embedder
from ragops.playbook.steps import Compare
from ragops.playbook.targets import RowTarget
from ragops.postgres.comparison import Columns, DrawnRow, IndexedSearch, SearchIndex
from ragops.quality.losses import Bounds, loss_bounds
from ragops.quality.retrieval import Found, ndcg, overlap, percentile, recall
from ragops.quality.vectors import normalize
from ragops.row_facts import TargetFacts
from ragops.session import Session

Result = TypeVar("Result")
# Searches that load an index into memory before times count.
WARM_UP = 10


@dataclass(frozen=True, slots=True)
class _Searched:
    """What one side found for its queries."""

    exact: list[Found]
    indexed: list[IndexedSearch]
    """Empty without an index."""

    def ranking(self, place: int) -> tuple[str, ...]:
        """Return what an application gets: through the index, else exactly."""
        return self.indexed[place].keys if self.indexed else self.exact[place].keys


def compare_target(
    session: Session, target: RowTarget, facts: TargetFacts, settings: Compare, embedder: Embedder, *, seed: str
) -> TargetComparison:
    """Measure and judge one target that is written beside. Raises UsageError for judgments that are wrong."""
    return _Comparison(session, target, facts, settings, embedder, seed).run()


class _Comparison:
    def __init__(
        self,
        session: Session,
        target: RowTarget,
        facts: TargetFacts,
        settings: Compare,
        embedder: Embedder,
        seed: str,
    ) -> None:
        self._session = session
        self._target = target
        self._facts = facts
        self._settings = settings
        self._embedder = embedder
        self._seed = seed
        self._notes: list[str] = []

    def _ask(self, work: Callable[[Columns], Result]) -> Result:
        session = self._session
        return session.through_outages(lambda: work(Columns(session.connection, self._target, self._facts)))

    def run(self) -> TargetComparison:
        drawn, population = self._ask(lambda columns: columns.draw(self._settings.sample, seed=self._seed))
        texts, new = self._new_queries(drawn)
        old = self._old_queries(texts, new, drawn)
        new_index = self._index(self._facts.filled, new.vectors)
        old_index = self._index(self._facts.embedding, old.vectors)
        scan = Scan(self._facts, self._settings.k, old, new, old_index, new_index, drawn)
        self._session.reporter.progress("comparing exactly", 0, self._facts.table.rows)
        self._ask(scan.run_over(self._session, old_index, new_index))
        found_old, found_new = self._indexed(old, new, old_index, new_index, scan)
        if scan.unknown_keys:
            self._notes.append(
                f"{len(scan.unknown_keys):,} judged keys are no row with a new vector, e.g. "
                + ", ".join(sorted(scan.unknown_keys)[:3])
            )
        is_drawn = not self._settings.queries and not self._settings.judgments
        criteria = self._criteria(
            found_old, found_new, old, new, old_index, new_index, population if is_drawn else None
        )
        overlaps = [o for a, b in scan.neighbours() if (o := overlap(a, b, k=self._settings.k)) is not None]
        ranks = scan.ranks()
        return TargetComparison(
            table=self._facts.table.quoted,
            queries=len(new.vectors),
            drawn=sum(source is not None for source in new.sources),
            judged=len(new.judged),
            old=self._side(self._facts.embedding, old, old_index, found_old, scan.old_rows, scan.old_metric),
            new=self._side(self._facts.filled, new, new_index, found_new, scan.new_rows, scan.new_metric),
            criteria=tuple(criteria),
            overlap=fmean(overlaps) if overlaps else None,
            at_first=fmean(rank == 1 for rank in ranks) if ranks else None,
            within_k=fmean(rank <= self._settings.k for rank in ranks) if ranks else None,
            ranks=tuple(ranks),
            old_ranks=tuple(scan.old_ranks()),
            notes=tuple(self._notes),
        )

    def _new_queries(self, drawn: Sequence[DrawnRow]) -> tuple[list[str], Queries]:
        """Return the texts of the queries and their vectors in the new space: given, judged, then drawn ones."""
        settings, model = self._settings, self._session.playbook.model
        judged = read_judgments(settings.judgments) if settings.judgments else ()
        texts: list[str] = [*settings.queries, *(one.query for one in judged)]
        places = {len(settings.queries) + number: one for number, one in enumerate(judged)}
        sources: list[DrawnRow | None] = [None] * len(texts)
        # Few given queries decide nothing about the index: drawn ones fill up.
        for row in drawn[: max(0, settings.sample - len(texts))]:
            words = " ".join(row.text.split()[:WORDS_PER_QUERY])
            texts.append(shortened(self._embedder, words, prefix=model.query_prefix, suffix=model.query_suffix))
            sources.append(row)
        embedded = embed_all(
            self._session, self._embedder, [model.query_prefix + text for text in texts], suffix=model.query_suffix
        )
        self._session.reporter.end_progress()
        for reason, count in Counter(embedded.reasons.values()).items():
            self._notes.append(f"{count} queries are left out: {reason}")
        usable = [place for place in range(len(texts)) if place not in embedded.reasons]
        vectors = embedded.vectors[usable]
        width = self._facts.dimensions
        if width is not None and width < vectors.shape[1]:
            # A Matryoshka model, cut as the stored vectors are.
            vectors = vectors[:, :width]
        renamed = {old: new for new, old in enumerate(usable)}
        return [texts[place] for place in usable], Queries(
            "queries embedded by the model, with its query prefix and suffix",
            normalize(vectors) if len(usable) else vectors,
            [sources[place] for place in usable],
            {renamed[place]: one for place, one in places.items() if place in renamed},
        )

    def _old_queries(self, texts: Sequence[str], new: Queries, drawn: Sequence[DrawnRow]) -> Queries:
        """Return the same queries as the old model embeds them if it can be asked, else rows as queries."""
        endpoint = self._session.playbook.reference.openai
        if endpoint is not None and texts:
            vectors, reason = old_query_vectors(endpoint, texts, drawn)
            if vectors is not None:
                return Queries("queries embedded by reference.openai", vectors, new.sources, new.judged)
            self._notes.append(f"old side: {reason}")
        rows = [row for row in drawn if row.old is not None]
        sizes = Counter(row.old.size for row in rows if row.old is not None)
        width = sizes.most_common(1)[0][0] if sizes else 0
        rows = [row for row in rows if row.old is not None and row.old.size == width]
        if len(sizes) > 1:
            self._notes.append(f"old side: only rows of {width} dimensions are compared")
        if new.judged:
            self._notes.append("old side: judged queries need the old model; nDCG is that of the new column alone")
        stacked = [row.old for row in rows if row.old is not None]
        return Queries(
            ROWS_AS_QUERIES,
            np.stack(stacked) if stacked else np.empty((0, width), dtype=np.float32),
            list(rows),
        )

    def _index(self, column: str, vectors: Matrix) -> SearchIndex | None:
        """Return the index that the server takes for such queries, by EXPLAIN; None if it takes none."""
        if not len(vectors):
            return None
        k = self._settings.k
        listed = self._ask(lambda columns: columns.indexes(column))
        for index in listed:
            if self._ask(lambda columns, i=index: columns.uses(i, vectors[0], limit=k)):  # type: ignore[misc]
                if index.predicate:
                    self._notes.append(f"{index.name} is partial: only rows with {index.predicate} are searched")
                return index
            self._notes.append(f"the server does not use the index {index.name} of {column} for these queries")
        return None

    def _indexed(
        self,
        old: Queries,
        new: Queries,
        old_index: SearchIndex | None,
        new_index: SearchIndex | None,
        scan: Scan,
    ) -> tuple[_Searched, _Searched]:
        """Search through both indexes by turns, so that what else the server does falls on both."""
        k, found_old, found_new = self._settings.k, list[IndexedSearch](), list[IndexedSearch]()
        sides = [(old_index, old.vectors, found_old), (new_index, new.vectors, found_new)]
        total = max(len(old.vectors), len(new.vectors))
        for place in range(-WARM_UP, total):
            self._session.reporter.progress("comparing indexes", max(place, 0), total)
            for index, vectors, found in sides:
                if index is None or place >= len(vectors):
                    continue
                vector = vectors[place % len(vectors)]
                search = self._ask(lambda columns, i=index, v=vector: columns.search(i, v, limit=k))  # type: ignore[misc]
                if place >= 0:
                    found.append(search)
        self._session.reporter.end_progress()
        return _Searched(scan.old_exact(), found_old), _Searched(scan.new_exact(), found_new)

    def _criteria(
        self,
        found_old: _Searched,
        found_new: _Searched,
        old: Queries,
        new: Queries,
        old_index: SearchIndex | None,
        new_index: SearchIndex | None,
        population: int | None,
    ) -> list[Criterion]:
        settings = self._settings
        if not len(new.vectors):
            return [Criterion(INDEX, "GO", note="the new column has no vector that could be compared")]
        criteria = []
        if new_index is not None:
            recalls = _recalls(found_new, k=settings.k)
            if recalls:
                bounds = loss_bounds(
                    [1 - one for one in recalls], confidence=settings.confidence, population=population
                )
                criteria.append(self._judged(RECALL, bounds))
        elif old_index is not None:
            note = f"no index of the new column serves its queries; the old one has {old_index.name}"
            criteria.append(Criterion(INDEX, "NO-GO", note=note))
        else:
            criteria.append(Criterion(INDEX, "GO", note="neither column's queries use an index: they are exact"))
        if new.judged and old.judged:
            losses = [
                ndcg(found_old.ranking(place), one.relevance, k=settings.k)
                - ndcg(found_new.ranking(place), one.relevance, k=settings.k)
                for place, one in new.judged.items()
            ]
            criteria.append(self._judged(NDCG, loss_bounds(losses, confidence=settings.confidence)))
        return criteria

    def _judged(self, name: str, bounds: Bounds) -> Criterion:
        decision = bounds.decide(self._settings.max_loss)
        needed = bounds.queries_needed(self._settings.max_loss) if decision == "INCONCLUSIVE" else None
        return Criterion(name, decision, bounds, needed)

    def _side(
        self, column: str, queries: Queries, index: SearchIndex | None, found: _Searched, vectors: int, metric: str
    ) -> Side:
        recalls, times = _recalls(found, k=self._settings.k), [search.seconds for search in found.indexed]
        gains = [ndcg(found.ranking(n), one.relevance, k=self._settings.k) for n, one in queries.judged.items()]
        p50, p99 = percentile(times, 0.5), percentile(times, 0.99)
        return Side(
            column=column,
            queries=queries.words,
            metric=metric,
            index=index.name if index else None,
            vectors=vectors,
            recall=fmean(recalls) if recalls else None,
            p50_ms=None if p50 is None else p50 * 1000,
            p99_ms=None if p99 is None else p99 * 1000,
            ndcg=fmean(gains) if gains else None,
        )


def _recalls(found: _Searched, *, k: int) -> list[float]:
    if not found.indexed:
        return []
    pairs = zip(found.exact, found.indexed, strict=True)
    measured = (recall(exact, Found(one.keys, one.distances), k=k) for exact, one in pairs)
    return [one for one in measured if one is not None]
