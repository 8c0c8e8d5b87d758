"""Vectors of rows that stay: written only where the row is still what was read, whatever its key and names."""

from __future__ import annotations

import numpy as np
import psycopg
import pytest
from psycopg import sql
from rows_at_work import TABLES, RowsAtWork, put_to_work, vector_of, with_embedding

from ragops.playbook.steps import SelectRows
from ragops.playbook.targets import RowTarget
from ragops.postgres.connection import Connection, Target, connect
from ragops.postgres.row_writer import RowWriter

NOTES = RowTarget(table="notes", text="{body}")


def make_notes(connection: Connection, rows: int = 6) -> None:
    connection.execute("CREATE TABLE notes (id bigint PRIMARY KEY, body text, embedding vector(32))")
    connection.execute("INSERT INTO notes SELECT n, 'text ' || n FROM generate_series(1, %s) n", [rows])


def value(connection: Connection, query: str) -> object:
    row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


def is_embedded(connection: Connection, id: int, text: str) -> bool:
    row = connection.execute("SELECT embedding FROM notes WHERE id = %s", [id]).fetchone()
    assert row is not None
    return row[0] is not None and bool(np.allclose(row[0].to_numpy(), vector_of(text), atol=1e-6))


def test_every_row_gets_the_vector_of_its_text(connection: Connection) -> None:
    make_notes(connection)
    work = put_to_work(connection, NOTES)
    assert work.selected == 6
    assert work.drain() == 6
    assert all(is_embedded(connection, id, f"text {id}") for id in range(1, 7))
    assert value(connection, "SELECT count(*) FROM ragops.row_state") == 6


def test_a_row_that_was_edited_is_embedded_again(connection: Connection) -> None:
    make_notes(connection)
    work = put_to_work(connection, NOTES)
    claim = work.claim()
    assert claim is not None
    batch = work.read(claim)
    connection.execute("UPDATE notes SET body = 'edited' WHERE id = 3")
    assert len(work.write(batch).returned) == 1
    assert value(connection, "SELECT embedding FROM notes WHERE id = 3") is None
    assert work.drain() == 1
    assert is_embedded(connection, 3, "edited")


def test_a_vector_of_another_writer_is_not_overwritten(connection: Connection) -> None:
    make_notes(connection)
    work = put_to_work(connection, NOTES)
    claim = work.claim()
    assert claim is not None
    batch = work.read(claim)
    connection.execute("UPDATE notes SET embedding = array_fill(0.25, ARRAY[32])::vector WHERE id = 2")
    assert len(work.write(batch).returned) == 1
    assert (
        value(connection, "SELECT embedding[1] FROM (SELECT embedding::real[] FROM notes WHERE id = 2) n") == 0.25
    )
    # It is read again, and what the other writer stored is what is replaced and kept.
    assert work.drain() == 1
    assert value(connection, "SELECT (old::real[])[1] FROM ragops.vectors_1 WHERE key = '[\"2\"]'") == 0.25


@pytest.mark.parametrize("kind", ["vector", "halfvec"])
def test_a_row_is_written_although_another_column_of_it_was(connection: Connection, kind: str) -> None:
    make_notes(connection)
    connection.execute(f"ALTER TABLE notes ADD COLUMN seen int, ALTER COLUMN embedding TYPE {kind}(32)".encode())
    connection.execute("UPDATE notes SET embedding = array_fill(0.25, ARRAY[32])::vector WHERE id = 2")
    work = put_to_work(connection, NOTES)
    claim = work.claim()
    assert claim is not None
    batch = work.read(claim)
    connection.execute("UPDATE notes SET seen = 1 WHERE id <= 3")
    assert work.write(batch).returned == frozenset()
    # Undo looks for what was written by this hash, whoever made it.
    kept = f"""SELECT count(*) FROM ragops.vectors_1 a JOIN notes n ON a.key = jsonb_build_array(n.id::text)::text
                WHERE a.new_hash = sha256({kind}_send(n.embedding))"""
    assert value(connection, kept) == 6


def test_a_locked_row_is_not_waited_for(connection: Connection, target: Target) -> None:
    make_notes(connection)
    work = put_to_work(connection, NOTES)
    claim = work.claim()
    assert claim is not None
    batch = work.read(claim)
    with connect(target) as other, other.transaction():
        other.execute("SELECT 1 FROM notes WHERE id = 5 FOR UPDATE")
        assert len(work.write(batch).returned) == 1
    assert work.statuses()["pending"] == 1
    assert work.drain() == 1


def test_rows_that_are_gone_or_have_no_text_are_no_failures(connection: Connection) -> None:
    make_notes(connection)
    work = put_to_work(connection, NOTES)
    connection.execute("DELETE FROM notes WHERE id = 1")
    connection.execute("UPDATE notes SET body = NULL WHERE id = 2")
    claim = work.claim()
    assert claim is not None
    assert len(work.write(work.read(claim)).dropped) == 2
    assert work.statuses() == {"pending": 0, "processing": 0, "completed": 4, "failed": 0}


