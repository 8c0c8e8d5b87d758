"""Read what can stand in the way of a write: triggers, publications, limits, policies, lost columns."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from psycopg import sql
from psycopg.rows import dict_row

from ragops.facts import (
    ConnectionLimits,
    SequenceFacts,
    StructureFacts,
    TableFacts,
    TriggerFacts,
    UniqueFacts,
)
from ragops.playbook.model import Source
from ragops.postgres.connection import Connection, fetch_row, transaction
from ragops.postgres.row_source import source_relation
from ragops.postgres.statements import statement

# A default that is no constant: a call, or a keyword that stands for one. Texts and casts may look like calls.
_TEXT_OR_CAST = re.compile(r"'(?:[^']|'')*'|::[\w .\"]+(?:\(\d+(?:,\d+)?\))?")
_CALL = re.compile(r"\w\(|\b(?:CURRENT_|LOCALTIME|SESSION_USER|USER\b)")


def read_structure(connection: Connection, table: TableFacts) -> StructureFacts:
    """Return what is attached to a table."""
    with connection.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(statement("constraints", "structure"), {"oid": table.oid}).fetchone()
    assert row is not None, "the query returned no row"
    return StructureFacts(
        children=tuple(row["children"]),
        unlogged_partitions=tuple(row["unlogged_partitions"]),
        invalid_indexes=tuple(row["invalid_indexes"]),
        triggers=tuple(TriggerFacts(**{**one, "events": tuple(one["events"])}) for one in row["triggers"]),
        published={event: tuple(names) for event, names in row["published"].items()},
        without_identity=tuple(row["without_identity"]),
        generated=row["generated"],
        defaults=row["defaults"],
        sequences=tuple(SequenceFacts(**one) for one in row["sequences"]),
        uniques=tuple(UniqueFacts(**{**one, "columns": tuple(one["columns"])}) for one in row["uniques"]),
        mentions=tuple(row["mentions"]),
    )


def read_connection_limits(connection: Connection) -> ConnectionLimits:
    """Return how many connections this role may still open, reserved ones and its own limit taken into account."""
    server, server_used, role, role_used, database, database_used = fetch_row(
        connection, statement("constraints", "connection_limits")
    )
    limits = [ConnectionLimits(server - server_used, server, "server")]
    # -1: no limit.
    if role >= 0:
        limits.append(ConnectionLimits(role - role_used, role, "role"))
    if database >= 0:
        limits.append(ConnectionLimits(database - database_used, database, "database"))
    return min(limits, key=lambda one: one.free)


def read_encoding(connection: Connection) -> str:
    """Return the encoding of the database, as the server spells it."""
    return str(fetch_row(connection, statement("constraints", "encoding"))[0])


def hidden_tables(connection: Connection, source: Source) -> list[str]:
    """Return the tables of a source, also those behind views, whose row-level security applies to the role."""
    with transaction(connection, lock_timeout_s=2):
        (plan,) = fetch_row(connection, statement("constraints", "explain", {"relation": source_relation(source)}))
        found = sorted(set(_relations(plan)))
        values = {"schemas": [schema for schema, _ in found], "names": [name for _, name in found]}
        return [row[0] for row in connection.execute(statement("constraints", "secured"), values).fetchall()]


def _relations(node: Any) -> Iterator[tuple[str, str]]:
    """Yield schema and name of every relation in a plan as EXPLAIN prints it."""
    if isinstance(node, list):
        for part in node:
            yield from _relations(part)
    elif isinstance(node, Mapping):
        if "Relation Name" in node and "Schema" in node:
            yield node["Schema"], node["Relation Name"]
        for part in node.values():
            yield from _relations(part)


def is_constant(default: str | None) -> bool:
    """Return whether a column without a value gets the same one in every row: a constant, or NULL."""
    return default is None or _CALL.search(_TEXT_OR_CAST.sub("", default)) is None


def count_lost(
    connection: Connection, table: TableFacts, columns: Sequence[str], defaults: Mapping[str, str]
) -> dict[str, int]:
    """Return how many values of each column would not come back if its default filled it; only those above 0."""
    if not columns or table.rows == 0:
        return {}
    # Compared as text: json, for one, has no equality. A default is the catalog's own spelling of an expression.
    counts = [
        sql.SQL("count(*) FILTER (WHERE {column}::text IS DISTINCT FROM ({value})::text)").format(
            column=sql.Identifier(column),
            value=sql.SQL(defaults.get(column, "NULL")),
        )
        for column in columns
    ]
    parts = {"counts": sql.SQL(", ").join(counts), "table": sql.Identifier(table.schema, table.name)}
    with transaction(connection, is_long=True):
        row = fetch_row(connection, statement("constraints", "filled", parts))
    return {column: count for column, count in zip(columns, row, strict=True) if count}
