"""What operators check often: progress, campaign, indexes. Nothing here changes anything.

This imports nothing that embeds: the import would take longer than the queries.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TypeVar

from ragops.campaign.reading import QUEUE, STATUS, notes, readable, refuse_misfit
from ragops.errors import PlanRefused, RagopsError, first_line
from ragops.facts import DatabaseFacts
from ragops.identity import short_name
from ragops.postgres.archive import ArchiveRow, all_archives
from ragops.postgres.catalog import LedgerAccess, ledger_access
from ragops.postgres.connection import UNREADABLE, transaction
from ragops.postgres.journal import JournaledIndex, journaled_indexes
from ragops.postgres.ledger import campaign_steps, is_held, latest_campaign
from ragops.postgres.locks import find_ledger_blockers
from ragops.postgres.progress import Counter, DocumentCounts, ParsedFilesCounts, Progress, QueueCounts
from ragops.postgres.queue import FailedItem
from ragops.session import Session

Read = TypeVar("Read")

BUDGET_S = 0.3
"""For all counts of one call together: the whole command stays below a second."""
ABSENT = ("dropped", "missing")
LEDGER_GRANT = "GRANT USAGE ON SCHEMA ragops TO …; GRANT SELECT ON ALL TABLES IN SCHEMA ragops TO …"


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
    is_held: bool
    """Its holder lives; false for the holder that a crash left behind."""
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
    notes: Sequence[str] = ()
    """What could not be read, and why."""

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
            "notes": list(self.notes),
        }


@dataclass(frozen=True, slots=True)
class QueueRead:
    """The queue as far as it can be read."""

    counts: Mapping[str, int | None]
    is_estimated: bool
    failures: Sequence[FailedItem]
    notes: Sequence[str]


def read_status(session: Session, facts: DatabaseFacts, *, exact: bool = False) -> Status:
    """Return the runbook's progress queries, the indexes with their share of the table, campaign and step.

    `exact` counts however long it takes; otherwise what a short time budget does not suffice for is
    estimated from the catalog and marked as such. Raises PlanRefused where the playbook does not fit.
    """
    mapped = session.playbook.tables
    # What does not fit of the other tables is only noted.
    decisive = {logical: STATUS[logical] for logical in ("documents", "files_queue")}
    refuse_misfit(mapped, facts, decisive, where=session.target.label)
    usable = readable(mapped, facts, STATUS)
    said = notes(mapped, facts, STATUS)
    counter = Counter(session.connection, budget_s=None if exact else BUDGET_S)
    progress = Progress(session.connection, mapped, counter=counter)
    # Counted in this order: what comes first gets the most of the time budget.
    table = facts.tables.get("files_queue")
    queue = progress.queue(table) if table and "files_queue" in usable else progress.unread_queue(table)
    table = facts.tables.get("parsed_files")
    if "parsed_files" in usable or "parsed_files" not in mapped.mapped():
        parsed_files = progress.parsed_files(table)
    else:
        parsed_files = ParsedFilesCounts(table.rows or None if table else None, None, is_estimated=True)
    table = facts.tables.get("documents")
    if table and "documents" in usable:
        documents = progress.documents(table)
    else:
        rows, size = (table.rows or None, table.bytes) if table else (None, 0)
        documents = DocumentCounts(rows, None, size, is_estimated=True)
    indexes, lost = _list_indexes(session, facts)
    campaign = _from_ledger(session, lambda: _campaign(session), said)
    said += [note for note in lost if note not in said]
    return Status(session.target.label, documents, queue, parsed_files, indexes, campaign, said)


def read_queue(session: Session, facts: DatabaseFacts) -> QueueRead:
    """Return the counts of the queue and its first failures, as far as they can be read."""
    mapped, table = session.playbook.tables, facts.tables.get("files_queue")
    refuse_misfit(mapped, facts, QUEUE, where=session.target.label)
    said = notes(mapped, facts, QUEUE)
    if table is None or "files_queue" not in readable(mapped, facts, QUEUE):
        progress = Progress(session.connection, mapped, counter=Counter(session.connection, budget_s=BUDGET_S))
        counts = progress.unread_queue(table)
        return QueueRead(counts.items, counts.is_estimated, (), said)
    columns = mapped.columns_of("files_queue")
    # Another tool's queue may not say why an item failed.
    has_reasons = {columns[word] for word in ("id", "location", "last_error")} <= table.columns.keys()
    failures = session.queue.failures() if has_reasons else []
    return QueueRead(session.queue.counts(), False, failures, said)


def read_indexes_status(session: Session, facts: DatabaseFacts) -> tuple[list[IndexState], list[str]]:
    """Return the vector indexes, and what could not be read. Raises PlanRefused if no mapped table is there."""
    refuse_misfit(session.playbook.tables, facts, {}, where=session.target.label)
    return _list_indexes(session, facts)


def require_ledger(session: Session) -> bool:
    """Return whether there is a ledger. Raises PlanRefused if the role may not read it."""
    access = ledger_access(session.connection)
    if access is LedgerAccess.DENIED:
        raise PlanRefused("the role may not read the schema ragops", where=session.target.label, hint=LEDGER_GRANT)
    return access is LedgerAccess.READABLE


def read_archives_status(session: Session) -> list[ArchiveRow]:
    """Return every archive; none without a ledger. Raises RagopsError where another session has locked them."""
    if not require_ledger(session):
        return []
    try:
        with transaction(session.connection, lock_timeout_s=0.2):
            return all_archives(session.connection)
    except UNREADABLE as error:
        blockers = "\n".join(map(str, find_ledger_blockers(session.connection)))
        raise RagopsError(
            "the archives cannot be read now",
            where=session.target.label,
            actual=blockers or first_line(error),
            hint="ragops archive status   once that transaction has ended",
        ) from error


def list_indexes(session: Session, facts: DatabaseFacts) -> list[IndexState]:
    """Return vector indexes in the catalog, those that the journal has, and the playbook's that are missing."""
    return _list_indexes(session, facts)[0]


