"""What stands in the way of emptying tables, and what it costs. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ragops.campaign.steps.base import PlanFacts
from ragops.facts import DatabaseFacts, ForeignKeyFacts, SpaceFacts, TableFacts
from ragops.findings import PlanProblem
from ragops.playbook.steps import DropIndexes, EmptyTables
from ragops.postgres.ddl import copy_texts_sql
from ragops.postgres.locks import LOCK_TIMEOUT_S
from ragops.postgres.row_source import source_relation
from ragops.postgres.statements import text_of

LIST_BEFORE = "empty_tables must list it before, as rows are deleted in that order"
LIST_IT = "empty_tables must list it too"
SAME_METHOD = "empty_tables must truncate both, or delete from both"
# Assumed, not measured: it only gives an idea of how long writers wait.
COPY_BYTES_PER_S = 100 * 1024 * 1024
MIB = 1024 * 1024


def source_problems(facts: PlanFacts, settings: EmptyTables) -> Iterator[PlanProblem]:
    """Yield the emptied tables that the source reads: the texts to embed would be gone with their rows."""
    source = facts.playbook.source
    if facts.source is None:
        return
    for entry in settings.tables:
        table = facts.database.tables.get(entry.table)
        via = facts.source.reads.get(table.oid) if table else None
        if table is None or via is None:
            continue
        kind = "source.table" if source.table else "source.query"
        through = "" if via == table.qualified else f" through {via}"
        copy = f"{table.name[:50]}_texts"
        yield PlanProblem(
            f"{kind} reads {table.qualified}{through}, which empty_tables empties: the texts to embed would be "
            "gone. Let the rows stay and renew their vectors (targets: with `write: beside`): "
            f"ragops init --table {table.quoted} --campaign reembed. Or copy the texts, then set "
            f"source.table: {table.schema}.{copy}, id_column: id, text_column: text",
            text_of(copy_texts_sql(table.schema, copy, source_relation(source))),
        )


def foreign_key_problems(facts: DatabaseFacts, settings: EmptyTables) -> Iterator[PlanProblem]:
    """Yield the foreign keys that reference an emptied table and stand in its way: nothing cascades here."""
    entries = settings.tables
    methods: dict[str, str] = {entry.table: entry.method for entry in entries}
    places: dict[str, int] = {entry.table: place for place, entry in enumerate(entries)}
    logical_names = {t.qualified: logical for logical, t in facts.tables.items() if t}
    for entry in entries:
        table = facts.tables.get(entry.table)
        for key in table.referenced_by if table else ():
            other = logical_names.get(key.table)
            remedy = _remedy(entry.method, methods.get(other or ""), key.on_delete)
            # Rows are deleted in the order of the list.
            is_earlier = other in places and places[other] < places[entry.table]
            if not table or not remedy or (remedy == LIST_BEFORE and is_earlier):
                continue
            what = (
                f"{key.table} references {table.qualified} (foreign key {key.name}, ON DELETE {key.on_delete}): "
            )
            yield PlanProblem(what + remedy) if other else _foreign(what, key)


def _foreign(what: str, key: ForeignKeyFacts) -> PlanProblem:
    """A playbook maps five tables: one that references them from outside cannot be listed."""
    add = f" (to make it again afterwards: {key.add})" if key.add else ""
    return PlanProblem(
        f"{what}new rows get other ids, so what references the old ones would dangle. Drop the key first{add}",
        key.drop,
    )


def _remedy(method: str, other: str | None, on_delete: str) -> str | None:
    """What must change so that one table can be emptied although another references it."""
    if method == "truncate":
        return None if other == "truncate" else SAME_METHOD
    if other is None:
        return LIST_IT
    return LIST_BEFORE if other == "delete" and on_delete in ("NO ACTION", "RESTRICT") else None


def space_problems(facts: PlanFacts, settings: EmptyTables) -> Iterator[PlanProblem]:
    """Yield a problem when the archive surely does not fit on the server's disk."""
    need, space = archive_bytes(facts, settings), facts.space
    if not need or space is None:
        return
    wal = min(need, space.max_wal_bytes)
    if space.wal_free is not None and space.wal_free < wal:
        yield PlanProblem(
            f"the archive writes {_mib(wal)} of WAL, and {_mib(space.wal_free)} are free on the disk of the WAL: "
            "make room there, or empty without an archive (--no-archive)"
        )
    here = need + (wal if space.wal_free is None else 0)
    if space.free is not None and space.free < here:
        parts = f"{_mib(need)} of rows" + (f" and {_mib(wal)} of WAL" if here > need else "")
        yield PlanProblem(
            f"the archive needs {_mib(here)} ({parts}), and {_mib(space.free)} are free in {space.folder}: make "
            "room on that disk, or empty without an archive (--no-archive)"
        )


