"""Creates what ragops needs: its own schema, the five tables, and what a queue lacks: columns, indexes, settings.

It only ever adds. Existing tables and columns stay as they are, and so does every setting that a table has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import psycopg
from psycopg import sql

from ragops.errors import PlanRefused
from ragops.facts import TableFacts
from ragops.playbook.tables import Tables
from ragops.postgres.catalog import has_ragops_schema, read_table
from ragops.postgres.connection import Connection, Target, transaction
from ragops.postgres.statements import identifiers_of, statement, statement_names

QUEUE_BOOKKEEPING = ("attempts", "phase", "claim_id", "claimed_by", "lease_until", "last_error")
QUEUE_INDEXES = {
    "files_queue_pending": ("pending items", ("phase", "id"), "'pending'"),
    "files_queue_leases": ("leases", ("lease_until",), "'processing'"),
    # Another predicate than that of the leases: while the planner believes that nothing is processed, it would
    # take either for the other, and read it from end to end.
    "files_queue_claims": ("claims", ("claim_id",), "IS NOT NULL"),
    "files_queue_failed": ("failed items", ("id",), "'failed'"),
}
"""Statement → what it finds, its key columns, and what stands in its predicate."""
QUEUE_SETTINGS = {
    "fillfactor": "70",
    "autovacuum_vacuum_scale_factor": "0.01",
    "autovacuum_vacuum_threshold": "1000",
    "autovacuum_vacuum_cost_delay": "0",
    "autovacuum_analyze_scale_factor": "0.02",
}
"""Every item is rewritten at least twice: room in its page, and a vacuum that comes early and does not pause."""


@dataclass(frozen=True, slots=True)
class Addition:
    """One thing to create, with its SQL."""

    what: str
    sql: str
    is_advice: bool = False
    """The queue works without it, only slower, and this role may not create it."""


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
            actual=str(error).splitlines()[0],
            expected="CREATE on the database, once; the schema `ragops` holds ledger, journal and archive",
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
            actual=str(error).splitlines()[0],
            expected="pgvector 0.5 or newer among the server's extensions",
            hint="install pgvector for this server's version, then: ragops db init",
        ) from error
    except psycopg.errors.InsufficientPrivilege as error:
        raise PlanRefused(
            "this role may not create the extension pgvector",
            where=target.label,
            expected="CREATE EXTENSION vector",
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
            additions += _tune_queue(connection, tables, facts)
    return additions


def initialise(connection: Connection, target: Target, additions: list[Addition]) -> None:
    """Create what is missing, advice excepted, in one transaction. Raises PlanRefused without the right."""
    ensure_pgvector(connection, target)
    ensure_ragops_schema(connection)
    try:
        with transaction(connection, lock_timeout_s=5, is_long=True):
            for addition in additions:
                if addition.what not in ("extension vector", "schema ragops") and not addition.is_advice:
                    connection.execute(addition.sql.encode())
    except psycopg.errors.InsufficientPrivilege as error:
        raise PlanRefused(
            "this role may not create what is missing; nothing was created",
            where=target.label,
            actual=str(error).splitlines()[0],
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
    addition = Addition(f"table {name}", _render(connection, tables, logical, dimensions))
    if logical != "files_queue":
        return [addition]
    indexes = [_queue_index(connection, tables, part, name) for part in QUEUE_INDEXES]
    return [addition, _queue_settings(connection, tables, tuple(QUEUE_SETTINGS), name), *indexes]


def _add_columns(connection: Connection, tables: Tables, facts: TableFacts) -> list[Addition]:
    columns = tables.columns_of("files_queue")
    return [
        Addition(f"column {facts.qualified}.{columns[word]}", _render(connection, tables, f"add_{word}", 0))
        for word in QUEUE_BOOKKEEPING
        if columns[word] not in facts.columns
    ]


def _tune_queue(connection: Connection, tables: Tables, facts: TableFacts) -> Iterator[Addition]:
    """Settings and indexes that an existing queue lacks; advice where another role owns it."""
    columns = tables.columns_of("files_queue")
    if not {columns["id"], columns["status"]} <= facts.columns.keys():
        return
    row = connection.execute(statement("catalog", "storage_settings"), {"oid": facts.oid}).fetchone()
    if row is not None and row[0] is not None:
        missing = tuple(name for name in QUEUE_SETTINGS if name not in row[0])
        if missing:
            addition = _queue_settings(connection, tables, missing, facts.qualified)
            yield replace(addition, is_advice="OWN" not in facts.rights)
    found = connection.execute(statement("catalog", "partial_indexes"), {"oid": facts.oid}).fetchall()
    for name, (_, words, part) in QUEUE_INDEXES.items():
        keys = [columns[word] for word in words]
        if not any(keys == names and part in predicate for names, predicate in found):
            addition = _queue_index(connection, tables, name, facts.qualified)
            yield replace(addition, is_advice=not {"OWN", "CREATE"} <= facts.rights)


def _queue_index(connection: Connection, tables: Tables, name: str, table: str) -> Addition:
    return Addition(f"index of {QUEUE_INDEXES[name][0]} on {table}", _render(connection, tables, name, 0))


def _queue_settings(connection: Connection, tables: Tables, names: tuple[str, ...], table: str) -> Addition:
    settings = sql.SQL(", ").join(sql.SQL(f"{name} = {QUEUE_SETTINGS[name]}") for name in names)
    query = statement("tables", "files_queue_settings", {**identifiers_of(tables), "settings": settings})
    return Addition(f"settings of {table}", query.as_string(connection))


def _render(connection: Connection, tables: Tables, name: str, dimensions: int) -> str:
    identifiers = {**identifiers_of(tables), "dimensions": sql.Literal(dimensions)}
    # The line of an optional column that the playbook sets to null names a placeholder without value.
    return statement("tables", name, identifiers, drop_unknown_lines=True).as_string(connection)
