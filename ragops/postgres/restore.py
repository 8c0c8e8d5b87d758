"""Bring archived rows back into their table, exactly: without triggers, counted and compared.

Every function acts inside the transaction of its caller, who has locked the table.
"""

from __future__ import annotations

from collections.abc import Sequence

import psycopg
from psycopg import sql
from psycopg.rows import class_row

from ragops.errors import RagopsError
from ragops.facts import ColumnFacts, TableFacts, TriggerState
from ragops.playbook.names import TableName
from ragops.postgres.archive import Archive
from ragops.postgres.catalog import Rows, read_table
from ragops.postgres.connection import Connection, fetch_row
from ragops.postgres.ddl import (
    checksum_sql,
    disable_trigger_sql,
    enable_trigger_sql,
    restore_rows_sql,
    table_identifier,
)
from ragops.postgres.statements import statement


def find_archived_table(connection: Connection, archive: Archive, *, rows: Rows = Rows.EXACT) -> TableFacts | None:
    """Return the table that an archive's rows came from, whatever it is called now; None if it is gone.

    Without an oid that counts here it is found by schema and name.
    """
    if archive.table_oid is None:
        return read_table(connection, TableName(archive.schema, archive.table), rows=rows)
    found = connection.execute(statement("catalog", "name_of"), {"oid": archive.table_oid}).fetchone()
    return read_table(connection, TableName(*found), rows=rows) if found else None


def archived_columns(connection: Connection, archive: Archive) -> dict[str, ColumnFacts] | None:
    """Return the columns that the archive holds; None if its table in the schema `ragops` is gone."""
    table = read_table(connection, TableName("ragops", archive.name), rows=Rows.CATALOG_ONLY)
    return dict(table.columns) if table else None


def read_triggers(connection: Connection, table: TableFacts) -> list[TriggerState]:
    """Return the users' triggers of a table and its partitions that are not disabled."""
    with connection.cursor(row_factory=class_row(TriggerState)) as cursor:
        return cursor.execute(statement("catalog", "triggers"), {"oid": table.oid}).fetchall()


def holds_rows(connection: Connection, qualified: TableName) -> bool:
    """Return whether a table holds any row."""
    table = sql.Identifier(*filter(None, (qualified.schema, qualified.name)))
    return bool(fetch_row(connection, statement("catalog", "has_rows", {"table": table}))[0])


def disable_triggers(connection: Connection, triggers: Sequence[TriggerState]) -> None:
    """Keep the users' triggers from firing until the end of the transaction or `enable_triggers`."""
    for trigger in triggers:
        connection.execute(disable_trigger_sql(trigger))


def enable_triggers(connection: Connection, triggers: Sequence[TriggerState]) -> None:
    """Give the triggers their state back."""
    if triggers:
        # The server alters no table for which checks of deferred constraints are still due.
        connection.execute(sql.SQL("SET CONSTRAINTS ALL IMMEDIATE"))
    for trigger in triggers:
        connection.execute(enable_trigger_sql(trigger))


def restored_columns(table: TableFacts, archived: dict[str, ColumnFacts]) -> list[str]:
    """Return the columns that come back: those that the table still has and does not generate."""
    return [c.name for c in table.columns.values() if c.name in archived and not c.is_generated]


def restore_rows(
    connection: Connection, table: TableFacts, archive: Archive, archived: dict[str, ColumnFacts]
) -> int:
    """Insert the archived rows into the emptied `table` and compare both; return their count.

    Raises RagopsError when the table does not hold exactly the archive's rows afterwards; the caller rolls back.
    """
    columns = restored_columns(table, archived)
    connection.execute(restore_rows_sql(table, archive.name, columns))
    # A changed type is compared as it is now: the server has converted the values.
    types = {name: table.columns[name].type for name in columns}
    stored = _checksum(connection, table_identifier(table), types)
    expected = _checksum(connection, sql.Identifier("ragops", archive.name), types)
    if stored != expected or stored[0] != archive.rows:
        raise RagopsError(
            f"the rows of {table.qualified} did not come back as they were archived; nothing was changed",
            where=table.qualified,
            actual=f"{stored[0]:,} rows" + ("" if stored[0] != expected[0] else ", with other contents"),
            expected=f"the {archive.rows:,} rows of ragops.{archive.name}",
            hint="look for rules and triggers that change rows; the archive is kept: ragops archive status",
        )
    return stored[0]


def _checksum(connection: Connection, relation: sql.Identifier, types: dict[str, str]) -> tuple[int, object]:
    try:
        with connection.transaction():
            count, checksum = fetch_row(connection, checksum_sql(relation, types))
    except psycopg.errors.UndefinedFunction:
        # A type without a binary form.
        count, checksum = fetch_row(connection, checksum_sql(relation, types, as_text=True))
    return count, checksum
