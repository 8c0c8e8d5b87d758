"""Find what `ragops undo` takes back, and everything that stands in its way. Nothing here changes anything."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ragops.campaign.history import Unit, units
from ragops.campaign.neighbours import own_campaigns
from ragops.campaign.undo_vectors import VectorRestoration, undoing_campaigns, vector_restorations
from ragops.errors import PlanRefused, RagopsError, UsageError
from ragops.facts import ColumnFacts, ForeignKeyFacts, TableFacts, TriggerState, quoted
from ragops.findings import PlanProblem
from ragops.playbook.names import TableName
from ragops.postgres.archive import Archive, UndoRow, newest_undo, read_archives
from ragops.postgres.catalog import Rows, has_ragops_schema
from ragops.postgres.connection import Connection
from ragops.postgres.journal import JournaledIndex, due_indexes, first_journaled
from ragops.postgres.ledger import all_campaigns, campaign_steps, changing_campaigns
from ragops.postgres.restore import archived_columns, find_archived_table, holds_rows, read_triggers
from ragops.postgres.vector_archives import read_vector_archives
from ragops.session import Session


@dataclass(frozen=True, slots=True)
class Restoration:
    """One table to refill: the archive, the table as it is now, and what its rows pass by."""

    archive: Archive
    columns: dict[str, ColumnFacts]
    """Of the archive."""
    table: TableFacts
    triggers: tuple[TriggerState, ...]

    @property
    def left_out(self) -> tuple[str, ...]:
        """Return the archived columns that the table does not have any more."""
        return tuple(name for name in self.columns if name not in self.table.columns)


@dataclass(frozen=True, slots=True)
class Undoable:
    """What an undo does: `unfinished` is all there is to do for one that was interrupted."""

    campaign: int | None = None
    campaigns: tuple[int, ...] = ()
    """The campaigns that are undone with it."""
    generation: int | None = None
    restorations: tuple[Restoration, ...] = ()
    missing: tuple[JournaledIndex, ...] = ()
    """The indexes that the campaigns dropped, as they were before."""
    made: tuple[tuple[str, str], ...] = ()
    """Table and name of the indexes that the campaigns made."""
    unfinished: UndoRow | None = None
    is_done: bool = False
    """It was undone before."""
    vectors: tuple[VectorRestoration, ...] = ()
    """Vectors to put back where they were replaced, the newest archive first."""

    @property
    def origin(self) -> str:
        return "`ragops tables empty`" if self.campaign is None else f"campaign {self.campaign}"

    def to_json(self) -> dict[str, object]:
        """Return what `ragops undo --dry-run --json` prints."""
        return {
            "campaign": self.campaign,
            "was_undone": self.is_done,
            "is_unfinished": self.unfinished is not None,
            "rows": {r.table.qualified: r.archive.rows for r in self.restorations},
            "removed": {r.table.qualified: r.table.rows for r in self.restorations},
            "indexes": [entry.name for entry in self.missing],
            "vectors": [
                {"table": r.facts.table.quoted, "column": r.archive.column, "archived": r.rows}
                for r in self.vectors
            ],
        }

    def describe(self) -> str:
        """Return in words, for a confirmation, which rows and indexes come back and what goes."""
        if self.is_done:
            return f"changes nothing: {self.origin} is undone already"
        if self.unfinished is not None and self.vectors:
            return "goes on to put vectors back"
        if self.unfinished is not None:
            return "builds the indexes that the interrupted undo has not built yet"
        if self.vectors:
            lines = [f"puts the vectors back that {self.origin} replaced, where they were not replaced again:"]
            lines += [f"  {r.column}: {r.rows:,} vectors" for r in self.vectors]
            return "\n".join(lines)
        if not self.restorations:
            return f"builds the indexes again that {self.origin} dropped"
        lines = [f"replaces what was stored since by what {self.origin} archived (readers wait meanwhile):"]
        lines += [
            f"  {r.table.qualified}: {r.archive.rows:,} rows come back, {r.table.rows:,} go"
            + (f" (without {', '.join(r.left_out)}, dropped since)" if r.left_out else "")
            for r in self.restorations
        ]
        return "\n".join(lines)


def find_undoable(session: Session, *, campaign: int | None = None, generation: int | None = None) -> Undoable:
    """Return what `undo` does now: the newest campaign or emptying, or the one asked for.

    Raises RagopsError when there is nothing to take back or a newer one must be undone first, PlanRefused with
    everything that stands in the way.
    """
    connection = session.connection
    visible = visible_campaigns(session, campaign)
    unfinished = newest_undo(connection, visible)
    if undoing := undoing_campaigns(connection, visible) if visible else ():
        assert unfinished is not None, "it began with the status"
        begun = [archive for archive in read_vector_archives(connection) if archive.undo == unfinished.id]
        vectors = vector_restorations(session, begun)
        return Undoable(unfinished.campaign, undoing, unfinished=unfinished, vectors=vectors)
    # One whose indexes are all there again, built by a later campaign perhaps, is in nobody's way.
    if unfinished is not None and not unfinished.is_finished and due_indexes(connection, unfinished.id):
        return Undoable(unfinished.campaign, generation=unfinished.generation, unfinished=unfinished)
    archives = read_archives(connection)
    if generation is not None:
        return _of_generation(session, archives, generation)
    unit = _chosen(session, archives, campaign)
    if unit.is_undone:
        return Undoable(unit.campaign, unit.campaigns, unit.generation, is_done=True)
    if not unit.archives and not unit.vectors and _emptied(connection, unit):
        raise RagopsError(
            f"campaign {unit.campaign} emptied its tables, and there is no archive of the rows",
            where=session.target.label,
            actual="emptied without an archive, or the archive was dropped",
            hint="ragops index rebuild   builds the indexes that it dropped",
        )
    missing = tuple(first_journaled(connection, unit.campaigns)) if unit.campaigns else ()
    names = {(entry.table, entry.name) for entry in missing}
    made = tuple(entry for entry in _made_indexes(connection, unit) if entry not in names)
    restorations = _restorations(session, unit.oldest_archives)
    vectors = vector_restorations(session, unit.vectors)
    return Undoable(unit.campaign, unit.campaigns, unit.generation, restorations, missing, made, vectors=vectors)


def _chosen(session: Session, archives: Sequence[Archive], campaign: int | None) -> Unit:
    connection = session.connection
    known = has_ragops_schema(connection)
    visible = visible_campaigns(session, campaign)
    statuses = {row.id: row.status for row in all_campaigns(connection) if row.id in visible} if known else {}
    changed_by = changing_campaigns(connection) if known else set()
    emptyings = _own_generations(session, archives)
    ours = [a for a in archives if a.campaign is not None or a.generation in emptyings]
    # What was emptied by hand comes back into its own tables, whatever the playbook maps.
    vectors = [one for one in read_vector_archives(connection) if one.campaign in statuses]
    found = units(statuses, ours, changed_by=changed_by, vectors=vectors) or units({}, archives, changed_by=())
    if campaign is None and found:
        return found[-1]
    own = [place for place, unit in enumerate(found) if campaign is not None and campaign in unit.campaigns]
    if not own:
        raise RagopsError(
            "there is nothing to bring back",
            where=session.target.label,
            actual="no archived rows and no dropped index"
            + (f" of campaign {campaign}" if campaign is not None else " of this playbook's queue"),
            hint="ragops archive status   (a campaign of another queue: ragops undo --campaign N)"
            "   or: ragops index rebuild   (columns that were exchanged: ragops cutover rollback)",
        )
    newer = [unit for unit in found[own[0] + 1 :] if not unit.is_undone]
    if newer:
        first = newer[-1]
        name = f"campaign {first.campaign}" if first.campaign else f"`ragops tables empty` ({first.generation})"
        raise UsageError(
            f"{name} came after campaign {campaign}: undo it first",
            where=session.target.label,
            hint="ragops undo",
        )
    return found[own[0]]


def visible_campaigns(session: Session, campaign: int | None = None) -> tuple[int, ...]:
    """Return the campaigns of the playbook's queue, or those of the queue of the campaign that is asked for."""
    if not has_ragops_schema(session.connection):
        return ()
    rows = all_campaigns(session.connection)
    asked = next((row for row in rows if row.id == campaign), None)
    own = own_campaigns(session, rows)
    if asked is not None and asked not in own:
        own = [row for row in rows if row.queue in (None, asked.queue)]
    return tuple(row.id for row in own)


