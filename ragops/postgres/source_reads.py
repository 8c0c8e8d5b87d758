"""Find out which tables a source reads, whatever stands in between: views, partitions, functions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Set
from typing import Any

import psycopg
from psycopg import sql

from ragops.facts import TableFacts
from ragops.postgres.connection import Connection, fetch_row
from ragops.postgres.statements import statement


def tables_read(connection: Connection, relation: sql.Composable, tables: Iterable[TableFacts]) -> dict[int, str]:
    """Return the tables whose rows `relation` reads: by oid, the relation or function that leads there.

    Acts inside the caller's transaction and leaves nothing behind.
    """
    relations, functions = set[int](), set[int]()
    try:
        with connection.transaction(force_rollback=True):
            connection.execute(statement("source", "create_view", {"relation": relation}))
            for is_relation, oid in connection.execute(statement("source", "view_reads")).fetchall():
                (relations if is_relation else functions).add(oid)
    except psycopg.Error:
        # The database is read-only, or the role may not create temporary objects: the plan has to do.
        pass
    oids = [table.oid for table in tables]
    # What the query names comes last, as it tells the operator more than what the server makes of it.
    return {
        **_reached(connection, _explained(connection, relation), set(), oids),
        **_reached(connection, relations, functions, oids),
    }


def _reached(
    connection: Connection, relations: Set[int], functions: Set[int], tables: Sequence[int]
) -> dict[int, str]:
    """Return which of `tables` can be reached from relations and functions: by oid, the one that leads there."""
    values = {"relations": list(relations), "functions": list(functions), "tables": tables}
    return dict(connection.execute(statement("source", "reads"), values).fetchall())


def _explained(connection: Connection, relation: sql.Composable) -> set[int]:
    """Return the oids of the relations in the server's plan: those of inlined functions, too."""
    plan = fetch_row(connection, statement("source", "explain", {"relation": relation}))[0]
    oids = set()
    for schema, name in set(_scans(plan)):
        row = connection.execute(statement("source", "relation_oid"), {"schema": schema, "name": name}).fetchone()
        if row is not None:
            oids.add(int(row[0]))
    return oids


def _scans(node: Any) -> Iterator[tuple[str, str]]:
    """Yield schema and name of every relation in a plan as EXPLAIN prints it in JSON."""
    if isinstance(node, list):
        for entry in node:
            yield from _scans(entry)
    elif isinstance(node, dict):
        if "Relation Name" in node and "Schema" in node:
            yield node["Schema"], node["Relation Name"]
        for value in node.values():
            yield from _scans(value)
