"""Compose the statements that change structure or remove rows.

A plan prints them, a step executes them, and the ledger keeps them: all three call the same function.
"""

from __future__ import annotations

from collections.abc import Iterable

from psycopg import sql

from ragops.facts import IndexFacts, TableFacts, shown_vector_schema
from ragops.playbook.model import Index
from ragops.postgres.statements import Statement

OPERATOR_CLASSES = {"cosine": "vector_cosine_ops", "l2": "vector_l2_ops", "ip": "vector_ip_ops"}


def table_identifier(table: TableFacts) -> sql.Identifier:
    """Return the table's quoted, schema-qualified name."""
    return sql.Identifier(table.schema, table.name)


def drop_index_sql(index: IndexFacts) -> Statement:
    return sql.SQL("DROP INDEX {}").format(sql.Identifier(index.schema, index.name))


def truncate_sql(tables: Iterable[TableFacts]) -> Statement:
    """One TRUNCATE for all tables: named together, tables that reference each other need no CASCADE."""
    return sql.SQL("TRUNCATE TABLE {}").format(sql.SQL(", ").join(map(table_identifier, tables)))


def delete_sql(table: TableFacts) -> Statement:
    return sql.SQL("DELETE FROM {}").format(table_identifier(table))


def vacuum_sql(table: TableFacts) -> Statement:
    return sql.SQL("VACUUM {}").format(table_identifier(table))


def analyze_sql(table: TableFacts) -> Statement:
    return sql.SQL("ANALYZE {}").format(table_identifier(table))


def lock_sql(tables: Iterable[TableFacts]) -> Statement:
    """ACCESS EXCLUSIVE on all tables at once, so that the archive and the emptying see the same rows."""
    listed = sql.SQL(", ").join(map(table_identifier, tables))
    return sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(listed)


def create_index_sql(index: Index, table: TableFacts, column: str, *, concurrently: bool) -> Statement:
    """CREATE INDEX for an index that the playbook describes."""
    schema = shown_vector_schema(table, column)
    return sql.SQL("CREATE INDEX {how}{name} ON {table} USING hnsw ({column} {ops}) WITH ({options})").format(
        how=sql.SQL("CONCURRENTLY " if concurrently else ""),
        name=sql.Identifier(index.name),
        table=table_identifier(table),
        column=sql.Identifier(column),
        ops=sql.Identifier(*([schema] if schema else []), OPERATOR_CLASSES[index.metric]),
        options=sql.SQL("m = {m}, ef_construction = {ef}").format(
            m=sql.Literal(index.m), ef=sql.Literal(index.ef_construction)
        ),
    )


def restore_index_sql(definition: str, *, concurrently: bool) -> Statement:
    """CREATE INDEX from a definition as `pg_get_indexdef` prints it."""
    if concurrently:
        definition = definition.replace("CREATE INDEX ", "CREATE INDEX CONCURRENTLY ", 1)
    return sql.Composed([sql.SQL(definition)])


def archive_sql(archive: str, table: TableFacts) -> Statement:
    """Copy every row of `table` into a new table of the schema `ragops`."""
    return sql.SQL("CREATE TABLE {} AS TABLE {}").format(
        sql.Identifier("ragops", archive), table_identifier(table)
    )


def restore_rows_sql(table: TableFacts, archive: str) -> Statement:
    """Insert the archived rows into `table`, generated columns excepted."""
    columns = sql.SQL(", ").join(sql.Identifier(c.name) for c in table.columns.values() if not c.is_generated)
    return sql.SQL("INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {}").format(
        table_identifier(table), columns, columns, sql.Identifier("ragops", archive)
    )
