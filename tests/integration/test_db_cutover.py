"""A second column in a real database: what its trigger notes, and what an exchange takes along."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from beside_at_work import BesideAtWork, beside_at_work, execute
from campaigns import rows, value

from ragops.campaign.cutover.beside import besides, column_problems, with_rows_left
from ragops.campaign.cutover.exchange import exchange
from ragops.campaign.cutover.switching import settle_not_null
from ragops.errors import RagopsError
from ragops.postgres.cutover_columns import read_dependents

NOTES = (
    "CREATE TABLE notes (id bigint PRIMARY KEY, body text, embedding vector(32))",
    "INSERT INTO notes SELECT n, 'text ' || n, array_fill(0.5, ARRAY[32])::vector FROM generate_series(1, 6) n",
)
COLUMNS = """
SELECT array_agg(attname::text ORDER BY attnum) FROM pg_attribute
 WHERE attrelid = 'notes'::regclass AND attnum > 0 AND NOT attisdropped
"""
INSERTED = "INSERT INTO notes (id, body, embedding) VALUES ({0}, 'text {0}', array_fill(0.5, ARRAY[32])::vector)"
NOTED = "SELECT array_agg(key ORDER BY id) FROM ragops.captured"


@pytest.fixture
def notes(dsn18: str) -> Iterator[BesideAtWork]:
    execute(dsn18, *NOTES)
    with beside_at_work(dsn18) as work:
        yield work


def dsn_of(work: BesideAtWork) -> str:
    return work.session.target.conninfo


def test_writes_are_noted_by_key_and_ragops_own_are_not(dsn: str) -> None:
    execute(dsn, *NOTES)
    with beside_at_work(dsn) as work:
        work.prepare()
        assert value(dsn, NOTED) is None
        execute(
            dsn,
            "INSERT INTO notes VALUES (7, 'seven')",
            "UPDATE notes SET id = 10 WHERE id = 1",
            "INSERT INTO notes VALUES (2, 'two') ON CONFLICT (id) DO UPDATE SET body = excluded.body",
            "DELETE FROM notes WHERE id = 3",
            "BEGIN; SET session_replication_role = replica; UPDATE notes SET body = 'r' WHERE id = 4; COMMIT",
            "BEGIN; UPDATE notes SET body = 'gone' WHERE id = 5; ROLLBACK",
            "UPDATE notes SET body = NULL WHERE id = 6",
        )
        noted = ['["7"]', '["10"]', '["1"]', '["2"]', '["4"]', '["6"]']
        assert value(dsn, NOTED) == noted
        done = work.drain()
        assert (done.noted, done.embedded, done.cleared) == (6, 4, 1)
        assert work.wrong_rows("body") == []
        assert value(dsn, NOTED) is None


def test_a_role_without_any_right_on_the_schema_writes_as_before(notes: BesideAtWork) -> None:
    notes.prepare()
    dsn = dsn_of(notes)
    execute(
        dsn,
        "DROP ROLE IF EXISTS app_writer",
        "CREATE ROLE app_writer",
        "GRANT INSERT ON notes TO app_writer",
    )
    try:
        # The application's own functions must not be found by the trigger's.
        execute(
            dsn,
            "CREATE SCHEMA trap",
            "CREATE FUNCTION trap.jsonb_build_array(text) RETURNS jsonb LANGUAGE plpgsql"
            " AS $$BEGIN RAISE 'trap'; END$$",
            "GRANT USAGE ON SCHEMA trap TO app_writer",
            "SET ROLE app_writer; SET search_path = trap, pg_catalog; INSERT INTO public.notes VALUES (8, '8')",
        )
        assert value(dsn, NOTED) == ['["8"]']
    finally:
        execute(dsn, "DROP SCHEMA trap CASCADE", "REVOKE ALL ON notes FROM app_writer", "DROP ROLE app_writer")


def test_a_note_that_cannot_be_written_is_a_warning_and_no_error(notes: BesideAtWork) -> None:
    notes.prepare()
    dsn = dsn_of(notes)
    warnings = execute(
        dsn, "ALTER TABLE ragops.captured RENAME TO away", "UPDATE notes SET body = 'unnoted' WHERE id = 2"
    )
    assert ["ragops could not note that a row of public.notes was written" in one for one in warnings] == [True]
    execute(dsn, "ALTER TABLE ragops.away RENAME TO captured")
    assert value(dsn, "SELECT body FROM notes WHERE id = 2") == "unnoted"
    # The look at the whole table finds it.
    assert notes.drain(sweeps=False).embedded == 0
    assert notes.drain(sweeps=True).swept == 1
    assert notes.wrong_rows("body") == []


def test_partitions_and_keys_of_several_types(dsn: str) -> None:
    execute(
        dsn,
        "CREATE TABLE logs (at timestamptz, id uuid, body text, embedding halfvec(32), PRIMARY KEY (at, id))"
        " PARTITION BY RANGE (at)",
        "CREATE TABLE logs_1 PARTITION OF logs FOR VALUES FROM ('2026-01-01') TO ('2026-02-01')",
        "CREATE TABLE logs_2 PARTITION OF logs FOR VALUES FROM ('2026-02-01') TO ('2026-03-01')",
        "INSERT INTO logs SELECT '2026-01-31 22:00+00'::timestamptz + n * interval '1 hour', md5(n::text)::uuid,"
        " 'text ' || n FROM generate_series(1, 6) n",
        "CREATE INDEX logs_hnsw ON logs USING hnsw (embedding halfvec_l2_ops)",
    )
    with beside_at_work(dsn, table="logs") as work:
        work.prepare()
        execute(dsn, "CREATE INDEX logs_hnsw_new ON logs USING hnsw (embedding_new halfvec_l2_ops)")
        # Another time zone writes the same key, a partition is written by its name, a row moves to another.
        execute(
            dsn,
            "SET TimeZone = 'Asia/Tokyo'; SET DateStyle = German; UPDATE logs SET body = 'e' WHERE body ~ '1$'",
            "UPDATE logs_1 SET body = 'by name' WHERE body = 'text 1' OR body = 'e'",
            "UPDATE logs SET at = at + interval '7 days' WHERE body = 'by name'",
        )
        work.drain()
        assert work.wrong_rows("body") == []
        work.cut_over()
        assert work.wrong_rows("body") == []
        names = "SELECT relname FROM pg_class WHERE relkind IN ('i', 'I') AND relname ~ '^logs.*(hnsw|embedding)'"
        expected = [f"logs_{n}_embedding_idx" for n in (1, 2)] + ["logs_hnsw"]
        assert {row[0] for row in rows(dsn, names)} == {*expected, *(f"{name}_old" for name in expected)}
        assert "embedding halfvec_l2_ops" in value(dsn, "SELECT pg_get_indexdef('logs_1_embedding_idx'::regclass)")


BOUND = (
    "CREATE TABLE seen (id bigint)",
    "ALTER TABLE notes ENABLE ROW LEVEL SECURITY",
    "CREATE POLICY seen ON notes USING (embedding IS NOT NULL OR id > 0)",
    "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS"
    " $$BEGIN INSERT INTO seen VALUES (NEW.id); RETURN NULL; END$$",
    "CREATE TRIGGER touched AFTER UPDATE OF embedding ON notes FOR EACH ROW WHEN (NEW.embedding IS NOT NULL)"
    " EXECUTE FUNCTION touch()",
    "CREATE FUNCTION nearest() RETURNS SETOF bigint LANGUAGE sql BEGIN ATOMIC"
    " SELECT id FROM notes ORDER BY embedding <-> array_fill(0.5, ARRAY[32])::vector; END",
    "CREATE VIEW near AS SELECT id FROM notes WHERE embedding <-> array_fill(0.5, ARRAY[32])::vector < 0.1",
)


def test_what_refers_to_the_column_by_number_follows_its_name(dsn: str) -> None:
    execute(dsn, *NOTES, *BOUND)
    with beside_at_work(dsn) as work:
        work.prepare()
        assert rows(dsn, "SELECT id FROM near ORDER BY id") == [(n,) for n in range(1, 7)]
        work.cut_over()
        execute(dsn, "TRUNCATE seen")
        assert rows(dsn, "SELECT id FROM near ORDER BY id") == []
        execute(dsn, "UPDATE notes SET embedding = array_fill(0.5, ARRAY[32])::vector WHERE id = 2")
        assert rows(dsn, "SELECT id FROM near ORDER BY id") == [(2,)]
        assert rows(dsn, "SELECT id FROM seen") == [(2,)]
        assert rows(dsn, "SELECT nearest() LIMIT 1") == [(2,)]
        assert "embedding IS NOT NULL" in value(dsn, "SELECT pg_get_expr(polqual, polrelid) FROM pg_policy")
        work.drain()
        assert work.wrong_rows("body") == []
        work.roll_back()
        assert rows(dsn, "SELECT id FROM near ORDER BY id") == [(n,) for n in range(1, 7)]
        work.undo()
        assert value(dsn, COLUMNS) == ["id", "body", "embedding"]
        assert value(dsn, "SELECT count(*) FROM pg_trigger WHERE tgname ~ 'ragops'") == 0


@pytest.mark.parametrize(
    "statement, problem",
    [
        ("CREATE MATERIALIZED VIEW m AS SELECT id, embedding FROM notes", "materialized view public.m refers to"),
        ("ALTER TABLE notes ADD dims int GENERATED ALWAYS AS (vector_dims(embedding)) STORED", "generated column"),
        ("ALTER TABLE notes ADD CONSTRAINT c CHECK (vector_dims(embedding) = 32)", "constraint c refers to"),
        ("CREATE PUBLICATION p FOR TABLE notes", "the publication p sends"),
        ("ALTER TABLE notes ADD embedding_new vector(32)", "exists already, and ragops has not added it"),
        (
            "CREATE VIEW v AS SELECT embedding FROM notes; CREATE MATERIALIZED VIEW m AS SELECT * FROM v",
            "materialized view public.m refers to",
        ),
    ],
)
def test_what_cannot_follow_is_refused_before_anything_is_done(dsn18: str, statement: str, problem: str) -> None:
    execute(dsn18, *NOTES, statement)
    with beside_at_work(dsn18, dimensions=48) as work:
        (one,) = besides(work.session)
        found = [str(each) for each in column_problems(one, 48)]
        assert any(problem in each for each in found), found
        with pytest.raises(RagopsError):
            work.add()


def test_an_application_waits_no_longer_than_a_try_for_a_lock(notes: BesideAtWork) -> None:
    notes.prepare()
    dsn, waits = dsn_of(notes), []

    def sleep(_: float) -> None:
        # Between two tries the application gets its turn, behind the reader that is still there.
        with psycopg.connect(dsn, autocommit=True, options="-c lock_timeout=1s") as application:
            application.execute("UPDATE notes SET body = 'between' WHERE id = 1")
        waits.append(1)
        if len(waits) == 3:
            reader.rollback()

    with psycopg.connect(dsn, application_name="a reader") as reader:
        reader.execute("SELECT count(*) FROM notes")
        exchange(notes.run, notes.found, lock_timeout_s=2.0, sleep=sleep)
    assert len(waits) == 3
    notes.drain()
    assert notes.wrong_rows("body") == []
    with pytest.raises(RagopsError, match="cut over now"):
        exchange(notes.run, notes.found, lock_timeout_s=2.0)


def test_not_null_moves_once_no_row_is_without_a_vector(dsn18: str) -> None:
    execute(dsn18, *NOTES, "ALTER TABLE notes ALTER embedding SET NOT NULL")
    with beside_at_work(dsn18) as work:
        work.prepare()
        # The application goes on as before: it knows nothing of the second column.
        execute(dsn18, INSERTED.format(7))
        exchange(work.run, work.found, lock_timeout_s=2.0)
        not_null = (
            "SELECT array_agg(attname::text) FROM pg_attribute"
            " WHERE attrelid = 'notes'::regclass AND attnum > 1 AND attnotnull"
        )
        assert value(dsn18, not_null) is None
        # A row of the new application, before the noted row has its vector.
        execute(dsn18, INSERTED.format(8))
        assert settle_not_null(work.run) == ("public.notes.embedding",)
        work.drain()
        assert settle_not_null(work.run) == ()
        assert value(dsn18, not_null) == ["embedding"]
        done = work.roll_back()
        assert done.written[0].keys == ('["8"]',)
        # Their old vectors are unknown, so the old column cannot be NOT NULL yet.
        assert done.nullable == ("public.notes.embedding",)
        assert value(dsn18, "SELECT count(*) FROM pg_constraint WHERE conname ~ 'ragops'") == 0


def test_a_hook_that_fails_before_changes_nothing_and_after_is_an_error(notes: BesideAtWork) -> None:
    notes.prepare()
    with pytest.raises(RagopsError, match="before the cutover failed") as failed:
        notes.with_hooks(before_cut_over=("echo no room; exit 3",)).run_cutover()
    assert failed.value.actual == "ended with code 3: no room"
    assert notes.found[0].row.state == "filling"
    work = notes.with_hooks(before_cut_over=("exit 0",), after_cut_over=("exit 4",))
    with pytest.raises(RagopsError, match="the command after the cutover failed"):
        work.run_cutover()
    assert (notes.found[0].row.state, notes.found[0].row.is_hooked) == ("cut_over", False)
    # Typed again, it runs what has not run.
    assert notes.with_hooks(after_cut_over=("exit 0",)).run_cutover().locked_s == 0
    assert notes.found[0].row.is_hooked


def test_an_index_that_the_second_column_lacks_stops_the_exchange(notes: BesideAtWork) -> None:
    notes.prepare()
    execute(dsn_of(notes), "CREATE INDEX notes_hnsw ON notes USING hnsw (embedding vector_l2_ops) WITH (m = 8)")
    with pytest.raises(RagopsError, match="lacks indexes"):
        notes.cut_over()
    execute(dsn_of(notes), "CREATE INDEX other ON notes USING hnsw (embedding_new vector_l2_ops) WITH (m = 8)")
    notes.cut_over()
    assert value(dsn_of(notes), "SELECT pg_get_indexdef('notes_hnsw'::regclass)").count("(embedding ") == 1


def test_after_a_cutover_undo_and_another_campaign_are_refused(notes: BesideAtWork) -> None:
    notes.prepare()
    with pytest.raises(RagopsError, match="there is no cutover to take back"):
        notes.roll_back()
    with pytest.raises(RagopsError, match="there is no cutover to finish"):
        notes.finish()
    notes.cut_over()
    with pytest.raises(RagopsError, match="was exchanged with its second column"):
        notes.undo()
    with pytest.raises(RagopsError) as refused:
        notes.add()
    assert "is not finished" in (refused.value.actual or "")
    notes.finish()
    assert value(dsn_of(notes), COLUMNS) == ["id", "body", "embedding"]
    # The next model.
    notes.prepare()
    notes.cut_over()
    assert notes.wrong_rows("body") == []


def test_a_view_of_another_role_is_refused(notes: BesideAtWork) -> None:
    dsn = dsn_of(notes)
    execute(dsn, "CREATE VIEW theirs AS SELECT embedding FROM notes")
    execute(
        dsn, "DROP ROLE IF EXISTS table_owner", "CREATE ROLE table_owner", "ALTER TABLE notes OWNER TO table_owner"
    )
    try:
        notes.session.connection.execute("SET ROLE table_owner")
        found = read_dependents(notes.session.connection, notes.found[0].table, "embedding")
        assert [(one.kind, one.what, one.definition) for one in found] == [("view", "view of another role", None)]
    finally:
        notes.session.connection.execute("RESET ROLE")
        execute(dsn, "DROP VIEW theirs", "ALTER TABLE notes OWNER TO CURRENT_USER", "DROP ROLE table_owner")


def test_rows_outside_of_the_target_keep_their_vectors(dsn18: str) -> None:
    execute(dsn18, *NOTES)
    with beside_at_work(dsn18) as work:
        target = work.session.playbook.targets[0].model_copy(update={"where": "id > 2"})
        playbook = work.session.playbook.model_copy(update={"targets": (target,)})
        (one,) = besides(work.session.with_playbook(playbook))
        found = [str(each) for each in column_problems(with_rows_left(work.session, one), 32)]
        assert ["2 rows of public.notes have a vector" in each for each in found] == [True], found
