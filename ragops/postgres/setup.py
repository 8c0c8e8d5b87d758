"""Create what ragops needs: its schema, the five tables, and the columns, indexes and settings that a queue lacks.

It only adds. Existing tables and columns stay unchanged, and so does every setting that a table already has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import psycopg
from psycopg import sql

from ragops.errors import PlanRefused, first_line
from ragops.facts import TableFacts
from ragops.playbook.names import TableName
from ragops.playbook.tables import Tables
from ragops.playbook.targets import WORK_TABLE
from ragops.postgres.catalog import Rows, has_ragops_schema, kind_of, read_table
from ragops.postgres.connection import Connection, Target, fetch_row, transaction
from ragops.postgres.ownership import check_owners
from ragops.postgres.privacy import close_schema
from ragops.postgres.statements import identifiers_of, statement, statement_names

EXTENSION = "extension vector"
SCHEMA = "schema ragops"
# Columns that another tool's queue has no need of; ragops adds them, in this order.
QUEUE_BOOKKEEPING = ("attempts", "phase", "claim_id", "claimed_by", "lease_until", "last_error")
# Statement → what the index finds, its key columns, and a part of its predicate. All are partial: most items of a
# campaign are completed, and no query looks for those.
QUEUE_INDEXES = {
    "files_queue_pending": ("pending items", ("phase", "id"), "'pending'"),
    "files_queue_leases": ("leases", ("lease_until",), "'processing'"),
    # A predicate other than that of the leases: while statistics say that no item is processed, both indexes would
    # seem to cost nothing, and the planner would take either for the other and read it from end to end.
    "files_queue_claims": ("claims", ("claim_id",), "IS NOT NULL"),
    "files_queue_failed": ("failed items", ("id",), "'failed'"),
}
# Every item is updated at least twice, when it is claimed and when it is completed: free space keeps the new
# version in the page of the old one. Autovacuum's default scale factor of 0.2 would let a queue of a million items
# collect 200,000 dead rows, and its default delay of 2 ms lets it fall behind the fleet.
QUEUE_SETTINGS = {
    "fillfactor": "70",
    "autovacuum_vacuum_scale_factor": "0.01",
    "autovacuum_vacuum_threshold": "1000",
    "autovacuum_vacuum_cost_delay": "0",
    "autovacuum_analyze_scale_factor": "0.02",
}
# Raised by CREATE ... IF NOT EXISTS: it checks before it locks, so two commands at once can collide.
MADE_MEANWHILE = (
    psycopg.errors.UniqueViolation,
    psycopg.errors.DuplicateTable,
    psycopg.errors.DuplicateSchema,
)


@dataclass(frozen=True, slots=True)
class Addition:
    """One thing to create, with its SQL."""

    what: str
    sql: str
    is_advice: bool = False
    """The role may not create it, and the queue works without it, only slower."""


def ensure_ragops_schema(connection: Connection) -> None:
    """Create the schema `ragops` unless it exists.

    Raises PlanRefused without the privilege, or if a stranger owns what is there.
    """
    if has_ragops_schema(connection):
        check_owners(connection)
        return
    try:
        with transaction(connection):
            for name in statement_names("ragops_schema"):
                connection.execute(statement("ragops_schema", name))
            check_owners(connection)
            close_schema(connection)
    except MADE_MEANWHILE:
        # The other one committed, and this one only has to look again.
        ensure_ragops_schema(connection)
    except psycopg.errors.InsufficientPrivilege as error:
        raise PlanRefused(
            "permission denied: the role lacks CREATE on this database, which the schema ragops needs once",
            actual=first_line(error),
            expected="the schema `ragops`, which holds ledger, journal and archive",
            hint="run `ragops db init` as a role that has it, or: GRANT CREATE ON DATABASE … TO …",
        ) from error


def ensure_pgvector(connection: Connection, target: Target) -> None:
    """Install the extension pgvector if it is missing. Raises PlanRefused if the server lacks or denies it."""
    try:
        connection.execute(statement("tables", "create_pgvector"))
    except (
        psycopg.errors.FeatureNotSupported,
        psycopg.errors.UndefinedFile,
        psycopg.errors.RaiseException,
    ) as error:
        if fetch_row(connection, statement("catalog", "is_available"))[0]:
            # A managed server's list of allowed extensions answers with the code of a missing one.
            raise PlanRefused(
                "the server refuses to create the extension vector",
                where=target.label,
                actual=first_line(error),
                expected="CREATE EXTENSION vector",
                hint=error.diag.message_hint or "ask the server's administrator, then: ragops db init",
            ) from error
        # Which of the two depends on the version: the extension is not available, or its control file is missing.
        raise PlanRefused(
            "pgvector is not available on this PostgreSQL server",
            where=target.label,
            actual=first_line(error),
            expected="pgvector 0.5 or newer among the server's extensions",
            hint="install pgvector for this server's version, then: ragops db init",
        ) from error
    except psycopg.errors.InsufficientPrivilege as error:
        raise PlanRefused(
            "permission denied to create extension vector",
            where=target.label,
            actual=first_line(error),
            expected="CREATE EXTENSION vector",
            hint="run it as the database's owner, then: ragops db init",
        ) from error


def plan_setup(connection: Connection, tables: Tables, *, dimensions: Callable[[], int]) -> list[Addition]:
    """Return what is missing, in order of creation; `dimensions` is called only if a vector table is missing.

    Raises PlanRefused if a name stands for something that is no table, or for a table that cannot be a queue.
    """
    additions: list[Addition] = []
    vector = _vector_type(connection)
    if vector is None:
        additions.append(Addition(EXTENSION, "CREATE EXTENSION vector"))
    if not has_ragops_schema(connection):
        names = statement_names("ragops_schema")
        parts = [statement("ragops_schema", name).as_string(connection) for name in names]
        additions.append(Addition(SCHEMA, ";\n".join(parts)))
    for logical, name in tables.mapped().items():
        if name == TableName.parse(WORK_TABLE):
            # A table of the schema ragops.
            continue
        facts = read_table(connection, name, rows=Rows.ESTIMATED)
        if facts is None:
            _refuse_other_kind(kind_of(connection, name), logical, name)
            # The tables without vectors have no use for the dimensions, which may cost a start of the model.
            width = dimensions() if logical in ("documents", "document_chunks") else 0
            query = _render(connection, tables, logical, width, vector=vector)
            additions.append(Addition(f"table {name}", query))
            if logical == "files_queue":
                additions.append(_queue_settings(connection, tables, tuple(QUEUE_SETTINGS), str(name)))
                additions += [_queue_index(connection, tables, index, str(name)) for index in QUEUE_INDEXES]
        elif logical == "files_queue":
            additions += _missing_parts(connection, tables, facts)
    return additions


def initialise(connection: Connection, target: Target, additions: list[Addition]) -> None:
    """Create what is missing, advice excepted, in one transaction. Raises PlanRefused without the privilege."""
    ensure_pgvector(connection, target)
    ensure_ragops_schema(connection)
    try:
        with transaction(connection, lock_timeout_s=5, is_long=True):
            for addition in additions:
                if addition.what not in (EXTENSION, SCHEMA) and not addition.is_advice:
                    _create(connection, addition)
    except psycopg.errors.InsufficientPrivilege as error:
        raise PlanRefused(
            "permission denied: the role may not create what is missing; nothing was created",
            where=target.label,
            actual=first_line(error),
            hint="ragops db init --dry-run   prints the SQL for the database's owner",
        ) from error


def _create(connection: Connection, addition: Addition) -> None:
    """Create one thing. Raises PlanRefused if it does not fit the types of a table that is there."""
    try:
        connection.execute(addition.sql.encode())
    except (psycopg.DataError, psycopg.errors.UndefinedFunction, psycopg.errors.DatatypeMismatch) as error:
        # Such as an index of pending items, where the status is a number.
        raise PlanRefused(
            f"the table does not fit ragops: the {addition.what} cannot be created; nothing was created",
            actual=first_line(error),
            expected="columns of the types that `ragops db init` gives them: status is text, ids can be compared",
            hint="map columns of these types in the playbook's tables:, or let ragops make a queue of its own",
        ) from error


def drop_tables(connection: Connection, tables: Tables) -> None:
    """Drop the mapped tables, such as the demo's when its model has other dimensions."""
    identifiers = identifiers_of(tables)
    listed = sql.SQL(", ").join(identifiers[logical] for logical in tables.mapped())
    with transaction(connection, lock_timeout_s=5):
        connection.execute(statement("tables", "drop_tables", {"tables": listed}))