def test_only_vectors_far_from_the_new_one_are_written(connection: Connection) -> None:
    make_notes(connection)
    put_to_work(connection, NOTES).drain()
    connection.execute("UPDATE notes SET embedding = array_fill(0.25, ARRAY[32])::vector WHERE id = 4")
    connection.execute("UPDATE notes SET embedding = NULL WHERE id = 5")
    before: dict[int, str] = dict(connection.execute("SELECT id, xmin::text FROM notes").fetchall())
    settings = SelectRows(step="select_rows", rows=("divergent",))
    work = put_to_work(connection, NOTES, settings=settings, max_distance=1e-3)
    assert work.drain() == 6
    after: dict[int, str] = dict(connection.execute("SELECT id, xmin::text FROM notes").fetchall())
    assert {id for id in after if before[id] != after[id]} == {4, 5}
    assert value(connection, "SELECT count(*) FROM ragops.vectors_2") == 2


def test_the_archive_keeps_the_first_vector(connection: Connection) -> None:
    make_notes(connection, rows=1)
    connection.execute("UPDATE notes SET embedding = array_fill(0.25, ARRAY[32])::vector")
    work = put_to_work(connection, NOTES)
    work.drain()
    connection.execute("UPDATE ragops.work SET status = 'pending'")
    with_embedding(work, lambda text: vector_of(text + " again")).drain()
    assert is_embedded(connection, 1, "text 1 again")
    assert value(connection, "SELECT (old::real[])[1] FROM ragops.vectors_1") == 0.25
    assert value(
        connection,
        "SELECT a.new_hash = sha256(vector_send(n.embedding)) FROM ragops.vectors_1 a, notes n",
    )


def test_stale_rows_are_those_whose_text_is_another_one(connection: Connection) -> None:
    make_notes(connection)
    put_to_work(connection, NOTES).drain()
    connection.execute("UPDATE notes SET body = 'edited' WHERE id = 3")
    work = put_to_work(connection, NOTES, settings=SelectRows(step="select_rows", rows=("stale",)))
    assert work.selected == 1
    work.drain()
    assert is_embedded(connection, 3, "edited")
    assert put_to_work(connection, NOTES, settings=SelectRows(step="select_rows", rows=("stale",))).selected == 0


def test_broken_rows_are_zero_short_or_of_other_dimensions(connection: Connection) -> None:
    connection.execute("CREATE TABLE notes (id bigint PRIMARY KEY, body text, embedding vector)")
    connection.execute("INSERT INTO notes SELECT n, 'text ' || n FROM generate_series(1, 6) n")
    put_to_work(connection, NOTES).drain()
    connection.execute("UPDATE notes SET embedding = array_fill(0, ARRAY[32])::vector WHERE id = 1")
    connection.execute("UPDATE notes SET embedding = array_fill(0.5, ARRAY[32])::vector WHERE id = 2")
    connection.execute("UPDATE notes SET embedding = array_fill(0.25, ARRAY[16])::vector WHERE id = 3")
    connection.execute("UPDATE notes SET embedding = NULL WHERE id = 4")
    work = put_to_work(connection, NOTES, settings=SelectRows(step="select_rows", rows=("broken",)))
    assert work.selected == 3


KEYS = {
    "smallint": "n::smallint",
    "text": "(ARRAY['a', 'a ', 'é\"''\\\\', '{1,2}', 'a%s', ''])[n]",
    "uuid": "('00000000-0000-0000-0000-00000000000' || n)::uuid",
    "timestamptz": "timestamptz '2026-03-29 00:30:00+00' + n * interval '1 hour 1 microsecond'",
    "date": "date '2026-01-01' + n",
    "numeric(12,3)": "(n * 1.5)::numeric(12,3)",
    "char(5)": "('x' || n)::char(5)",
    "bytea": "decode('ff0' || n, 'hex')",
    "inet": "('10.0.0.' || n)::inet",
    "boolean, part int": "n % 2 = 0, n",
    "interval": "n * interval '1 day 2 hours'",
}