def _own_generations(session: Session, archives: Sequence[Archive]) -> set[int]:
    """Return the emptyings that concern a table of this playbook; a missing one may have been renamed."""
    tables = session.facts(scans=False).tables.values()
    known = [table for table in tables if table]
    if len(known) < len(tables):
        return {archive.generation for archive in archives}
    oids, names = {table.oid for table in known}, {table.qualified for table in known}
    return {a.generation for a in archives if a.table_oid in oids or a.qualified in names}


def _of_generation(session: Session, archives: Sequence[Archive], generation: int) -> Undoable:
    own = [archive for archive in archives if archive.generation == generation]
    if not own:
        raise UsageError(
            f"no archive belongs to generation {generation}",
            where=session.target.label,
            actual=f"generations {', '.join(map(str, sorted({a.generation for a in archives})))}"
            if archives
            else "no archive",
            hint="ragops archive status",
        )
    return Undoable(generation=generation, restorations=_restorations(session, own))


def _emptied(connection: Connection, unit: Unit) -> bool:
    steps = [step for campaign in unit.campaigns for step in campaign_steps(connection, campaign)]
    return any(step.verb == "empty_tables" and step.recorded_number("rows") for step in steps)


def _made_indexes(connection: Connection, unit: Unit) -> Iterator[tuple[str, str]]:
    """Yield table and name of the indexes that the unit's campaigns made from the playbook, as recorded."""
    for campaign in unit.campaigns:
        for step in campaign_steps(connection, campaign):
            built = (step.effect or {}).get("indexes") if step.verb == "rebuild_indexes" else None
            for index in built if isinstance(built, list) else []:
                if not index.get("restored"):
                    yield index["table"], index["name"]


