"""The neighbours of a text: by a full scan and as the index finds them. Nothing here changes anything."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ragops.campaign.context import StepContext
from ragops.embedder.client import Embedder
from ragops.embedder.config import embedder_config, side_threads
from ragops.errors import RagopsError
from ragops.facts import vector_dimensions
from ragops.postgres.reader import Neighbour, Reader, metric_of, usable_index
from ragops.quality.vectors import normalize


def find_nearest(context: StepContext, text: str, *, limit: int) -> dict[str, Any]:
    """The nearest documents, exact and through the index; `recall` is the share of exact ones it finds."""
    with Embedder(
        embedder_config(context.playbook, threads=side_threads()), command=context.embedder_command
    ) as embedder:
        vector = normalize(embedder.embed([context.playbook.model.query_prefix + text]).vectors)[0]
    reader = Reader(context.connection, context.playbook.tables)
    documents = context.facts(scans=False).tables["documents"]
    assert documents is not None, "the session has refused missing tables"
    column = context.playbook.tables.columns_of("documents")["embedding"]
    stored = vector_dimensions(documents, column)
    if stored not in (None, vector.size):
        raise RagopsError(
            "this model's vectors cannot be compared with what is stored",
            where=f"{documents.qualified}.{column}",
            actual=f"{stored} dimensions stored, {vector.size} of the model {context.playbook.model.file}",
            hint="name the model that the documents were embedded with: RAGOPS_MODEL, model.file or --model",
        )
    index = usable_index(documents, column)
    metric = metric_of(index) if index else "cosine"
    exact = reader.nearest(vector, limit=limit, through_index=False, metric=metric)
    indexed: list[Neighbour] | None = None
    if index is not None:
        indexed = reader.nearest(vector, limit=limit, through_index=True, metric=metric)
    found = {row.id for row in indexed or ()} & {row.id for row in exact}
    return {
        "query": text,
        "metric": metric,
        "index": index.name if index else None,
        "exact": [_neighbour(row) for row in exact],
        "indexed": [_neighbour(row) for row in indexed or ()],
        "recall": len(found) / len(exact) if indexed is not None and exact else None,
    }


def _neighbour(row: Neighbour) -> dict[str, Any]:
    # JSON has no NaN; a stored zero vector has no distance.
    entry = asdict(row)
    entry["distance"] = row.distance if row.distance == row.distance else None
    return entry
