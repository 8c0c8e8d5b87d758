"""What is measured of documents is stored with them, belongs to their filling, and comes back with an undo."""

from __future__ import annotations

from dataclasses import replace

import psycopg
import pytest
from campaigns import batch_of, claim, execute, queue_of, rows, seed, table_facts, value

from ragops.documents.reading import Partial, UnknownTokens
from ragops.errors import FenceLost
from ragops.playbook.tables import Tables
from ragops.postgres.connection import Connection
from ragops.postgres.filling import end_filling, record_extension, record_filling, restore_filling
from ragops.postgres.measured import (
    Measured,
    PartialDocument,
    UnknownDocument,
    read_measured,
    unrecordable,
)
from ragops.postgres.writer import Writer

PAGES = Partial(29, 30, "pages", ("page 3 (probably a scan)",))
THAI = UnknownTokens(7, 8)


def store(
    connection: Connection, *, partial: Partial | None = PAGES, unknown: UnknownTokens | None = None
) -> None:
    """Store the queue's next document with what was measured of it, and fail the one behind it."""
    batch = batch_of(claim(connection, 2))
    first, *rest = batch.documents
    first = replace(first, partial=partial, unknown=unknown)
    failures = tuple((document.item_id, "empty") for document in rest)
    Writer(Tables(), table_facts(connection)).write(
        connection, replace(batch, documents=(first,), failures=failures)
    )


def measured(connection: Connection) -> Measured:
    found = read_measured(connection, Tables(), limit=10)
    assert found is not None
    return found


def test_a_partial_document_is_stored_with_what_is_missing(connection: Connection, dsn: str) -> None:
    seed(connection, 2)
    store(connection, unknown=THAI)
    assert measured(connection) == Measured(
        1, (PartialDocument("1.txt", PAGES),), THAI, 1, (UnknownDocument("1.txt", THAI),), 1
    )
    assert value(dsn, "SELECT partial->>'unit' FROM parsed_files") == "pages"
    assert value(dsn, "SELECT partial->'missing'->>0 FROM parsed_files") == "page 3 (probably a scan)"


def test_a_partial_document_without_tokens_is_not_foreign(connection: Connection) -> None:
    seed(connection, 1)
    store(connection, unknown=UnknownTokens(0, 0))
    assert (measured(connection).partial, measured(connection).foreign) == (1, 0)


def test_a_whole_document_leaves_no_record(connection: Connection, dsn: str) -> None:
    seed(connection, 1)
    store(connection, partial=None, unknown=UnknownTokens(1, 100))
    found = measured(connection)
    assert (found.partial, found.foreign, found.tokens) == (0, 0, UnknownTokens(1, 100))
    assert rows(dsn, "SELECT * FROM ragops.measured") == []
    assert value(dsn, "SELECT partial FROM parsed_files") is None


def test_nothing_is_recorded_of_a_batch_whose_claim_was_lost(connection: Connection, dsn: str) -> None:
    seed(connection, 1)
    held = claim(connection, 1)
    batch = batch_of(held)
    queue_of(connection).release(held)
    documents = tuple(replace(document, partial=PAGES) for document in batch.documents)
    with pytest.raises(FenceLost):
        Writer(Tables(), table_facts(connection)).write(connection, replace(batch, documents=documents))
    assert rows(dsn, "SELECT * FROM ragops.measured") == []


def test_an_item_that_is_embedded_again_speaks_of_its_newest_text(connection: Connection, dsn: str) -> None:
    """Put back by hand, since the document was replaced: no record of the earlier text may stay."""
    seed(connection, 1)
    store(connection)
    execute(dsn, "UPDATE files_queue SET status = 'pending'", "TRUNCATE documents, document_chunks")
    assert measured(connection).partial == 0
    store(connection, partial=None)
    assert measured(connection).partial == 0
    assert rows(dsn, "SELECT * FROM ragops.measured") == []


def test_a_new_filling_knows_nothing_of_the_last_one(connection: Connection, dsn: str) -> None:
    seed(connection, 2)
    record_filling(connection, Tables(), {"folder": "/a"})
    store(connection, unknown=THAI)
    assert measured(connection).partial == 1
    # The same numbers and names, filled again.
    execute(dsn, "UPDATE files_queue SET status = 'completed'")
    record_filling(connection, Tables(), {"folder": "/a"})
    found = measured(connection)
    assert (found.partial, found.tokens.tokens) == (0, 0)


def test_items_that_stay_keep_their_records_when_another_source_is_added(connection: Connection) -> None:
    seed(connection, 1)
    record_filling(connection, Tables(), {"folder": "/a"})
    store(connection, unknown=THAI)
    record_extension(connection, Tables(), {"folder": "/b"}, is_same=False)
    found = measured(connection)
    assert (found.partial, found.tokens) == (1, THAI)


@pytest.mark.parametrize("is_archived", [True, False])
def test_an_undo_brings_the_records_back(connection: Connection, dsn: str, is_archived: bool) -> None:
    seed(connection, 1)
    record_filling(connection, Tables(), {"folder": "/a"})
    store(connection, unknown=THAI)
    generation = queue_of(connection).filling().generation
    queue, archived = (
        table_facts(connection)["files_queue"],
        {"queue": "public.files_queue", "generation": generation},
    )
    if is_archived:
        execute(
            dsn,
            "INSERT INTO ragops.archive (logical, schema_name, table_name, archive_table, rows, queue_source)"
            " VALUES ('files_queue', 'public', 'files_queue', 'archive_1_files_queue', 1,"
            f' \'{{"queue": "public.files_queue", "generation": {generation}}}\')',
        )
    with connection.transaction():
        end_filling(connection, queue)
    assert measured(connection).partial == 0
    assert value(dsn, "SELECT count(*) FROM ragops.measured") == int(is_archived)
    with connection.transaction():
        restore_filling(connection, queue, archived)
    assert measured(connection).partial == int(is_archived)
    assert measured(connection).tokens.tokens == (THAI.tokens if is_archived else 0)


@pytest.mark.parametrize("column", ["boolean", "varchar(20)", None])
def test_a_table_without_a_column_for_it_is_left_alone(
    connection: Connection, dsn: str, column: str | None
) -> None:
    """One of an older version, or a user's own column of that name."""
    execute(dsn, "ALTER TABLE parsed_files DROP COLUMN partial")
    if column:
        execute(dsn, f"ALTER TABLE parsed_files ADD COLUMN partial {column}")
    seed(connection, 1)
    store(connection)
    assert measured(connection).partial == 1
    assert value(dsn, "SELECT count(*) FROM parsed_files") == 1


def test_a_ledger_of_an_older_version_is_only_looked_at(connection: Connection, dsn: str) -> None:
    execute(dsn, "DROP TABLE ragops.measured, ragops.tokens")
    assert read_measured(connection, Tables(), limit=10) is None


def test_a_role_that_only_embeds_is_told_what_it_lacks(connection: Connection, dsn: str) -> None:
    role = f"guest_{value(dsn, 'SELECT current_database()')}"
    execute(dsn, f"CREATE ROLE {role} LOGIN", f"GRANT USAGE ON SCHEMA ragops TO {role}")
    try:
        with psycopg.connect(psycopg.conninfo.make_conninfo(dsn, user=role), autocommit=True) as guest:
            problem = unrecordable(guest)
            assert problem is not None
            execute(dsn, problem.cure)
            assert unrecordable(guest) is None
    finally:
        execute(dsn, f"DROP OWNED BY {role}", f"DROP ROLE {role}")