def _restorations(session: Session, archives: Sequence[Archive]) -> tuple[Restoration, ...]:
    """Return the tables to refill, referenced ones first. Raises PlanRefused with every problem."""
    connection = session.connection
    found: list[Restoration] = []
    problems: list[PlanProblem] = []
    for archive in archives:
        columns = archived_columns(connection, archive)
        # The rows of today are counted by the undo itself, under its lock.
        table = find_archived_table(connection, archive, rows=Rows.EXACT)
        if columns is None:
            problems.append(PlanProblem(f"the archive ragops.{archive.name} of {archive.qualified} is gone"))
        elif table is None:
            problems.append(
                PlanProblem(
                    f"the table {archive.qualified} that was archived (oid {archive.table_oid}) is gone or was "
                    f"replaced; its {archive.rows:,} rows are in ragops.{archive.name}, for you to copy"
                )
            )
        else:
            triggers = tuple(read_triggers(connection, table))
            found.append(Restoration(archive, columns, table, triggers))
    role = session.facts(scans=False).server.role
    for restoration in found:
        problems += _problems(restoration, role=role)
        problems += _reference_problems(connection, restoration, found)
    if problems:
        raise PlanRefused(
            "the rows cannot be brought back; nothing was changed",
            where=session.target.label,
            problems=problems,
            hint="fix these, then: ragops undo",
        )
    return tuple(in_reference_order(found))


