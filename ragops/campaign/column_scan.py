"""One pass over a table with two vector columns, which collects exact neighbours and ranks of all queries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ragops.campaign.judgments import Judged, judged_keys
from ragops.postgres.comparison import Columns, DrawnRow, SearchIndex, matrix
from ragops.quality.retrieval import ExactSearch, Found, Ranks
from ragops.row_facts import TargetFacts
from ragops.session import Session

Matrix = NDArray[np.float32]
ROWS_AS_QUERIES = "stored vectors of the sampled rows as queries"


@dataclass(slots=True)
class Queries:
    """Queries of one side: texts where there are any, vectors, and the drawn row that each comes from."""

    words: str
    vectors: Matrix
    sources: list[DrawnRow | None]
    judged: dict[int, Judged] = field(default_factory=dict)
    """By the query's place."""


class Scan:
    """Everything that one pass over the table collects."""

    def __init__(
        self,
        facts: TargetFacts,
        k: int,
        old: Queries,
        new: Queries,
        old_index: SearchIndex | None,
        new_index: SearchIndex | None,
        drawn: Sequence[DrawnRow],
    ) -> None:
        self._rows = facts.table.rows
        self._k = k
        self._old, self._new = old, new
        # Without an index of its own a column is searched as the other one.
        self.old_metric = metric_of(old_index or new_index)
        self.new_metric = metric_of(new_index or old_index)
        width = old.vectors.shape[1]
        self._pairs = [row for row in drawn if row.old is not None and row.old.size == width]
        self._keys = set(judged_keys(tuple(new.judged.values())))
        self._begin()

    def _begin(self) -> None:
        old, new, pairs, k = self._old, self._new, self._pairs, self._k
        self.old_rows = self.new_rows = 0
        self.unknown_keys = set(self._keys)
        self._old_exact = ExactSearch(old.vectors, metric=self.old_metric, k=k)
        self._new_exact = ExactSearch(new.vectors, metric=self.new_metric, k=k)
        sources = [row.key for row in pairs]
        olds = _stack([row.old for row in pairs if row.old is not None], old.vectors.shape[1])
        news = _stack([row.new for row in pairs], new.vectors.shape[1])
        self._old_near = ExactSearch(olds, metric=self.old_metric, k=k, sources=sources)
        self._new_near = ExactSearch(news, metric=self.new_metric, k=k, sources=sources)
        self._ranks = _ranks(new, [row.new if row else None for row in new.sources], self.new_metric)
        # A row as its own query is the nearest one: only queries of the old model have a rank.
        asked = old.sources if old.words != ROWS_AS_QUERIES else []
        self._old_ranks = _ranks(old, [row.old if row else None for row in asked], self.old_metric)

    def run_over(
        self, session: Session, old_index: SearchIndex | None, new_index: SearchIndex | None
    ) -> Callable[[Columns], None]:
        """Return the work of the pass, which begins again after an outage."""

        def work(columns: Columns) -> None:
            self._begin()
            old_width, new_width = self._old.vectors.shape[1], self._new.vectors.shape[1]
            for block in columns.blocks(old_index, new_index):
                self.old_rows += len(block.old)
                self.new_rows += len(block.new)
                self.unknown_keys.difference_update(block.new_keys)
                rows, places = matrix(block.old, block.old_is_indexed, dimensions=old_width)
                self._old_exact.add([block.old_keys[n] for n in places], rows)
                rows, places = matrix(block.new, block.new_is_indexed, dimensions=new_width)
                self._new_exact.add([block.new_keys[n] for n in places], rows)
                # Neighbours and ranks are compared among the rows that both columns have.
                rows, places = matrix(block.old, block.old_belongs, dimensions=old_width)
                self._old_near.add([block.old_keys[n] for n in places], rows)
                self._old_ranks.add(rows)
                rows, places = matrix(block.new, block.new_belongs, dimensions=new_width)
                self._new_near.add([block.new_keys[n] for n in places], rows)
                self._ranks.add(rows)
                session.reporter.progress("comparing exactly", max(self.old_rows, self.new_rows), self._rows)
            session.reporter.end_progress()

        return work

    def old_exact(self) -> list[Found]:
        return self._old_exact.found()

    def new_exact(self) -> list[Found]:
        return self._new_exact.found()

    def neighbours(self) -> list[tuple[Found, Found]]:
        """Return for each drawn row its neighbours in the old and in the new space."""
        return list(zip(self._old_near.found(), self._new_near.found(), strict=True))

    def ranks(self) -> list[int]:
        return self._ranks.ranks()

    def old_ranks(self) -> list[int]:
        return self._old_ranks.ranks()


def _ranks(queries: Queries, sources: Sequence[Matrix | None], metric: str) -> Ranks:
    width = queries.vectors.shape[1]
    own = [(place, one) for place, one in enumerate(sources) if one is not None and one.size == width]
    places = [place for place, _ in own]
    return Ranks(queries.vectors[places], _stack([one for _, one in own], width), metric=metric)


def _stack(vectors: Sequence[Matrix], width: int) -> Matrix:
    return np.stack(vectors) if vectors else np.empty((0, width), dtype=np.float32)


def metric_of(index: SearchIndex | None) -> str:
    return index.metric if index is not None else "cosine"
