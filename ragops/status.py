"""What operators check often: progress, campaign, indexes. Nothing here changes anything.

This imports nothing that embeds: the import would take longer than the queries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from ragops.facts import DatabaseFacts
from ragops.postgres.journal import journaled_indexes
from ragops.postgres.ledger import campaign_steps, find_latest_campaign
from ragops.postgres.progress import Counter, DocumentCounts, ParsedFilesCounts, Progress, QueueCounts
from ragops.session import Session

BUDGET_S = 0.3
"""For all counts of one call together: the whole command stays below a second."""
ABSENT = ("dropped", "missing")


@dataclass(frozen=True, slots=True)
class IndexState:
    """A vector index: in the catalog, in the journal, or missing."""

    name: str
    table: str
    valid: bool
    bytes: int
    share: float | None
    """Bytes of the index as a share of its table's own."""
    state: str
    """valid, invalid, dropped (journaled) or missing."""
    definition: str | None

    def to_json(self) -> dict[str, object]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class CampaignState:
    """The newest campaign, and the step that it is at."""

    id: int
    name: str
    status: str
    phase: int
    holder: str | None
    error: str | None
    step: str | None

    def to_json(self) -> dict[str, object]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Status:
    database: str
    documents: DocumentCounts
    queue: QueueCounts
    parsed_files: ParsedFilesCounts
    indexes: Sequence[IndexState]
    campaign: CampaignState | None

    def to_json(self) -> dict[str, object]:
        return {
            "database": self.database,
            "documents": self.documents.to_json(),
            "queue": self.queue.to_json(),
            "queue_estimated": self.queue.is_estimated,
            "parsed_files": self.parsed_files.to_json(),
            "indexes": [index.to_json() for index in self.indexes if index.state not in ABSENT],
            "absent_indexes": [index.to_json() for index in self.indexes if index.state in ABSENT],
            "campaign": self.campaign.to_json() if self.campaign else None,
        }


def read_status(session: Session, facts: DatabaseFacts, *, exact: bool = False) -> Status:
    """Return the runbook's progress queries, the indexes with their share of the table, campaign and step.

    `exact` counts however long it takes; otherwise what a short time budget does not suffice for is
    estimated from the catalog and marked as such.
    """
    documents, files_queue = facts.tables["documents"], facts.tables["files_queue"]
    assert documents is not None and files_queue is not None, "missing tables were refused before"
    counter = Counter(session.connection, budget_s=None if exact else BUDGET_S)
    progress = Progress(session.connection, session.playbook.tables, counter=counter)
    # Counted in this order: what comes first gets the most of the time budget.
    queue = progress.queue(files_queue)
    parsed_files = progress.parsed_files(facts.tables.get("parsed_files"))
    return Status(
        database=session.target.label,
        documents=progress.documents(documents),
        queue=queue,
        parsed_files=parsed_files,
        indexes=list_indexes(session, facts),
        campaign=read_campaign(session),
    )


def read_campaign(session: Session) -> CampaignState | None:
    """Return the newest campaign with the step that it is at; None without any."""
    row = find_latest_campaign(session.connection)
    if row is None:
        return None
    steps = campaign_steps(session.connection, row.id)
    current = next((step for step in steps if step.status != "done"), None)
    step = f"{current.number}/{len(steps)} {current.verb}" if current and not row.is_finished else None
    return CampaignState(row.id, row.name, row.status, row.phase, row.holder, row.error, step)


def list_indexes(session: Session, facts: DatabaseFacts) -> list[IndexState]:
    """Return vector indexes in the catalog, those that the journal has, and the playbook's that are missing."""
    listed: list[IndexState] = []
    for table in facts.tables.values():
        for index in table.indexes if table else ():
            own = table.bytes - sum(i.bytes for i in table.indexes) if table else 0
            listed.append(
                IndexState(
                    name=index.name,
                    table=index.table,
                    valid=index.is_valid,
                    bytes=index.bytes,
                    share=index.bytes / own if own else None,
                    state="valid" if index.is_valid else "invalid",
                    definition=index.definition,
                )
            )
    known = {entry.name for entry in listed}
    journal = journaled_indexes(session.connection)
    listed += [_absent(e.name, e.table, "dropped", e.definition) for e in journal if e.name not in known]
    known |= {entry.name for entry in listed}
    mapped = session.playbook.tables.mapped()
    listed += [
        _absent(index.name, str(mapped[index.table]), "missing", None)
        for index in session.playbook.indexes
        if index.name not in known
    ]
    return listed


def _absent(name: str, table: str, state: str, definition: str | None) -> IndexState:
    return IndexState(name, table, valid=False, bytes=0, share=None, state=state, definition=definition)
