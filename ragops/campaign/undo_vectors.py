"""Put vectors back that a campaign replaced where the rows are, in bounded transactions that go on after a crash.

A vector comes back only where the one that the campaign wrote still stands. Rows that were changed or deleted
since are counted and left. Meanwhile the campaign's status is `undoing`: nobody can resume it or start another.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ragops.errors import Interrupted, PlanRefused, RagopsError
from ragops.facts import quoted
from ragops.findings import PlanProblem
from ragops.playbook.targets import RowTarget
from ragops.postgres.connection import Connection
from ragops.postgres.ledger import all_campaigns
from ragops.postgres.locks import with_lock_retries
from ragops.postgres.targets import find_targets
from ragops.postgres.vector_archives import (
    UNDOING,
    LeftRow,
    VectorArchive,
    count_vectors,
    find_relation,
    note_progress,
    read_vector_archives,
    restore_batch,
)
from ragops.row_facts import TargetFacts
from ragops.session import Session


@dataclass(frozen=True, slots=True)
class VectorRestoration:
    """The vectors of one archive, with the table that they go back into."""

    archive: VectorArchive
    facts: TargetFacts
    rows: int

    @property
    def column(self) -> str:
        return f"{self.facts.table.quoted}.{quoted(self.archive.column)}"


@dataclass(frozen=True, slots=True)
class VectorsRestored:
    """What became of one column's vectors."""

    table: str
    column: str
    restored: int
    changed: int
    """Rows whose vector was replaced again since: left as they are."""
    deleted: int
    """Rows that are gone."""
    left: tuple[LeftRow, ...]
    """The first rows that were left."""

    def to_json(self) -> dict[str, object]:
        return {
            "table": self.table,
            "column": self.column,
            "restored": self.restored,
            "changed": self.changed,
            "deleted": self.deleted,
            "left": [row.to_json() for row in self.left],
        }


def undoing_campaigns(connection: Connection, visible: Collection[int]) -> tuple[int, ...]:
    """Return the campaigns whose vectors an interrupted undo has begun to put back, the newest first."""
    rows = [row.id for row in all_campaigns(connection) if row.id in visible and row.status == UNDOING]
    return tuple(reversed(rows))


def vector_restorations(session: Session, archives: Sequence[VectorArchive]) -> tuple[VectorRestoration, ...]:
    """Return what goes back into which table, the newest archive first. Raises PlanRefused with every problem."""
    found: list[VectorRestoration] = []
    problems: list[PlanProblem] = []
    triggers = _chosen_triggers(session, archives)
    for archive in reversed(archives):
        rows, missing = count_vectors(session.connection, archive.name)
        if rows is None:
            problems.append(PlanProblem(f"the archive ragops.{archive.name} of {archive.relation} is gone"))
            continue
        facts, own = _find(session, archive)
        problems += own
        if facts is not None:
            problems += _problems(session, archive, facts, triggers.get(archive.id, "refuse"), missing)
            found.append(VectorRestoration(archive, facts, rows))
    if problems:
        raise PlanRefused(
            "the vectors cannot be put back; nothing was changed",
            where=session.target.label,
            problems=list({str(problem): problem for problem in problems}.values()),
            hint="fix these, then: ragops undo",
        )
    return tuple(found)


def _find(session: Session, archive: VectorArchive) -> tuple[TargetFacts | None, list[PlanProblem]]:
    connection = session.connection
    name = find_relation(connection, archive)
    if name is None:
        return None, [
            PlanProblem(
                f"the table {archive.relation} is gone; its vectors are in ragops.{archive.name}, by key, for you "
                "to copy"
            )
        ]
    # Of the key alone, which is there: no text is read, and the present playbook may have other targets.
    braces = archive.key[0].replace("{", "{{").replace("}", "}}")
    target = RowTarget.model_construct(
        table=name.quoted(),
        key=archive.key,
        text="{" + braces + "}",
        sql=None,
        where=None,
        embedding=archive.column,
        write="in_place",
        new_column=None,
        type=None,
        changed_at=None,
        embedded_at=None,
        long_text="mean",
        triggers="disable",
    )
    facts, problems = find_targets(connection, [target])
    return (facts[0] if facts else None), problems


