"""The writer on a real server: completing and COPY are one transaction, whatever the tables are called."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np
import psycopg
import pytest
from campaigns import append, batch_of, claim, execute, queue_of, random_vector, rows, seed, table_facts, value

from ragops.errors import FenceLost, PlanRefused
from ragops.playbook.tables import (
    ChunksColumns,
    ChunksTable,
    DocumentsColumns,
    DocumentsTable,
    MetricsColumns,
    MetricsTable,
    ParsedFilesColumns,
    ParsedFilesTable,
    QueueColumns,
    QueueTable,
    Tables,
)
from ragops.postgres.connection import Connection, Target, connect
from ragops.postgres.failures import Failures
from ragops.postgres.refusals import ValueRefused
from ragops.postgres.setup import initialise, plan_setup
from ragops.postgres.writer import Writer


def write(connection: Connection, tables: Tables | None = None, *, count: int = 3) -> None:
    """Seed, claim and write `count` documents of two chunks."""
    tables = tables or Tables()
    seed(connection, count, tables=tables)
    held = claim(connection, count, tables=tables)
    Writer(tables, table_facts(connection, tables)).write(connection, batch_of(held))


def vectors(dsn: str, query: str) -> list[Any]:
    """A column of vectors as arrays."""
    return [np.array(row[0].strip("[]").split(","), dtype=np.float32) for row in rows(dsn, query)]


def test_rows_land_in_every_table_as_they_were_sent(connection: Connection, dsn: str) -> None:
    write(connection)
    assert queue_of(connection).counts()["completed"] == 3
    documents = rows(dsn, "SELECT file_id, file_path, content, metadata->>'media_type' FROM documents ORDER BY id")
    ids = [row[0] for row in rows(dsn, "SELECT id FROM files_queue ORDER BY id")]
    assert documents == [(ids[n - 1], f"{n}.txt", f"text {n}", "text/plain") for n in (1, 2, 3)]
    stored = vectors(dsn, "SELECT embedding::text FROM documents ORDER BY id")
    np.testing.assert_array_equal(stored, [random_vector(n) for n in (1, 2, 3)])
    chunks = rows(
        dsn,
        "SELECT d.content, c.chunk_index, c.content FROM document_chunks c"
        " JOIN documents d ON d.id = c.document_id ORDER BY d.id, c.chunk_index",
    )
    assert chunks == [(f"text {n}", i, f"chunk {i} of {n}") for n in (1, 2, 3) for i in (0, 1)]
    stored = vectors(dsn, "SELECT embedding::text FROM document_chunks ORDER BY document_id, chunk_index")
    np.testing.assert_array_equal(stored, [random_vector(1000 * n + i) for n in (1, 2, 3) for i in (0, 1)])
    parsed = rows(dsn, "SELECT file_id, content_hash, characters, chunks FROM parsed_files ORDER BY file_id")
    assert parsed == [(ids[n - 1], f"{n:064}", 6, 2) for n in (1, 2, 3)]
    metrics = rows(
        dsn, "SELECT worker, fingerprint, documents, chunks, tokens, milliseconds FROM ingestion_metrics"
    )
    assert metrics == [("w", "f" * 16, 3, 6, 20, 5)]


def test_ids_go_on_where_the_application_left_off(connection: Connection, dsn: str) -> None:
    execute(dsn, "INSERT INTO documents (content) VALUES ('by hand'), ('by hand too')")
    write(connection)
    assert value(dsn, "SELECT array_agg(id ORDER BY id) FROM documents") == [1, 2, 3, 4, 5]
    execute(dsn, "INSERT INTO documents (content) VALUES ('afterwards')")
    assert value(dsn, "SELECT max(id) FROM documents") == 6


@pytest.mark.parametrize("broken", ["document", "chunk"])
def test_a_failing_copy_rolls_the_completing_back(connection: Connection, dsn: str, broken: str) -> None:
    seed(connection, 2)
    held = claim(connection)
    batch = batch_of(held)
    wide = random_vector(1, dimensions=33)
    documents = [
        replace(document, vector=wide)
        if broken == "document"
        else replace(document, chunks=tuple(replace(chunk, vector=wide) for chunk in document.chunks))
        for document in batch.documents
    ]
    batch = replace(batch, documents=tuple(documents))
    with pytest.raises(psycopg.errors.DataException, match="expected 32 dimensions"):
        Writer(Tables(), table_facts(connection)).write(connection, batch)
    assert {k: n for k, n in queue_of(connection).counts().items() if n} == {"processing": 2}
    for table in ("documents", "document_chunks", "parsed_files", "ingestion_metrics"):
        assert value(dsn, f"SELECT count(*) FROM {table}") == 0
    assert queue_of(connection).release(held) == 2


def test_failures_alone_write_no_row(connection: Connection, dsn: str) -> None:
    seed(connection, 2)
    held = claim(connection)
    batch = replace(batch_of(held), documents=(), failures=tuple((item.id, "empty") for item in held.items))
    Writer(Tables(), table_facts(connection)).write(connection, batch)
    assert rows(dsn, "SELECT status, attempts, last_error FROM files_queue") == [("failed", 1, "empty")] * 2
    assert value(dsn, "SELECT count(*) FROM ingestion_metrics") == 0


OWN = "DROP TABLE document_chunks, documents"
CHUNKS = (
    "CREATE TABLE document_chunks (document_id {} NOT NULL REFERENCES documents, chunk_index smallint,"
    " content text, embedding vector(32))"
)
COLUMNS = "file_id text, file_path varchar(300), content text, metadata json, embedding vector"


@pytest.mark.parametrize(
    ("id_column", "type_name"),
    [
        ("id uuid PRIMARY KEY DEFAULT gen_random_uuid()", "uuid"),
        ("id text PRIMARY KEY", "text"),
        ("id varchar(64) PRIMARY KEY", "varchar(64)"),
        ("id serial PRIMARY KEY", "integer"),
        ("id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY", "bigint"),
        ("id bigint PRIMARY KEY DEFAULT nextval('a_sequence')", "bigint"),
    ],
)
def test_ids_of_the_users_own_type(connection: Connection, dsn: str, id_column: str, type_name: str) -> None:
    create = f"CREATE TABLE documents ({id_column}, {COLUMNS})"
    execute(dsn, OWN, "CREATE SEQUENCE a_sequence START 70", create, CHUNKS.format(type_name))
    write(connection)
    ids = [row[0] for row in rows(dsn, "SELECT id FROM documents")]
    assert len(set(ids)) == 3
    assert {type(id) for id in ids} == {
        {"uuid": uuid.UUID}.get(type_name, str if "(" in type_name else type(ids[0]))
    }
    if "a_sequence" in id_column:
        assert sorted(ids) == [70, 71, 72]
    pairs = rows(
        dsn, "SELECT c.content, d.content FROM document_chunks c JOIN documents d ON d.id = c.document_id"
    )
    assert {(chunk.split()[-1], text.split()[-1]) for chunk, text in pairs} == {("1", "1"), ("2", "2"), ("3", "3")}
    assert len(pairs) == 6
    assert value(dsn, "SELECT array_agg(file_id ORDER BY file_id) FROM documents") == ["1", "2", "3"]


def test_an_id_that_nobody_makes_is_refused(connection: Connection, dsn: str) -> None:
    execute(dsn, OWN, f"CREATE TABLE documents (id bigint PRIMARY KEY, {COLUMNS})", CHUNKS.format("bigint"))
    with pytest.raises(PlanRefused) as caught:
        Writer(Tables(), table_facts(connection))
    assert caught.value.where == "public.documents.id"
    assert caught.value.hint is not None
    execute(dsn, caught.value.hint)
    write(connection)
    assert value(dsn, "SELECT count(*) FROM documents") == 3


def own_names(schema: str = '"weird schema".') -> Tables:
    """Every table and column under another name, in need of quotes."""
    return Tables(
        documents=DocumentsTable(
            table=f'{schema}"Tab.le"',
            columns=DocumentsColumns(
                id="Key", file_id=None, file_path=None, content='te"xt', metadata=None, embedding="v e c"
            ),
        ),
        document_chunks=ChunksTable(
            table=f'{schema}"select"',
            columns=ChunksColumns(document_id="from", chunk_index="Ordnung", content="where", embedding="émb"),
        ),
        parsed_files=ParsedFilesTable(
            table=f'{schema}"pa""rsed"',
            columns=ParsedFilesColumns(file_id="{file}", content_hash=None, characters="%s", chunks=None),
        ),
        ingestion_metrics=MetricsTable(
            table=f'{schema}"; DROP TABLE x"',
            columns=MetricsColumns(
                worker="--", fingerprint=None, documents="n", chunks=None, tokens=None, milliseconds="ms"
            ),
        ),
        files_queue=QueueTable(
            table=f'{schema}"queue %"',
            columns=QueueColumns(
                id="I d", location="Path", status="state", claim_id="%(claim_id)s", last_error="{}"
            ),
        ),
    )


def create_own(target: Target, tables: Tables) -> None:
    with connect(target, with_vector=False) as connection:
        connection.execute('CREATE SCHEMA IF NOT EXISTS "weird schema"')
        initialise(connection, target, plan_setup(connection, tables, dimensions=lambda: 32))


def test_names_that_need_quotes(connection: Connection, target: Target, dsn: str) -> None:
    tables = own_names()
    create_own(target, tables)
    assert plan_setup(connection, tables, dimensions=lambda: 32) == []
    write(connection, tables)
    assert rows(dsn, 'SELECT "Key", "te""xt" FROM "weird schema"."Tab.le" ORDER BY 1') == [
        (n, f"text {n}") for n in (1, 2, 3)
    ]
    stored = vectors(dsn, 'SELECT "v e c"::text FROM "weird schema"."Tab.le" ORDER BY "Key"')
    np.testing.assert_array_equal(stored, [random_vector(n) for n in (1, 2, 3)])
    assert value(dsn, 'SELECT count(*) FROM "weird schema"."select" WHERE "émb" IS NOT NULL') == 6
    assert rows(dsn, 'SELECT "{file}", "%s" FROM "weird schema"."pa""rsed"') == [(n, 6) for n in (1, 2, 3)]
    assert rows(dsn, 'SELECT "--", n, ms FROM "weird schema"."; DROP TABLE x"') == [("w", 3, 5)]
    queue = queue_of(connection, tables)
    assert queue.counts()["completed"] == 3
    assert value(dsn, "SELECT count(*) FROM documents") == 0
    assert append(connection, ["3.txt", "4.txt"], phase=2, tables=tables) == 1
    held = claim(connection, tables=tables)
    queue.fail(held, [(held.items[0].id, "x")])
    assert Failures(connection, tables).items() == [("4.txt", "x")]


def all_null() -> Sequence[Tables]:
    nothing = MetricsColumns(
        worker=None, fingerprint=None, documents=None, chunks=None, tokens=None, milliseconds=None
    )
    return (
        Tables(document_chunks=None, parsed_files=None, ingestion_metrics=None),
        Tables(ingestion_metrics=MetricsTable(columns=nothing)),
    )


@pytest.mark.parametrize("tables", all_null(), ids=["no optional table", "no metrics column"])
def test_what_the_playbook_sets_to_null_is_left_alone(connection: Connection, dsn: str, tables: Tables) -> None:
    write(connection, tables)
    assert value(dsn, "SELECT count(*) FROM documents WHERE embedding IS NOT NULL") == 3
    is_mapped = int(tables.document_chunks is not None)
    assert value(dsn, "SELECT count(*) FROM document_chunks") == 6 * is_mapped
    assert value(dsn, "SELECT count(*) FROM parsed_files") == 3 * is_mapped
    assert value(dsn, "SELECT count(*) FROM ingestion_metrics") == 0


def test_a_queue_with_uuids_for_ids(connection: Connection, dsn: str) -> None:
    execute(
        dsn,
        "DROP TABLE files_queue",
        "CREATE TABLE files_queue (id uuid PRIMARY KEY DEFAULT gen_random_uuid(),"
        " file_path text, status text, attempts int, phase smallint, claim_id uuid, claimed_by text,"
        " lease_until timestamptz, last_error text)",
        "ALTER TABLE documents ALTER COLUMN file_id TYPE text",
        "ALTER TABLE parsed_files ALTER COLUMN file_id TYPE uuid USING NULL",
    )
    write(connection)
    assert queue_of(connection).counts()["completed"] == 3
    joined = (
        "SELECT count(*) FROM files_queue q JOIN documents d ON d.file_id = q.id::text"
        " JOIN parsed_files p ON p.file_id = q.id"
    )
    assert value(dsn, joined) == 3
    execute(
        dsn,
        "INSERT INTO files_queue (file_path, status, phase)"
        " SELECT n || '.txt', 'pending', 1 FROM generate_series(4, 9) n",
    )
    bound = queue_of(connection).bound_for(until=5)
    held = queue_of(connection).claim(size=9, worker="w", lease_s=60, bound=bound)
    assert held is not None
    assert len(held.items) == 2


OWN_TYPES = [
    ("file_id", "text", ["1", "2"]),
    ("file_id", "character varying(20)", ["1", "2"]),
    ("file_id", "integer", [1, 2]),
    ("file_id", "smallint", [1, 2]),
    ("file_id", "numeric(10,2)", [Decimal("1.00"), Decimal("2.00")]),
    ("file_id", "double precision", [1.0, 2.0]),
    ("metadata", "json", [{"media_type": "text/plain"}] * 2),
    ("metadata", "jsonb", [{"media_type": "text/plain"}] * 2),
    ("metadata", "text", ['{"media_type": "text/plain"}'] * 2),
    ("content", "character varying(100)", ["text 1", "text 2"]),
    ("file_path", "character varying", ["1.txt", "2.txt"]),
]


@pytest.mark.parametrize(("column", "type_name", "stored"), OWN_TYPES, ids=[f"{c} {t}" for c, t, _ in OWN_TYPES])
def test_columns_of_the_users_own_type(
    connection: Connection, dsn: str, column: str, type_name: str, stored: list[Any]
) -> None:
    if column == "metadata":
        execute(dsn, "ALTER TABLE documents ALTER metadata DROP DEFAULT")
    execute(dsn, f"ALTER TABLE documents ALTER {column} TYPE {type_name} USING NULL::{type_name}")
    write(connection, count=2)
    assert [row[0] for row in rows(dsn, f"SELECT {column} FROM documents ORDER BY id")] == stored


def test_a_number_that_its_column_cannot_hold_loses_nothing(connection: Connection, dsn: str) -> None:
    execute(dsn, "ALTER TABLE documents ALTER file_id TYPE smallint")
    execute(dsn, "ALTER TABLE files_queue ALTER id RESTART WITH 40000")
    with pytest.raises(ValueRefused) as caught:
        write(connection, count=2)
    assert caught.value.where == "public.documents.file_id"
    assert caught.value.actual == "40000 to 40001 does not fit 16 bits"
    assert caught.value.expected == "values of type smallint"
    assert {k: n for k, n in queue_of(connection).counts().items() if n} == {"processing": 2}
    assert value(dsn, "SELECT count(*) FROM documents") == 0


def test_batches_of_several_claims_are_stored_together_or_not_at_all(connection: Connection, dsn: str) -> None:
    seed(connection, 4)
    first, second = claim(connection, 2), claim(connection, 2)
    writer = Writer(Tables(), table_facts(connection))
    queue_of(connection).release(second)
    with pytest.raises(FenceLost):
        writer.write(connection, batch_of(first), batch_of(second))
    assert {k: n for k, n in queue_of(connection).counts().items() if n} == {"pending": 2, "processing": 2}
    assert value(dsn, "SELECT count(*) FROM documents") == 0
    writer.write(connection, batch_of(first), batch_of(claim(connection, 2)))
    assert queue_of(connection).counts()["completed"] == 4
    assert value(dsn, "SELECT count(DISTINCT file_id) FROM documents") == 4
    assert rows(dsn, "SELECT documents, chunks FROM ingestion_metrics") == [(2, 4)] * 2


def test_a_proof_stores_nothing_and_sees_what_the_tables_take(connection: Connection, dsn: str) -> None:
    seed(connection, 2)
    batch = batch_of(claim(connection))
    writer = Writer(Tables(), table_facts(connection))
    writer.write(connection, batch)
    assert writer.accepts(connection, batch)
    execute(dsn, "CREATE UNIQUE INDEX ON documents (file_path)")
    # It is there already, so its row was fine.
    assert writer.accepts(connection, batch)
    execute(dsn, "DROP INDEX documents_file_path_idx", "ALTER TABLE documents ADD CHECK (content <> '') NOT VALID")
    assert writer.accepts(connection, batch)
    execute(
        dsn,
        "CREATE TABLE approved (id bigint PRIMARY KEY)",
        "ALTER TABLE documents ADD FOREIGN KEY (file_id) REFERENCES approved"
        " DEFERRABLE INITIALLY DEFERRED NOT VALID",
    )
    assert not writer.accepts(connection, batch)
    execute(dsn, "ALTER TABLE documents DROP COLUMN file_id")
    with pytest.raises(psycopg.errors.UndefinedColumn):
        writer.accepts(connection, batch)
    execute(dsn, "ALTER TABLE documents ADD file_id bigint")
    assert value(dsn, "SELECT count(*) FROM documents") == 2
    assert value(dsn, "SELECT count(*) FROM ingestion_metrics") == 1
