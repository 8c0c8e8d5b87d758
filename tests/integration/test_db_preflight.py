"""Preflight on real catalogs: every problem is found before anything runs."""

from __future__ import annotations

from dataclasses import replace

import pytest
from campaigns import execute, make_playbook, rows, value
from facts_factory import model as model_facts

from ragops.campaign.plan import find_problems, make_plan
from ragops.campaign.steps.base import PlanFacts
from ragops.errors import PlanRefused
from ragops.facts import DatabaseFacts
from ragops.playbook import Playbook
from ragops.playbook.steps import EmptyTable, EmptyTables, RebuildIndexes
from ragops.playbook.tables import DocumentsColumns, DocumentsTable, ParsedFilesTable, Tables
from ragops.postgres.catalog import read_database
from ragops.postgres.connection import Target, connect
from ragops.postgres.setup import initialise, plan_setup

MODEL = model_facts(dimensions=32)
UNMAPPED = "column public.documents.{} is NOT NULL without a default, and documents.columns maps nothing onto it"


def facts_of(dsn: str, tables: Tables | None = None) -> DatabaseFacts:
    with connect(Target(dsn, "the test database"), with_vector=False) as connection:
        return read_database(connection, tables or Tables())


def problems(dsn: str, playbook: Playbook | None = None) -> list[str]:
    playbook = playbook or make_playbook()
    with pytest.raises(PlanRefused) as caught:
        make_plan(PlanFacts(playbook, facts_of(dsn, playbook.tables), model=MODEL))
    assert caught.value.where == value(dsn, "SELECT current_database()")
    return [problem.what for problem in caught.value.problems]


def test_the_tables_of_db_init_have_no_problem(dsn: str) -> None:
    plan = make_plan(PlanFacts(make_playbook(), facts_of(dsn), model=MODEL))
    assert [step.number for step in plan.steps] == list(range(1, 11))


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("DROP TABLE document_chunks", ["table document_chunks (document_chunks) does not exist"]),
        (
            "ALTER TABLE documents RENAME COLUMN content TO body",
            [
                "column public.documents.content (documents.columns.content) does not exist; not mapped yet: body",
                UNMAPPED.format("body"),
            ],
        ),
        (
            "ALTER TABLE documents ALTER COLUMN embedding TYPE vector(768)",
            ["column public.documents.embedding holds 768 dimensions, the model makes 32"],
        ),
        (
            "ALTER TABLE document_chunks DROP COLUMN embedding, ADD COLUMN embedding real[]",
            ["column public.document_chunks.embedding has type real[], needed: vector"],
        ),
        (
            "ALTER TABLE parsed_files SET UNLOGGED",
            ["table public.parsed_files is UNLOGGED: a crash would empty it"],
        ),
        (
            "ALTER TABLE documents ADD COLUMN tenant int NOT NULL",
            [UNMAPPED.format("tenant")],
        ),
        (
            "ALTER TABLE files_queue DROP COLUMN claim_id",
            ["column public.files_queue.claim_id (files_queue.columns.claim_id) does not exist"],
        ),
        (
            "CREATE TABLE notes (document_id bigint REFERENCES documents)",
            [
                "public.notes references public.documents (foreign key notes_document_id_fkey, "
                "ON DELETE NO ACTION): new rows get other ids, so what references the old ones would dangle. "
                "Drop the key first (to make it again afterwards: ALTER TABLE public.notes ADD CONSTRAINT "
                "notes_document_id_fkey FOREIGN KEY (document_id) REFERENCES documents(id) NOT VALID)"
            ],
        ),
        (
            "ALTER TABLE documents RENAME TO other; CREATE VIEW documents AS SELECT * FROM other",
            ["documents (documents) is a view, and ragops needs a table"],
        ),
    ],
)
def test_a_problem_is_named(dsn: str, statement: str, expected: list[str]) -> None:
    execute(dsn, *statement.split("; "))
    assert problems(dsn) == expected


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE documents ADD COLUMN tenant int NOT NULL DEFAULT 1",
        "ALTER TABLE documents ADD COLUMN size int GENERATED ALWAYS AS (length(content)) STORED",
        "ALTER TABLE documents ADD COLUMN n bigint GENERATED ALWAYS AS IDENTITY",
        "ALTER TABLE documents ADD COLUMN parent bigint REFERENCES documents",
        "ALTER TABLE documents ALTER COLUMN embedding TYPE vector",
    ],
)
def test_what_is_no_problem(dsn: str, statement: str) -> None:
    execute(dsn, statement)
    assert make_plan(PlanFacts(make_playbook(), facts_of(dsn), model=MODEL)).steps