def _missing_parts(connection: Connection, tables: Tables, facts: TableFacts) -> Iterator[Addition]:
    """Yield the columns, settings and indexes that an existing queue lacks; advice if another role owns it."""
    columns = tables.columns_of("files_queue")
    missing = [columns[word] for word in ("id", "location", "status") if columns[word] not in facts.columns]
    if missing:
        # Another program's table that happens to have this name: it gets no column.
        raise PlanRefused(
            f"table {facts.quoted} is no queue that ragops could use; nothing was created",
            where="files_queue",
            actual=f"it has no column {' and none '.join(missing)}; its columns: {', '.join(facts.columns)}",
            expected="columns for id, location and status",
            hint="name another table, or its columns, in tables.files_queue of the playbook, then: ragops db init",
        )
    for word in QUEUE_BOOKKEEPING:
        if columns[word] not in facts.columns:
            added = _render(connection, tables, f"add_{word}", 0)
            yield Addition(f"column {facts.quoted}.{columns[word]}", added)
    is_owner = "OWN" in facts.privileges
    (options,) = fetch_row(connection, statement("catalog", "storage_settings"), {"oid": facts.oid})
    if options is not None:
        settings = tuple(name for name in QUEUE_SETTINGS if name not in options)
        if settings:
            yield _queue_settings(connection, tables, settings, facts.quoted, is_advice=not is_owner)
    indexes = connection.execute(statement("catalog", "partial_indexes"), {"oid": facts.oid}).fetchall()
    for name, (_, words, condition) in QUEUE_INDEXES.items():
        keys = [columns[word] for word in words]
        # The predicate is compared by its telling part: the server prints casts that depend on the column's type.
        if not any(keys == names and condition in predicate for names, predicate in indexes):
            is_advice = not (is_owner and "CREATE" in facts.privileges)
            yield _queue_index(connection, tables, name, facts.quoted, is_advice=is_advice)


