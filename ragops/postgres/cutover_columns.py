"""Read second vector columns, and what hangs on the first: what is made again, refused, or renamed with it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from psycopg import sql
from psycopg.rows import dict_row

from ragops.beside_facts import OPEN, BesideFacts, CutoverRow, Dependent, Traits, ViewTraits, short_name
from ragops.facts import READABLE_TYPE, TableFacts, quoted
from ragops.playbook.targets import RowTarget
from ragops.postgres.connection import Connection, fetch_row, transaction
from ragops.postgres.cutover_ddl import IndexRename
from ragops.postgres.cutovers import newest_cutover, read_cutovers
from ragops.postgres.row_relation import condition, key_expression
from ragops.postgres.row_source import pin_text_form
from ragops.postgres.row_work import row_words
from ragops.postgres.statements import statement
from ragops.postgres.vector_type import vector_schema
from ragops.row_facts import TargetFacts

_METHOD = re.compile(r" USING (hnsw|ivfflat) ")
_CLASS = re.compile(r"\b(?:vector|halfvec)_\w+_ops\b")
_DIMENSIONS = re.compile(r"\(\d+\)")
_CLASS_KIND = re.compile(r"\b(?:vector|halfvec)(_\w+_ops)\b")
_CAST_KIND = re.compile(r"::(?:\"?\w+\"?\.)?(?:vector|halfvec)\b")


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


def count_dependents(connection: Connection, table: TableFacts, column: str) -> int:
    """Return a number that changes with what refers to a column: a look of a millisecond."""
    values = {"oid": table.oid, "column": column}
    return int(fetch_row(connection, statement("cutover", "count_dependents"), values)[0])


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
) -> tuple[list[IndexRename], list[str]]:
    """Return the indexes of two columns that are made alike, with the names that they take, and those alone.

    `known` are names that were exchanged before, by the name that both share; others get `ending`. Alone are
    vector indexes of the column `name` without an equal one of the other column.
    """
    ours = _indexes(connection, table, name)
    theirs = _indexes(connection, table, second)
    pairs, alone = [], []
    for (relation, schema, index), signature in ours.items():
        same = [key for key, other in theirs.items() if key[0] == relation and other == signature]
        # Of several that are made alike the one that was named after it.
        equal = min(same, key=lambda key: not key[2].startswith(index[:40]), default=None)
        if equal is None:
            if signature.startswith((" USING hnsw ", " USING ivfflat ")):
                alone.append(index)
            continue
        del theirs[equal]
        taken = {row[0] for row in _taken(connection, schema, index, ending)} - {equal[2]}
        names = [known[index]] if index in known else []
        names += [short_name(index, end) for end in (ending, *(f"{ending}{n}" for n in range(2, 100)))]
        pairs.append(IndexRename(schema, index, next(n for n in names if n not in taken), equal[2]))
    return pairs, alone


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
    # A cast to the type that the other column has by itself is left out by the server.
    return _DIMENSIONS.sub("(n)", made).replace("((?)::vector(n))", "?")


def has_null(connection: Connection, table: TableFacts, column: str) -> bool:
    """Return whether a column has a NULL, by a scan that ends at the first."""
    words = {"table": sql.Identifier(table.schema, table.name), "filled": sql.Identifier(column)}
    return bool(fetch_row(connection, statement("cutover", "missing", words))[0])


def count_left_behind(connection: Connection, target: RowTarget, table: TableFacts) -> int:
    """Return how many rows have a vector in the first column and do not belong to the target, by one scan."""
    words = {
        "table": sql.Identifier(table.schema, table.name),
        "embedding": sql.Identifier(target.embedding),
        "condition": condition(target),
        "unfilled": sql.SQL(" AND {} IS NULL").format(sql.Identifier(target.filled_column))
        if target.filled_column in table.columns
        else sql.SQL(""),
    }
    with transaction(connection, is_long=True):
        return int(fetch_row(connection, statement("cutover", "left_behind", words))[0])


def has_hopeless(connection: Connection, row: CutoverRow, facts: TargetFacts) -> bool:
    """Return whether a row has no vector in the second column, and no note that it waits for one."""
    words = {
        "table": sql.Identifier(facts.table.schema, facts.table.name),
        "filled": sql.Identifier(facts.filled),
        "key": key_expression(facts.key),
    }
    with transaction(connection, is_long=True):
        pin_text_form(connection)
        query = statement("cutover", "hopeless", words)
        return bool(fetch_row(connection, query, {"id": row.id})[0])


def index_metrics(connection: Connection, table: TableFacts, column: str) -> list[str]:
    """Return how the vector indexes of a column are made, e.g. `hnsw (vector_cosine_ops)`."""
    values = {"oid": table.oid, "column": column}
    rows = connection.execute(statement("cutover", "indexes"), values).fetchall()
    found = []
    for _, _, _, definition, _, _ in rows:
        method = _METHOD.search(definition)
        ops = _CLASS.search(definition)
        if method:
            found.append(f"{method[1]} ({ops[0] if ops else 'vector_l2_ops'})")
    return list(dict.fromkeys(found))


def count_filled(connection: Connection, target: RowTarget, facts: TargetFacts) -> tuple[int, int]:
    """Return the rows of a target that have a text, and those of them that have a vector."""
    words = row_words(target, facts, vector_schema(connection))
    rows, filled = fetch_row(connection, statement("cutover", "filled", words))
    return int(rows), int(filled)
