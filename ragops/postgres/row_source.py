"""Read documents that are rows of a table or a query: ids for the queue, texts for a worker."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import psycopg
from psycopg import sql

from ragops.errors import PlanRefused, first_line
from ragops.playbook.model import Source
from ragops.playbook.names import TableName
from ragops.postgres.connection import Connection, fetch_row, transaction
from ragops.postgres.single import execute_single
from ragops.postgres.statements import identifier, statement

# Rows per round trip of the server-side cursor; psycopg's default of 100 would take 10,000 of them per million.
ROWS_PER_FETCH = 10_000


def source_relation(source: Source) -> sql.Composable:
    """Return a sub-select `source` with the columns (id, text), for a source that is a table or a query."""
    if source.table is not None:
        return sql.SQL("(SELECT {} AS id, {} AS text FROM {}) AS source").format(
            sql.Identifier(source.id_column),
            sql.Identifier(source.text_column),
            identifier(TableName.parse(source.table)),
        )
    assert source.query is not None
    # The operator's SQL, executed with the operator's privileges; `check_source` refuses more than one statement.
    # The line break ends a trailing `--` comment.
    text = sql.SQL(source.query.strip().rstrip(";"))
    return sql.SQL("({}\n) AS source (id, text)").format(text)


def iterate_ids(connection: Connection, source: Source) -> Iterator[str]:
    """Yield the ids of all rows as text, through a server-side cursor in the caller's transaction."""
    with connection.cursor(name="ragops_source") as cursor:
        cursor.itersize = ROWS_PER_FETCH
        cursor.execute(statement("source", "ids", {"relation": source_relation(source)}))
        for row in cursor:
            yield row[0]


def check_source(connection: Connection, source: Source) -> None:
    """Raise PlanRefused if the table or query cannot be read or does not have the two columns."""
    try:
        with transaction(connection):
            execute_single(connection, statement("source", "check", {"relation": source_relation(source)}))
    except psycopg.Error as error:
        raise PlanRefused(
            "the source cannot be read",
            where=f"source.{'table' if source.table else 'query'}",
            actual=first_line(error),
            expected="a table with id_column and text_column, or a SELECT of (id, text)",
            hint="fix source: in the playbook, then run: ragops reset --dry-run",
        ) from error


class RowTexts:
    """Fetches the texts of claimed rows."""

    def __init__(self, source: Source) -> None:
        self._relation = source_relation(source)
        self._id_type: str | None = None

    def fetch(self, connection: Connection, ids: Sequence[str]) -> dict[str, str | None]:
        """Return the text by id, for the rows that still exist."""
        if self._id_type is None:
            cursor = connection.execute(statement("source", "id_column", {"relation": self._relation}))
            assert cursor.description is not None, "a SELECT has a description even without rows"
            oid = cursor.description[0].type_code
            self._id_type = str(fetch_row(connection, statement("source", "type_name"), {"oid": oid})[0])
        # The type's name comes from the server, already quoted.
        placeholders = {"relation": self._relation, "id_type": sql.SQL(self._id_type)}
        query = statement("source", "texts", placeholders)
        return dict(connection.execute(query, {"ids": list(ids)}).fetchall())