def _queue_index(
    connection: Connection, tables: Tables, name: str, table: str, *, is_advice: bool = False
) -> Addition:
    what = f"index of {QUEUE_INDEXES[name][0]} on {table}"
    return Addition(what, _render(connection, tables, name, 0), is_advice)


def _queue_settings(
    connection: Connection, tables: Tables, names: tuple[str, ...], table: str, *, is_advice: bool = False
) -> Addition:
    settings = sql.SQL(", ").join(sql.SQL(f"{name} = {QUEUE_SETTINGS[name]}") for name in names)
    query = statement("tables", "files_queue_settings", {**identifiers_of(tables), "settings": settings})
    return Addition(f"settings of {table}", query.as_string(connection), is_advice)


def _vector_type(connection: Connection) -> sql.Identifier | None:
    """Return the name of pgvector's type, with its schema unless the search path finds it; None if missing."""
    row = connection.execute(statement("catalog", "vector_schema")).fetchone()
    if row is None:
        return None
    return sql.Identifier("vector") if row[1] else sql.Identifier(row[0], "vector")


def _refuse_other_kind(kind: str | None, logical: str, name: TableName) -> None:
    """Raise PlanRefused if a name is taken by something that is no table."""
    if kind is not None:
        raise PlanRefused(
            f"{name} is a {kind}, and ragops needs a table; nothing was created",
            where=f"tables.{logical} in the playbook",
            actual=kind,
            expected="a table, or a name that is free",
            hint=f"name the table in tables.{logical}.table of the playbook",
        )


def _render(
    connection: Connection, tables: Tables, name: str, dimensions: int, *, vector: sql.Identifier | None = None
) -> str:
    identifiers = {
        **identifiers_of(tables),
        "dimensions": sql.Literal(dimensions),
        "vector": vector or sql.Identifier("vector"),
    }
    # The line of an optional column that the playbook maps to null has a placeholder without a value.
    return statement("tables", name, identifiers, drop_unknown_lines=True).as_string(connection)
