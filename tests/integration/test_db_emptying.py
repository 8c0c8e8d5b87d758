"""empty_tables and undo on a real server: nothing is wiped that was not planned, everything comes back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from campaigns import Recorder, execute, make_playbook, open_session, reported, rows, single, value
from psycopg import sql

from ragops.campaign import run as campaign
from ragops.campaign.run import CampaignRun
from ragops.campaign.steps.empty_tables import EmptyResult, EmptyTablesStep
from ragops.campaign.undo import undo
from ragops.errors import PlanRefused, PlanStale, RagopsError
from ragops.playbook import Playbook
from ragops.playbook.steps import DropIndexes, EmptyTable, EmptyTables, RebuildIndexes, Step
from ragops.playbook.tables import Tables
from ragops.postgres.ledger import Ledger
from ragops.session import Session

TABLES = ("documents", "document_chunks", "parsed_files", "ingestion_metrics", "files_queue")
EMPTY = EmptyTables(step="empty_tables")
STEPS: tuple[Step, ...] = (DropIndexes(step="drop_indexes"), EMPTY, RebuildIndexes(step="rebuild_indexes"))
FILL = (
    "INSERT INTO documents (file_path, content, embedding)"
    " SELECT n || '.txt', repeat('text ' || n, 99), array_fill(n, ARRAY[32])::vector"
    " FROM generate_series(1, 300) n",
    "INSERT INTO document_chunks SELECT id, i, 'chunk', embedding FROM documents, generate_series(0, 1) i",
    "INSERT INTO parsed_files (file_id, content_hash) SELECT n, repeat('0', 64) FROM generate_series(1, 300) n",
    "INSERT INTO ingestion_metrics (worker) SELECT 'w' FROM generate_series(1, 300)",
    "INSERT INTO files_queue (file_path, status) SELECT n || '.txt', 'completed' FROM generate_series(1, 300) n",
    "CREATE INDEX docs_hnsw ON documents USING hnsw (embedding vector_l2_ops) WITH (m='8')",
    "CREATE INDEX chunks_hnsw ON document_chunks USING hnsw (embedding vector_cosine_ops)",
)
INDEXES = "SELECT indexname, indexdef FROM pg_indexes WHERE indexdef LIKE '%hnsw%' ORDER BY indexname"


def playbook(*steps: Step) -> Playbook:
    return make_playbook(steps=steps or STEPS, indexes=())


@pytest.fixture
def session(dsn: str) -> Iterator[Session]:
    execute(dsn, *FILL)
    with open_session(dsn, playbook()) as opened:
        yield opened


def empty(session: Session, settings: EmptyTables = EMPTY) -> EmptyResult:
    return EmptyTablesStep(settings).run(single(session))


def contents(dsn: str) -> dict[str, Any]:
    """Every row of every table as text, ids and vectors among them."""
    with psycopg.connect(dsn) as connection:
        query = sql.SQL("SELECT t::text FROM {} t ORDER BY 1")
        return {name: connection.execute(query.format(sql.Identifier(name))).fetchall() for name in TABLES}


def sizes(dsn: str) -> dict[str, int]:
    return {name: value(dsn, f"SELECT count(*) FROM {name}") for name in TABLES}


def test_rows_are_archived_and_their_space_is_freed(session: Session, dsn: str) -> None:
    before = contents(dsn)
    result = empty(session)
    assert set(sizes(dsn).values()) == {0}
    assert (result.rows, result.archived) == (1800, 1800)
    for entry in result.tables:
        now = value(dsn, f"SELECT pg_total_relation_size('{entry.table}')")
        assert entry.bytes_after == now < entry.bytes_before, entry
    assert result.bytes_freed == sum(entry.bytes_before - (entry.bytes_after or 0) for entry in result.tables)
    archives = rows(dsn, "SELECT logical, archive_table, rows FROM ragops.archive ORDER BY id")
    assert {logical: number for logical, _, number in archives} == {n: len(before[n]) for n in TABLES}
    for logical, archive, _ in archives:
        assert rows(dsn, f"SELECT t::text FROM ragops.{archive} t ORDER BY 1") == before[logical]


def test_only_the_tables_named_and_no_archive_when_declined(session: Session, dsn: str) -> None:
    step = EmptyTables(
        step="empty_tables", archive=False, tables=(EmptyTable(table="parsed_files", method="delete"),)
    )
    before = contents(dsn)
    result = empty(session, step)
    assert (result.rows, result.archived) == (300, 0)
    assert contents(dsn) == before | {"parsed_files": []}
    assert rows(dsn, "SELECT * FROM ragops.archive") == []


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ("INSERT INTO documents (content) VALUES ('new')", "public.documents holds 301 rows, planned 300"),
        (
            "ALTER TABLE parsed_files RENAME TO old; CREATE TABLE parsed_files (LIKE old INCLUDING ALL)",
            "parsed_files was replaced",
        ),
    ],
)
def test_what_the_plan_did_not_show_is_not_wiped(session: Session, dsn: str, change: str, found: str) -> None:
    plan = campaign.plan_campaign(session)
    execute(dsn, *change.split("; "))
    before, indexes = contents(dsn), rows(dsn, INDEXES)
    assert len(indexes) == 2
    with pytest.raises(PlanStale) as caught:
        campaign.start(session, plan)
    assert caught.value.exit_code == 4
    assert caught.value.actual is not None and found in caught.value.actual
    assert contents(dsn) == before
    assert rows(dsn, "SELECT status FROM ragops.campaign") == [("failed",)]
    assert rows(dsn, "SELECT verb, status FROM ragops.step ORDER BY number")[:2] == [
        ("drop_indexes", "running"),
        ("empty_tables", "planned"),
    ]
    # A stale plan costs nothing, not even an index.
    assert rows(dsn, INDEXES) == indexes


def test_a_plan_for_another_database_is_refused(session: Session, dsn18: str) -> None:
    plan = campaign.plan_campaign(session)
    execute(dsn18, "INSERT INTO documents (content) VALUES ('precious')")
    with open_session(dsn18, playbook()) as other, pytest.raises(PlanStale, match="database changed"):
        campaign.start(other, plan)
    assert value(dsn18, "SELECT count(*) FROM documents") == 1


def test_rows_that_appear_while_the_lock_is_waited_for_are_counted(session: Session, dsn: str) -> None:
    plan = campaign.plan_campaign(session)
    steps = [(step.number, step.verb) for step in plan.steps]
    ledger = Ledger.open_new(
        session.connection, name="c", playbook={}, plan=plan.to_json(), steps=steps, tables=Tables()
    )

    class Committing(Recorder):
        def info(self, message: str, **fields: object) -> None:
            super().info(message)
            if message.startswith("waiting for a lock"):
                writer.commit()

    with psycopg.connect(dsn) as writer:
        writer.execute("INSERT INTO documents (content) VALUES ('written meanwhile')")
        waiting = replace(session, reporter=Committing())
        with pytest.raises(PlanStale):
            EmptyTablesStep(EMPTY).run(CampaignRun(waiting, ledger, plan, number=2, force=False))
    assert "waiting for a lock" in reported(waiting)
    assert sizes(dsn)["documents"] == 301


def test_a_foreign_key_from_an_unlisted_table_is_refused(session: Session, dsn: str) -> None:
    execute(
        dsn,
        "CREATE TABLE bookmarks (document_id bigint REFERENCES documents ON DELETE CASCADE)",
        "INSERT INTO bookmarks SELECT id FROM documents",
    )
    with pytest.raises(PlanRefused) as caught:
        campaign.plan_campaign(session)
    assert caught.value.actual is not None
    assert "public.bookmarks references public.documents" in caught.value.actual
    # Were the plan ignored, the server would refuse too: nothing cascades.
    with pytest.raises(psycopg.errors.FeatureNotSupported):
        empty(session)
    assert sizes(dsn)["documents"] == 300
    assert value(dsn, "SELECT count(*) FROM bookmarks") == 300
    assert rows(dsn, "SELECT * FROM ragops.archive") == []


def test_undo_brings_everything_back(session: Session, dsn: str) -> None:
    before, indexes = contents(dsn), rows(dsn, INDEXES)
    campaign.start(session, campaign.plan_campaign(session))
    execute(
        dsn,
        "INSERT INTO documents (content, embedding) VALUES ('of the campaign', array_fill(1, ARRAY[32])::vector)",
        "INSERT INTO document_chunks SELECT id, 0, 'of the campaign', embedding FROM documents",
        "INSERT INTO files_queue (file_path) VALUES ('of the campaign')",
    )
    result = undo(session)
    assert result.to_json()["status"] == "undone"
    assert result.rows == {f"public.{name}": len(before[name]) for name in TABLES}
    assert contents(dsn) == before
    assert rows(dsn, INDEXES) == indexes
    assert value(dsn, "SELECT bool_and(indisvalid) FROM pg_index")
    assert rows(dsn, "SELECT status, holder FROM ragops.campaign") == [("undone", None)]
    again = undo(session)
    assert (again.was_undone, again.rows, contents(dsn)) == (True, {}, before)
    execute(dsn, "INSERT INTO documents (content) VALUES ('afterwards')")
    assert value(dsn, "SELECT max(id) FROM documents") > 300


def test_undo_of_a_campaign_that_only_dropped_indexes(session: Session, dsn: str) -> None:
    before, indexes = contents(dsn), rows(dsn, INDEXES)
    session = session.with_playbook(playbook(DropIndexes(step="drop_indexes")))
    campaign.start(session, campaign.plan_campaign(session))
    assert rows(dsn, INDEXES) == []
    result = undo(session)
    assert (result.rows, result.indexes) == ({}, ("chunks_hnsw", "docs_hnsw"))
    assert (contents(dsn), rows(dsn, INDEXES)) == (before, indexes)


def test_undo_that_was_interrupted_goes_on(session: Session, dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before, indexes = contents(dsn), rows(dsn, INDEXES)
    campaign.start(session, campaign.plan_campaign(session))

    def fail(*_: object, **__: object) -> None:
        raise RagopsError("the disk is full")

    with monkeypatch.context() as broken:
        broken.setattr("ragops.campaign.steps.building.create", fail)
        with pytest.raises(RagopsError, match="disk is full"):
            undo(session)
    assert (contents(dsn), rows(dsn, INDEXES)) == (before, [])
    undo(session)
    assert (contents(dsn), rows(dsn, INDEXES)) == (before, indexes)


def test_an_undo_that_was_interrupted_before_a_campaign_does_not_hide_it(
    session: Session, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, indexes = contents(dsn), rows(dsn, INDEXES)
    campaign.start(session, campaign.plan_campaign(session))

    def fail(*_: object, **__: object) -> None:
        raise RagopsError("the disk is full")

    with monkeypatch.context() as broken:
        broken.setattr("ragops.campaign.steps.building.create", fail)
        with pytest.raises(RagopsError, match="disk is full"):
            undo(session)
    # It builds the indexes that are missing.
    campaign.start(session, campaign.plan_campaign(session))
    assert (value(dsn, "SELECT count(*) FROM documents"), rows(dsn, INDEXES)) == (0, indexes)
    assert undo(session).campaign == 2
    assert (contents(dsn), rows(dsn, INDEXES)) == (before, indexes)
    assert value(dsn, "SELECT count(*) FROM ragops.undo WHERE finished_at IS NULL") == 0


def test_nothing_to_undo(session: Session) -> None:
    with pytest.raises(RagopsError, match="nothing to bring back"):
        undo(session)


def test_a_statement_timeout_of_the_role_does_not_end_the_emptying(session: Session, dsn: str) -> None:
    execute(
        dsn,
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM pg_sleep(0.8); RETURN NULL; END $$",
        "CREATE TRIGGER slow AFTER DELETE ON parsed_files EXECUTE FUNCTION slow()",
        f"ALTER DATABASE {value(dsn, 'SELECT current_database()')} SET statement_timeout = '500ms'",
    )
    with open_session(dsn, playbook()) as limited:
        empty(limited)
    assert set(sizes(dsn).values()) == {0}