def _problems(
    session: Session, archive: VectorArchive, facts: TargetFacts, triggers: str, missing: int
) -> Iterator[PlanProblem]:
    table, column = facts.table, facts.table.columns[archive.column]
    role = session.facts(scans=False).server.role
    name = f"{table.quoted}.{quoted(archive.column)}"
    if not facts.may_update:
        yield PlanProblem(
            f"role {role} lacks UPDATE on {name}",
            f"GRANT UPDATE ({quoted(archive.column)}) ON {table.quoted} TO {quoted(role)}",
        )
    if facts.is_row_security_active:
        yield PlanProblem(
            f"row-level security of {table.quoted} applies to role {role} and would hide rows from the undo: "
            "run it as a role with BYPASSRLS or as the table's owner"
        )
    if facts.fired and triggers != "fire":
        listed = "; ".join(map(str, facts.fired))
        yield PlanProblem(
            f"an UPDATE of {name} fires {listed}, which would change more than the vector",
            "; ".join(f"ALTER TABLE {one.table} DISABLE TRIGGER {quoted(one.name)}" for one in facts.fired),
        )
    if missing and not column.is_nullable:
        yield PlanProblem(
            f"{missing:,} rows of {table.quoted} had no vector, and {name} is NOT NULL now",
            f"ALTER TABLE {table.quoted} ALTER COLUMN {quoted(archive.column)} DROP NOT NULL",
        )


def _chosen_triggers(session: Session, archives: Sequence[VectorArchive]) -> dict[int, str]:
    """Return by archive what its campaign's playbook said about triggers."""
    playbooks = {row.id: row.playbook for row in all_campaigns(session.connection)}
    chosen = {}
    for archive in archives:
        targets: Sequence[Mapping[str, Any]] = playbooks.get(archive.campaign or 0, {}).get("targets", ())
        said = [str(one.get("triggers")) for one in targets if one.get("embedding") == archive.column]
        if said and all(one == "fire" for one in said):
            chosen[archive.id] = "fire"
    return chosen


def refuse_needed(session: Session) -> None:
    """Raise RagopsError while an unfinished campaign over rows, or its undo, needs its archives."""
    for row in all_campaigns(session.connection):
        archives = {archive.campaign for archive in read_vector_archives(session.connection)}
        if row.id in archives and not row.is_finished:
            raise RagopsError(
                f"campaign {row.id} ({row.name}) is {row.status}, and `ragops undo` needs its vectors",
                where=session.target.label,
                hint="finish it (ragops reset --resume), or take it back: ragops undo",
            )


def restore_vectors(session: Session, restorations: Sequence[VectorRestoration], campaigns: Sequence[int]) -> None:
    """Put all vectors back that are not back yet, batch by batch. Raises Interrupted between two batches."""
    connection, total = session.connection, sum(r.rows for r in restorations)
    done = sum(r.archive.restored + r.archive.changed + r.archive.deleted for r in restorations)
    for r in restorations:
        if r.archive.is_restored:
            continue
        tables = [r.facts.table]
        while True:
            if session.stop.requested.is_set():
                raise Interrupted(
                    f"stopped after {done:,} of {total:,} vectors",
                    signal_number=session.stop.signal_number,
                    hint="ragops undo   (it goes on)",
                )
            note_progress(connection, campaigns, f"{done:,} of {total:,} vectors are put back")
            batch = with_lock_retries(
                connection,
                lambda one=r: restore_batch(connection, one.archive, one.facts),  # type: ignore[misc]
                tables=tables,
                reporter=session.reporter,
            )
            done += sum(batch.counts.values())
            session.reporter.progress("putting vectors back", done, total)
            if batch.is_last:
                break
    session.reporter.end_progress()


def restored_by(connection: Connection, undo: int) -> tuple[VectorsRestored, ...]:
    """Return what became of the vectors that an undo has put back, by column."""
    totals: dict[tuple[str, str], VectorsRestored] = {}
    for archive in read_vector_archives(connection):
        if archive.undo != undo:
            continue
        key = (archive.relation, archive.column)
        sofar = totals.get(key) or VectorsRestored(*key, 0, 0, 0, ())
        totals[key] = replace(
            sofar,
            restored=sofar.restored + archive.restored,
            changed=sofar.changed + archive.changed,
            deleted=sofar.deleted + archive.deleted,
            left=(*sofar.left, *archive.left),
        )
    return tuple(totals.values())
