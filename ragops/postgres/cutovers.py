"""Read and record second vector columns: `ragops.cutover`, and the notes of the application's writes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from ragops.beside_facts import CutoverRow, short_name
from ragops.postgres.connection import Connection, fetch_row
from ragops.postgres.statements import statement


def read_cutovers(connection: Connection) -> tuple[CutoverRow, ...]:
    """Return every second column that was ever made, the oldest first; empty in a database that knows none."""
    if not knows_cutovers(connection):
        return ()
    rows = connection.execute(statement("cutover", "cutovers")).fetchall()
    return tuple(replace(CutoverRow(*row), key=tuple(row[-1])) for row in rows)


def knows_cutovers(connection: Connection) -> bool:
    """Return whether the database notes second columns, and the role may read that."""
    readable = (
        connection.execute(statement("catalog", "ragops_table"), {"name": name}).fetchone()
        for name in ("cutover", "captured", "target")
    )
    return all(row is not None and row[0] for row in readable)


def newest_cutover(
    rows: Iterable[CutoverRow], *, oid: int, old_column: str, new_column: str | None = None
) -> CutoverRow | None:
    """Return the newest row of a table's column; None if there is none that was not dropped."""
    found = [
        row
        for row in rows
        if row.oid == oid and row.old_column == old_column and row.new_column in (new_column, row.new_column)
    ]
    return next((row for row in reversed(found) if row.state != "dropped"), None)


def create_cutover(
    connection: Connection,
    *,
    campaign: int | None,
    target: int,
    old: str,
    new: str,
    definition: Mapping[str, object],
) -> int:
    """Record a new second column, in the caller's transaction; return its number."""
    values = {
        "campaign": campaign,
        "target": target,
        "old": old,
        "new": new,
        "definition": json.dumps(dict(definition)),
    }
    return int(fetch_row(connection, statement("cutover", "insert_cutover"), values)[0])


def set_state(connection: Connection, row: CutoverRow, state: str, **more: object) -> None:
    """Record how far a second column is, in the caller's transaction."""
    values = {"id": row.id, "state": state, "more": json.dumps(more)}
    connection.execute(statement("cutover", "set_state"), values)


def note(connection: Connection, row: CutoverRow, **more: object) -> None:
    """Add to what is noted about a second column; None takes a key away."""
    connection.execute(statement("cutover", "note"), {"id": row.id, "more": json.dumps(more)})


def lock_cutovers(connection: Connection, rows: Sequence[CutoverRow]) -> dict[int, str]:
    """Lock second columns against other commands, in the caller's transaction; return their states by number."""
    locked = connection.execute(statement("cutover", "lock_cutovers"), {"ids": [row.id for row in rows]})
    return dict(locked.fetchall())


def waiting_notes(connection: Connection) -> dict[int, tuple[int, int]]:
    """Return the noted keys by second column: those that wait, and those kept since the cutover."""
    return {id: (waiting, kept) for id, waiting, kept in connection.execute(statement("cutover", "waiting"))}


def count_waiting(connection: Connection, rows: Sequence[CutoverRow], *, limit: int) -> int:
    """Return how many notes wait, up to a limit."""
    values = {"ids": [row.id for row in rows], "limit": limit}
    return int(fetch_row(connection, statement("cutover", "waiting_rows"), values)[0])


def last_captured(connection: Connection) -> int:
    """Return the number of the newest note; exact while no other session can write the tables."""
    return int(fetch_row(connection, statement("cutover", "last_captured"))[0])


def keep_since(connection: Connection, row: CutoverRow) -> None:
    """Keep the keys of rows that were written between a cutover and its rollback, if there was one."""
    if row.until is not None:
        values = {"id": row.id, "bound": row.bound, "until": row.until}
        connection.execute(statement("cutover", "keep_since"), values)


def forget_notes(connection: Connection, row: CutoverRow) -> None:
    """Remove the notes of a second column that is finished or dropped."""
    connection.execute(statement("cutover", "forget_captured"), {"id": row.id})


def forget_rows(connection: Connection, row: CutoverRow, column: str) -> None:
    """Forget of which texts the vectors of a column were made that is dropped."""
    target = _target(connection, row, column)
    if target is not None:
        connection.execute(statement("cutover", "forget_rows"), {"id": target})


def written_since(connection: Connection, row: CutoverRow) -> list[str]:
    """Return the keys of rows that were written since the cutover."""
    return [key for (key,) in connection.execute(statement("cutover", "written_since"), {"id": row.id})]


def rename_targets(connection: Connection, row: CutoverRow, *, name: str, aside: str, second: str) -> None:
    """Follow the exchanged columns in `ragops.target`, in the caller's transaction.

    Afterwards a name stands for what `ragops.row_state` has of the column that bears it.
    """
    for before, after in ((name, aside), (second, name)):
        moved, there = _target(connection, row, before), _target(connection, row, after)
        if there is not None:
            # Of an earlier column of that name, which is gone.
            _rename_target(connection, there, short_name(after, f"#{there}"))
        if moved is not None:
            _rename_target(connection, moved, after)


def _target(connection: Connection, row: CutoverRow, column: str) -> int | None:
    values = {"relation": row.relation, "column": column}
    found = connection.execute(statement("cutover", "target_of"), values).fetchone()
    return None if found is None else int(found[0])


def _rename_target(connection: Connection, id: int, column: str) -> None:
    connection.execute(statement("cutover", "rename_target"), {"id": id, "column": column})
