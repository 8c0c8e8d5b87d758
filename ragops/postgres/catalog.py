"""Read the server's catalogs into facts, without changing anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from enum import Enum
from typing import Any, TypeVar

import psycopg
from psycopg import sql
from psycopg.rows import class_row

from ragops.errors import RagopsError
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
from ragops.postgres.connection import Connection, fetch_row, is_direct, transaction
from ragops.postgres.statements import identifier, identifiers_of, statement

Facts = TypeVar("Facts")
# How often the catalog is read anew when a lock came in between.
LOOKS = 3
OTHER_KINDS = {
    "v": "view",
    "m": "materialized view",
    "f": "foreign table",
    "S": "sequence",
    "c": "composite type",
    "i": "index",
    "I": "index",
}


class Rows(Enum):
    """How the rows of tables are counted, from the slowest way to the fastest."""

    EXACT = "exact"
    """Count every row, by a scan of every table."""
    ESTIMATED = "estimated"
    """Take the planner's estimate, and count only the tables that were never analyzed."""
    CATALOG_ONLY = "catalog only"
    """Read no table and wait for no lock: the planner's estimate or 0.

    Of a locked table sizes are those of the last ANALYZE, and definitions of indexes are empty. Rates and the
    server's limits are left out.
    """

    @classmethod
    def chosen(cls, *, exact: bool, scans: bool) -> Rows:
        """Return the way for a command that wants exact counts, and for one that allows no scan."""
        if not scans:
            return cls.CATALOG_ONLY
        return cls.EXACT if exact else cls.ESTIMATED


def read_database(connection: Connection, tables: Tables, *, rows: Rows = Rows.EXACT) -> DatabaseFacts:
    """Return the facts of the server and of every mapped table."""
    if rows is Rows.CATALOG_ONLY:
        return _look(connection, tables)
    mapped = tables.mapped()
    facts = {logical: read_table(connection, name, rows=rows) for logical, name in mapped.items()}
    missing = {logical: name for logical, name in mapped.items() if facts[logical] is None}
    return DatabaseFacts(
        server=read_server(connection),
        tables=facts,
        not_tables=_kinds(connection, missing),
        docs_per_s=_docs_per_s(connection, tables, facts.get("ingestion_metrics")),
        index_rows_per_s=_index_rows_per_s(connection),
    )


def _look(connection: Connection, tables: Tables) -> DatabaseFacts:
    """Read the catalog without waiting for a lock that another session holds."""
    rows = Rows.CATALOG_ONLY
    for _ in range(LOOKS):
        try:
            # A lock that is taken between the look for it and the reading of a size ends this transaction; the
            # next look knows of the lock.
            with transaction(connection, lock_timeout_s=0.2):
                mapped = tables.mapped()
                facts = {logical: read_table(connection, name, rows=rows) for logical, name in mapped.items()}
                missing = {logical: name for logical, name in mapped.items() if facts[logical] is None}
                server = read_server(connection, with_limits=False)
                return DatabaseFacts(server=server, tables=facts, not_tables=_kinds(connection, missing))
        except psycopg.errors.LockNotAvailable:
            continue
    raise RagopsError(
        "the tables are locked, again and again, by other sessions",
        where=", ".join(map(str, tables.mapped().values())),
        hint="SELECT pid, mode, relation::regclass FROM pg_locks WHERE mode = 'AccessExclusiveLock'",
    )


def _kinds(connection: Connection, names: Mapping[str, TableName]) -> dict[str, str]:
    """Return what those names stand for that are not a table's, by the same keys."""
    found = {key: _find(connection, name) for key, name in names.items()}
    return {key: OTHER_KINDS.get(row[1], "no table") for key, row in found.items() if row is not None}


def kind_of(connection: Connection, name: TableName) -> str | None:
    """Return what a name stands for: `table`, `view` and so on; None for nothing."""
    row = _find(connection, name)
    return None if row is None else OTHER_KINDS.get(row[1], "table" if row[1] in "rp" else "no table")


def _find(connection: Connection, name: TableName) -> tuple[int, str] | None:
    values = {"schema": name.schema, "name": name.name, "quoted": identifier(name).as_string(connection)}
    row = connection.execute(statement("catalog", "find_relation"), values).fetchone()
    return None if row is None else (row[0], row[1])


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
    found = _find(connection, name)
    if found is None or found[1] not in ("r", "p"):
        return None
    oid = found[0]
    locked_by = read_blocker(connection, oid) if rows is Rows.CATALOG_ONLY else None
    values = {"oid": oid, "may_lock": locked_by is None}
    row = connection.execute(statement("catalog", "table"), values).fetchone()
    if row is None:
        # Dropped in between.
        return None
    schema, table, is_unlogged, estimate, size, is_partitioned, privileges = row
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
        indexes=read_indexes(connection, oid=oid, may_lock=locked_by is None),
        privileges=frozenset(privileges),
        is_partitioned=is_partitioned,
        partitions=tuple(_fetch_all(connection, PartitionFacts, "partitions", values)) if is_partitioned else (),
        locked_by=locked_by,
    )


def read_indexes(
    connection: Connection,
    *,
    oid: int,
    may_lock: bool = True,
    columns: Sequence[str] = (),
    name: str | None = None,
) -> tuple[IndexFacts, ...]:
    """Return the vector indexes (HNSW, IVFFlat) of the table with this oid and of its partitions.

    Indexes of other methods are among them that depend on one of the `columns`, or have the `name`. Without
    `may_lock` it waits for nobody: definitions are empty then, and partitions are left out.
    """
    values = {"oid": oid, "may_lock": may_lock, "columns": list(columns), "name": name}
    rows = connection.execute(statement("catalog", "vector_indexes"), values).fetchall()
    return tuple(_index(*row) for row in rows)


def _index(*row: Any) -> IndexFacts:
    *plain, properties, reads, mentions = row
    own = IndexProperties.from_json(properties)
    return replace(IndexFacts(*plain), properties=own, reads=tuple(reads), mentions=frozenset(mentions))


def read_blocker(connection: Connection, oid: int) -> str | None:
    """Return who keeps readers of a table out, e.g. `pid 4711 (psql)`; None if nobody does."""
    row = connection.execute(statement("catalog", "blocker"), {"oid": oid}).fetchone()
    if row is None:
        return None
    pid, application = row
    return "a prepared transaction" if pid is None else f"pid {pid}" + (f" ({application})" if application else "")


def table_bytes(connection: Connection, table: TableFacts) -> int:
    """Return the current size of heap, TOAST and indexes."""
    return int(fetch_row(connection, statement("catalog", "table_bytes"), {"oid": table.oid})[0])


class LedgerAccess(Enum):
    """Whether the ledger can be read."""

    ABSENT = "absent"
    DENIED = "denied"
    READABLE = "readable"


def ledger_access(connection: Connection) -> LedgerAccess:
    """Return whether ragops' tables are there, and whether the role may read them."""
    row = connection.execute(statement("catalog", "ragops_table"), {"name": "campaign"}).fetchone()
    if row is None:
        return LedgerAccess.ABSENT
    return LedgerAccess.READABLE if row[0] else LedgerAccess.DENIED


def has_ragops_schema(connection: Connection) -> bool:
    """Return whether the schema `ragops` is there, in the form of this version."""
    # All of it is created or extended in one transaction.
    return bool(fetch_row(connection, statement("catalog", "is_ragops_current"))[0])


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
