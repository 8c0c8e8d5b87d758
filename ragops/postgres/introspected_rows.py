"""Look into rows for a playbook that is to be written: vectors, groups, keys, texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import psycopg
from psycopg import sql

from ragops.errors import UsageError, first_line
from ragops.facts import TableFacts, quoted
from ragops.playbook.targets import RowTarget
from ragops.postgres.connection import Connection, transaction
from ragops.postgres.introspection import identifier_of, unlocked
from ragops.postgres.row_relation import condition, text_expression
from ragops.postgres.statements import literal, statement
from ragops.postgres.vector_type import vector_schema, vector_words
from ragops.survey_facts import Group, IndexSurvey, Survey, VectorColumn, VectorSurvey

MOST_NAMES = 500
"""Rows of a table of collections whose names are read."""
BOUND_S = 20
"""A scan that takes longer is given up: what it would tell stays unknown."""
_METRICS = ("cosine", "l2", "ip", "l1", "hamming", "jaccard")
# Columns by which people call a row of a table of collections.
_NAMES = ("name", "title", "slug", "label")
# What the server says of SQL that the operator wrote.
_WRONG_SQL = (psycopg.ProgrammingError, psycopg.DataError, psycopg.errors.RaiseException)


class _Run:
    """Runs a statement in a savepoint, so that one that takes too long ends alone."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def __call__(self, query: sql.Composed) -> list[tuple[Any, ...]] | None:
        try:
            with self._connection.transaction():
                return self._connection.execute(query).fetchall()
        except psycopg.errors.QueryCanceled:
            return None


@contextmanager
def _bounded(connection: Connection) -> Iterator[_Run]:
    """Run statements that may scan a large table: one that takes too long has no rows (None)."""
    with transaction(connection, lock_timeout_s=2, settings={"statement_timeout": f"{BOUND_S}s"}):
        yield _Run(connection)


def read_vectors(
    connection: Connection, table: TableFacts, vector: VectorColumn, *, where: str | None = None
) -> VectorSurvey:
    """Return what some rows of the column hold."""
    column = sql.Identifier(vector.name)
    words = vector_words(vector_schema(connection))
    norm = sql.SQL("{}{}({})").format(
        words["ext"], sql.SQL("l2_norm" if vector.kind == "halfvec" else "vector_norm"), column
    )
    parts = {
        **words,
        "column": column,
        "norm": norm,
        "table": identifier_of(table),
        "condition": sql.SQL("true") if where is None else sql.SQL("({}\n)").format(sql.SQL(where)),
    }
    with transaction(connection, lock_timeout_s=2):
        rows = connection.execute(
            statement("introspection", "vectors", {**parts, "limit": sql.Literal(1000)})
        ).fetchall()
    found = VectorSurvey(
        sampled=sum(count for _, count, _ in rows),
        missing=sum(count for dimensions, count, _ in rows if dimensions is None),
        broken=sum(broken for dimensions, _, broken in rows if dimensions is not None),
        dimensions={dimensions: count for dimensions, count, _ in rows if dimensions is not None},
    )
    if found.missing == 0:
        # New rows are at a table's end: the first ones say nothing of them.
        with _bounded(connection) as run:
            row = run(statement("introspection", "missing", parts))
            if row and row[0][0]:
                return replace(found, missing=1)
    return found


def read_vector_indexes(connection: Connection, table: TableFacts, column: str) -> tuple[IndexSurvey, ...]:
    """Return the vector indexes on the column, with the metric that their operator class stands for."""
    rows = connection.execute(
        statement("introspection", "opclasses"), {"oid": table.oid, "column": column}
    ).fetchall()
    return tuple(
        IndexSurvey(name, method, next((m for m in _METRICS if f"_{m}_" in opclass), opclass), is_valid)
        for name, method, opclass, is_valid in rows
    )


