"""Look at what a database holds that a playbook could be written for. Everything here only reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import psycopg
from psycopg import sql
from psycopg.rows import class_row, dict_row

from ragops.errors import RagopsError
from ragops.facts import TableFacts, quoted
from ragops.playbook.names import TableName
from ragops.postgres.catalog import Rows, read_table
from ragops.postgres.connection import Connection, fetch_row, transaction
from ragops.postgres.constraints import read_structure
from ragops.postgres.statements import statement
from ragops.survey_facts import (
    ColumnSurvey,
    JsonKey,
    KeySurvey,
    NodeSurvey,
    Survey,
    VectorColumn,
    VectorizerSurvey,
)

SAMPLED = 200
"""Rows that are looked at for what their columns hold."""
SHOWN = 300
"""Characters of a value that are fetched."""


def find_vector_columns(connection: Connection) -> tuple[VectorColumn, ...]:
    """Return every column of pgvector's types that the role can see, the views' included."""
    with connection.cursor(row_factory=class_row(VectorColumn)) as cursor:
        return tuple(cursor.execute(statement("introspection", "vector_columns")).fetchall())


def tables_behind(connection: Connection, column: VectorColumn) -> list[str]:
    """Return the tables that a view reads, qualified and quoted."""
    name = quoted(column.schema, column.relation)
    (oid,) = fetch_row(connection, sql.SQL("SELECT {}::regclass::oid::bigint").format(sql.Literal(name)))
    return [
        row[0] for row in connection.execute(statement("introspection", "view_sources"), {"oid": oid}).fetchall()
    ]


@contextmanager
def unlocked(table: str) -> Iterator[None]:
    """Raise RagopsError where another session's lock keeps readers of the table out."""
    try:
        yield
    except psycopg.errors.LockNotAvailable:
        raise RagopsError(
            "the table is locked by another session",
            where=table,
            hint="SELECT pid, mode, relation::regclass FROM pg_locks WHERE mode = 'AccessExclusiveLock'",
        ) from None


def survey(connection: Connection, vectors: Sequence[VectorColumn]) -> Survey:
    """Return what is known of the table that these columns belong to. Raises RagopsError where it is locked."""
    first = vectors[0]
    # Sizes and definitions of indexes wait for a lock of ALTER TABLE, TRUNCATE and the like.
    with unlocked(first.table), transaction(connection, lock_timeout_s=2):
        table = read_table(connection, TableName(first.schema, first.relation), rows=Rows.ESTIMATED)
        if table is None:
            raise RagopsError(f"table {first.table} is gone", hint="the same command again")
        return _survey(connection, table, tuple(vectors))


def _survey(connection: Connection, table: TableFacts, vectors: tuple[VectorColumn, ...]) -> Survey:
    by_oid = {"oid": table.oid}
    relations, functions = fetch_row(connection, statement("introspection", "neighbours"), by_oid)
    views = connection.execute(statement("introspection", "views"), by_oid).fetchall()
    with connection.cursor(row_factory=class_row(KeySurvey)) as cursor:
        keys = cursor.execute(statement("introspection", "keys"), by_oid).fetchall()
    columns, sampled = _columns(connection, table, {vector.name for vector in vectors})
    found = Survey(
        table=table,
        vectors=vectors,
        columns={column.name: column for column in columns},
        sampled=sampled,
        keys=tuple(replace(key, columns=tuple(key.columns)) for key in keys),
        relations=frozenset(relations),
        functions=frozenset(functions),
        views=tuple(row[0] for row in views),
        structure=read_structure(connection, table),
        is_row_security_active=bool(fetch_row(connection, statement("introspection", "row_security"), by_oid)[0]),
    )
    return replace(found, node=_node(connection, found), vectorizer=_vectorizer(connection, table))


