"""Read documents that are rows of a table or a query: ids for the queue, texts for a worker."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import psycopg
from psycopg import sql

from ragops.errors import PlanRefused, RagopsError, first_line
from ragops.facts import SourceFacts, TableFacts
from ragops.playbook.model import Source
from ragops.playbook.names import TableName
from ragops.postgres.connection import Connection, fetch_row, transaction
from ragops.postgres.single import execute_single
from ragops.postgres.source_reads import tables_read
from ragops.postgres.statements import identifier, statement

# Rows per round trip of the server-side cursor; psycopg's default of 100 would take 10,000 of them per million.
ROWS_PER_FETCH = 10_000
# Ids that are fetched back while planning, beside the first and the last one.
SAMPLED = 8
# Of a longer text only the size is compared.
SAMPLE_BYTES = 64 * 1024
# A table, column or schema that does not exist any more, and a right that was taken away.
GONE = ("42P01", "42703", "3F000", "42501")


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
    pin_text_form(connection)
    with connection.cursor(name="ragops_source") as cursor:
        cursor.itersize = ROWS_PER_FETCH
        cursor.execute(statement("source", "ids", {"relation": source_relation(source)}))
        for row in cursor:
            yield row[0]


def pin_text_form(connection: Connection) -> None:
    """Make ids read the same in every session, until the caller's transaction ends."""
    connection.execute(statement("source", "pin_text_form"))


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


def read_source(connection: Connection, source: Source, tables: Iterable[TableFacts]) -> SourceFacts:
    """Count the rows and ids of a source, and find out which of `tables` it reads.

    Raises PlanRefused if the source cannot be read.
    """
    check_source(connection, source)
    relation = source_relation(source)
    with transaction(connection, is_long=True):
        pin_text_form(connection)
        reads = tables_read(connection, relation, tables)
        is_unique = _has_unique_ids(connection, source)
        started = time.monotonic()
        counting = statement("source", "count_unique" if is_unique else "count", {"relation": relation})
        rows, with_id, distinct, first, last, longest = fetch_row(connection, counting)
        seconds = time.monotonic() - started
        repeated: tuple[tuple[str, int], ...] = ()
        if distinct < with_id:
            found = connection.execute(statement("source", "repeated", {"relation": relation})).fetchall()
            repeated = tuple((str(id), int(times)) for id, times in found)
        lost = _first_lost(connection, source, with_id, [first, last]) if with_id else None
    return SourceFacts(rows, with_id, distinct, seconds, repeated, lost, longest or 0, is_unique, reads)


def _has_unique_ids(connection: Connection, source: Source) -> bool:
    """Return whether the ids need not be compared. A sort of 100 million ids takes minutes and disk."""
    if source.table is None:
        return False
    name = identifier(TableName.parse(source.table)).as_string(connection)
    values = {"table": name, "column": source.id_column}
    return bool(fetch_row(connection, statement("source", "has_unique_ids"), values)[0])


def read_tables(connection: Connection, source: Source, tables: Iterable[TableFacts]) -> SourceFacts:
    """Find out which of `tables` a source reads, without a look at its rows.

    Raises PlanRefused if the source cannot be read.
    """
    check_source(connection, source)
    with transaction(connection):
        return SourceFacts(0, 0, 0, 0.0, reads=tables_read(connection, source_relation(source), tables))


def count_rows(connection: Connection, source: Source) -> int:
    """Return the number of rows with an id. Raises PlanRefused if the source cannot be read."""
    check_source(connection, source)
    with transaction(connection, is_long=True):
        query = statement("source", "count_ids", {"relation": source_relation(source)})
        return int(fetch_row(connection, query)[0])


def _first_lost(
    connection: Connection, source: Source, with_id: int, ends: Sequence[str]
) -> tuple[str, str] | None:
    """Ask for some rows as a worker does; return an id that does not find its row, with what came, in words.

    The first and the last id, and some that are drawn at random.
    """
    drawn = {
        "seed": secrets.randbits(62),
        "modulus": max(1, with_id // (2 * SAMPLED)),
        "limit": SAMPLED,
    }
    query = statement("source", "sample", {"relation": source_relation(source)})
    drawn_texts: dict[str, tuple[str, int]] = {}
    wanted, reader = list(dict.fromkeys(ends)), RowTexts(source)
    try:
        with connection.transaction():
            for id, digest, size in connection.execute(query, drawn).fetchall():
                drawn_texts[id] = (digest, size)
            wanted = list(dict.fromkeys([*ends, *drawn_texts]))
            found = reader.fetch(connection, wanted, most_bytes=SAMPLE_BYTES)
    except psycopg.Error as error:
        # Arrays and anonymous rows, for example, have no way back from text.
        return wanted[0], f"an error of the database ({first_line(error)})"
    missing = [id for id in wanted if id not in found]
    if missing:
        others = [f"the id {id!r}" for id in found if id not in wanted]
        return missing[0], others[0] if others else "no row"
    moved = [id for id, (digest, size) in drawn_texts.items() if not _is_same(found[id], digest, size)]
    if moved:
        # A text that was edited meanwhile stays as it is now; one that depends on chance does not.
        again = reader.fetch(connection, moved, most_bytes=SAMPLE_BYTES)
        unstable = next((id for id in moved if again.get(id) != found[id]), None)
        if unstable is not None:
            return unstable, "another text each time"
    return None


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the source."""

    text: str | None
    """None if it is NULL, or longer than was asked for."""
    size: int
    """Bytes of its text in the server's encoding; 0 for NULL."""
    version: bytes | None = None
    """A hash of the vector that the row has, where that one will be replaced; None without a vector."""


def _is_same(row: Row, digest: str | None, size: int) -> bool:
    return row.size == size and (row.text is None or hashlib.sha256(row.text.encode()).hexdigest() == digest)


class RowTexts:
    """Fetches the texts of claimed rows."""

    def __init__(self, source: Source) -> None:
        self._relation = source_relation(source)
        self._name = source.table or "source.query"
        self._id_type: str | None = None

    def fetch(self, connection: Connection, ids: Sequence[str], *, most_bytes: int) -> dict[str, Row]:
        """Return rows by id, those that still exist; without its text each one of more than `most_bytes`.

        Raises RagopsError for a source that is gone.
        """
        try:
            return self._fetch(connection, ids, most_bytes)
        except psycopg.Error as error:
            if error.sqlstate not in GONE:
                raise
            raise RagopsError(
                "the source cannot be read any more; no document was failed for it",
                where=self._name,
                actual=first_line(error),
                expected="the table or query that the queue was filled from",
                hint="restore it, then run the same command again, a campaign with: ragops reset --resume",
            ) from error

    def _fetch(self, connection: Connection, ids: Sequence[str], most_bytes: int) -> dict[str, Row]:
        # A source's query may take longer than the role's statement_timeout.
        with transaction(connection, is_long=True):
            pin_text_form(connection)
            if self._id_type is None:
                cursor = connection.execute(statement("source", "id_column", {"relation": self._relation}))
                assert cursor.description is not None, "a SELECT has a description even without rows"
                oid = cursor.description[0].type_code
                self._id_type = str(fetch_row(connection, statement("source", "type_name"), {"oid": oid})[0])
            # The type's name comes from the server, already quoted.
            placeholders = {"relation": self._relation, "id_type": sql.SQL(self._id_type)}
            query = statement("source", "texts", placeholders)
            found = connection.execute(query, {"ids": list(ids), "most_bytes": most_bytes}).fetchall()
            return {id: Row(text, size) for id, text, size in found}
