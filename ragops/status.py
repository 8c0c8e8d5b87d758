"""What operators look at: progress, campaign, indexes. Nothing here changes anything.

Operators look often, so this imports nothing that embeds: it takes longer than the looking.
"""

from __future__ import annotations

from typing import Any

from ragops.campaign.context import StepContext
from ragops.facts import DatabaseFacts
from ragops.postgres.ledger import campaign_steps, find_latest_campaign
from ragops.postgres.progress import Counter, Progress

BUDGET_S = 0.3
"""For all counts of one look together: the whole command stays below a second."""
ABSENT = ("dropped", "missing")


def read_status(context: StepContext, facts: DatabaseFacts, *, exact: bool = False) -> dict[str, Any]:
    """The procedure's progress queries, the indexes with their share of the table, campaign and step.

    `exact` counts however long it takes; otherwise what a short budget of time does not suffice for is
    estimated from the catalog and marked as such.
    """
    documents, files_queue = facts.tables["documents"], facts.tables["files_queue"]
    assert documents is not None and files_queue is not None, "missing tables were refused before"
    indexes = list_indexes(context, facts)
    counter = Counter(context.connection, budget_s=None if exact else BUDGET_S)
    progress = Progress(context.connection, context.playbook.tables, counter=counter)
    queue = progress.queue(files_queue)
    parsed_files = progress.parsed_files(facts.tables.get("parsed_files"))
    return {
        "database": context.target.label,
        "documents": progress.documents(documents).to_json(),
        "queue": queue.to_json(),
        "queue_estimated": queue.is_estimated,
        "parsed_files": parsed_files.to_json(),
        "indexes": [index for index in indexes if index["state"] not in ABSENT],
        "absent_indexes": [index for index in indexes if index["state"] in ABSENT],
        "campaign": read_campaign(context),
    }


def read_campaign(context: StepContext) -> dict[str, Any] | None:
    """The newest campaign with the step it is at; None without any."""
    row = find_latest_campaign(context.connection)
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
    journal = context.journal() if find_latest_campaign(context.connection) is not None else []
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