def test_all_problems_at_once(dsn: str) -> None:
    execute(
        dsn,
        "DROP TABLE ingestion_metrics",
        "ALTER TABLE parsed_files SET UNLOGGED",
        "ALTER TABLE documents ALTER COLUMN embedding TYPE vector(7)",
    )
    assert len(problems(dsn)) == 3


def test_a_database_without_pgvector(bare_dsn: str) -> None:
    found = problems(bare_dsn)
    assert "the extension pgvector is not installed" in found
    assert sum("does not exist" in problem for problem in found) == 5
    target = Target(bare_dsn, "the test database")
    with pytest.raises(PlanRefused, match="pgvector is not installed") as caught:
        connect(target)
    assert caught.value.expected == "CREATE EXTENSION vector"
    with connect(target, with_vector=False) as connection:
        initialise(connection, target, plan_setup(connection, Tables(), dimensions=lambda: 32))
    assert make_plan(PlanFacts(make_playbook(), facts_of(bare_dsn), model=MODEL)).steps


def test_a_read_only_database(dsn: str) -> None:
    name = value(dsn, "SELECT current_database()")
    execute(dsn, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    assert problems(dsn) == ["the database is read-only (a standby, or its storage is at its limit)"]


def test_too_few_connections(dsn18: str) -> None:
    facts = facts_of(dsn18)
    few = replace(facts, server=replace(facts.server, max_connections=facts.server.connections_in_use + 4))
    (found,) = find_problems(PlanFacts(make_playbook(), few))
    assert str(found).startswith(f"4 of {few.server.max_connections} connections are free, ragops needs 5")


def test_a_statement_timeout_and_a_concurrent_build(dsn: str) -> None:
    name = value(dsn, "SELECT current_database()")
    execute(dsn, f"ALTER DATABASE {name} SET statement_timeout = '2min'")
    steps = (RebuildIndexes(step="rebuild_indexes", concurrently=True),)
    (found,) = problems(dsn, make_playbook(steps=steps))
    assert found.startswith("statement_timeout is 2min, which would end CREATE INDEX CONCURRENTLY")
    plain = (RebuildIndexes(step="rebuild_indexes"),)
    assert make_plan(PlanFacts(make_playbook(steps=plain), facts_of(dsn), model=MODEL)).steps


def test_one_table_under_two_names(dsn: str) -> None:
    tables = Tables(parsed_files=ParsedFilesTable(table="public.ingestion_metrics"))
    found = problems(dsn, make_playbook(tables=tables))
    assert "table public.ingestion_metrics is mapped twice, as parsed_files and as ingestion_metrics" in found


@pytest.mark.parametrize(
    "name", ["x'; DROP TABLE documents; --", 'x"; DROP TABLE documents; --', "%s", "{}", "$1"]
)
def test_names_are_quoted_and_never_executed(dsn: str, name: str) -> None:
    quoted = '"' + name.replace('"', '""') + '"'
    tables = Tables(documents=DocumentsTable(table=quoted, columns=DocumentsColumns(content=name)))
    found = problems(dsn, make_playbook(tables=tables))
    assert found == [f"table {name} (documents) does not exist"]
    assert value(dsn, "SELECT to_regclass('documents') IS NOT NULL")


def test_deleting_in_an_order_that_foreign_keys_allow(dsn: str) -> None:
    def emptying(*names: str) -> Playbook:
        entries = tuple(EmptyTable.model_validate({"table": name, "method": "delete"}) for name in names)
        return make_playbook(steps=(EmptyTables(step="empty_tables", tables=entries),))

    (found,) = problems(dsn, emptying("documents", "document_chunks"))
    assert "empty_tables must list it before" in found
    assert make_plan(PlanFacts(emptying("document_chunks", "documents"), facts_of(dsn), model=MODEL)).steps


def test_counts_and_bytes_are_those_of_the_database(dsn: str) -> None:
    execute(
        dsn,
        "INSERT INTO documents (content, embedding) SELECT 'x', array_fill(n, ARRAY[32])::vector"
        " FROM generate_series(1, 50) n",
        "CREATE INDEX an_index ON documents USING hnsw (embedding vector_cosine_ops)",
    )
    documents = facts_of(dsn).tables["documents"]
    assert documents is not None
    assert documents.rows == 50
    assert documents.bytes == value(dsn, "SELECT pg_total_relation_size('documents')")
    (index,) = documents.indexes
    assert rows(dsn, "SELECT pg_relation_size('an_index'), pg_get_indexdef('an_index'::regclass)") == [
        (index.bytes, index.definition)
    ]
    plan = make_plan(PlanFacts(make_playbook(), facts_of(dsn), model=MODEL))
    assert plan.steps[2].rows == 50
    own_oid = "SELECT oid::bigint FROM pg_database WHERE datname = current_database()"
    assert plan.database_oid == value(dsn, own_oid)