def _problems(restoration: Restoration, *, role: str) -> Iterator[PlanProblem]:
    table = restoration.table
    for privilege in ("SELECT", "INSERT"):
        if privilege not in table.privileges:
            yield _lacks(role, privilege, table)
    if not {"TRUNCATE", "DELETE"} & table.privileges:
        yield _lacks(role, "DELETE", table)
    if "COPY" not in table.privileges:
        yield PlanProblem(
            f"row-level security of {table.qualified} applies to role {role} and would hide rows from "
            "the undo: run it as a role with BYPASSRLS or as the table's owner"
        )
    if (restoration.triggers or table.indexes) and "OWN" not in table.privileges:
        what = "triggers" if restoration.triggers else "vector indexes"
        yield PlanProblem(
            f"{table.qualified} has {what}, which only its owner can switch off and build again, and role {role} "
            "does not own it: run undo as its owner"
        )
    for name in restoration.left_out:
        # A renamed column looks like one that was dropped and another that was added.
        added = [c for c in table.columns.values() if c.name not in restoration.columns]
        alike = [column.name for column in added if column.type == restoration.columns[name].type]
        if alike:
            archive = f"ragops.{quoted(restoration.archive.name)}"
            yield PlanProblem(
                f"{table.qualified} has no column {name} any more, and a new one of its type: {', '.join(alike)}. "
                "If it was renamed, rename it in the archive; if not: "
                f"ALTER TABLE {archive} DROP COLUMN {quoted(name)}",
                f"ALTER TABLE {archive} RENAME COLUMN {quoted(name)} TO {quoted(alike[0])}",
            )
    for column in table.columns.values():
        fills_itself = column.is_nullable or column.has_default or column.is_identity or column.is_generated
        if column.name not in restoration.columns and not fills_itself:
            yield PlanProblem(
                f"column {table.qualified}.{column.name} was added since, is NOT NULL and has no default",
                f"ALTER TABLE {table.quoted} ALTER COLUMN {quoted(column.name)} DROP NOT NULL",
            )


def _lacks(role: str, privilege: str, table: TableFacts) -> PlanProblem:
    grant = f"GRANT {privilege} ON {table.quoted} TO {quoted(role)}"
    return PlanProblem(f"role {role} lacks {privilege} on {table.qualified}", grant)


def _reference_problems(
    connection: Connection, restoration: Restoration, all_restored: Sequence[Restoration]
) -> Iterator[PlanProblem]:
    """Yield the foreign keys of tables that stay as they are: their rows would lose what they reference."""
    restored = {r.table.qualified for r in all_restored}
    for key in restoration.table.referenced_by:
        # A table without rows loses nothing: the rows are deleted then, as TRUNCATE would be refused.
        if key.table not in restored and holds_rows(connection, TableName(key.schema, key.table_name)):
            yield PlanProblem(
                f"{key.table} references {restoration.table.qualified} (foreign key {key.name}, "
                f"ON DELETE {key.on_delete}), and is not archived",
                key.drop,
            )


def in_reference_order(found: Sequence[Restoration]) -> list[Restoration]:
    """Return the tables so that one that is referenced comes before those that reference it."""
    left, ordered = list(found), []
    while left:
        names = {r.table.qualified for r in left}
        # Of a circle of references any is as good as the other.
        free = [r for r in left if not _references(r, left) & (names - {r.table.qualified})] or left[:1]
        ordered += free
        left = [r for r in left if r not in free]
    return ordered


def _references(restoration: Restoration, others: Sequence[Restoration]) -> set[str]:
    own = restoration.table.qualified
    return {r.table.qualified for r in others if any(key.table == own for key in r.table.referenced_by)}


def uses_truncate(restorations: Sequence[Restoration]) -> bool:
    """Return whether the tables can be truncated together; otherwise their rows are deleted."""
    restored = {r.table.qualified for r in restorations}
    keys: list[ForeignKeyFacts] = [key for r in restorations for key in r.table.referenced_by]
    may = all("TRUNCATE" in r.table.privileges for r in restorations)
    return may and all(key.table in restored for key in keys)
