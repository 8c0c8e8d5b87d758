"""The neighbours of a text: by a full scan and as the index finds them. Nothing here changes anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from ragops.embedder.client import Embedder
from ragops.errors import RagopsError
from ragops.facts import vector_dimensions, vector_kind
from ragops.fingerprint.batches import unusable_model
from ragops.postgres.reader import Neighbour, metric_of, usable_indexes
from ragops.quality.soundness import unsound
from ragops.quality.vectors import normalize
from ragops.session import Session


@dataclass(frozen=True, slots=True)
class SearchResult:
    query: str
    metric: str
    index: str | None
    """None: there is no valid HNSW index."""
    exact: Sequence[Neighbour]
    indexed: Sequence[Neighbour]
    notes: Sequence[str] = ()
    """What the result leaves out, and why."""

    @property
    def recall(self) -> float | None:
        """The share of the exact neighbours that the index finds; None without an index or neighbours."""
        if self.index is None or not self.exact:
            return None
        exact = {row.id for row in self.exact}
        return len({row.id for row in self.indexed} & exact) / len(self.exact)

    def to_json(self) -> dict[str, object]:
        return {
            "query": self.query,
            "metric": self.metric,
            "index": self.index,
            "exact": [_neighbour(row) for row in self.exact],
            "indexed": [_neighbour(row) for row in self.indexed],
            "recall": self.recall,
            "notes": list(self.notes),
        }


def find_nearest(session: Session, text: str, *, limit: int) -> SearchResult:
    """Return the nearest documents, exact and through the index.

    Raises RagopsError when the model's vectors have other dimensions than the stored ones.
    """
    model = session.playbook.model

    def embed(embedder: Embedder) -> NDArray[np.float32]:
        raw = embedder.embed([model.query_prefix + text], suffix=model.query_suffix).vectors
        if (fault := unsound(raw, [text])) is not None:
            raise unusable_model(embedder, fault)
        return raw

    vector = normalize(session.with_embedder(embed))[0]
    documents = session.facts(scans=False).tables["documents"]
    assert documents is not None, "the session has refused missing tables"
    column = session.playbook.tables.columns_of("documents")["embedding"]
    stored = vector_dimensions(documents, column)
    if stored not in (None, vector.size):
        raise RagopsError(
            "this model's vectors cannot be compared with the stored ones",
            where=f"{documents.quoted}.{column}",
            actual=f"{stored} dimensions stored, {vector.size} of the model {session.playbook.model.file}",
            hint="name the model that the documents were embedded with: RAGOPS_MODEL, model.file or --model",
        )
    reader, notes = session.reader, list[str]()
    is_mixed = False
    if stored is None:
        # The column declares no dimensions, so that its vectors may be of several lengths.
        found = reader.counts().dimensions
        is_mixed = found not in ((), (vector.size,))
        if is_mixed:
            others = ", ".join(str(number) for number in found if number != vector.size)
            notes.append(f"vectors of {others} dimensions are left out: this model makes {vector.size}")
    kind = vector_kind(documents, column)
    index, metric = None, "cosine"
    for candidate in usable_indexes(documents, column):
        metric = metric_of(candidate)
        if reader.uses_index(candidate.name, vector, limit=limit, metric=metric, kind=kind, is_mixed=is_mixed):
            index = candidate
            break
        notes.append(f"the server does not use the index {candidate.name} for this query (is it partial?)")

    def nearest(*, through_index: bool) -> list[Neighbour]:
        return reader.nearest(
            vector, limit=limit, through_index=through_index, metric=metric, kind=kind, is_mixed=is_mixed
        )

    indexed = nearest(through_index=True) if index else []
    return SearchResult(text, metric, index.name if index else None, nearest(through_index=False), indexed, notes)


def _neighbour(row: Neighbour) -> dict[str, object]:
    # JSON has no NaN; a stored zero vector has no distance.
    return {**asdict(row), "distance": row.distance if row.distance == row.distance else None}
