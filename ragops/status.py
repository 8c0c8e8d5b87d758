"""What operators check often: progress, campaign, indexes. Nothing here changes anything.

This imports nothing that embeds: the import would take longer than the queries.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from dataclasses import fields as dataclass_fields
from typing import TypeVar

from ragops.campaign.reading import QUEUE, STATUS, notes, readable, refuse_misfit
from ragops.campaign.row_status import TargetState, look_at_targets, read_targets, together
from ragops.documents.reasons import FailureGroup
from ragops.errors import PlanRefused, RagopsError, first_line
from ragops.facts import DatabaseFacts, IndexFacts
from ragops.identity import short_name
from ragops.indexes.concerned import concerned_tables, listed_indexes
from ragops.indexes.pairs import missing_copies
from ragops.postgres.archive import ArchiveRow, all_archives
from ragops.postgres.catalog import LedgerAccess, ledger_access
from ragops.postgres.connection import UNREADABLE, transaction
from ragops.postgres.failures import FailedItem, Failures
from ragops.postgres.journal import JournaledIndex, journaled_indexes
from ragops.postgres.ledger import (
    INTERRUPTED,
    ChangeRow,
    campaign_changes,
    campaign_steps,
    is_held,
    latest_campaign,
    true_status,
)
from ragops.postgres.locks import find_ledger_blockers
from ragops.postgres.measured import Measured, read_measured
from ragops.postgres.progress import OUT_OF_TIME, Counter, DocumentCounts, ParsedFilesCounts, Progress, QueueCounts
from ragops.postgres.queue import EXCLUDED, ItemStatus
from ragops.postgres.vector_archives import VectorArchiveRow, list_vector_archives
from ragops.row_facts import TargetFacts
from ragops.session import Session

Read = TypeVar("Read")

BUDGET_S = 0.3
"""For all counts of one call together: the whole command stays below a second."""
ABSENT = ("dropped", "missing")
SHOWN, LISTED = 10, 100
"""Documents that a screen lists, and those that `ragops status --json` has: it must end within a second."""
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
    """As the ledger has it, but `interrupted` where it says running and no controller lives."""
    phase: int
    holder: str | None
    is_held: bool
    """Its holder lives; false for the holder that a crash left behind."""
    error: str | None
    step: str | None
    changes: Sequence[ChangeRow] = ()
    """What was changed when it was resumed, the oldest first."""

    def to_json(self) -> dict[str, object]:
        fields = {f.name: getattr(self, f.name) for f in dataclass_fields(self)}
        return {**fields, "changes": [change.to_json() for change in self.changes]}


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
    measured: Measured | None = None
    """What was measured of the stored documents; None: not known."""
    targets: Sequence[TargetState] = ()
    """Of rows that stay; `documents` are these together."""

    def to_json(self) -> dict[str, object]:
        return {
            "database": self.database,
            "documents": self.documents.to_json(),
            "targets": [target.to_json() for target in self.targets],
            "queue": self.queue.to_json(),
            "queue_estimated": self.queue.is_estimated,
            "parsed_files": self.parsed_files.to_json(),
            "indexes": [index.to_json() for index in self.indexes if index.state not in ABSENT],
            "absent_indexes": [index.to_json() for index in self.indexes if index.state in ABSENT],
            "campaign": self.campaign.to_json() if self.campaign else None,
            "partial": self.measured
            and self.measured.partial_to_json(completed=self.queue.items[ItemStatus.COMPLETED]),
            "unknown_tokens": self.measured and self.measured.unknown_to_json(),
            "notes": list(self.notes),
        }


@dataclass(frozen=True, slots=True)
class QueueRead:
    """The queue as far as it can be read."""

    counts: Mapping[str, int | None]
    is_estimated: bool
    notes: Sequence[str]
    groups: Sequence[FailureGroup] = ()
    """All failures, by reason."""
    failures: Sequence[FailedItem] = ()
    """One by one; empty unless they were asked for."""
    excluded: Sequence[FailedItem] = ()
    measured: Measured | None = None
    """What was measured of the stored documents; None: not known."""


def read_status(session: Session, facts: DatabaseFacts, *, exact: bool = False) -> Status:
    """Return the runbook's progress queries, the indexes with their share of the table, campaign and step.

    `exact` counts however long it takes; otherwise what a short time budget does not suffice for is
    estimated from the catalog and marked as such. Raises PlanRefused where the playbook does not fit.
    """
    if session.playbook.targets:
        return _read_row_status(session, facts, exact=exact)
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
    measured = _measured(session, said, limit=LISTED, budget_s=None if exact else BUDGET_S)
    return Status(session.target.label, documents, queue, parsed_files, indexes, campaign, said, measured)


def _read_row_status(session: Session, facts: DatabaseFacts, *, exact: bool) -> Status:
    """Return the same for rows that stay."""
    look, mapped = look_at_targets(session, facts), session.playbook.tables
    said = [*map(str, look.problems), *look.notes]
    counter = Counter(session.connection, budget_s=None if exact else BUDGET_S)
    progress, work = Progress(session.connection, mapped, counter=counter), facts.tables.get("files_queue")
    if work is None:
        # A campaign makes it.
        queue = QueueCounts({status.value: 0 for status in ItemStatus}, is_estimated=False)
    else:
        queue = progress.queue(work) if session.has_queue else progress.unread_queue(work)
    states = read_targets(session.connection, session.playbook.targets, look.found, counter=counter)
    indexes, lost = _list_indexes(session, facts, look.found)
    campaign = _from_ledger(session, lambda: _campaign(session), said)
    said += [note for note in lost if note not in said]
    measured = _measured(session, said, limit=LISTED, budget_s=None if exact else BUDGET_S)
    documents = together(states, [one.table for one in look.found])
    files = ParsedFilesCounts(0, 0, is_estimated=False)
    return Status(session.target.label, documents, queue, files, indexes, campaign, said, measured, states)


def _measured(session: Session, said: list[str], *, limit: int | None, budget_s: float | None) -> Measured | None:
    """Return what was measured of the stored documents; None, and a note, where that takes too long."""

    def read() -> Measured | None:
        settings = {} if budget_s is None else {"statement_timeout": f"{int(budget_s * 1000)}ms"}
        with transaction(session.connection, is_long=budget_s is None, settings=settings):
            return read_measured(session.connection, session.playbook.tables, limit=limit)

    try:
        return _from_ledger(session, read, said)
    except OUT_OF_TIME:
        said.append("the partial documents were not counted in time: ragops queue status")
        return None


def read_queue(session: Session, facts: DatabaseFacts, *, lists_all: bool = False) -> QueueRead:
    """Return the counts of the queue, its failures and its partial documents, as far as they can be read.

    `lists_all`: with every item, not only the first ones.
    """
    mapped, table = session.playbook.tables, facts.tables.get("files_queue")
    if session.playbook.targets and table is None:
        return QueueRead({status.value: 0 for status in ItemStatus}, False, ["no row was ever queued"])
    refuse_misfit(mapped, facts, QUEUE, where=session.target.label)
    said = notes(mapped, facts, QUEUE)
    if table is None or "files_queue" not in readable(mapped, facts, QUEUE):
        progress = Progress(session.connection, mapped, counter=Counter(session.connection, budget_s=BUDGET_S))
        unread = progress.unread_queue(table)
        return QueueRead(unread.items, unread.is_estimated, said)
    columns = mapped.columns_of("files_queue")
    # Another tool's queue may not say why an item failed.
    has_reasons = {columns[word] for word in ("id", "location", "last_error")} <= table.columns.keys()
    failures, counts = Failures(session.connection, mapped), session.queue.counts()
    limit = None if lists_all else SHOWN
    measured = _measured(session, said, limit=limit, budget_s=None)
    if not has_reasons:
        return QueueRead(counts, False, said, measured=measured)
    return QueueRead(
        counts,
        False,
        said,
        groups=failures.groups() if counts[ItemStatus.FAILED] else (),
        failures=failures.items() if lists_all and counts[ItemStatus.FAILED] else (),
        excluded=failures.excluded(limit=limit) if counts.get(EXCLUDED) else (),
        measured=measured,
    )


def read_indexes_status(session: Session, facts: DatabaseFacts) -> tuple[list[IndexState], list[str]]:
    """Return the vector indexes, and what could not be read. Raises PlanRefused if no mapped table is there."""
    if session.playbook.targets:
        look = look_at_targets(session, facts)
        indexes, said = _list_indexes(session, facts, look.found)
        return indexes, [*map(str, look.problems), *said]
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


def read_vector_archives_status(session: Session) -> list[VectorArchiveRow]:
    """Return every archive of vectors that were replaced in place; none without a ledger of this version."""
    return list_vector_archives(session.connection) if require_ledger(session) else []


def list_indexes(session: Session, facts: DatabaseFacts) -> list[IndexState]:
    """Return vector indexes in the catalog, those that the journal has, and the playbook's that are missing."""
    targets = look_at_targets(session, facts).found if session.playbook.targets else ()
    return _list_indexes(session, facts, targets)[0]


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
    status, error = true_status(row), row.error
    if status == INTERRUPTED and error is None:
        last = next((step.error for step in reversed(steps) if step.error), None)
        error = last or f"its controller{f' {holder}' if holder else ''} ended without a word: killed, or a crash"
    changes = campaign_changes(session.connection, row.id)
    return CampaignState(row.id, row.name, status, row.phase, holder, is_held(row), error, step, changes)


