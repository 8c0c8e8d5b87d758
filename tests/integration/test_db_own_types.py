"""Tables whose columns have types of the user's own: domains, enums, citext, char(n), name, other numbers."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from campaigns import append, batch_of, claim, execute, queue_of, random_vector, seed, table_facts, value
from psycopg import sql

from ragops.documents.reading import Partial
from ragops.errors import PlanRefused
from ragops.playbook.model import Source
from ragops.playbook.tables import Tables
from ragops.postgres.connection import Connection, fetch_row
from ragops.postgres.failures import Failures
from ragops.postgres.measured import read_measured
from ragops.postgres.queue import seed_statement
from ragops.postgres.refusals import ValueRefused, refusal_of
from ragops.postgres.row_source import source_relation
from ragops.postgres.writer import Writer

# The type of the extension citext, as that makes it; the servers of these tests come without it.
CITEXT = (
    "CREATE TYPE citext",
    "CREATE FUNCTION citextin(cstring) RETURNS citext AS 'textin' LANGUAGE internal IMMUTABLE STRICT",
    "CREATE FUNCTION citextout(citext) RETURNS cstring AS 'textout' LANGUAGE internal IMMUTABLE STRICT",
    "CREATE FUNCTION citextrecv(internal) RETURNS citext AS 'textrecv' LANGUAGE internal STABLE STRICT",
    "CREATE FUNCTION citextsend(citext) RETURNS bytea AS 'textsend' LANGUAGE internal STABLE STRICT",
    "CREATE TYPE citext (INPUT = citextin, OUTPUT = citextout, RECEIVE = citextrecv, SEND = citextsend,"
    " LIKE = text, CATEGORY = 'S', COLLATABLE = true)",
    "CREATE CAST (citext AS text) WITHOUT FUNCTION AS IMPLICIT",
    "CREATE CAST (text AS citext) WITHOUT FUNCTION AS ASSIGNMENT",
    "CREATE FUNCTION citext_cmp(citext, citext) RETURNS integer AS 'bttextcmp' LANGUAGE internal IMMUTABLE STRICT",
    *(
        statement
        for name, operator in (("lt", "<"), ("le", "<="), ("eq", "="), ("ge", ">="), ("gt", ">"))
        for statement in (
            f"CREATE FUNCTION citext_{name}(citext, citext) RETURNS boolean AS"
            f" 'text{'' if name == 'eq' else '_'}{name}' LANGUAGE internal IMMUTABLE STRICT",
            f"CREATE OPERATOR {operator} (LEFTARG = citext, RIGHTARG = citext, FUNCTION = citext_{name})",
        )
    ),
    "CREATE OPERATOR CLASS citext_ops DEFAULT FOR TYPE citext USING btree AS OPERATOR 1 <, OPERATOR 2 <=,"
    " OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 citext_cmp(citext, citext)",
)
# A type that can be read from text only, as some extensions have them.
PLAIN = (
    "CREATE TYPE plain",
    "CREATE FUNCTION plainin(cstring) RETURNS plain AS 'textin' LANGUAGE internal IMMUTABLE STRICT",
    "CREATE FUNCTION plainout(plain) RETURNS cstring AS 'textout' LANGUAGE internal IMMUTABLE STRICT",
    "CREATE TYPE plain (INPUT = plainin, OUTPUT = plainout, LIKE = text)",
)
TYPES = (
    *CITEXT,
    *PLAIN,
    "CREATE DOMAIN words AS text CHECK (value <> 'no words')",
    "CREATE DOMAIN few_words AS words",
    "CREATE DOMAIN short_path AS varchar(30)",
    "CREATE DOMAIN facts AS jsonb",
    "CREATE DOMAIN number AS bigint",
    "CREATE DOMAIN embedding AS vector(32)",
    "CREATE TYPE file AS ENUM ('1.txt', '2.txt', '3.txt')",
    "CREATE TYPE state AS ENUM ('pending', 'processing', 'completed', 'failed')",
    "CREATE DOMAIN status AS text CHECK (value IN ('pending', 'processing', 'completed', 'failed'))",
)
TEXTS = ("text 1", "text 2")
DOCUMENTS = [
    ("content", "words", TEXTS),
    ("content", "few_words", TEXTS),
    ("content", "citext", TEXTS),
    ("content", "plain", TEXTS),
    ("content", "char(8)", ("text 1  ", "text 2  ")),
    ("content", "varchar(6)", TEXTS),
    ("file_path", "short_path", ("1.txt", "2.txt")),
    ("file_path", "file", ("1.txt", "2.txt")),
    ("file_path", "name", ("1.txt", "2.txt")),
    ("metadata", "facts", ({"media_type": "text/plain"},) * 2),
    ("file_id", "number", (1, 2)),
    ("file_id", "real", (1.0, 2.0)),
    ("file_id", "numeric", (Decimal(1), Decimal(2))),
    ("file_id", "plain", ("1", "2")),
    ("file_id", "oid", (1, 2)),
]


def own_types(dsn: str) -> None:
    execute(dsn, *TYPES)


def test_columns_of_documents(connection: Connection, dsn: str) -> None:
    own_types(dsn)
    for column, type_name, stored in DOCUMENTS:
        with connection.transaction(force_rollback=True):
            if column == "metadata":
                connection.execute("ALTER TABLE documents ALTER metadata DROP DEFAULT")
            change = (
                f"ALTER TABLE documents DROP {column}, ADD {column} {type_name}"
                if type_name == "plain"
                else f"ALTER TABLE documents ALTER {column} TYPE {type_name} USING NULL::{type_name}"
            )
            connection.execute(change.encode())
            connection.execute("ALTER TABLE files_queue ALTER id RESTART")
            seed(connection, 2)
            Writer(Tables(), table_facts(connection)).write(connection, batch_of(claim(connection)))
            query = f"SELECT {column}, embedding::text FROM documents ORDER BY file_path"
            found = connection.execute(query.encode()).fetchall()
            assert [row[0] for row in found] == list(stored), f"{column} {type_name}"
            np.testing.assert_array_equal([floats(row[1]) for row in found], [random_vector(1), random_vector(2)])


def floats(vector: str) -> Any:
    return np.array(vector.strip("[]").split(","), np.float32)


def test_a_domain_of_vectors_and_text_that_looks_like_a_copy(connection: Connection, dsn: str) -> None:
    """Texts that mean something in COPY's text format come back as they are, beside a column that needs it."""
    own_types(dsn)
    execute(
        dsn,
        "ALTER TABLE documents ALTER embedding TYPE embedding",
        "ALTER TABLE documents DROP file_id, ADD file_id plain",
    )
    seed(connection, 1)
    batch = batch_of(claim(connection))
    (document,) = batch.documents
    text = "\\N\t\\.\n\\.\n\r\n\\\\ é 日本 \x01 \\x41 'quoted'\t"
    Writer(Tables(), table_facts(connection)).write(
        connection, replace(batch, documents=(replace(document, text=text),))
    )
    assert value(dsn, "SELECT content FROM documents") == text
    np.testing.assert_array_equal(floats(value(dsn, "SELECT embedding::text FROM documents")), random_vector(1))


