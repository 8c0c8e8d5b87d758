"""The journal: definitions of dropped indexes, from which they are restored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from psycopg.rows import TupleRow

from ragops.facts import IndexFacts, IndexProperties
from ragops.postgres.connection import Connection
from ragops.postgres.encodings import jsonb
from ragops.postgres.statements import statement


@dataclass(frozen=True, slots=True)
class JournaledIndex:
    """A dropped index, as the journal keeps it."""

    id: int
    campaign: int | None
    schema: str
    name: str
    table: str
    """Schema-qualified."""
    definition: str
    properties: IndexProperties
    undo: int | None
    """The undo that brings it back; None outside of one."""


def journaled_indexes(connection: Connection) -> list[JournaledIndex]:
    """Return dropped and not yet restored indexes, the newest definition of each name; none without a ledger."""
    if connection.execute(statement("catalog", "ragops_table"), {"name": "index_definition"}).fetchone() is None:
        return []
    return _entries(connection.execute(statement("ledger", "journaled_indexes")).fetchall())


def first_journaled(connection: Connection, campaigns: Sequence[int]) -> list[JournaledIndex]:
    """Return the indexes that these campaigns found and dropped, restored since or not, as they were at first."""
    rows = connection.execute(statement("ledger", "first_journaled"), {"campaigns": list(campaigns)}).fetchall()
    return _entries(rows)


def due_indexes(connection: Connection, undo: int) -> list[JournaledIndex]:
    """Return the indexes that an undo still has to build."""
    return _entries(connection.execute(statement("ledger", "due_indexes"), {"undo": undo}).fetchall())


def journal_index(
    connection: Connection, index: IndexFacts, *, campaign: int | None, undo: int | None = None
) -> None:
    """Write an index's definition into the journal, in the transaction that drops it."""
    row = {
        "campaign": campaign,
        "undo": undo,
        "schema": index.schema,
        "name": index.name,
        "table": index.table,
        "definition": index.definition,
        "properties": jsonb(connection, index.properties.to_json()),
        "bytes": index.bytes,
    }
    connection.execute(statement("ledger", "journal_index"), row)


def mark_due(connection: Connection, entry: JournaledIndex, *, undo: int) -> None:
    """Say that a journaled index is missing again, and that an undo brings it back."""
    connection.execute(statement("ledger", "index_due"), {"id": entry.id, "undo": undo})


def mark_restored(connection: Connection, *, schema: str, name: str) -> None:
    """Record that an index is there again."""
    connection.execute(statement("ledger", "index_restored"), {"schema": schema, "name": name})


def _entries(rows: Sequence[TupleRow]) -> list[JournaledIndex]:
    return [_entry(*row) for row in rows]


def _entry(
    id: int, campaign: int | None, schema: str, name: str, table: str, definition: str, *rest: Any
) -> JournaledIndex:
    properties, undo = rest
    return JournaledIndex(
        id, campaign, schema, name, table, definition, IndexProperties.from_json(properties), undo
    )