def _list_indexes(
    session: Session, facts: DatabaseFacts, targets: Sequence[TargetFacts] = ()
) -> tuple[list[IndexState], list[str]]:
    tables = concerned_tables(facts, targets)
    own = {
        (index.schema, index.name): table.bytes - sum(i.bytes for i in table.indexes)
        for table in tables
        for index in table.indexes
    }
    listed = [_present(index, own[index.schema, index.name]) for index in listed_indexes(facts, targets)]
    known = {entry.name for entry in listed}
    said = [
        f"table {table.quoted} is locked by {table.locked_by}: sizes are those of its last ANALYZE or VACUUM"
        for table in tables
        if table.locked_by
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
    # Those of a second column, which `rebuild_indexes` builds.
    missing = [build for target in targets for build in missing_copies(target)]
    listed += [_absent(build.name, build.table.qualified, "missing", None) for build in missing]
    return listed, said


def _present(index: IndexFacts, own: int) -> IndexState:
    """Return the state of an index of the catalog; `own` are the bytes of its table without indexes."""
    return IndexState(
        name=index.name,
        table=index.table,
        valid=index.is_valid,
        bytes=index.bytes,
        share=index.bytes / own if own > 0 else None,
        state="valid" if index.is_valid else "invalid",
        definition=index.definition or None,
    )


def _absent(name: str, table: str, state: str, definition: str | None) -> IndexState:
    return IndexState(name, table, valid=False, bytes=0, share=None, state=state, definition=definition)