@pytest.mark.parametrize(("queue_id", "held"), [("bigint", "uuid"), ("uuid", "bigint"), ("number", "uuid")])
def test_a_column_that_can_hold_no_item_s_id_is_refused(
    connection: Connection, dsn: str, queue_id: str, held: str
) -> None:
    own_types(dsn)
    execute(
        dsn,
        f"ALTER TABLE documents ALTER file_id TYPE {held} USING NULL",
        "ALTER TABLE files_queue DROP id",
        f"ALTER TABLE files_queue ADD id {queue_id} PRIMARY KEY",
    )
    with pytest.raises(PlanRefused) as caught:
        Writer(Tables(), table_facts(connection))
    assert caught.value.where == "public.documents.file_id"
    assert caught.value.actual == held
    assert (caught.value.expected or "").startswith(queue_id)
    execute(dsn, str(caught.value.hint))
    if queue_id != "uuid":
        Writer(Tables(), table_facts(connection))


@pytest.mark.parametrize("table", ["documents", "document_chunks"])
def test_a_column_of_bytes_for_texts_is_refused(connection: Connection, dsn: str, table: str) -> None:
    execute(dsn, f"ALTER TABLE {table} ALTER content TYPE bytea USING NULL")
    with pytest.raises(PlanRefused) as caught:
        Writer(Tables(), table_facts(connection))
    assert (caught.value.where, caught.value.actual) == (f"public.{table}.content", "bytea")
    execute(dsn, str(caught.value.hint))
    Writer(Tables(), table_facts(connection))


def test_paths_that_are_numbers_fit_a_column_of_numbers(connection: Connection, dsn: str) -> None:
    execute(dsn, "ALTER TABLE documents ALTER file_path TYPE bigint USING NULL")
    seed(connection, 2)
    batch = batch_of(claim(connection))
    one, other = batch.documents
    writer = Writer(Tables(), table_facts(connection))
    with pytest.raises(ValueRefused) as caught:
        writer.write(connection, replace(batch, documents=(one, replace(other, location="7"))))
    assert refusal_of(caught.value) == "public.documents.file_path holds values of type bigint, not '1.txt'"
    writer.write(connection, replace(batch, documents=(replace(one, location="70"), replace(other, location="7"))))
    assert value(dsn, "SELECT array_agg(file_path ORDER BY file_path) FROM documents") == [7, 70]


