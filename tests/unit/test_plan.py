"""Plans as tables: playbook and facts in; steps, SQL, phases and notes out."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, get_args

import pytest
from facts_factory import MB, OIDS, database, hnsw, incident, model, table
from playbook_factory import playbook, realign, with_steps

from ragops.campaign import plan as planning
from ragops.campaign.confirmed import PlannedTable
from ragops.campaign.plan import Plan
from ragops.campaign.steps.base import PlanFacts, PlannedStep
from ragops.campaign.steps.registry import STEPS
from ragops.errors import PlanRefused
from ragops.facts import DatabaseFacts, ModelFacts, SpaceFacts, TableFacts
from ragops.playbook import Playbook
from ragops.playbook.steps import Step
from ragops.playbook.tables import LogicalTable
from ragops.postgres.queue import MAX_PHASE
from ragops.postgres.statements import text_of
from ragops.workers.sizing import Sizing

ITEMS = 1_139_250
FLEET = Sizing(3, 2, note="3 workers × 2 threads on 2 cores oversubscribe them; 2 × 1 fits")
INCIDENT_INDEX = hnsw("idx_documents_embedding_hnsw", bytes=3_600 * MB)


def make_plan(
    playbook: Playbook,
    facts: DatabaseFacts,
    *,
    model: ModelFacts | None = None,
    items: int | None = None,
    sizing: Sizing | None = None,
) -> Plan:
    return planning.make_plan(PlanFacts(playbook, facts, next_archive=7, model=model, items=items, sizing=sizing))


def incident_plan(*, items: int | None = ITEMS, **environment: str) -> Plan:
    facts = incident(indexes=(INCIDENT_INDEX,), docs_per_s=2.0, index_rows_per_s=500.0)
    return make_plan(realign(**environment), facts, model=model(), items=items, sizing=FLEET)


def _sql(step: PlannedStep) -> list[str]:
    return [text_of(statement) for statement in step.statements]


def test_realign_step_by_step() -> None:
    shown = [(s.number, s.verb, s.title, s.rows, s.bytes, s.phase, s.estimate_s) for s in incident_plan().steps]
    freed = (9_468 + 580 + 2 + 214 - 3_600) * MB
    rows = 930_394 + 930_950 + 13_653 + 1_139_250
    assert shown == [
        (1, "verify_build", "verify the workers' build and the model", None, None, None, None),
        (2, "drop_indexes", "journal and drop 1 vector index", None, 3_600 * MB, None, None),
        (3, "empty_tables", "empty 5 tables", rows, freed, None, None),
        (4, "reseed_queue", "fill public.files_queue from the source", ITEMS, None, None, None),
        (5, "embed", "embed the first 1,000 items", 1_000, None, 1, 1_000 / 6),
        (6, "validate", "validate at 1,000 documents", None, None, None, None),
        (7, "embed", "embed the first 100,000 items", 99_000, None, 2, 99_000 / 6),
        (8, "rebuild_indexes", "build 2 vector indexes", 100_000, None, None, 200.0),
        (9, "embed", "embed the rest", 1_039_250, None, 32_767, 1_039_250 / 6),
        (10, "validate", "validate the whole corpus", None, None, None, None),
    ]


def test_every_verb_has_a_step() -> None:
    union, _ = get_args(Step)
    verbs = {get_args(settings.model_fields["step"].annotation)[0] for settings in get_args(union)}
    assert STEPS.keys() == verbs


def test_realign_sql() -> None:
    sql = {step.number: _sql(step) for step in incident_plan(RAGOPS_CORPUS="/corpus").steps if step.statements}
    assert sql == {
        2: ['DROP INDEX "public"."idx_documents_embedding_hnsw"'],
        3: [
            'CREATE TABLE "ragops"."archive_7_documents" AS TABLE "public"."documents"',
            'CREATE TABLE "ragops"."archive_8_document_chunks" AS TABLE "public"."document_chunks"',
            'CREATE TABLE "ragops"."archive_9_parsed_files" AS TABLE "public"."parsed_files"',
            'CREATE TABLE "ragops"."archive_10_ingestion_metrics" AS TABLE "public"."ingestion_metrics"',
            'CREATE TABLE "ragops"."archive_11_files_queue" AS TABLE "public"."files_queue"',
            # The truncation comes last: it shuts out the readers.
            'DELETE FROM "public"."parsed_files"',
            'DELETE FROM "public"."ingestion_metrics"',
            'TRUNCATE TABLE "public"."documents", "public"."document_chunks", "public"."files_queue"',
            'VACUUM "public"."parsed_files"',
            'VACUUM "public"."ingestion_metrics"',
        ],
        4: [
            'COPY "files_queue" ("file_path", "status", "attempts", "phase")\nFROM STDIN',
        ],
        8: [
            INCIDENT_INDEX.definition,
            'CREATE INDEX "idx_document_chunks_embedding_hnsw" ON "public"."document_chunks" USING hnsw '
            '("embedding" "vector_cosine_ops") WITH (m = 16, ef_construction = 64)',
            'ANALYZE "public"."documents"',
            'ANALYZE "public"."document_chunks"',
        ],
    }


def test_realign_tables_and_state() -> None:
    plan = incident_plan()
    every = tuple(f"public.{logical}" for logical in OIDS)
    both = ("public.documents", "public.document_chunks")
    assert [step.tables for step in plan.steps] == [
        (), ("public.documents",), every, (), every, (), every, both, every, ()
    ]  # fmt: skip
    assert (plan.name, plan.database, plan.database_oid) == ("realign", "rag", 5)
    assert plan.tables["documents"] == PlannedTable(OIDS["documents"], 930_394)
    assert plan.tables.keys() == OIDS.keys()


def test_no_archive_when_declined() -> None:
    (step,) = [s for s in incident_plan(RAGOPS_ARCHIVE="false").steps if s.verb == "empty_tables"]
    assert not [statement for statement in _sql(step) if "archive" in statement]
    assert len(step.statements) == 5
    waits = "readers of these tables wait 2 s at most; writers wait while the rows are counted"
    assert step.notes == ("no archive: `ragops undo` cannot restore these rows", waits)
    (archiving,) = [s for s in incident_plan().steps if s.verb == "empty_tables"]
    kept = "the rows are copied into the schema ragops first (`ragops undo` restores them)"
    assert archiving.notes == (kept, f"{waits} and copied: about 103 s")


def test_the_space_that_an_archive_needs() -> None:
    sizes = {table.oid: table.bytes for table in incident().tables.values() if table}
    space = SpaceFacts(sizes, max_wal_bytes=1024 * MB)
    _, note, _ = _emptying(space).notes
    assert note.startswith("the archive needs 10.0 GiB free on the server, and as much WAL is written")
    local = replace(space, free=12 * 1024 * MB, folder="/data")
    _, note, _ = _emptying(local).notes
    assert "12.0 GiB are free in /data" in note
    with pytest.raises(PlanRefused) as caught:
        _emptying(replace(local, free=10 * 1024 * MB))
    assert "needs 11.0 GiB (10.0 GiB of rows and 1.0 GiB of WAL), and 10.0 GiB are free in /data" in str(
        caught.value.actual
    )
    # The WAL has a disk of its own.
    _emptying(replace(local, free=10_300 * MB, wal_free=2048 * MB))
    with pytest.raises(PlanRefused) as caught:
        _emptying(replace(local, wal_free=1023 * MB))
    assert "writes 1.0 GiB of WAL, and 1,023 MiB are free" in str(caught.value.actual)
    _emptying(replace(local, free=0), RAGOPS_ARCHIVE="false")


def _emptying(space: SpaceFacts, **variables: str) -> PlannedStep:
    made = realign(RAGOPS_CORPUS="/corpus", **variables)
    plan = planning.make_plan(PlanFacts(made, incident(indexes=(INCIDENT_INDEX,)), space=space))
    (step,) = [s for s in plan.steps if s.verb == "empty_tables"]
    return step


def test_an_index_that_stays_in_place_under_a_delete() -> None:
    made = with_steps(
        "{step: empty_tables, tables: [{table: document_chunks}, {table: documents, method: delete}]}"
    )
    tables: dict[LogicalTable, TableFacts | None] = {
        "documents": table("documents", rows=9, referenced_by=(), indexes=(hnsw("i"), hnsw("j")))
    }
    (step,) = make_plan(made, database(tables)).steps
    assert step.notes[-1].startswith("i, j on public.documents stays in place: after a DELETE, VACUUM walks")
    assert step.notes[-1].endswith("put drop_indexes before this step")


UNKNOWN = "time unknown: no batch of this database has been measured yet"
EMBEDS: list[tuple[int | None, float | None, list[tuple[int | None, tuple[str, ...]]]]] = [
    (None, None, [(1_000, (UNKNOWN,)), (99_000, (UNKNOWN,)), (None, (UNKNOWN,))]),
    (None, 2.0, [(1_000, ()), (99_000, ()), (None, ())]),
    (100_000, 2.0, [(1_000, ()), (99_000, ()), (0, ())]),
    (100_001, 2.0, [(1_000, ()), (99_000, ()), (1, ())]),
    (
        5_000,
        2.0,
        [(1_000, ()), (4_000, ("the source has 5,000 documents, fewer than the gate of 100,000",)), (0, ())],
    ),
    (
        120,
        None,
        [
            (120, (UNKNOWN, "the source has 120 documents, fewer than the gate of 1,000")),
            (0, ("the source has 120 documents, fewer than the gate of 100,000",)),
            (0, ()),
        ],
    ),
    (
        0,
        2.0,
        [
            (0, ("the source has 0 documents, fewer than the gate of 1,000",)),
            (0, ("the source has 0 documents, fewer than the gate of 100,000",)),
            (0, ()),
        ],
    ),
]


@pytest.mark.parametrize(("items", "rate", "expected"), EMBEDS)
def test_embedding_a_source_of_any_size(
    items: int | None, rate: float | None, expected: list[tuple[int | None, tuple[str, ...]]]
) -> None:
    plan = make_plan(realign(), replace(incident(), docs_per_s=rate), items=items, sizing=FLEET)
    embeds = [step for step in plan.steps if step.verb == "embed"]
    assert all(step.notes[:2] == (str(FLEET), FLEET.note) for step in embeds)
    assert [(step.rows, step.notes[2:]) for step in embeds] == expected
    assert [step.phase for step in embeds] == [1, 2, MAX_PHASE]
    for step in embeds:
        assert step.estimate_s == (step.rows / (rate * 3) if rate and step.rows else None)


ROWS_TO_INDEX: list[tuple[list[str], int | None, int | None]] = [
    (["{step: rebuild_indexes}"], 10, None),
    (["{step: embed, until: 5}", "{step: rebuild_indexes}"], 10, 5),
    (["{step: embed, until: 5}", "{step: rebuild_indexes}"], 3, 3),
    (["{step: embed, until: 5}", "{step: rebuild_indexes}"], None, 5),
    (["{step: embed, until: 5}", "{step: embed}", "{step: rebuild_indexes}"], 10, 10),
    (["{step: embed}", "{step: rebuild_indexes}"], None, None),
    (["{step: embed, until: 5}", "{step: rebuild_indexes}", "{step: embed, until: 9}"], 10, 5),
]


@pytest.mark.parametrize(("steps", "items", "rows"), ROWS_TO_INDEX)
def test_rows_under_the_index(steps: list[str], items: int | None, rows: int | None) -> None:
    plan = make_plan(with_steps(*steps), database(index_rows_per_s=2.0), items=items)
    (step,) = [s for s in plan.steps if s.verb == "rebuild_indexes"]
    assert step.rows == rows
    assert step.estimate_s == (rows / 2.0 if rows else None)


DOCUMENTS, CHUNKS, PARSED, METRICS, QUEUE = (table(logical, rows=7) for logical in OIDS)
EMPTYINGS: list[tuple[str, DatabaseFacts, list[str]]] = [
    (
        "{step: empty_tables, archive: false, tables: [{table: documents}, {table: document_chunks}]}",
        database(),
        ['TRUNCATE TABLE "public"."documents", "public"."document_chunks"'],
    ),
    (
        "{step: empty_tables, tables: [{table: documents}, {table: document_chunks}]}",
        database({"documents": DOCUMENTS}),
        # The empty table too: `undo` leaves it as empty as it was.
        [
            'CREATE TABLE "ragops"."archive_7_documents" AS TABLE "public"."documents"',
            'CREATE TABLE "ragops"."archive_8_document_chunks" AS TABLE "public"."document_chunks"',
            'TRUNCATE TABLE "public"."documents", "public"."document_chunks"',
        ],
    ),
    (
        "{step: empty_tables, tables: [{table: document_chunks, method: delete}, "
        "{table: documents, method: delete}]}",
        database({"documents": DOCUMENTS, "document_chunks": CHUNKS}),
        [
            'CREATE TABLE "ragops"."archive_7_document_chunks" AS TABLE "public"."document_chunks"',
            'CREATE TABLE "ragops"."archive_8_documents" AS TABLE "public"."documents"',
            'DELETE FROM "public"."document_chunks"',
            'DELETE FROM "public"."documents"',
            'VACUUM "public"."document_chunks"',
            'VACUUM "public"."documents"',
        ],
    ),
    (
        "{step: empty_tables, archive: false, "
        "tables: [{table: parsed_files, method: delete}, {table: files_queue}]}",
        database({"parsed_files": PARSED, "files_queue": QUEUE}),
        [
            'DELETE FROM "public"."parsed_files"',
            'TRUNCATE TABLE "public"."files_queue"',
            'VACUUM "public"."parsed_files"',
        ],
    ),
    (
        "{step: empty_tables, archive: false, "
        "tables: [{table: documents, method: delete}, {table: document_chunks}]}",
        database({"documents": DOCUMENTS, "document_chunks": CHUNKS}),
        # Chunks reference documents.
        [
            'TRUNCATE TABLE "public"."document_chunks"',
            'DELETE FROM "public"."documents"',
            'VACUUM "public"."documents"',
        ],
    ),
    (
        "{step: empty_tables, tables: [{table: ingestion_metrics}]}",
        database({"ingestion_metrics": METRICS}),
        [
            'CREATE TABLE "ragops"."archive_7_ingestion_metrics" AS TABLE "public"."ingestion_metrics"',
            'TRUNCATE TABLE "public"."ingestion_metrics"',
        ],
    ),
]


@pytest.mark.parametrize(("step", "facts", "sql"), EMPTYINGS)
def test_emptying(step: str, facts: DatabaseFacts, sql: list[str]) -> None:
    (planned,) = make_plan(with_steps(step), facts).steps
    assert _sql(planned) == sql
    count = step.count("{table:")
    assert planned.title == ("empty 1 table" if count == 1 else f"empty {count} tables")


def test_archives_of_two_steps_have_numbers_of_their_own() -> None:
    first = "{step: empty_tables, tables: [{table: documents}, {table: document_chunks}]}"
    second = "{step: empty_tables, tables: [{table: parsed_files}]}"
    filled = database({"documents": DOCUMENTS, "parsed_files": PARSED})
    steps = make_plan(with_steps(first, second), filled).steps
    archives = [line.split('"')[3] for step in steps for line in _sql(step) if "archive_" in line]
    assert archives == ["archive_7_documents", "archive_8_document_chunks", "archive_9_parsed_files"]


def test_bytes_of_indexes_are_freed_once() -> None:
    documents = table("documents", bytes=100, indexes=(hnsw("a", bytes=30),))
    facts = database({"documents": documents})
    emptying = "{step: empty_tables, tables: [{table: documents}, {table: document_chunks}]}"
    assert [step.bytes for step in make_plan(with_steps(emptying), facts).steps] == [100]
    both = make_plan(with_steps("{step: drop_indexes}", emptying), facts)
    assert [step.bytes for step in both.steps] == [30, 70]


def test_a_table_that_a_foreign_key_reaches_is_listed() -> None:
    steps = "{step: empty_tables, tables: [{table: document_chunks}, {table: documents}]}"
    (step,) = make_plan(with_steps(steps), database()).steps
    assert step.tables == ("public.document_chunks", "public.documents")


def test_nothing_to_drop_says_so() -> None:
    (step,) = make_plan(with_steps("{step: drop_indexes}"), database()).steps
    assert (step.title, step.statements, step.bytes, step.notes) == (
        "journal and drop 0 vector indexes", (), 0, ("no vector index exists: nothing to drop",)
    )  # fmt: skip


def test_own_names_reach_the_sql() -> None:
    lines = [
        "tables: {documents: {table: 'rag.\"my docs\"', columns: {embedding: 'vec\"tor'}}, document_chunks: null,",
        "  parsed_files: null, ingestion_metrics: null}",
        "indexes: [{name: 'a\"b', table: documents, metric: ip, m: 8, ef_construction: 32}]",
    ]
    named = table("documents", schema="rag", name="my docs", referenced_by=())
    columns = dict(named.columns)
    columns['vec"tor'] = replace(columns.pop("embedding"), name='vec"tor')
    named = replace(named, columns=columns)
    facts = replace(database(), tables={"documents": named, "files_queue": table("files_queue")})
    mapped = playbook(*lines)
    rebuild = with_steps("{step: rebuild_indexes, concurrently: true}").steps
    (step,) = make_plan(mapped.model_copy(update={"steps": rebuild}), facts).steps
    assert _sql(step) == [
        'CREATE INDEX CONCURRENTLY "a""b" ON "rag"."my docs" USING hnsw ("vec""tor" "vector_ip_ops") '
        "WITH (m = 8, ef_construction = 32)",
        'ANALYZE "rag"."my docs"',
    ]


def test_refused_plan_lists_every_problem() -> None:
    facts = replace(database({"documents": None}), server=replace(database().server, is_read_only=True))
    with pytest.raises(PlanRefused) as caught:
        make_plan(realign(), facts)
    error = caught.value
    assert error.where == "rag"
    assert error.what == "the playbook cannot run on this database: 2 problems; nothing was changed"
    assert (error.actual or "").splitlines() == [
        "the database is read-only (a standby, or its storage is at its limit)",
        "table documents (documents) does not exist",
    ]
    assert (error.hint or "").startswith("ragops db init")


def test_hint_of_a_refusal_that_no_init_can_fix() -> None:
    facts = replace(database(), server=replace(database().server, is_read_only=True))
    with pytest.raises(PlanRefused, match="1 problem;") as caught:
        make_plan(realign(), facts)
    assert caught.value.hint == "fix these, then: ragops reset --dry-run"


def test_plan_as_json() -> None:
    plan = incident_plan(RAGOPS_DSN="postgresql://u:s3cret-canary@h/db")
    shown: dict[str, Any] = plan.to_json()
    text = json.dumps(shown, allow_nan=False)
    assert "s3cret-canary" not in text
    assert shown["tables"]["documents"] == {"oid": OIDS["documents"], "rows": 930_394}
    assert [step["verb"] for step in shown["steps"]] == [step.verb for step in plan.steps]
    fifth = shown["steps"][4]
    assert fifth["settings"] == {"step": "embed", "until": 1_000}
    assert (fifth["phase"], fifth["rows"], fifth["sql"]) == (1, 1_000, [])
    assert shown["steps"][1]["sql"] == ['DROP INDEX "public"."idx_documents_embedding_hnsw"']


def test_planning_twice_gives_the_same_plan() -> None:
    assert incident_plan() == incident_plan()
