"""Campaigns of several queues in one database: each has its own tables, and none touches those of another."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence

from ragops.errors import RagopsError
from ragops.indexes.plan import VECTOR_TABLES
from ragops.playbook.model import Playbook
from ragops.playbook.names import TableName
from ragops.playbook.steps import DropIndexes, EmptyTables, RebuildIndexes
from ragops.playbook.tables import Tables
from ragops.postgres.catalog import LedgerAccess, ledger_access
from ragops.postgres.connection import Connection
from ragops.postgres.filling import qualified_names, table_names
from ragops.postgres.ledger import CampaignRow, all_campaigns, check_free
from ragops.session import Session


def own_campaigns(session: Session, rows: Sequence[CampaignRow]) -> list[CampaignRow]:
    """Return the campaigns of the session's queue, and those of an older version, which name none."""
    queue = qualified_names(session.connection, session.playbook.tables)["files_queue"]
    return [row for row in rows if row.queue in (None, queue)]


def refuse_neighbours(session: Session) -> None:
    """Raise RagopsError when an unfinished campaign of another queue works on tables of this playbook."""
    for row, shared in _neighbours(session, touched_tables(session.playbook)):
        raise RagopsError(
            f"campaign {row.id} ({row.name}) of the queue {row.queue} is unfinished and works on the same tables",
            where=session.target.label,
            actual=", ".join(shared),
            expected="tables of their own for campaigns that run beside each other",
            hint="finish it with its own playbook: ragops reset --resume --playbook FILE   or map other tables",
        )


def refuse_running_neighbours(session: Session, touched: Collection[str]) -> None:
    """Raise CampaignHeld while a controller runs a campaign of another queue on these tables (logical names)."""
    for row, _ in _neighbours(session, touched):
        check_free(row)


def touched_tables(playbook: Playbook) -> set[str]:
    """Return the logical names of the tables that a playbook's steps empty or index."""
    found: set[str] = set()
    for step in playbook.steps:
        if isinstance(step, EmptyTables):
            found |= {entry.table for entry in step.tables}
        elif isinstance(step, DropIndexes | RebuildIndexes):
            found |= set(VECTOR_TABLES)
    return found | set(_target_keys(len(playbook.targets)))


def _neighbours(session: Session, touched: Collection[str]) -> Iterator[tuple[CampaignRow, list[str]]]:
    """Yield the unfinished campaigns of other queues that share tables which one of the two touches."""
    connection = session.connection
    if ledger_access(connection) is not LedgerAccess.READABLE:
        return
    rows = [row for row in all_campaigns(connection) if not row.is_finished]
    own = own_campaigns(session, rows)
    mine = {**qualified_names(connection, session.playbook.tables), **_target_names(connection, session.playbook)}
    for row in rows:
        if row in own:
            continue
        theirs = _tables_of(connection, row)
        shared = {mine[name] for name in touched if name in mine} & set(theirs.values())
        shared |= {theirs[name] for name in _touched_by(row) if name in theirs} & set(mine.values())
        if shared:
            yield row, sorted(shared)


def _tables_of(connection: Connection, row: CampaignRow) -> dict[str, str]:
    try:
        tables = Tables.model_validate(row.playbook.get("tables", {}))
    except ValueError:
        # Of another version of ragops, whose tables this one does not know.
        return {}
    names = qualified_names(connection, tables)
    try:
        return {**names, **_target_names(connection, Playbook.model_validate_json(json.dumps(row.playbook)))}
    except ValueError:
        return names


def _target_keys(count: int) -> list[str]:
    """Return what the tables of targets are called here, in place of logical names."""
    return [f"targets[{number}]" for number in range(count)]


def _target_names(connection: Connection, playbook: Playbook) -> dict[str, str]:
    """Return the qualified names of the tables whose rows stay, as the ledger spells names."""
    if not playbook.targets:
        return {}
    names = table_names(connection, [TableName.parse(target.table) for target in playbook.targets])
    return dict(zip(_target_keys(len(names)), names, strict=True))


def _touched_by(row: CampaignRow) -> set[str]:
    """Return what a stored playbook touches; it may be another version's."""
    found: set[str] = set()
    for step in row.playbook.get("steps", ()):
        if step.get("step") == "empty_tables":
            found |= {str(entry.get("table")) for entry in step.get("tables", ())}
        elif step.get("step") in ("drop_indexes", "rebuild_indexes"):
            found |= set(VECTOR_TABLES)
    return found | set(_target_keys(len(row.playbook.get("targets", ()))))