@pytest.mark.parametrize("kind", KEYS)
def test_a_key_of_any_type_finds_its_row(connection: Connection, target: Target, kind: str) -> None:
    key = "id, part" if "," in kind and "(" not in kind else "id"
    connection.execute(
        f"CREATE TABLE notes (id {kind}, body text, embedding vector(32), PRIMARY KEY ({key}))".encode()
    )
    connection.execute(
        f"INSERT INTO notes SELECT {KEYS[kind]}, 'text ' || n FROM generate_series(1, 6) n".encode()
    )
    # The database's settings decide how a session spells values.
    name = sql.Identifier(connection.info.dbname)
    for setting in ("TimeZone = 'America/New_York'", "DateStyle = 'SQL, DMY'", "IntervalStyle = 'iso_8601'"):
        connection.execute(sql.SQL("ALTER DATABASE {} SET {}").format(name, sql.SQL(setting)))
    with connect(target) as other:
        work = put_to_work(other, NOTES)
        assert work.drain() == 6
        assert other.execute("SHOW DateStyle").fetchone() == ("ISO, YMD",)
    rows = connection.execute("SELECT body, embedding FROM notes").fetchall()
    assert all(np.allclose(vector.to_numpy(), vector_of(body), atol=1e-6) for body, vector in rows)


def test_names_of_the_application_are_not_taken_for_others(connection: Connection) -> None:
    names = (
        "key",
        "item",
        "content",
        "place",
        "part",
        "before",
        "k1",
        "text_hash",
        "version",
        "location",
        "100%",
        "r",
    )
    columns = ", ".join(f"\"{name}\" text DEFAULT 'x'" for name in names)
    connection.execute(
        f'CREATE TABLE "Doc %s Store" ("Id %" text PRIMARY KEY, {columns}, "em""b" halfvec(32))'.encode()
    )
    connection.execute("""INSERT INTO "Doc %s Store" ("Id %") SELECT 'k' || n FROM generate_series(1, 5) n""")
    target = RowTarget(
        table='"Doc %s Store"',
        text="{100%} {content}, {key} {{braces}} %s {Id %}",
        where="\"place\" = 'x' AND \"100%\" LIKE '%x%' -- a comment",
        embedding='em"b',
    )
    work = put_to_work(connection, target)
    assert work.drain() == 5
    rows = connection.execute("""SELECT "Id %", "em""b" FROM "Doc %s Store" """).fetchall()
    for id, vector in rows:
        expected = vector_of(f"x x, x {{braces}} %s {id}")
        assert np.allclose(vector.to_numpy(), expected, atol=1e-3)


def test_rows_of_a_partitioned_table(connection: Connection) -> None:
    connection.execute("""
        CREATE TABLE notes (day date, id int, body text, embedding vector(32), PRIMARY KEY (day, id))
        PARTITION BY RANGE (day)""")
    for month in (1, 2):
        connection.execute(
            f"CREATE TABLE notes_{month} PARTITION OF notes "
            f"FOR VALUES FROM ('2026-0{month}-01') TO ('2026-0{month + 1}-01')".encode()
        )
    connection.execute(
        "INSERT INTO notes SELECT date '2026-01-25' + n, n, 'text ' || n FROM generate_series(1, 12) n"
    )
    assert put_to_work(connection, NOTES).drain() == 12
    rows = connection.execute("SELECT body, embedding FROM notes").fetchall()
    assert all(np.allclose(vector.to_numpy(), vector_of(body), atol=1e-6) for body, vector in rows)


def test_a_row_that_a_constraint_refuses_says_so(connection: Connection) -> None:
    make_notes(connection)
    connection.execute("ALTER TABLE notes ADD CHECK (id <> 2 OR embedding IS NULL)")
    work: RowsAtWork = put_to_work(connection, NOTES)
    claim = work.claim()
    assert claim is not None
    with pytest.raises(psycopg.errors.CheckViolation):
        work.write(work.read(claim))
    assert work.statuses()["processing"] == 6


def test_a_table_that_takes_no_row_any_more_is_found_out(connection: Connection) -> None:
    make_notes(connection)
    work = put_to_work(connection, NOTES)
    claim = work.claim(size=3)
    assert claim is not None
    batch = work.read(claim)
    work.write(batch)
    writer = RowWriter(TABLES, work.work)
    assert writer.accepts(connection, batch)
    connection.execute("ALTER TABLE notes ADD CONSTRAINT closed CHECK (embedding IS NULL) NOT VALID")
    assert not writer.accepts(connection, batch)


def test_triggers_are_silent_where_the_target_says_so(connection: Connection) -> None:
    make_notes(connection)
    connection.execute("ALTER TABLE notes ADD touched int DEFAULT 0")
    connection.execute("""
        CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN NEW.touched := OLD.touched + 1; RETURN NEW; END $$;
        CREATE TRIGGER touch BEFORE UPDATE ON notes FOR EACH ROW EXECUTE FUNCTION touch()""")
    put_to_work(connection, NOTES.model_copy(update={"triggers": "disable"})).drain()
    assert value(connection, "SELECT sum(touched) FROM notes") == 0
    put_to_work(connection, NOTES.model_copy(update={"triggers": "fire"})).drain()
    assert value(connection, "SELECT sum(touched) FROM notes") == 6
