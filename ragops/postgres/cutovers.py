"""Read and record second vector columns: `ragops.cutover`, and the notes of the application's writes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from psycopg.rows import dict_row

from ragops.beside_facts import (
    OPEN,
    BesideFacts,
    CutoverRow,
    Dependent,
    Traits,
    ViewTraits,
    short_name,
)
from ragops.facts import READABLE_TYPE, TableFacts, quoted
from ragops.playbook.targets import RowTarget
from ragops.postgres.connection import Connection, fetch_row
from ragops.postgres.cutover_ddl import IndexRename
from ragops.postgres.statements import statement
from ragops.row_facts import TargetFacts

_DIMENSIONS = re.compile(r"\(\d+\)")
_CLASS_KIND = re.compile(r"\b(?:vector|halfvec)(_\w+_ops)\b")
_CAST_KIND = re.compile(r"::(?:\"?\w+\"?\.)?(?:vector|halfvec)\b")


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


def read_beside(
    connection: Connection, target: RowTarget, facts: TargetFacts, *, is_added: bool = False, place: int = 0
) -> BesideFacts:
    """Return the facts of a target that is written beside, the `place`-th of the playbook from 0."""
    table = facts.table
    rows = read_cutovers(connection)
    row = newest_cutover(rows, oid=table.oid, old_column=target.embedding, new_column=target.filled_column)
    old = read_column(connection, table, target.embedding)
    assert old is not None, "a target's column was found before"
    match = READABLE_TYPE.fullmatch(table.columns[target.embedding].stored_type)
    kind = target.type or (match["kind"] if match else "vector")
    schema = match["schema"] if match else None
    return BesideFacts(
        number=facts.number,
        old=old,
        new=read_column(connection, table, target.filled_column),
        new_type=f"{schema}.{kind}" if schema else kind,
        retired=row.retired if row is not None and row.state in OPEN else _retired(table, target.embedding),
        dependents=read_dependents(connection, table, target.embedding),
        published=published(connection, table, target.embedding),
        row=row,
        is_added=is_added,
        expected_id=max((one.id for one in rows), default=0) + 1 + place,
    )


def _retired(table: TableFacts, column: str) -> str:
    """Return a free name for the first column after the cutover."""
    names = [short_name(column, ending) for ending in ("_old", "_before", *(f"_old{n}" for n in range(2, 100)))]
    return next(name for name in names if name not in table.columns)


def read_column(connection: Connection, table: TableFacts, column: str) -> Traits | None:
    """Return what a column is; None if the table has none of that name."""
    with connection.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(statement("cutover", "column"), {"oid": table.oid, "column": column}).fetchone()
    if row is None:
        return None
    return Traits(
        number=row["number"],
        type=row["type"],
        is_not_null=row["is_not_null"],
        default=row["default_value"],
        storage=row["storage"],
        statistics=row["statistics"],
        comment=row["comment"],
        grants=tuple((role, privilege, may) for role, privilege, may in row["grants"]),
    )


def read_dependents(connection: Connection, table: TableFacts, column: str) -> tuple[Dependent, ...]:
    """Return what refers to a column, the capturing trigger and NOT NULL left out."""
    values = {"oid": table.oid, "column": column}
    found = []
    for kind, oid, name, depth, definition, what in connection.execute(
        statement("cutover", "dependents"), values
    ).fetchall():
        view = _view(connection, oid) if kind == "view" and what == "view" else None
        found.append(Dependent(kind, name, depth, definition, what, view))
    return tuple(found)


def _view(connection: Connection, oid: int) -> ViewTraits:
    with connection.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(statement("cutover", "view"), {"oid": oid}).fetchone()
    assert row is not None, "the view was found before"
    return ViewTraits(
        options=tuple(row["options"] or ()),
        owner=row["owner"],
        comment=row["comment"],
        columns=tuple(row["columns"]),
        shows_vectors=row["shows_vectors"],
        grants=tuple((role, privilege, may) for role, privilege, may in row["grants"]),
        comments=row["comments"],
        has_column_grants=row["has_column_grants"],
        is_used=row["is_used"],
    )


def published(connection: Connection, table: TableFacts, column: str) -> tuple[str, ...]:
    """Return the publications that send a column to subscribers."""
    values = {"oid": table.oid, "column": column}
    return tuple(row[0] for row in connection.execute(statement("cutover", "published"), values))


def index_renames(
    connection: Connection, table: TableFacts, *, name: str, second: str, ending: str, known: Mapping[str, str]
) -> list[IndexRename]:
    """Return the indexes of two columns that are made alike, and the names that they take.

    `known` are names that were exchanged before, by the name that both share; others get `ending`.
    """
    ours = _indexes(connection, table, name)
    theirs = _indexes(connection, table, second)
    pairs = []
    for (relation, schema, index), signature in ours.items():
        equal = next((key for key, other in theirs.items() if key[0] == relation and other == signature), None)
        if equal is None:
            continue
        del theirs[equal]
        taken = {row[0] for row in _taken(connection, schema, index, ending)} - {equal[2]}
        names = [known[index]] if index in known else []
        names += [short_name(index, end) for end in (ending, *(f"{ending}{n}" for n in range(2, 100)))]
        pairs.append(IndexRename(schema, index, next(n for n in names if n not in taken), equal[2]))
    return pairs


def _taken(connection: Connection, schema: str, index: str, ending: str) -> list[tuple[Any, ...]]:
    names = [short_name(index, end) for end in (ending, *(f"{ending}{n}" for n in range(2, 100)))]
    values = {"schema": quoted(schema), "names": names}
    return connection.execute(statement("cutover", "relation_names"), values).fetchall()


def _indexes(connection: Connection, table: TableFacts, column: str) -> dict[tuple[int, str, str], str]:
    """Return (table, schema, name) → how the index is made, with a question mark for the column."""
    values = {"oid": table.oid, "column": column}
    rows = connection.execute(statement("cutover", "indexes"), values).fetchall()
    return {(row[0], row[1], row[2]): _signature(row[3], column) for row in rows}


def _signature(definition: str, column: str) -> str:
    """Return how an index is made, the same for both columns of a pair, which differ in type and dimensions."""
    made = definition[definition.index(" USING ") :]
    name = re.escape(quoted(column))
    made = re.sub(rf'(?<![\w".]){name}(?![\w"(.])', "?", made)
    # The server leaves out the class that is its type's default.
    made = _CLASS_KIND.sub(r"vector\1", _CAST_KIND.sub("::vector", made)).replace(" vector_l2_ops", "")
    return _DIMENSIONS.sub("(n)", made)


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


def written_since(connection: Connection, row: CutoverRow) -> list[str]:
    """Return the keys of rows that were written since the cutover."""
    values = {"id": row.id, "bound": row.bound}
    return [key for (key,) in connection.execute(statement("cutover", "written_since"), values)]


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
