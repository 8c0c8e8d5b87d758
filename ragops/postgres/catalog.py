"""Read the server's catalogs into facts, without changing anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from enum import Enum
from typing import Any, TypeVar

from psycopg import sql
from psycopg.rows import class_row

from ragops.facts import (
    ColumnFacts,
    DatabaseFacts,
    ForeignKeyFacts,
    IndexFacts,
    IndexProperties,
    PartitionFacts,
    ServerFacts,
    ServerLimits,
    TableFacts,
)
from ragops.playbook.names import TableName
from ragops.playbook.tables import Tables
from ragops.postgres.connection import Connection, fetch_row, is_direct
from ragops.postgres.statements import identifier, identifiers_of, statement

Facts = TypeVar("Facts")


class Rows(Enum):
    """How the rows of tables are counted, from the slowest way to the fastest."""

    EXACT = "exact"
    """Count every row, by a scan of every table."""
    ESTIMATED = "estimated"
    """Take the planner's estimate, and count only the tables that were never analyzed."""
    CATALOG_ONLY = "catalog only"
    """Read no table: the planner's estimate or 0. Rates and the server's limits are left out as well."""

    @classmethod
    def chosen(cls, *, exact: bool, scans: bool) -> Rows:
        """Return the way for a command that wants exact counts, and for one that allows no scan."""
        if not scans:
            return cls.CATALOG_ONLY
        return cls.EXACT if exact else cls.ESTIMATED


def read_database(connection: Connection, tables: Tables, *, rows: Rows = Rows.EXACT) -> DatabaseFacts:
    """Return the facts of the server and of every mapped table."""
    facts = {logical: read_table(connection, name, rows=rows) for logical, name in tables.mapped().items()}
    if rows is Rows.CATALOG_ONLY:
        return DatabaseFacts(server=read_server(connection, with_limits=False), tables=facts)
    return DatabaseFacts(
        server=read_server(connection),
        tables=facts,
        docs_per_s=_docs_per_s(connection, tables, facts.get("ingestion_metrics")),
        index_rows_per_s=_index_rows_per_s(connection),
    )


def read_server(connection: Connection, *, with_limits: bool = True) -> ServerFacts:
    """Return the server as this role sees it; `with_limits` adds what an index build may take."""
    (facts,) = _fetch_all(connection, ServerFacts, "server")
    limits, backend_pid = read_limits(connection) if with_limits else (None, connection.info.backend_pid)
    return replace(facts, limits=limits, is_direct=is_direct(connection, backend_pid))


def read_limits(connection: Connection) -> tuple[ServerLimits, int]:
    """Return what an index build may take now, and the process id of the server's end of this connection."""
    # Imported here because psutil takes longer to import than this query takes to run.
    from ragops.postgres.server_host import find_server_host

    (limits,) = _fetch_all(connection, ServerLimits, "limits")
    backend_pid, started_s, shared_memory = fetch_row(connection, statement("catalog", "backend"))
    host = find_server_host(backend_pid, started_s, shared_memory=shared_memory)
    return replace(limits, host=host), backend_pid


def read_table(connection: Connection, name: TableName, *, rows: Rows = Rows.EXACT) -> TableFacts | None:
    """Return the facts of one table; None if it does not exist."""
    # to_regclass() parses the name as SQL does, so it must be quoted.
    quoted = identifier(name).as_string(connection)
    row = connection.execute(statement("catalog", "table"), {"name": quoted}).fetchone()
    if row is None:
        return None
    schema, table, oid, is_unlogged, estimate, size, is_partitioned, privileges = row
    count = max(estimate, 0)
    is_counted = rows is Rows.EXACT or (rows is Rows.ESTIMATED and estimate < 0)
    # Without SELECT the count would fail here; preflight reports the missing privilege with its GRANT.
    if is_counted and "SELECT" in privileges:
        query = statement("catalog", "count_rows", {"table": sql.Identifier(schema, table)})
        (count,) = fetch_row(connection, query)
    by_oid = {"oid": oid}
    return TableFacts(
        schema=schema,
        name=table,
        oid=oid,
        columns={column.name: column for column in _fetch_all(connection, ColumnFacts, "columns", by_oid)},
        rows=count,
        bytes=size,
        is_unlogged=is_unlogged,
        referenced_by=tuple(_fetch_all(connection, ForeignKeyFacts, "referenced_by", by_oid)),
        indexes=read_indexes(connection, oid=oid),
        privileges=frozenset(privileges),
        is_partitioned=is_partitioned,
        partitions=tuple(_fetch_all(connection, PartitionFacts, "partitions", by_oid)) if is_partitioned else (),
    )


def read_indexes(connection: Connection, *, oid: int) -> tuple[IndexFacts, ...]:
    """Return the vector indexes (HNSW, IVFFlat) of the table with this oid and of its partitions."""
    rows = connection.execute(statement("catalog", "vector_indexes"), {"oid": oid}).fetchall()
    return tuple(_index(*row) for row in rows)


def _index(*row: Any) -> IndexFacts:
    return replace(IndexFacts(*row[:-1]), properties=IndexProperties.from_json(row[-1]))


def table_bytes(connection: Connection, table: TableFacts) -> int:
    """Return the current size of heap, TOAST and indexes."""
    return int(fetch_row(connection, statement("catalog", "table_bytes"), {"oid": table.oid})[0])


def has_ragops_schema(connection: Connection) -> bool:
    """Return whether the schema `ragops` is there, in the form of this version."""
    # `undo` is the newest of its tables, and all are created or extended in one transaction.
    return connection.execute(statement("catalog", "ragops_table"), {"name": "undo"}).fetchone() is not None


def _docs_per_s(connection: Connection, tables: Tables, metrics: TableFacts | None) -> float | None:
    """Return the documents per second of one worker in recorded batches; None if that is unknown."""
    if metrics is None or metrics.rows == 0 or "SELECT" not in metrics.privileges:
        return None
    if not {"documents", "milliseconds"} <= tables.columns_of("ingestion_metrics").keys():
        return None
    rate: float | None = fetch_row(connection, statement("catalog", "docs_per_s", identifiers_of(tables)))[0]
    return rate


def _index_rows_per_s(connection: Connection) -> float | None:
    """Return the rows per second of the last index build in the ledger; None if the role may not read it."""
    ledger = connection.execute(statement("catalog", "ragops_table"), {"name": "step"}).fetchone()
    if ledger is None or not ledger[0]:
        return None
    row = connection.execute(statement("catalog", "index_rows_per_s")).fetchone()
    return float(row[0]) if row and row[0] else None


def _fetch_all(
    connection: Connection, facts: type[Facts], name: str, values: Mapping[str, object] | None = None
) -> list[Facts]:
    """Run a statement of catalog.sql whose columns are named as the fields of `facts`."""
    with connection.cursor(row_factory=class_row(facts)) as cursor:
        return cursor.execute(statement("catalog", name), values).fetchall()
