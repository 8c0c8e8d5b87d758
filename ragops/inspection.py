"""What operators look at: status, neighbours of a text, indexes. Nothing here changes anything."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ragops.campaign import latest_row
from ragops.errors import RagopsError
from ragops.facts import DatabaseFacts
from ragops.host import physical_cores
from ragops.llama.embedder import Embedder
from ragops.postgres.ledger import campaign_steps
from ragops.postgres.progress import documents_progress, parsed_progress
from ragops.postgres.queue import Queue
from ragops.postgres.reading import Neighbour, Reader, metric_of, usable_index
from ragops.preflight import vector_dimensions
from ragops.quality.vectors import normalize
from ragops.steps.context import StepContext
from ragops.workers.configuration import embedder_config

ABSENT = ("dropped", "missing")


def read_status(context: StepContext) -> dict[str, Any]:
    """The procedure's progress queries, the indexes with their share of the table, campaign and step."""
    facts = context.facts()
    tables = context.playbook.tables
    documents = facts.tables["documents"]
    assert documents is not None, "the session has refused missing tables"
    indexes = list_indexes(context, facts)
    return {
        "database": context.target.label,
        "documents": documents_progress(context.connection, tables, documents),
        "queue": Queue(tables).counts(context.connection),
        "parsed_files": parsed_progress(context.connection, tables, facts.tables.get("parsed_files")),
        "indexes": [index for index in indexes if index["state"] not in ABSENT],
        "absent_indexes": [index for index in indexes if index["state"] in ABSENT],
        "campaign": read_campaign(context),
    }


def read_campaign(context: StepContext) -> dict[str, Any] | None:
    """The newest campaign with the step it is at; None without any."""
    row = latest_row(context)
    if row is None:
        return None
    steps = campaign_steps(context.connection, row.id)
    current = next((step for step in steps if step.status != "done"), None)
    return {
        "id": row.id,
        "name": row.name,
        "status": row.status,
        "phase": row.phase,
        "holder": row.holder,
        "error": row.error,
        "step": f"{current.number}/{len(steps)} {current.verb}" if current and not row.is_finished else None,
    }


def list_indexes(context: StepContext, facts: DatabaseFacts) -> list[dict[str, Any]]:
    """Vector indexes in the catalog, those that the journal has, and the playbook's that are missing."""
    listed: list[dict[str, Any]] = []
    for table in facts.tables.values():
        for index in table.indexes if table else ():
            own = table.bytes - sum(i.bytes for i in table.indexes) if table else 0
            listed.append(
                {
                    "name": index.name,
                    "table": index.table,
                    "valid": index.is_valid,
                    "bytes": index.bytes,
                    "share": index.bytes / own if own else None,
                    "state": "valid" if index.is_valid else "invalid",
                    "definition": index.definition,
                }
            )
    known = {entry["name"] for entry in listed}
    journal = context.journal() if latest_row(context) is not None else []
    listed += [_absent(e.name, e.table, "dropped", e.definition) for e in journal if e.name not in known]
    known |= {entry["name"] for entry in listed}
    mapped = context.playbook.tables.mapped()
    listed += [
        _absent(index.name, str(mapped[index.table]), "missing", None)
        for index in context.playbook.indexes
        if index.name not in known
    ]
    return listed


def _absent(name: str, table: str, state: str, definition: str | None) -> dict[str, Any]:
    return {
        "name": name,
        "table": table,
        "valid": False,
        "bytes": 0,
        "share": None,
        "state": state,
        "definition": definition,
    }


def find_nearest(context: StepContext, text: str, *, limit: int) -> dict[str, Any]:
    """The nearest documents, exact and through the index; `recall` is the share of exact ones it finds."""
    with Embedder(
        embedder_config(context.playbook, threads=physical_cores()), command=context.embedder_command
    ) as embedder:
        vector = normalize(embedder.embed([context.playbook.model.query_prefix + text]).vectors)[0]
    reader = Reader(context.playbook.tables)
    documents = context.facts().tables["documents"]
    assert documents is not None, "the session has refused missing tables"
    column = context.playbook.tables.columns_of("documents")["embedding"]
    stored = vector_dimensions(documents, column)
    if stored not in (None, vector.size):
        raise RagopsError(
            "this model's vectors cannot be compared with what is stored",
            where=f"{documents.qualified}.{column}",
            found=f"{stored} dimensions stored, {vector.size} of the model {context.playbook.model.file}",
            hint="name the model that the documents were embedded with: RAGOPS_MODEL, model.file or --model",
        )
    index = usable_index(documents, column)
    metric = metric_of(index) if index else "cosine"
    exact = reader.nearest(context.connection, vector, limit=limit, through_index=False, metric=metric)
    indexed: list[Neighbour] | None = None
    if index is not None:
        indexed = reader.nearest(context.connection, vector, limit=limit, through_index=True, metric=metric)
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
