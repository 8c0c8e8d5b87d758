"""What stands between a playbook and a database: each problem by itself, then all of them together."""

from __future__ import annotations

from dataclasses import replace

import pytest
from facts_factory import (
    CHUNKS_KEY,
    column,
    database,
    incident,
    model,
    server,
    table,
    with_column,
    without_column,
)
from playbook_factory import playbook, realign, with_steps

from ragops.campaign import plan
from ragops.campaign.preflight import find_table_problems
from ragops.campaign.steps.base import PlanFacts
from ragops.facts import DatabaseFacts, ForeignKeyFacts, ModelFacts, TableFacts, vector_dimensions
from ragops.findings import PlanProblem
from ragops.playbook import Playbook


def find_problems(playbook: Playbook, facts: DatabaseFacts, *, model: ModelFacts | None) -> list[str]:
    found = plan.find_problems(PlanFacts(playbook, facts, model=model))
    return [problem.what if isinstance(problem, PlanProblem) else problem for problem in found]


def test_the_incident_passes() -> None:
    assert find_problems(realign(), incident(), model=model()) == []


SERVERS: list[tuple[dict[str, object], list[str]]] = [
    ({"pgvector_version": None}, ["the extension pgvector is not installed"]),
    ({"pgvector_version": "0.4.4"}, ["pgvector 0.4.4 has no HNSW index; 0.5 or newer is needed"]),
    ({"pgvector_version": "0.5.0"}, []),
    ({"pgvector_version": "0.5"}, []),
    ({"pgvector_version": "0.10.0"}, []),
    ({"pgvector_version": "1.0"}, []),
    ({"is_read_only": True}, ["the database is read-only (a standby, or its storage is at its limit)"]),
    ({"max_connections": 10, "connections_in_use": 5}, []),
    (
        {"max_connections": 10, "connections_in_use": 6},
        [
            "4 of 10 connections are free, ragops needs 5; close others or raise max_connections "
            "(it takes a restart of the server)"
        ],
    ),
]


@pytest.mark.parametrize(("changes", "problems"), SERVERS)
def test_server(changes: dict[str, object], problems: list[str]) -> None:
    assert find_problems(realign(), database(server_facts=server(**changes)), model=None) == problems


def test_more_workers_need_no_more_connections() -> None:
    facts = database(server_facts=server(max_connections=10, connections_in_use=5))
    assert find_problems(realign(RAGOPS_WORKERS="64"), facts, model=None) == []


NOT_NULL = "is NOT NULL without a default, and documents.columns maps nothing onto it"
TABLES: list[tuple[TableFacts, list[str]]] = [
    (
        without_column(table("documents"), "content"),
        ["column public.documents.content (documents.columns.content) does not exist"],
    ),
    (
        without_column(table("documents"), "embedding"),
        ["column public.documents.embedding (documents.columns.embedding) does not exist"],
    ),
    (
        with_column(table("documents"), column("tenant", is_nullable=False)),
        [f"column public.documents.tenant {NOT_NULL}"],
    ),
    (with_column(table("documents"), column("tenant")), []),
    (with_column(table("documents"), column("tenant", is_nullable=False, has_default=True)), []),
    (with_column(table("documents"), column("n", "bigint", is_nullable=False, is_identity=True)), []),
    (with_column(table("documents"), column("n", is_nullable=False, is_generated=True)), []),
    (with_column(table("documents"), column("content", is_nullable=False)), []),
    (
        table("documents", is_unlogged=True),
        ["table public.documents is UNLOGGED: a crash would empty it"],
    ),
    (
        with_column(table("documents"), column("embedding", "double precision[]")),
        ["column public.documents.embedding has type double precision[], needed: vector"],
    ),
    (
        with_column(table("documents"), column("embedding", "halfvec(768)")),
        ["column public.documents.embedding has type halfvec(768), needed: vector"],
    ),
    (with_column(table("documents"), column("embedding", "vector")), []),
    (
        with_column(table("documents"), column("embedding", "vector(384)")),
        ["column public.documents.embedding holds 384 dimensions, the model makes 768"],
    ),
]


@pytest.mark.parametrize(("documents", "problems"), TABLES)
def test_table(documents: TableFacts, problems: list[str]) -> None:
    assert find_problems(realign(), database({"documents": documents}), model=model()) == problems


def test_missing_tables_are_named_as_the_playbook_spells_them() -> None:
    mapped = playbook("tables: {documents: {table: 'rag.docs'}}")
    facts = database({"documents": None, "files_queue": None})
    assert find_problems(mapped, facts, model=None) == [
        "table rag.docs (documents) does not exist",
        "table files_queue (files_queue) does not exist",
    ]


DIMENSIONS: list[tuple[str, ModelFacts | None, list[str]]] = [
    ("model: {}", None, []),
    ("model: {dimensions: 768}", None, []),
    ("model: {dimensions: 768}", model(), []),
    ("model: {}", model(), []),
    (
        "model: {dimensions: 384}",
        None,
        [
            "column public.documents.embedding holds 768 dimensions, the model makes 384",
            "column public.document_chunks.embedding holds 768 dimensions, the model makes 384",
        ],
    ),
    ("model: {dimensions: 384}", model(), ["the model has 768 dimensions, model.dimensions says 384"]),
    (
        "model: {dimensions: 768}",
        model(dimensions=1024),
        [
            "the model has 1024 dimensions, model.dimensions says 768",
            "column public.documents.embedding holds 768 dimensions, the model makes 1024",
            "column public.document_chunks.embedding holds 768 dimensions, the model makes 1024",
        ],
    ),
]


