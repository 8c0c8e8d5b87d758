"""Keep what ragops stores from other roles: default privileges would open it to whoever they name."""

from __future__ import annotations

from psycopg import sql

from ragops.facts import TableFacts
from ragops.postgres.connection import Connection, fetch_row
from ragops.postgres.ddl import private_table_statements, revoke_sql
from ragops.postgres.statements import statement


def close_archive(connection: Connection, archive: str, *, of: TableFacts) -> None:
    """Take the privileges on a new archive from everyone but its owner, in the caller's transaction.

    The archived table's own grants, column privileges and policies do not come with a copy.
    """
    grantees = _names(connection, "grantees", archive)
    row_security = fetch_row(connection, statement("privacy", "has_row_security"), {"oid": of.oid})[0]
    for query in private_table_statements(archive, grantees, row_security=row_security):
        connection.execute(query)


def close_schema(connection: Connection) -> None:
    """Take the privileges on the new schema `ragops` and all in it from everyone but its owner."""
    if grantees := _names(connection, "schema_grantees"):
        connection.execute(revoke_sql(sql.SQL("SCHEMA {}").format(sql.Identifier("ragops")), grantees))
    for (name,) in connection.execute(statement("privacy", "relations")).fetchall():
        for query in private_table_statements(name, _names(connection, "grantees", name)):
            connection.execute(query)


def _names(connection: Connection, query: str, name: str = "") -> list[str]:
    return [row[0] for row in connection.execute(statement("privacy", query), {"name": name}).fetchall()]
