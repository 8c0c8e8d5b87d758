"""Keep how files were when they were queued, by filling, and which of them were embedded in another state."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg import sql

from ragops.documents.states import FileChange, FileState, key_of
from ragops.playbook.tables import Tables
from ragops.postgres.connection import Connection, fetch_row
from ragops.postgres.encodings import jsonb, storable
from ragops.postgres.statements import Statement, identifiers_of, queue_key, statement

if TYPE_CHECKING:
    from ragops.documents.state_log import StateLog

TABLES = ("seeding", "file_state")
FIRST_CHANGED = 10


@dataclass(frozen=True, slots=True)
class ChangedFiles:
    """Files of the present filling that were embedded in another state than they were queued in."""

    count: int = 0
    first: tuple[str, ...] = ()

    def to_json(self) -> dict[str, object]:
        return {"count": self.count, "first": list(self.first)}


def new_seeding() -> int:
    """Return a number for a seeding. Random: several machines may fill queues of one database at once."""
    return secrets.randbits(62)


def _sql(tables: Tables, name: str) -> Statement:
    return _with_key(queue_key(tables), name, {**identifiers_of(tables)})


def _with_key(key: sql.Composable, name: str, parts: Mapping[str, sql.Composable]) -> Statement:
    named: dict[str, sql.Composable] = {**parts, "queue_key": key}
    named["generation"] = statement("file_states", "generation", named)
    return statement("file_states", name, named)


def record_seeding(
    connection: Connection,
    tables: Tables,
    states: StateLog,
    *,
    left_out: Mapping[str, object],
    is_new: bool,
) -> None:
    """Keep the states of the files that were queued, in the transaction that queues them and began their filling.

    `is_new`: the queue was empty before, otherwise the items that it has keep their states.
    """
    values = {"seeding": states.seeding, "left_out": jsonb(connection, left_out)}
    connection.execute(_sql(tables, "begin"), values)
    if is_new:
        _copy(connection, "copy", states.blocks())
        return
    connection.execute(statement("file_states", "create_incoming"))
    _copy(connection, "copy_incoming", states.blocks())
    connection.execute(statement("file_states", "add_incoming"))


def _copy(connection: Connection, name: str, blocks: Iterable[bytes]) -> None:
    # Here, as it imports numpy, which `ragops status` does without.
    from ragops.postgres.copy_binary import HEADER, TRAILER

    with connection.cursor() as cursor, cursor.copy(statement("file_states", name)) as copy:
        copy.write(HEADER)
        for block in blocks:
            copy.write(block)
        copy.write(TRAILER)


def present_seeding(connection: Connection, tables: Tables) -> int | None:
    """Return the seeding of the present filling; None if the states of its files are not known."""
    row = connection.execute(_sql(tables, "seeding")).fetchone()
    return None if row is None else int(row[0])


def read_states(connection: Connection, seeding: int, locations: Sequence[str]) -> dict[str, FileState]:
    """Return the known states of files, by location."""
    keys = {key_of(location): location for location in locations}
    values = {"seeding": seeding, "keys": list(keys)}
    rows = connection.execute(statement("file_states", "states"), values).fetchall()
    return {keys[key]: FileState(size, modified) for key, size, modified in rows}


def note_changes(connection: Connection, tables: Tables, changes: Mapping[str, FileChange]) -> None:
    """Keep the states in which files were embedded, by location, in the transaction that completes their items."""
    seeding = present_seeding(connection, tables) if changes else None
    if seeding is None:
        return
    keys = [key_of(location) for location in changes]
    connection.execute(statement("file_states", "forget"), {"seeding": seeding, "keys": keys})
    values = {
        "seeding": seeding,
        "keys": keys,
        "bytes": [change.now.bytes for change in changes.values()],
        "modified": [change.now.modified_ns for change in changes.values()],
        "locations": [
            storable(connection, location) if change.before is not None else None
            for location, change in changes.items()
        ],
    }
    connection.execute(statement("file_states", "note"), values)


def forget_failed(connection: Connection, tables: Tables) -> None:
    """Forget the states of the failed items' files, in the transaction that puts them back into the queue."""
    if _are_there(connection):
        connection.execute(_sql(tables, "forget_failed"))


def changed_files(connection: Connection, tables: Tables) -> ChangedFiles:
    """Return the files of the present filling that were embedded in another state."""
    if not _are_there(connection):
        return ChangedFiles()
    (count,) = fetch_row(connection, _sql(tables, "changed"))
    if not count:
        return ChangedFiles()
    rows = connection.execute(_sql(tables, "changed_locations"), {"limit": FIRST_CHANGED}).fetchall()
    return ChangedFiles(count, tuple(row[0] for row in rows))


def move_states(connection: Connection, key: sql.Composed, *, queue: str, generation: int) -> None:
    """Let the states of another filling with the same items be those of the present one of the queue `key`."""
    if _are_there(connection):
        connection.execute(_with_key(key, "move", {}), {"queue": queue, "generation": generation})


def prune_states(connection: Connection) -> None:
    """Remove the states of fillings that are gone for good."""
    if _are_there(connection):
        gone = [row[0] for row in connection.execute(statement("file_states", "prune_seedings")).fetchall()]
        if gone:
            connection.execute(statement("file_states", "prune_states"), {"gone": gone})


def _are_there(connection: Connection) -> bool:
    """Return whether the tables exist, which an older version does not make, and the role may read them."""
    found = [
        connection.execute(statement("catalog", "ragops_table"), {"name": name}).fetchone()
        for name in (*TABLES, "source")
    ]
    return all(row is not None and row[0] for row in found)