def test_ids_of_a_domain(connection: Connection, dsn: str) -> None:
    execute(
        dsn,
        "CREATE DOMAIN key AS uuid",
        "DROP TABLE document_chunks",
        "ALTER TABLE documents ALTER id DROP IDENTITY",
        "ALTER TABLE documents ALTER id TYPE key USING gen_random_uuid()",
    )
    tables = Tables(document_chunks=None)
    seed(connection, 2)
    Writer(tables, table_facts(connection, tables)).write(connection, batch_of(claim(connection)))
    assert value(dsn, "SELECT count(DISTINCT id) FROM documents") == 2


LOCATIONS = ("text", "varchar(20)", "char(20)", "citext", "short_path", "name", "words")
STATUSES = ("state", "status", "varchar(12)", "char(12)", "citext", "name")
NUMBERS = (("smallint", "integer"), ("bigint", "bigint"), ("numeric", "numeric(5)"), ("number", "number"))
QUEUES = [
    *((location, "text", NUMBERS[0]) for location in LOCATIONS),
    *(("text", status, NUMBERS[1]) for status in STATUSES),
    *(("varchar(20)", "status", numbers) for numbers in NUMBERS[2:]),
]


def test_a_queue_of_other_types_works_from_end_to_end(connection: Connection, dsn: str) -> None:
    own_types(dsn)
    for location, status, (attempts, phase) in QUEUES:
        with connection.transaction(force_rollback=True):
            create = (
                "CREATE TABLE files_queue (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,"
                f" file_path {location}, status {status}, attempts {attempts}, phase {phase}, claim_id uuid,"
                " claimed_by char(60), lease_until timestamptz, last_error varchar(200))"
            )
            connection.execute("DROP TABLE files_queue")
            connection.execute(create.encode())
            connection.execute("CREATE INDEX ON files_queue (phase, id) WHERE status = 'pending'")
            assert_rows_are_queued(connection)
            assert_queue_works(connection)


def assert_rows_are_queued(connection: Connection) -> None:
    relation = source_relation(Source(query="SELECT n AS id, 'text' AS body FROM generate_series(1, 4) n"))
    more = source_relation(Source(query="SELECT n AS id, 'text' AS body FROM generate_series(3, 6) n"))
    queue = queue_of(connection)
    assert queue.seed_rows(seed_statement(Tables(), relation=relation, gates=(2,))) == 4
    with connection.transaction():
        queue.receive_rows(more)
        assert queue.append(phase=3) == 2
    found = connection.execute("SELECT file_path::text, phase::int, attempts::int FROM files_queue ORDER BY id")
    assert found.fetchall() == [("1", 1, 0), ("2", 1, 0), ("3", 2, 0), ("4", 2, 0), ("5", 3, 0), ("6", 3, 0)]
    assert queue.counts()["pending"] == 6
    connection.execute("TRUNCATE files_queue")
    connection.execute("DROP TABLE IF EXISTS incoming")


def assert_queue_works(connection: Connection) -> None:
    queue = queue_of(connection)
    seed(connection, 4, gates=(2,))
    assert append(connection, ["4.txt", "5.txt", "6.txt", "5.txt"], phase=3) == 2
    assert queue.counts() == {"pending": 6, "processing": 0, "completed": 0, "failed": 0}
    assert queue.open_items(phase=2) == (4, 0)
    held = claim(connection, 4, worker="host:1")
    assert [item.location for item in held.items] == [f"{n}.txt" for n in (1, 2, 3, 4)]
    assert queue.extend_leases([held.id], lease_s=600) == 4
    batch, pages = batch_of(held), Partial(1, 2, "pages", ("page 2",))
    documents = (batch.documents[0], replace(batch.documents[1], partial=pages))
    Writer(Tables(), table_facts(connection)).write(
        connection, replace(batch, documents=documents, failures=((held.items[2].id, "broken"),))
    )
    measured = read_measured(connection, Tables(), limit=None)
    assert measured is not None
    assert [document.location for document in measured.partial_documents] == ["2.txt"]
    assert queue.counts() == {"pending": 2, "processing": 1, "completed": 2, "failed": 1}
    failures = Failures(connection, Tables())
    assert failures.items() == [("3.txt", "broken")]
    with connection.transaction():
        excluded = failures.exclude("*.txt", lambda location: location in ("3.txt", "6.txt"), limit=None)
    assert (excluded.failed, excluded.pending) == (1, 1)
    assert queue.counts() == {"pending": 1, "processing": 1, "completed": 2, "failed": 0, "excluded": 2}
    assert queue.retry_failed() == 0
    assert queue.retry_failed(excluded=True) == 2
    assert queue.reap(is_dead=lambda worker: worker == "host:1") == 1
    last = claim(connection, 9)
    assert [item.location for item in last.items] == ["3.txt", "4.txt", "5.txt", "6.txt"]
    assert queue.release(last) == 4
    assert queue.counts() == {"pending": 4, "processing": 0, "completed": 2, "failed": 0}
    assert fetch_row(connection, sql.SQL("SELECT sum(attempts) FROM files_queue").format()) == (1,)
