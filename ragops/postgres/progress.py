"""The procedure's three progress queries."""

from __future__ import annotations

from typing import Any

from psycopg import sql

from ragops.facts import TableFacts
from ragops.playbook.tables import Tables
from ragops.postgres.connection import Connection, transaction


def documents_progress(connection: Connection, tables: Tables, table: TableFacts) -> dict[str, Any]:
    """Rows, rows with an embedding, bytes of the documents table."""
    column = tables.columns_of("documents")["embedding"]
    query = sql.SQL("SELECT count(*), count({c}) FROM {t}").format(
        c=sql.Identifier(column), t=sql.Identifier(table.schema, table.name)
    )
    with transaction(connection, is_long=True):
        row = connection.execute(query).fetchone()
    assert row is not None
    return {"total": row[0], "with_embedding": row[1], "bytes": table.bytes}


def parsed_progress(connection: Connection, tables: Tables, table: TableFacts | None) -> dict[str, Any]:
    """Rows and distinct files of the parsed files; zeros where the playbook has no such table."""
    if table is None:
        return {"total": 0, "unique_files": 0}
    column = tables.columns_of("parsed_files")["file_id"]
    query = sql.SQL("SELECT count(*), count(DISTINCT {c}) FROM {t}").format(
        c=sql.Identifier(column), t=sql.Identifier(table.schema, table.name)
    )
    with transaction(connection, is_long=True):
        row = connection.execute(query).fetchone()
    assert row is not None
    return {"total": row[0], "unique_files": row[1]}


def writing_fingerprints(connection: Connection, tables: Tables, table: TableFacts | None) -> set[str]:
    """The fingerprints of the workers that wrote what is stored, as the metrics have them."""
    column = tables.columns_of("ingestion_metrics").get("fingerprint") if table is not None else None
    if table is None or column is None:
        return set()
    query = sql.SQL("SELECT DISTINCT {c} FROM {t} WHERE {c} IS NOT NULL").format(
        c=sql.Identifier(column), t=sql.Identifier(table.schema, table.name)
    )
    return {str(row[0]) for row in connection.execute(query).fetchall()}
