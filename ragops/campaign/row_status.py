"""How far the targets of a playbook are: rows, and what their vectors are. Nothing here changes anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from ragops.campaign.reading import refuse
from ragops.errors import RagopsError
from ragops.facts import DatabaseFacts, TableFacts, quoted
from ragops.findings import PlanProblem
from ragops.playbook.targets import RowTarget
from ragops.postgres.catalog import LOOKS, Rows
from ragops.postgres.connection import UNREADABLE, Connection, transaction
from ragops.postgres.locks import TIMED_OUT
from ragops.postgres.progress import Counter, DocumentCounts, column_statistics, estimated_rows
from ragops.postgres.row_relation import row_relation
from ragops.postgres.statements import statement
from ragops.postgres.targets import columns_read, find_targets
from ragops.postgres.vector_type import vector_schema, vector_words
from ragops.row_facts import TargetFacts
from ragops.session import Session

QUEUE = "files_queue"


@dataclass(frozen=True, slots=True)
class TargetState:
    """Counts of one target. None: not counted in time, and no estimate either."""

    number: int
    table: str
    column: str
    rows: int | None
    """Those that belong to the target."""
    with_embedding: int | None
    missing: int | None
    """Rows with a text and without a vector."""
    zero: int | None
    dimensions: tuple[int, ...] | None
    bytes: int
    """Of the table with its indexes."""
    is_estimated: bool

    def to_json(self) -> dict[str, object]:
        found = asdict(self)
        found["estimated"] = found.pop("is_estimated")
        return found


@dataclass(frozen=True, slots=True)
class TargetLook:
    """The targets that can be read now, and why the others cannot."""

    found: tuple[TargetFacts, ...]
    problems: tuple[PlanProblem, ...]
    notes: tuple[str, ...]


def look_at_targets(session: Session, facts: DatabaseFacts) -> TargetLook:
    """Read the targets from the catalog, waiting for no lock that another session holds."""
    connection, targets = session.connection, session.playbook.targets
    for _ in range(LOOKS):
        try:
            with transaction(connection, lock_timeout_s=0.2):
                found, problems = find_targets(connection, targets, rows=Rows.CATALOG_ONLY)
            break
        except TIMED_OUT:
            continue
    else:
        raise RagopsError(
            "the tables are locked, again and again, by other sessions",
            where=", ".join(target.table for target in targets),
            hint="SELECT pid, mode, relation::regclass FROM pg_locks WHERE mode = 'AccessExclusiveLock'",
        )
    role, usable, notes = facts.server.role, list[TargetFacts](), list[str]()
    for one in found:
        own = list(_unreadable(targets[one.number - 1], one, role))
        problems += own
        if not own:
            usable.append(one)
        if one.is_row_security_active:
            notes.append(
                f"row-level security of {one.table.quoted} applies to role {role}: "
                "rows that its policies hide are not counted here"
            )
    return TargetLook(tuple(usable), tuple(problems), tuple(notes))


def session_for_rows(session: Session, facts: DatabaseFacts, *, needs_rows: bool, needs_queue: bool) -> Session:
    """Return the session for a command that looks at targets.

    Without its own queue, which a campaign makes, it does without, unless it needs that. Raises PlanRefused.
    """
    look = look_at_targets(session, facts)
    work = facts.tables.get(QUEUE)
    has_queue = work is not None and {"SELECT", "USAGE"} <= work.privileges and work.locked_by is None
    problems = list(look.problems) if needs_rows else []
    if needs_queue and not has_queue:
        problems.append(PlanProblem("there is no queue of rows yet (ragops.work), or it cannot be read"))
    refuse(problems, where=session.target.label)
    for note in look.notes if needs_rows else ():
        session.reporter.info(note)
    return replace(session, has_queue=has_queue)


def read_targets(
    connection: Connection, targets: Sequence[RowTarget], found: Sequence[TargetFacts], *, counter: Counter
) -> list[TargetState]:
    """Count the rows of targets, or estimate what the counter's time does not suffice for."""
    return [
        _state(connection, targets[one.number - 1], one, counter, 1 / (2 * (len(found) - place)))
        for place, one in enumerate(found)
    ]


def together(states: Sequence[TargetState], tables: Sequence[TableFacts]) -> DocumentCounts:
    """Return the counts of all targets as one."""
    size = sum({table.oid: table.bytes for table in tables}.values())
    return DocumentCounts(
        _sum([state.rows for state in states]),
        _sum([state.with_embedding for state in states]),
        size,
        is_estimated=any(state.is_estimated for state in states),
    )


def _sum(counts: Sequence[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known and len(known) == len(counts) else None


def _unreadable(target: RowTarget, found: TargetFacts, role: str) -> list[PlanProblem]:
    table = found.table
    if table.locked_by is not None:
        return [PlanProblem(f"table {table.quoted} is locked by {table.locked_by}, which keeps every reader out")]
    if "USAGE" not in table.privileges:
        grant = f"GRANT USAGE ON SCHEMA {quoted(table.schema)} TO {quoted(role)}"
        return [PlanProblem(f"role {role} lacks USAGE on schema {quoted(table.schema)}", grant)]
    lacking = [name for name in columns_read(target, found) if name in found.unreadable]
    if lacking:
        names = ", ".join(map(quoted, lacking))
        grant = f"GRANT SELECT ({names}) ON {table.quoted} TO {quoted(role)}"
        return [PlanProblem(f"role {role} lacks SELECT on {names} of {table.quoted}", grant)]
    column = found.table.columns[found.embedding]
    if not found.kind:
        return [PlanProblem(f"column {table.quoted}.{quoted(found.embedding)} has type {column.type}, no vector")]
    return []


def read_column(found: TargetFacts) -> str:
    """Return the column that a look reads: the one that is filled, or the old one while that is not there."""
    return found.filled if found.column(found.filled) is not None else found.embedding


def _state(
    connection: Connection, target: RowTarget, found: TargetFacts, counter: Counter, share: float
) -> TargetState:
    table, column = found.table, read_column(found)
    words = vector_words(vector_schema(connection))
    parts = {"relation": row_relation(target, found, column=column), **words}
    try:
        counted = counter.count(statement("rows", "target_counts", parts), share=share, table=table)
        details = counter.count(statement("rows", "target_details", parts), share=share, table=table)
    except UNREADABLE:
        counted = details = None
    missing, zero, dimensions = details[0] if details else (None, None, None)
    if counted is not None:
        rows, embedded = counted[0]
    elif target.where is None:
        rows = estimated_rows(connection, table)
        embedded = None if rows is None else column_statistics(connection, table, column).filled(rows)
    else:
        rows = embedded = None
    return TargetState(
        number=found.number,
        table=table.quoted,
        column=column,
        rows=rows,
        with_embedding=embedded,
        missing=missing,
        zero=zero,
        dimensions=None if details is None else tuple(sorted(dimensions or ())),
        bytes=table.bytes,
        is_estimated=counted is None,
    )
