"""drop_indexes and rebuild_indexes on a real server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import psycopg
import pytest
from campaigns import Recorder, execute, make_playbook, open_session, reported, rows, single, value
from psycopg import sql

from ragops.campaign.steps.drop_indexes import drop
from ragops.campaign.steps.rebuild_indexes import RebuildResult, rebuild
from ragops.errors import RagopsError
from ragops.playbook.model import Index
from ragops.playbook.steps import RebuildIndexes
from ragops.postgres.connection import transaction
from ragops.postgres.locks import find_blockers, with_lock_retries
from ragops.postgres.statements import text_of
from ragops.retry import Backoff
from ragops.session import Session

REBUILD = RebuildIndexes(step="rebuild_indexes")
CONCURRENTLY = RebuildIndexes(step="rebuild_indexes", concurrently=True)
OWN = (
    'CREATE INDEX "My Index" ON documents USING hnsw (embedding vector_l2_ops)'
    " WITH (m='8', ef_construction='32')"
)
PARTIAL = (
    "CREATE INDEX partial ON document_chunks USING hnsw (embedding vector_ip_ops)"
    " WITH (m='4', ef_construction='16') WHERE chunk_index < 7"
)
INDEXES = "SELECT indexname, indexdef FROM pg_indexes WHERE indexdef LIKE '%hnsw%' ORDER BY indexname"
ONE_INDEX = (Index(name="one", table="documents", metric="l2", m=5, ef_construction=20),)


@pytest.fixture
def session(dsn: str) -> Iterator[Session]:
    execute(
        dsn,
        "INSERT INTO documents (content, embedding) SELECT n, array_fill(n, ARRAY[32])::vector"
        " FROM generate_series(1, 200) n",
    )
    with open_session(dsn, make_playbook()) as opened:
        yield opened


def names(result: RebuildResult) -> list[str]:
    """The indexes that were built."""
    return [index.build.name for index in result.indexes]


def make_invalid(dsn: str, name: str) -> None:
    """Break an index as a killed CREATE INDEX CONCURRENTLY leaves it."""
    execute(dsn, f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{name}'::regclass")


def validity(dsn: str) -> dict[str, bool]:
    query = "SELECT indexrelid::regclass::text, indisvalid FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid"
    return dict(rows(dsn, query + " JOIN pg_am a ON a.oid = c.relam WHERE a.amname = 'hnsw'"))


def test_dropped_indexes_come_back_byte_for_byte(session: Session, dsn: str) -> None:
    execute(dsn, OWN, PARTIAL)
    before = rows(dsn, INDEXES)
    dropped = drop(single(session))
    assert dropped.dropped == ("My Index", "partial")
    assert dropped.bytes > 0
    assert rows(dsn, INDEXES) == []
    journal = "SELECT index_name, definition FROM ragops.index_definition WHERE restored_at IS NULL ORDER BY 1"
    assert rows(dsn, journal) == before
    run = single(session.with_playbook(make_playbook(indexes=())))
    assert names(rebuild(run, REBUILD)) == ["My Index", "partial"]
    assert rows(dsn, INDEXES) == before
    assert rows(dsn, journal) == []
    assert names(rebuild(run, REBUILD)) == []


def test_the_playbooks_indexes_are_made_once(session: Session, dsn: str) -> None:
    run = single(session.with_playbook(make_playbook(indexes=ONE_INDEX)))
    assert names(rebuild(run, REBUILD)) == ["one"]
    made = (
        "CREATE INDEX one ON public.documents USING hnsw (embedding vector_l2_ops)"
        " WITH (m='5', ef_construction='20')"
    )
    assert rows(dsn, INDEXES) == [("one", made)]
    oid = value(dsn, "SELECT 'one'::regclass::oid")
    again = rebuild(run, REBUILD)
    assert (again.indexes, again.present) == ((), ("one",))
    assert value(dsn, "SELECT 'one'::regclass::oid") == oid
    assert "index one is already present and valid" in reported(session)


@pytest.mark.parametrize("step", [REBUILD, CONCURRENTLY], ids=["plain", "concurrently"])
def test_an_invalid_index_is_built_anew(session: Session, dsn: str, step: RebuildIndexes) -> None:
    execute(dsn, OWN)
    before = rows(dsn, INDEXES)
    make_invalid(dsn, '"My Index"')
    run = single(session.with_playbook(make_playbook(indexes=())))
    assert names(rebuild(run, step)) == ["My Index"]
    assert rows(dsn, INDEXES) == before
    assert validity(dsn) == {'"My Index"': True}
    assert "index My Index is invalid" in reported(session)


def test_what_an_interrupted_concurrent_build_left_is_replaced(session: Session, dsn: str) -> None:
    create = (
        "CREATE INDEX CONCURRENTLY one ON documents USING hnsw (embedding vector_l2_ops)"
        " WITH (m='5', ef_construction='20')"
    )
    with psycopg.connect(dsn, autocommit=True) as builder, psycopg.connect(dsn) as writer:
        writer.execute("INSERT INTO documents (content, embedding) VALUES ('open', array_fill(1, ARRAY[32]))")
        builder.execute("SET lock_timeout = '300ms'")
        # The build waits for the open transaction and gives up: the index stays, invalid.
        with pytest.raises(psycopg.errors.LockNotAvailable):
            builder.execute(create)
    assert validity(dsn) == {"one": False}
    run = single(session.with_playbook(make_playbook(indexes=ONE_INDEX)))
    assert names(rebuild(run, CONCURRENTLY)) == ["one"]
    assert validity(dsn) == {"one": True}


def test_restored_concurrently(session: Session, dsn: str) -> None:
    execute(dsn, PARTIAL)
    before = rows(dsn, INDEXES)
    drop(single(session))
    built = rebuild(single(session.with_playbook(make_playbook(indexes=()))), CONCURRENTLY)
    assert "CONCURRENTLY" in text_of(built.indexes[0].build.create)
    assert rows(dsn, INDEXES) == before
    assert value(dsn, "SELECT count(*) FROM ragops.index_definition WHERE restored_at IS NULL") == 0


def test_single_indexes_by_name(session: Session, dsn: str) -> None:
    execute(dsn, OWN, PARTIAL)
    with pytest.raises(RagopsError, match="no such vector index: other"):
        drop(single(session), names=["partial", "other"])
    assert len(rows(dsn, INDEXES)) == 2
    drop(single(session), names=["partial"])
    assert [name for name, _ in rows(dsn, INDEXES)] == ["My Index"]


class Releasing(Recorder):
    """A reporter whose first complaint about a lock ends the session that holds it."""

    def __init__(self, release: Callable[[], object]) -> None:
        super().__init__()
        self._release = release

    def info(self, message: str, **fields: object) -> None:
        super().info(message, **fields)
        if message.startswith("waiting for a lock"):
            self._release()


def test_a_reader_that_blocks_is_named_and_waited_for(session: Session, dsn: str) -> None:
    execute(dsn, OWN)
    with psycopg.connect(dsn, application_name="a reporting tool") as reader:
        reader.execute("SELECT count(*) FROM documents")
        waiting = replace(session, reporter=Releasing(reader.rollback))
        pid = reader.info.backend_pid
        assert drop(single(waiting)).dropped == ("My Index",)
    heard = reported(waiting)
    assert f"pid {pid} (a reporting tool), idle in transaction" in heard
    assert "SELECT count(*) FROM documents" in heard


def test_a_reader_that_stays_leaves_everything_as_it_was(session: Session, dsn: str) -> None:
    execute(dsn, OWN)
    documents = session.tables()["documents"]

    def act() -> None:
        with transaction(session.connection, lock_timeout_s=0.1):
            session.connection.execute("INSERT INTO parsed_files (file_id) VALUES (1)")
            session.connection.execute(sql.SQL("DROP INDEX {}").format(sql.Identifier("My Index")))

    slept: list[float] = []
    backoff = Backoff(first_s=0.5, total_s=2)
    with psycopg.connect(dsn, application_name="a reporting tool") as reader:
        reader.execute("SELECT count(*) FROM documents")
        assert [b.application for b in find_blockers(session.connection, [documents])] == ["a reporting tool"]
        with pytest.raises(RagopsError, match="nothing was changed") as caught:
            with_lock_retries(session.connection, act, tables=[documents], backoff=backoff, sleep=slept.append)
    assert caught.value.where == "public.documents"
    assert caught.value.actual is not None and "a reporting tool" in caught.value.actual
    assert len(slept) >= 2
    assert validity(dsn) == {'"My Index"': True}
    assert value(dsn, "SELECT count(*) FROM parsed_files") == 0


def test_settings_of_a_build_end_with_it(session: Session, dsn: str) -> None:
    before = session.connection.execute("SHOW maintenance_work_mem").fetchone()
    settings = RebuildIndexes(step="rebuild_indexes", maintenance_work_mem="77MB", parallel_workers=0)
    rebuild(single(session.with_playbook(make_playbook(indexes=ONE_INDEX))), settings)
    assert validity(dsn) == {"one": True}
    assert session.connection.execute("SHOW maintenance_work_mem").fetchone() == before


def test_a_build_that_the_server_refuses_says_why(session: Session, dsn: str) -> None:
    execute(dsn, "ALTER TABLE documents ALTER COLUMN embedding TYPE vector")
    run = single(session.with_playbook(make_playbook(indexes=ONE_INDEX)))
    with pytest.raises(RagopsError, match="could not be built") as caught:
        rebuild(run, REBUILD)
    assert (caught.value.where, caught.value.actual) == ("public.documents", "column does not have dimensions")
    assert validity(dsn) == {}


SLOW = """
CREATE FUNCTION slow(v vector) RETURNS vector IMMUTABLE LANGUAGE plpgsql AS
$$ BEGIN PERFORM pg_sleep(0.003); RETURN v; END $$
"""


def test_a_statement_timeout_of_the_role_does_not_end_a_build(session: Session, dsn: str) -> None:
    execute(
        dsn, SLOW, "CREATE INDEX slow_one ON documents USING hnsw ((slow(embedding)::vector(32)) vector_l2_ops)"
    )
    before = rows(dsn, INDEXES)
    drop(single(session))
    name = value(dsn, "SELECT current_database()")
    execute(dsn, f"ALTER DATABASE {name} SET statement_timeout = '500ms'")
    with open_session(dsn, make_playbook(indexes=())) as limited:
        assert limited.connection.execute("SHOW statement_timeout").fetchone() == ("500ms",)
        # Building and ANALYZE both call the function for each of the 200 rows.
        rebuild(single(limited), REBUILD)
        assert limited.connection.execute("SHOW statement_timeout").fetchone() == ("500ms",)
    assert rows(dsn, INDEXES) == before
    assert value(dsn, "SELECT count(*) > 0 FROM pg_stats WHERE tablename = 'documents'")
