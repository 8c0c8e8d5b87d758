"""Reads the catalog into facts. Nothing here changes anything."""

from __future__ import annotations

from psycopg import sql

from ragops.facts import (
    ColumnFacts,
    DatabaseFacts,
    ForeignKeyFacts,
    IndexFacts,
    ServerFacts,
    ServerLimits,
    TableFacts,
)
from ragops.playbook.names import TableName
from ragops.playbook.tables import Tables
from ragops.postgres.connection import Connection, is_direct
from ragops.postgres.statements import identifier, statement


def read_database(
    connection: Connection, tables: Tables, *, exact: bool = True, scans: bool = True
) -> DatabaseFacts:
    """Facts of the server and of every mapped table.

    `exact` counts rows; otherwise the planner's estimate is taken and marked as such, and rows are counted
    only where there is none. Without `scans` nothing but the catalog is read: such rows are 0, rates and
    the server's limits None.
    """
    found = {
        logical: read_table(connection, name, exact=exact, scans=scans)
        for logical, name in tables.mapped().items()
    }
    server = read_server(connection, with_limits=scans)
    if not scans:
        return DatabaseFacts(server=server, tables=found)
    return DatabaseFacts(
        server=server,
        tables=found,
        docs_per_s=_docs_per_s(connection, tables, found),
        index_rows_per_s=_index_rows_per_s(connection),
    )


def read_server(connection: Connection, *, with_limits: bool = True) -> ServerFacts:
    """The server as this role sees it; `with_limits` looks at its settings and its machine for index builds."""
    row = connection.execute(statement("catalog", "server")).fetchone()
    assert row is not None
    limits, backend_pid = read_limits(connection) if with_limits else (None, connection.info.backend_pid)
    return ServerFacts(
        database=row[0],
        database_oid=row[1],
        server_version=row[2],
        pgvector_version=row[3],
        is_read_only=row[4],
        max_connections=row[5],
        connections_in_use=row[6],
        settings={
            "maintenance_work_mem": row[7],
            "max_parallel_maintenance_workers": row[8],
            "statement_timeout": row[9],
        },
        role=row[10],
        may_archive=row[11],
        limits=limits,
        is_direct=is_direct(connection, backend_pid),
    )


def read_limits(connection: Connection) -> tuple[ServerLimits, int]:
    """What an index build may take now, and the id of the process that serves this connection."""
    from ragops.postgres.server_host import find_server_host  # psutil takes longer to import than to ask.

    row = connection.execute(statement("catalog", "limits")).fetchone()
    assert row is not None
    kind, backend_pid, started_s = row[6:]
    limits = ServerLimits(
        maintenance_work_mem=row[0],
        max_parallel_maintenance_workers=row[1],
        max_parallel_workers=row[2],
        max_worker_processes=row[3],
        shared_buffers=row[4],
        effective_cache_size=row[5],
        host=find_server_host(backend_pid, started_s, shared_memory=kind),
    )
    return limits, backend_pid


def read_table(
    connection: Connection, name: TableName, *, exact: bool = True, scans: bool = True
) -> TableFacts | None:
    """Facts of one table, or None when it does not exist."""
    spelled = identifier(name).as_string(connection)
    row = connection.execute(statement("catalog", "table"), {"name": spelled}).fetchone()
    if row is None:
        return None
    schema, table, oid, is_unlogged, estimate, size = row
    by_oid = {"oid": oid}
    granted = connection.execute(statement("catalog", "rights"), by_oid).fetchone()
    rights = frozenset(granted[0] if granted else ())
    # Rows that may not be read are not counted: preflight names the right that is missing.
    rows = max(estimate, 0)
    if scans and "SELECT" in rights and (exact or estimate < 0):
        counted = connection.execute(
            sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(schema, table))
        ).fetchone()
        assert counted is not None
        rows = counted[0]
    return TableFacts(
        schema=schema,
        name=table,
        oid=oid,
        columns={
            c[0]: ColumnFacts(*c) for c in connection.execute(statement("catalog", "columns"), by_oid).fetchall()
        },
        primary_key=tuple(
            r[0] for r in connection.execute(statement("catalog", "primary_key"), by_oid).fetchall()
        ),
        rows=rows,
        rows_are_estimated=not scans or (not exact and estimate >= 0),
        bytes=size,
        is_unlogged=is_unlogged,
        referenced_by=tuple(
            ForeignKeyFacts(*r)
            for r in connection.execute(statement("catalog", "referenced_by"), by_oid).fetchall()
        ),
        indexes=read_indexes(connection, oid=oid, table=f"{schema}.{table}"),
        rights=rights,
    )


def read_indexes(connection: Connection, *, oid: int, table: str) -> tuple[IndexFacts, ...]:
    """The vector indexes (HNSW, IVFFlat) of one table."""
    rows = connection.execute(statement("catalog", "vector_indexes"), {"oid": oid}).fetchall()
    return tuple(
        IndexFacts(
            schema=schema,
            name=name,
            table=table,
            method=method,
            column=column,
            definition=definition,
            is_valid=is_valid,
            bytes=size,
        )
        for schema, name, method, column, definition, is_valid, size in rows
    )


def table_bytes(connection: Connection, table: TableFacts) -> int:
    """Bytes of heap, TOAST and indexes as of now."""
    row = connection.execute("SELECT pg_total_relation_size(%s::oid)", [table.oid]).fetchone()
    assert row is not None
    return int(row[0])


def has_ragops_schema(connection: Connection) -> bool:
    """Whether the schema is there as this version knows it: its newest table stands for all."""
    return connection.execute(statement("catalog", "ragops_table"), {"name": "source"}).fetchone() is not None


def _docs_per_s(connection: Connection, tables: Tables, found: dict[str, TableFacts | None]) -> float | None:
    """Documents a second of one worker, from the last batches on record; None without any."""
    metrics = found.get("ingestion_metrics")
    if metrics is None or metrics.rows == 0 or "SELECT" not in metrics.rights:
        return None
    columns = tables.columns_of("ingestion_metrics")
    if not {"documents", "milliseconds"} <= columns.keys():
        return None
    query = sql.SQL("SELECT sum({d})::float8, sum({ms})::float8 FROM {t} WHERE {ms} > 0").format(
        d=sql.Identifier(columns["documents"]),
        ms=sql.Identifier(columns["milliseconds"]),
        t=sql.Identifier(metrics.schema, metrics.name),
    )
    row = connection.execute(query).fetchone()
    return row[0] * 1000 / row[1] if row and row[0] and row[1] else None


def _index_rows_per_s(connection: Connection) -> float | None:
    """Rows a second of the latest index build in the ledger; None for a role that may not read it."""
    ledger = connection.execute(statement("catalog", "ragops_table"), {"name": "step"}).fetchone()
    if ledger is None or not ledger[0]:
        return None
    row = connection.execute(
        "SELECT (effect->>'rows')::float8 / nullif((effect->>'seconds')::float8, 0) FROM ragops.step"
        " WHERE verb = 'rebuild_indexes' AND status = 'done' AND (effect->>'rows')::float8 > 0"
        " ORDER BY finished_at DESC LIMIT 1"
    ).fetchone()
    return float(row[0]) if row and row[0] else None
