"""The filling of a queue: where its items came from, and the number that everything which replaces them raises."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg import sql

from ragops.facts import TableFacts
from ragops.playbook.names import TableName
from ragops.playbook.tables import Tables
from ragops.postgres.connection import Connection, fetch_row, transaction
from ragops.postgres.encodings import jsonb
from ragops.postgres.file_states import move_states, prune_states
from ragops.postgres.measured import move_measured, prune_measured
from ragops.postgres.statements import Statement, identifiers_of, queue_key, statement, table_key

SOURCE_KINDS = ("folder", "table", "query", "manifest")


@dataclass(frozen=True, slots=True)
class Filling:
    """What is known of the items that a queue holds now."""

    queue: str
    """The qualified name of the table."""
    generation: int
    """0 for a queue that ragops neither filled nor emptied."""
    source: Mapping[str, Any] | None
    """What it was filled from, as JSON."""
    since: datetime | None
    fingerprint: str | None
    """Id of the vector space of the first fleet that claimed from it."""
    chunking: Mapping[str, object] | None
    """How that fleet cuts texts."""

    @property
    def origin(self) -> str:
        """Return the source in a few words."""
        found = (str(self.source[kind]) for kind in SOURCE_KINDS if self.source and self.source.get(kind))
        return next(found, "an unknown source")


def qualified_names(connection: Connection, tables: Tables) -> dict[str, str]:
    """Return the qualified names of the mapped tables by their logical names, as the ledger spells them."""
    mapped = tables.mapped()
    return dict(zip(mapped, table_names(connection, list(mapped.values())), strict=True))


def table_names(connection: Connection, names: Sequence[TableName]) -> list[str]:
    """Return the qualified names of tables as the ledger spells them."""
    keys = sql.SQL(", ").join(table_key(name) for name in names)
    return list(fetch_row(connection, sql.SQL("SELECT {}").format(keys)))


def read_filling(connection: Connection, tables: Tables) -> Filling:
    """Return the present filling of the mapped queue."""
    row = fetch_row(connection, _sql("read", queue_key(tables)), {"typed": tables.files_queue.table})
    return Filling(*row)


def record_filling(connection: Connection, tables: Tables, source: Mapping[str, object]) -> None:
    """Begin a new filling from `source`, in the transaction that fills the queue."""
    values = {"typed": tables.files_queue.table, "source": jsonb(connection, source)}
    connection.execute(_sql("fill", queue_key(tables)), values)
    # Somebody may have removed the items of the filling before by hand.
    prune_states(connection)


def record_extension(
    connection: Connection, tables: Tables, source: Mapping[str, object], *, is_same: bool
) -> None:
    """Remember what was appended to the queue, in the transaction that does it.

    Another source than before (not `is_same`) begins a new filling: workers that still run would look for the new
    items in the old one.
    """
    before = read_filling(connection, tables)
    values = {"typed": tables.files_queue.table, "source": jsonb(connection, source), "is_same": is_same}
    connection.execute(_sql("extend", queue_key(tables)), values)
    # The items that are there stay.
    move_measured(connection, queue_key(tables), queue=before.queue, generation=before.generation)
    move_states(connection, queue_key(tables), queue=before.queue, generation=before.generation)


def end_filling(connection: Connection, queue: TableFacts) -> None:
    """Note that the queue's items are gone, in the transaction that removes them."""
    connection.execute(_sql("raise", _key_of(queue)))
    prune_measured(connection)
    prune_states(connection)


def claim_space(
    connection: Connection, tables: Tables, *, generation: int, fingerprint: str, chunking: Mapping[str, object]
) -> Filling:
    """Note which vectors belong to a filling unless a fleet did so before; return the filling as it is then."""
    values = _space(connection, generation, fingerprint, chunking)
    with transaction(connection):
        adopt_filling(connection, tables)
        connection.execute(_sql("claim_space", queue_key(tables)), values)
        return read_filling(connection, tables)


def replace_space(
    connection: Connection,
    tables: Tables,
    *,
    generation: int,
    fingerprint: str,
    chunking: Mapping[str, object],
    is_campaign: bool,
) -> bool:
    """Note other vectors for a filling of which nothing was embedded yet; False if something was.

    False, too, for a fleet that is not of the campaign (`is_campaign`) while one is unfinished.

    In the caller's transaction, which locks the queue for it: no claim is under way then. The filling gets a new
    generation.
    """
    connection.execute(statement("queue", "lock", identifiers_of(tables)))
    if fetch_row(connection, statement("queue", "is_begun", identifiers_of(tables)))[0]:
        return False
    values = {**_space(connection, generation, fingerprint, chunking), "is_campaign": is_campaign}
    is_replaced = connection.execute(_sql("replace_space", queue_key(tables)), values).rowcount == 1
    if is_replaced:
        queue = read_filling(connection, tables).queue
        move_states(connection, queue_key(tables), queue=queue, generation=generation)
    return is_replaced


def adopt_filling(connection: Connection, tables: Tables) -> None:
    """Give what an older version knew of the queue, under the name that was typed, the key of this one."""
    connection.execute(_sql("adopt", queue_key(tables)), {"typed": tables.files_queue.table})


def _space(
    connection: Connection, generation: int, fingerprint: str, chunking: Mapping[str, object]
) -> dict[str, object]:
    return {"generation": generation, "fingerprint": fingerprint, "chunking": jsonb(connection, chunking)}


def restore_filling(connection: Connection, queue: TableFacts, archived: Mapping[str, Any] | None) -> None:
    """Begin a new filling for items that came back from an archive, with what was known of them then."""
    known = archived or {}
    values = {
        "source": _optional(connection, known.get("source")),
        "fingerprint": known.get("fingerprint"),
        "chunking": _optional(connection, known.get("chunking")),
    }
    connection.execute(_sql("restore", _key_of(queue)), values)
    if isinstance(known.get("generation"), int):
        move_measured(connection, _key_of(queue), queue=str(known["queue"]), generation=known["generation"])
        move_states(connection, _key_of(queue), queue=str(known["queue"]), generation=known["generation"])


def _optional(connection: Connection, value: object) -> object:
    return None if value is None else jsonb(connection, value)


def _key_of(queue: TableFacts) -> sql.Composed:
    return table_key(TableName(queue.schema, queue.name))


def _sql(name: str, key: sql.Composed) -> Statement:
    return statement("filling", name, {"queue_key": key})