def read_groups(
    connection: Connection, survey: Survey, columns: Sequence[str], vector: VectorColumn, *, most: int
) -> tuple[Group, ...]:
    """Return the groups by the first of these columns that makes between two and `most`; empty without one."""
    for column in columns:
        name = sql.Identifier(column)
        parts = {"column": name, "table": identifier_of(survey.table)}
        with _bounded(connection) as run:
            rows = run(statement("introspection", "groups", {**parts, "limit": sql.Literal(most + 1)}))
            if not rows or not 1 < len(rows) <= most:
                continue
            dimensions: dict[str | None, tuple[int, ...]] = {}
            if vector.dimensions is None:
                words = vector_words(vector_schema(connection))
                found = run(
                    statement(
                        "introspection",
                        "group_dimensions",
                        {**words, **parts, "vector": sql.Identifier(vector.name)},
                    )
                )
                dimensions = {value: tuple(sorted(sizes)) for value, sizes in found or ()}
            referenced = _referenced(connection, survey, column)
            return tuple(
                _group(column, value, count, dimensions.get(value, ()), referenced) for value, count in rows
            )
    return ()


def _referenced(connection: Connection, survey: Survey, column: str) -> _Reference | None:
    """Return the table that the column references, with the names of its rows; None where these cannot be read."""
    values = {"oid": survey.table.oid, "column": column}
    row = connection.execute(statement("introspection", "reference"), values).fetchone()
    if row is None:
        return None
    schema, table, key, columns = row
    name = next((one for one in _NAMES if one in columns), None)
    if name is None or key not in columns:
        return None
    rows = connection.execute(
        statement(
            "introspection",
            "reference_names",
            {
                "key": sql.Identifier(key),
                "name": sql.Identifier(name),
                "table": sql.Identifier(schema, table),
                "limit": sql.Literal(MOST_NAMES),
            },
        )
    ).fetchall()
    return _Reference(quoted(schema, table), quoted(key), quoted(name), dict(rows))


@dataclass(frozen=True, slots=True)
class _Reference:
    """A table of collections: quoted names, and what each key is called."""

    table: str
    key: str
    name: str
    names: dict[str, str | None]


def _group(
    column: str, value: str | None, rows: int, dimensions: tuple[int, ...], referenced: _Reference | None
) -> Group:
    """Return a group with the condition for its rows, by the name of its collection where that is its own."""
    by_value = f"{quoted(column)} IS NULL" if value is None else f"{quoted(column)} = {literal(value)}"
    name = referenced.names.get(value) if referenced and value is not None else None
    if referenced is None or name is None:
        return Group(column, value, rows, "NULL" if value is None else value, by_value, dimensions)
    if list(referenced.names.values()).count(name) > 1:
        return Group(column, value, rows, name, by_value, dimensions)
    by_name = (
        f"{quoted(column)} = (SELECT {referenced.key} FROM {referenced.table} "
        f"WHERE {referenced.name} = {literal(name)})"
    )
    return Group(column, value, rows, name, by_name, dimensions)


def find_repeated(connection: Connection, table: TableFacts, key: Sequence[str]) -> str | None:
    """Return values of a key that identify no row, NULL or shared by rows; None if every row has its own.

    A table that takes too long to look through counts as one whose rows have their own.
    """
    columns = [sql.Identifier(name) for name in key]
    parts = {
        "shown": sql.SQL(" || ', ' || ").join(
            sql.SQL("coalesce({}::text, 'NULL')").format(one) for one in columns
        ),
        "columns": sql.SQL(", ").join(columns),
        "nulls": sql.SQL(" OR ").join(sql.SQL("{} IS NULL").format(one) for one in columns),
        "table": identifier_of(table),
    }
    with _bounded(connection) as run:
        rows = run(statement("introspection", "repeated", parts))
    return str(rows[0][0]) if rows else None


def read_texts(
    connection: Connection, table: TableFacts, target: RowTarget, *, limit: int = 5
) -> list[str | None]:
    """Return the beginnings of some rows' texts as the target composes them.

    Raises UsageError where the server refuses its SQL.
    """
    parts = {
        "text": text_expression(target),
        "table": identifier_of(table),
        "condition": condition(target),
        "limit": sql.Literal(limit),
    }
    try:
        with unlocked(table.quoted), transaction(connection, lock_timeout_s=2):
            rows = connection.execute(statement("introspection", "texts", parts)).fetchall()
    except psycopg.errors.InsufficientPrivilege:
        raise
    except _WRONG_SQL as error:
        raise UsageError(
            "the text or the condition does not work on this table",
            where=table.quoted,
            actual=first_line(error),
            expected="columns of the table in braces (--text), or SQL over its columns (--sql, --where)",
            hint="correct --text, --sql or --where",
        ) from None
    return [row[0] for row in rows]