def _columns(connection: Connection, table: TableFacts, vectors: set[str]) -> tuple[list[ColumnSurvey], int]:
    """Return the table's columns with what some rows hold, and the number of those rows."""
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(statement("introspection", "columns"), {"oid": table.oid}).fetchall()
    known = {row["name"]: row.pop("null_share") for row in rows}
    columns = [ColumnSurvey(**row) for row in rows]
    read = [c for c in columns if c.may_read and c.name not in vectors and c.base_type != "bytea"]
    if not read:
        return columns, 0
    values = [
        part.format(column=sql.Identifier(column.name), shown=sql.Literal(SHOWN))
        for column in read
        for part in (sql.SQL("left({column}::text, {shown})"), sql.SQL("length({column}::text)"))
    ]
    sample = connection.execute(
        statement(
            "introspection",
            "sample",
            {
                "values": sql.SQL(", ").join(values),
                "columns": sql.SQL(", ").join(sql.Identifier(column.name) for column in read),
                "table": identifier_of(table),
                "limit": sql.Literal(SAMPLED),
            },
        )
    ).fetchall()
    found: dict[str, ColumnSurvey] = {}
    for place, column in enumerate(read):
        texts = [row[2 * place] for row in sample if row[2 * place] is not None]
        lengths = [row[2 * place + 1] for row in sample if row[2 * place] is not None]
        share = known[column.name]
        found[column.name] = replace(
            column,
            null_share=share if share is not None else 1 - len(texts) / len(sample) if sample else 0.0,
            average_length=sum(lengths) / len(lengths) if lengths else 0.0,
            distinct=len(set(texts)),
            example=next((text for text in texts if text.strip()), ""),
            keys=_json_keys(connection, table, column, len(sample)) if column.is_json else (),
        )
    return [found.get(column.name, column) for column in columns], len(sample)


def _json_keys(
    connection: Connection, table: TableFacts, column: ColumnSurvey, sampled: int
) -> tuple[JsonKey, ...]:
    query = statement(
        "introspection",
        "json_keys",
        {
            "column": sql.Identifier(column.name),
            "table": identifier_of(table),
            "limit": sql.Literal(SAMPLED),
        },
    )
    try:
        with connection.transaction():
            rows = connection.execute(query).fetchall()
    except psycopg.DataError:
        # json may hold \u0000, which jsonb refuses.
        return ()
    return tuple(JsonKey(name, count / max(sampled, count), average or 0.0) for name, count, average in rows)


def _node(connection: Connection, survey: Survey) -> NodeSurvey | None:
    """Return how LlamaIndex composes the texts of the table; None for a table that is not its own."""
    column = survey.columns.get("metadata_")
    if column is None or not column.is_json or not any(key.name == "_node_content" for key in column.keys):
        return None
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(
            statement(
                "introspection",
                "node",
                {
                    "metadata": sql.Identifier("metadata_"),
                    "table": identifier_of(survey.table),
                    "limit": sql.Literal(SAMPLED),
                },
            )
        ).fetchall()
    if not rows:
        return None
    given = {name: value for name, value in rows[0].items() if value is not None and name != "has_nested"}
    sets = {(row["metadata_template"], row["separator"], row["text_template"]) for row in rows}
    return NodeSurvey(**given, variants=len(sets), has_nested=any(row["has_nested"] for row in rows))


def _vectorizer(connection: Connection, table: TableFacts) -> VectorizerSurvey | None:
    """Return the vectorizer of pgai that fills the table; None without one, or where the role may not look."""
    try:
        with connection.transaction():
            rows = connection.execute(statement("introspection", "vectorizers")).fetchall()
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName, psycopg.errors.InsufficientPrivilege):
        return None
    for (row,) in rows:
        config = row.get("config") or {}
        # Up to 0.9 columns of the table, then a part of the configuration.
        destination = {**row, **(config.get("destination") or {})}
        if (destination.get("target_schema"), destination.get("target_table")) == (table.schema, table.name):
            return VectorizerSurvey(
                model=str((config.get("embedding") or {}).get("model", "")),
                template=str((config.get("formatting") or {}).get("template", "$chunk")),
                source=quoted(str(row.get("source_schema", "")), str(row.get("source_table", ""))),
                source_key=tuple(str(part.get("attname", "")) for part in row.get("source_pk") or ()),
            )
    return None


def identifier_of(table: TableFacts) -> sql.Identifier:
    """Return the qualified name of a table."""
    return sql.Identifier(table.schema, table.name)
