"""Documents that are rows of a table or of a query: their ids for the queue, their texts for a worker."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import psycopg
from psycopg import sql

from ragops.errors import PlanRefused
from ragops.playbook.model import Source
from ragops.playbook.names import TableName
from ragops.postgres.connection import Connection, transaction
from ragops.postgres.statements import beside_parameters, identifier


def source_relation(source: Source) -> sql.Composable:
    """A sub-select `source` with the columns (id, text) of a source that is a table or a query."""
    if source.table is not None:
        return sql.SQL("(SELECT {} AS id, {} AS text FROM {}) AS source").format(
            sql.Identifier(source.id_column),
            sql.Identifier(source.text_column),
            identifier(TableName.parse(source.table)),
        )
    assert source.query is not None
    # The operator's own SQL, run with the operator's own rights; the parentheses keep it one SELECT.
    text = sql.SQL(source.query.strip().rstrip(";"))
    return sql.SQL("({}\n) AS source (id, text)").format(text)


def iterate_ids(connection: Connection, source: Source) -> Iterator[str]:
    """The ids of all rows as text, streamed through a server-side cursor in the caller's transaction."""
    query = sql.SQL("SELECT id::text FROM {} WHERE id IS NOT NULL ORDER BY source.id").format(
        source_relation(source)
    )
    with connection.cursor(name="ragops_source") as cursor:
        cursor.itersize = 10_000
        cursor.execute(query)
        for row in cursor:
            yield row[0]


def check_source(connection: Connection, source: Source) -> None:
    """Raise PlanRefused when the table or the query cannot be read or has not two columns."""
    try:
        with transaction(connection):
            connection.execute(sql.SQL("SELECT id, text::text FROM {} LIMIT 0").format(source_relation(source)))
    except psycopg.Error as error:
        raise PlanRefused(
            "the source cannot be read",
            where=f"source.{'table' if source.table else 'query'}",
            actual=str(error).splitlines()[0],
            expected="a table with id_column and text_column, or a SELECT of (id, text)",
            hint="mend the playbook's source: section, then: ragops reset --dry-run",
        ) from error


class RowTexts:
    """Fetches the texts of claimed rows."""

    def __init__(self, source: Source) -> None:
        self._relation = source_relation(source)
        self._id_type: str | None = None

    def fetch(self, connection: Connection, ids: Sequence[str]) -> dict[str, str | None]:
        """id → text, for the rows that are still there."""
        query = sql.SQL("SELECT id::text, text::text FROM {} WHERE id = ANY(%s::text[]::{}[])").format(
            beside_parameters(self._relation),
            beside_parameters(sql.SQL(self._type_of_id(connection))),
        )
        return dict(connection.execute(query, [list(ids)]).fetchall())

    def _type_of_id(self, connection: Connection) -> str:
        """The id's type as `format_type` spells it: a cast of the ids keeps the table's own index usable."""
        if self._id_type is None:
            query = sql.SQL("SELECT id FROM {} LIMIT 0").format(self._relation)
            cursor = connection.execute(query)
            assert cursor.description is not None
            row = connection.execute(
                "SELECT format_type(%s::oid, NULL)", [cursor.description[0].type_code]
            ).fetchone()
            assert row is not None
            self._id_type = row[0]
        return self._id_type