def notes_of(facts: PlanFacts, settings: EmptyTables, number: int) -> Iterator[str]:
    """Yield what the operator should know before: the archive, its space, who waits and how long."""
    if not settings.archive:
        yield "no archive: `ragops undo` cannot restore these rows"
    else:
        yield "the rows are copied into the schema ragops first (`ragops undo` restores them)"
        need = archive_bytes(facts, settings)
        if facts.space is not None and need:
            yield _space(need, facts.space)
    copied = archive_bytes(facts, settings) / COPY_BYTES_PER_S
    tables = [(entry, facts.database.tables.get(entry.table)) for entry in settings.tables]
    truncated = [table for entry, table in tables if table and entry.method == "truncate"]
    deleted = [table for entry, table in tables if table and entry.method == "delete"]
    until = ""
    if truncates_first(truncated, deleted):
        until = f", and until the rows of {', '.join(table.qualified for table in deleted)} are deleted"
    yield (
        f"readers of these tables wait {LOCK_TIMEOUT_S:g} s at most{until}; "
        "writers wait while the rows are counted"
        + (f" and copied: about {max(1, round(copied)):,} s" if settings.archive else "")
    )
    yield from _standing_indexes(facts, settings, number)


def _space(need: int, space: SpaceFacts) -> str:
    rebuilt = "; the indexes take their space again when they are built"
    if space.free is None:
        return f"the archive needs {_mib(need)} free on the server, and as much WAL is written{rebuilt}"
    return (
        f"the archive needs {_mib(need)}, and as much WAL is written: {_mib(space.free)} are free in "
        f"{space.folder}{rebuilt}"
    )


def truncates_first(truncated: Sequence[TableFacts], deleted: Sequence[TableFacts]) -> bool:
    """Return whether the truncation must come before the DELETEs: a truncated table references a deleted one.

    Otherwise it comes last, as it shuts out the readers until the transaction ends.
    """
    names = {table.qualified for table in truncated}
    return any(key.table in names for table in deleted for key in table.referenced_by)


def _standing_indexes(facts: PlanFacts, settings: EmptyTables, number: int) -> Iterator[str]:
    """Yield the vector indexes that stay in place under a DELETE, which makes it slow."""
    if any(isinstance(step, DropIndexes) for step in facts.before(number)):
        return
    for entry in settings.tables:
        table = facts.database.tables.get(entry.table)
        standing = [index.name for index in table.indexes] if table and entry.method == "delete" else []
        if table and standing:
            yield (
                f"{', '.join(standing)} on {table.qualified} stays in place: after a DELETE, VACUUM walks the "
                "whole index, and every insert adds to it, which is slow: put drop_indexes before this step"
            )


def archive_bytes(facts: PlanFacts, settings: EmptyTables) -> int:
    """Return the bytes of the rows that are copied; 0 without an archive."""
    if not settings.archive:
        return 0
    tables = [facts.database.tables.get(entry.table) for entry in settings.tables]
    known = facts.space.table_bytes if facts.space else {}
    return sum(known.get(table.oid, table.bytes) for table in tables if table and table.rows)


def _mib(count: int) -> str:
    return f"{count / MIB / 1024:,.1f} GiB" if count >= 1024 * MIB else f"{max(1, round(count / MIB)):,} MiB"
