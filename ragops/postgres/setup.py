"""Creates what ragops needs: its own schema, the five tables, missing bookkeeping columns of a queue.

It only ever adds. Existing tables and columns stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import psycopg
from psycopg import sql

from ragops.errors import PlanRefused
from ragops.facts import TableFacts
from ragops.playbook.tables import Tables
from ragops.postgres.catalog import has_ragops_schema, read_table
from ragops.postgres.connection import Connection, Target, transaction
from ragops.postgres.statements import identifiers_of, statement, statement_names

QUEUE_BOOKKEEPING = ("attempts", "phase", "claim_id", "claimed_by", "lease_until", "last_error")


@dataclass(frozen=True, slots=True)
class Addition:
    """One thing to create, with its SQL."""

    what: str
    sql: str


def ensure_ragops_schema(connection: Connection) -> None:
    """Create the schema `ragops` unless it is there. Raises PlanRefused without the right."""
    if has_ragops_schema(connection):
        return
    try:
        with transaction(connection):
            for name in statement_names("ragops_schema"):
                connection.execute(statement("ragops_schema", name))
    except (psycopg.errors.UniqueViolation, psycopg.errors.DuplicateTable, psycopg.errors.DuplicateSchema):
        # Two commands came here at once; CREATE ... IF NOT EXISTS can still collide. The other one won.
        ensure_ragops_schema(connection)
    except psycopg.errors.InsufficientPrivilege as error:
        raise PlanRefused(
            "ragops may not create its own schema in this database",
            found=str(error).splitlines()[0],
            needed="CREATE on the database, once; the schema `ragops` holds ledger, journal and archive",
            hint="run `ragops db init` as a role that may, or: GRANT CREATE ON DATABASE … TO …",
        ) from error


def ensure_pgvector(connection: Connection, target: Target) -> None:
    """CREATE EXTENSION vector. Raises PlanRefused when the server has none or forbids it."""
    try:
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
    except (psycopg.errors.FeatureNotSupported, psycopg.errors.UndefinedFile) as error:
        raise PlanRefused(
            "this PostgreSQL server has no pgvector",
            where=target.label,
            found=str(error).splitlines()[0],
            needed="pgvector 0.5 or newer among the server's extensions",
            hint="install pgvector for this server's version, then: ragops db init",
        ) from error
    except psycopg.errors.InsufficientPrivilege as error:
        raise PlanRefused(
            "this role may not create the extension pgvector",
            where=target.label,
            needed="CREATE EXTENSION vector",
            hint="run it as the database's owner, then: ragops db init",
        ) from error


def plan_setup(connection: Connection, tables: Tables, *, dimensions: Callable[[], int]) -> list[Addition]:
    """What is missing, with its SQL, in order; `dimensions` is asked only if a vector table is missing."""
    additions: list[Addition] = []
    row = connection.execute("SELECT count(*) FROM pg_extension WHERE extname = 'vector'").fetchone()
    if row and row[0] == 0:
        additions.append(Addition("extension vector", "CREATE EXTENSION vector"))
    if not has_ragops_schema(connection):
        parts = [
            statement("ragops_schema", name).as_string(connection) for name in statement_names("ragops_schema")
        ]
        additions.append(Addition("schema ragops", ";\n".join(parts)))
    for logical, name in tables.mapped().items():
        facts = read_table(connection, name, exact=False)
        if facts is None:
            width = dimensions() if logical in ("documents", "document_chunks") else 0
            additions += _create_table(connection, tables, logical, str(name), width)
        elif logical == "files_queue":
            additions += _add_columns(connection, tables, facts)
    return additions


def initialise(connection: Connection, target: Target, additions: list[Addition]) -> None:
    """Create everything that is missing, the tables in one transaction. Raises PlanRefused without the right."""
    ensure_pgvector(connection, target)
    ensure_ragops_schema(connection)
    try:
        with transaction(connection, lock_timeout_s=5):
            for addition in additions:
                if addition.what not in ("extension vector", "schema ragops"):
                    connection.execute(addition.sql.encode())
    except psycopg.errors.InsufficientPrivilege as error:
        raise PlanRefused(
            "this role may not create what is missing; nothing was created",
            where=target.label,
            found=str(error).splitlines()[0],
            hint="ragops db init --dry-run   prints the SQL for the database's owner",
        ) from error


def drop_tables(connection: Connection, tables: Tables) -> None:
    """Drop the mapped tables (the demo's, when its model has other dimensions)."""
    identifiers = identifiers_of(tables)
    with transaction(connection, lock_timeout_s=5):
        listed = sql.SQL(", ").join(identifiers[logical] for logical in tables.mapped())
        connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(listed))


def _create_table(
    connection: Connection, tables: Tables, logical: str, name: str, dimensions: int
) -> list[Addition]:
    names = [logical]
    if logical == "files_queue":
        names += ["files_queue_pending", "files_queue_processing"]
    return [
        Addition(
            f"table {name}" if part == logical else f"index on {name}",
            _render(connection, tables, part, dimensions),
        )
        for part in names
    ]


def _add_columns(connection: Connection, tables: Tables, facts: TableFacts) -> list[Addition]:
    columns = tables.columns_of("files_queue")
    return [
        Addition(f"column {facts.qualified}.{columns[word]}", _render(connection, tables, f"add_{word}", 0))
        for word in QUEUE_BOOKKEEPING
        if columns[word] not in facts.columns
    ]


def _render(connection: Connection, tables: Tables, name: str, dimensions: int) -> str:
    identifiers = {**identifiers_of(tables), "dimensions": sql.Literal(dimensions)}
    # The line of an optional column that the playbook sets to null names a placeholder without value.
    return statement("tables", name, identifiers, drop_unknown_lines=True).as_string(connection)