def _from_ledger(session: Session, read: Callable[[], Read], said: list[str]) -> Read | None:
    """Return what `read` finds in the ledger; None, and a note, where it is locked or not readable."""
    access = ledger_access(session.connection)
    if access is LedgerAccess.DENIED:
        said.append(f"the role may not read the schema ragops, so that no campaign is shown: {LEDGER_GRANT}")
    if access is not LedgerAccess.READABLE:
        return None
    try:
        with transaction(session.connection, lock_timeout_s=0.2):
            return read()
    except UNREADABLE as error:
        said.append(f"the ledger in the schema ragops cannot be read: {first_line(error)}")
        return None


def _campaign(session: Session) -> CampaignState | None:
    row = latest_campaign(session.connection, session.playbook.tables)
    if row is None:
        return None
    steps = campaign_steps(session.connection, row.id)
    current = next((step for step in steps if step.status != "done"), None)
    step = f"{current.number}/{len(steps)} {current.verb}" if current and not row.is_finished else None
    holder = short_name(row.holder) if row.holder else None
    return CampaignState(row.id, row.name, row.status, row.phase, holder, is_held(row), row.error, step)


def _list_indexes(session: Session, facts: DatabaseFacts) -> tuple[list[IndexState], list[str]]:
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
                    share=index.bytes / own if own > 0 else None,
                    state="valid" if index.is_valid else "invalid",
                    definition=index.definition or None,
                )
            )
    known = {entry.name for entry in listed}
    said = [
        f"table {table.quoted} is locked by {table.locked_by}: sizes are those of its last ANALYZE or VACUUM"
        for table in facts.tables.values()
        if table and table.locked_by
    ]
    # Asked without a campaign as well: `ragops index drop` journals outside of any.
    journal = _from_ledger(session, lambda: journaled_indexes(session.connection), said) or list[JournaledIndex]()
    listed += [_absent(e.name, e.table, "dropped", e.definition) for e in journal if e.name not in known]
    known |= {entry.name for entry in listed}
    mapped = session.playbook.tables.mapped()
    listed += [
        _absent(index.name, str(mapped[index.table]), "missing", None)
        for index in session.playbook.indexes
        if index.name not in known
    ]
    return listed, said


def _absent(name: str, table: str, state: str, definition: str | None) -> IndexState:
    return IndexState(name, table, valid=False, bytes=0, share=None, state=state, definition=definition)
