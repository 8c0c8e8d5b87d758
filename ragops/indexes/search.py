"""The neighbours of a text: by a full scan and as the index finds them. Nothing here changes anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ragops.embedder.client import Embedder
from ragops.errors import RagopsError
from ragops.facts import TableFacts, quoted, vector_dimensions, vector_kind
from ragops.fingerprint.batches import unusable_model
from ragops.postgres.reader import Neighbour, Reader, metric_of, usable_indexes
from ragops.postgres.row_reader import RowReader
from ragops.quality.soundness import unsound
from ragops.quality.vectors import normalize
from ragops.row_facts import TargetFacts
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
    target: str | None = None
    """The column that was searched, of rows that stay; None for documents."""
    others: Sequence[SearchResult] = ()
    """The same of the playbook's other targets."""

    @property
    def recall(self) -> float | None:
        """The share of the exact neighbours that the index finds; None without an index or neighbours."""
        if self.index is None or not self.exact:
            return None
        exact = {row.id for row in self.exact}
        return len({row.id for row in self.indexed} & exact) / len(self.exact)

    def to_json(self) -> dict[str, object]:
        """Return what `--json` prints: the first target's result, and a list of those of all targets."""
        found = self._own()
        if self.target is not None:
            found["targets"] = [one._own() for one in (self, *self.others)]
        return found

    def _own(self) -> dict[str, object]:
        return {
            "query": self.query,
            "metric": self.metric,
            "index": self.index,
            "exact": [_neighbour(row) for row in self.exact],
            "indexed": [_neighbour(row) for row in self.indexed],
            "recall": self.recall,
            "notes": list(self.notes),
            **({} if self.target is None else {"target": self.target}),
        }


def find_nearest(session: Session, text: str, *, limit: int) -> SearchResult:
    """Return the nearest documents, exact and through the index; of rows that stay those of every target.

    Raises RagopsError when the model's vectors have other dimensions than the stored ones.
    """
    model = session.playbook.model

    def embed(embedder: Embedder) -> NDArray[np.float32]:
        raw = embedder.embed([model.query_prefix + text], suffix=model.query_suffix).vectors
        if (fault := unsound(raw, [text])) is not None:
            raise unusable_model(embedder, fault)
        return raw

    vector = normalize(session.with_embedder(embed))[0]
    if session.playbook.targets:
        found = [_in_target(session, one, text, vector, limit) for one in session.targets(scans=False)]
        return replace(found[0], others=tuple(found[1:]))
    documents = session.facts(scans=False).tables["documents"]
    assert documents is not None, "the session has refused missing tables"
    column = session.playbook.tables.columns_of("documents")["embedding"]
    return _nearest(session, session.reader, documents, column, text, vector, limit)


def _in_target(
    session: Session, found: TargetFacts, text: str, vector: NDArray[np.float32], limit: int
) -> SearchResult:
    """Return the nearest rows of one target; of one beside, in the column that is filled once it is there."""
    column = found.filled if found.column(found.filled) is not None else found.embedding
    target = session.playbook.targets[found.number - 1]
    reader = RowReader(session.connection, target, found, column=column)
    result = _nearest(session, reader, found.table, column, text, vector, limit)
    return replace(result, target=f"{found.table.quoted}.{quoted(column)}")


def _nearest(
    session: Session,
    reader: Reader,
    documents: TableFacts,
    column: str,
    text: str,
    vector: NDArray[np.float32],
    limit: int,
) -> SearchResult:
    stored = vector_dimensions(documents, column)
    if stored not in (None, vector.size):
        raise RagopsError(
            "this model's vectors cannot be compared with the stored ones",
            where=f"{documents.quoted}.{column}",
            actual=f"{stored} dimensions stored, {vector.size} of the model {session.playbook.model.file}",
            hint="name the model that the documents were embedded with: RAGOPS_MODEL, model.file or --model",
        )
    notes = list[str]()
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