@pytest.mark.parametrize(("line", "loaded", "problems"), DIMENSIONS)
def test_dimensions(line: str, loaded: ModelFacts | None, problems: list[str]) -> None:
    assert find_problems(playbook(line), database(), model=loaded) == problems


@pytest.mark.parametrize(("type", "dimensions"), [("vector(3)", 3), ("vector", None), ("text", None)])
def test_vector_dimensions(type: str, dimensions: int | None) -> None:
    assert vector_dimensions(with_column(table("documents"), column("embedding", type)), "embedding") == dimensions


BOTH = "empty_tables must truncate both, or delete from both"
BEFORE = "empty_tables must list it before, as rows are deleted in that order"
LISTED = "empty_tables must list it too"
CHUNKS = (
    "public.document_chunks references public.documents (foreign key document_chunks_document_id_fkey, ON DELETE"
)
FOREIGN: list[tuple[str, str, list[str]]] = [
    ("documents document_chunks", "NO ACTION", []),
    ("document_chunks documents", "CASCADE", []),
    ("documents", "NO ACTION", [f"{CHUNKS} NO ACTION): {BOTH}"]),
    ("documents", "CASCADE", [f"{CHUNKS} CASCADE): {BOTH}"]),
    ("documents document_chunks:delete", "CASCADE", [f"{CHUNKS} CASCADE): {BOTH}"]),
    ("documents:delete", "CASCADE", [f"{CHUNKS} CASCADE): {LISTED}"]),
    ("documents:delete", "SET NULL", [f"{CHUNKS} SET NULL): {LISTED}"]),
    ("documents:delete document_chunks", "NO ACTION", []),
    ("document_chunks:delete documents:delete", "NO ACTION", []),
    ("documents:delete document_chunks:delete", "NO ACTION", [f"{CHUNKS} NO ACTION): {BEFORE}"]),
    ("documents:delete document_chunks:delete", "RESTRICT", [f"{CHUNKS} RESTRICT): {BEFORE}"]),
    ("documents:delete document_chunks:delete", "CASCADE", []),
    ("document_chunks", "NO ACTION", []),
    ("document_chunks:delete", "NO ACTION", []),
]


def _emptying(tables: str) -> str:
    entries = [word.partition(":") for word in tables.split()]
    listed = ", ".join(f"{{table: {name}, method: {method or 'truncate'}}}" for name, _, method in entries)
    return f"{{step: empty_tables, tables: [{listed}]}}"


@pytest.mark.parametrize(("tables", "on_delete", "problems"), FOREIGN)
def test_foreign_keys(tables: str, on_delete: str, problems: list[str]) -> None:
    documents = table("documents", referenced_by=(replace(CHUNKS_KEY, on_delete=on_delete),))
    facts = database({"documents": documents})
    assert find_problems(with_steps(_emptying(tables)), facts, model=None) == problems
    # A command that empties nothing has nothing to do with foreign keys.
    assert find_table_problems(with_steps(_emptying(tables)), facts, model=None) == []


def test_a_table_outside_of_the_playbook_is_never_emptied_by_cascade() -> None:
    key = ForeignKeyFacts("notes_fk", "app.notes", "CASCADE")
    key = replace(key, drop="ALTER TABLE app.notes DROP CONSTRAINT notes_fk", add="ALTER TABLE app.notes ADD …")
    facts = database({"documents": table("documents", referenced_by=(CHUNKS_KEY, key))})
    listed = (
        "app.notes references public.documents (foreign key notes_fk, ON DELETE CASCADE): new rows get other ids, "
        "so what references the old ones would dangle. Drop the key first (to make it again afterwards: "
        "ALTER TABLE app.notes ADD …)"
    )
    assert find_problems(realign(), facts, model=None) == [listed]
    assert find_problems(with_steps("{step: embed}"), facts, model=None) == []


def test_a_step_names_a_table_that_the_playbook_has_not() -> None:
    made = with_steps("{step: empty_tables}", more="tables: {parsed_files: null}\n")
    tables = {name: facts for name, facts in database().tables.items() if name != "parsed_files"}
    found = find_problems(made, replace(database(), tables=tables), model=None)
    assert found == ["empty_tables names parsed_files, which tables: sets to null"]


def test_two_names_for_one_table() -> None:
    columns = {**table("parsed_files").columns, **table("ingestion_metrics").columns}
    columns = {name: replace(facts, is_nullable=True) for name, facts in columns.items()}
    one = table("parsed_files", columns=columns)
    facts = database({"parsed_files": one, "ingestion_metrics": one})
    assert find_problems(realign(), facts, model=None) == [
        "table public.parsed_files is mapped twice, as parsed_files and as ingestion_metrics"
    ]


def test_all_problems_at_once() -> None:
    facts = DatabaseFacts(
        server=server(pgvector_version="0.4.0", is_read_only=True, max_connections=3),
        tables={
            **database().tables,
            "documents": with_column(table("documents", is_unlogged=True), column("embedding", "text")),
            "files_queue": None,
        },
    )
    found = find_problems(with_steps(_emptying("documents")), facts, model=model())
    words = [
        "pgvector 0.4.0",
        "read-only",
        "connections are free",
        "UNLOGGED",
        "has type text",
        "files_queue",
        "references",
    ]
    assert len(found) == len(words)
    assert all(word in problem for word, problem in zip(words, found, strict=True))
