"""Types, limits and order of a playbook: all problems at once, each with path and line."""

from __future__ import annotations

import json
from typing import Any

import pytest
from playbook_factory import HEAD, SMALLEST, places_of, playbook, problems_of, realign, steps_text

from ragops.playbook import Playbook

WRONG: list[tuple[str, str, str]] = [
    ("wrkers: {}", "wrkers", "unknown key"),
    ("workers: {cuont: 3}", "workers.cuont", "unknown key"),
    ("model: {parameters: {n_gpu: 1}}", "model.parameters.n_gpu", "unknown key"),
    ("tables: {documents: {columns: {vector: v}}}", "tables.documents.columns.vector", "unknown key"),
    ("workers: {count: '3'}", "workers.count", "Input should be a valid integer, or 'auto' (found '3')"),
    ("workers: {count: 3.0}", "workers.count", "Input should be a valid integer, or 'auto' (found 3.0)"),
    ("workers: {count: yes}", "workers.count", "Input should be a valid integer, or 'auto' (found True)"),
    ("workers: {count: 0}", "workers.count", "Input should be greater than 0, or 'auto' (found 0)"),
    ("workers: {count: -1}", "workers.count", "Input should be greater than 0, or 'auto' (found -1)"),
    ("workers: {count: null}", "workers.count", "Input should be a valid integer, or 'auto' (found None)"),
    ("workers: {count: [3]}", "workers.count", "Input should be a valid integer, or 'auto'"),
    ("workers: 3", "workers", "Input should be an object (found 3)"),
    ("workers:", "workers", "Input should be an object (found None)"),
    (
        "workers: {count: 1e5}",
        "workers.count",
        "Input should be a valid integer, or 'auto'; YAML reads 1e5 as text, write the number without an exponent",
    ),
    (
        "validation: {max_distance: 1e-3}",
        "validation.max_distance",
        "Input should be a valid number; YAML reads 1e-3 as text, write the number without an exponent",
    ),
    (
        "validation: {max_distance: 1e999}",
        "validation.max_distance",
        "Input should be a valid number; YAML reads 1e999",
    ),
    (
        "validation: {max_distance: 1.5e3}",
        "validation.max_distance",
        "Input should be a valid number; YAML reads 1.5e3",
    ),
    ("validation: {max_distance: .inf}", "validation.max_distance", "Input should be a finite number"),
    ("validation: {max_distance: .nan}", "validation.max_distance", "Input should be a finite number"),
    ("validation: {max_distance: 0}", "validation.max_distance", "Input should be greater than 0"),
    (
        "validation: {max_failed_share: 1.1}",
        "validation.max_failed_share",
        "Input should be less than or equal to 1",
    ),
    ("validation: {thresholds: 0.3}", "validation.thresholds", "Input should be a valid"),
    (
        "validation: {thresholds: [0.3, x]}",
        "validation.thresholds[1]",
        "Input should be a valid number (found 'x')",
    ),
    ("database: {allow_plaintext: 'no'}", "database.allow_plaintext", "Input should be a valid boolean"),
    ("model: {sha256: abc}", "model.sha256", "String should match pattern"),
    ("model: {pooling: rank}", "model.pooling", "Input should be 'auto', 'mean', 'cls' or 'last' (found 'rank')"),
    ("build: {features: {AVX2: 0}}", "build.features.AVX2", "Input should be a valid boolean (found 0)"),
    ("chunking: {overlap_tokens: -1}", "chunking.overlap_tokens", "Input should be greater than or equal to 0"),
    ("source: {folder: a, query: b}", "source", "one source only, found folder and query"),
    (
        "source: {table: a.b.c}",
        "source.table",
        "'a.b.c' is not a table name; write name or schema.name",
    ),
    ("source: {id_column: ''}", "source.id_column", "a name must not be empty (found '')"),
    ("source: {include: []}", "source.include", "Tuple should have at least 1 item"),
    ("tables: {documents: null}", "tables.documents", "documents cannot be null without `targets:`"),
    ("tables: {files_queue: null}", "tables.files_queue", "Input should be an object (found None)"),
    (
        "tables: {documents: {columns: {embedding: null}}}",
        "tables.documents.columns.embedding",
        "Input should be a valid",
    ),
    (
        f"tables: {{documents: {{table: {'n' * 64}}}}}",
        "tables.documents.table",
        "a name has at most 63 bytes, this one has 64",
    ),
    (
        "tables: {parsed_files: {table: documents}}",
        "tables.parsed_files",
        "documents is mapped twice, as documents and as parsed_files",
    ),
    ("indexes: [{name: i}]", "indexes[0].table", "Field required"),
    (
        "indexes: [{name: i, table: files_queue}]",
        "indexes[0].table",
        "Input should be 'documents' or 'document_chunks'",
    ),
    ("indexes: [{name: i, table: documents, m: 1}]", "indexes[0].m", "Input should be greater than or equal to 2"),
    (
        "indexes: [{name: i, table: documents, metric: dot}]",
        "indexes[0].metric",
        "Input should be 'cosine', 'l2' or 'ip'",
    ),
    (
        "indexes: [{name: i, table: documents, m: 40}]",
        "indexes[0]",
        "ef_construction must be at least 2 × m = 80, found 64",
    ),
    (
        "tables: {document_chunks: null}",
        "indexes[1]",
        "idx_document_chunks_embedding_hnsw is on document_chunks, which tables: sets to null",
    ),
]


@pytest.mark.parametrize(("line", "path", "message"), WRONG)
def test_wrong_section(line: str, path: str, message: str) -> None:
    (problem,) = problems_of(SMALLEST + line + "\n")
    assert problem.path == path
    assert problem.message.startswith(message)
    # Where the file does not name the object, its top is shown.
    assert problem.line == (1 if path == "indexes[1]" else 5)


HEADS: list[tuple[str, str, int, str]] = [
    ("name: x\nsteps: [{step: embed}]\n", "version", 1, "Field required"),
    ("version: 1\nsteps: [{step: embed}]\n", "name", 1, "Field required"),
    (HEAD, "steps", 1, "Field required"),
    (HEAD.replace("1", "2") + "steps: [{step: embed}]\n", "version", 1, "Input should be 1 (found 2)"),
    (HEAD.replace("1", "'1'") + "steps: [{step: embed}]\n", "version", 1, "Input should be 1 (found '1')"),
    ("version: 1\nname: ''\nsteps: [{step: embed}]\n", "name", 2, "String should have at least 1 character"),
    ("version: 1\nname: no\nsteps: [{step: embed}]\n", "name", 2, "Input should be a valid string (found False)"),
    (HEAD + "steps: []\n", "steps", 3, "Tuple should have at least 1 item"),
    (HEAD + "steps: embed\n", "steps", 3, "Input should be a valid"),
    (HEAD + "steps: {step: embed}\n", "steps", 3, "Input should be a valid"),
    (steps_text("3"), "steps[0]", 4, "a step names its verb, e.g. `- step: embed`"),
    (steps_text("{until: 3}"), "steps[0]", 4, "a step names its verb, e.g. `- step: embed`"),
    (steps_text("embed"), "steps[0]", 4, "a step names its verb, e.g. `- step: embed`"),
    (steps_text("{embed: {until: 3}}"), "steps[0]", 4, "a step names its verb, e.g. `- step: embed`"),
    (steps_text("{step: embd}"), "steps[0]", 4, "Input tag 'embd' found using 'step' does not match"),
    (steps_text("{step: embed, after: 3}"), "steps[0].after", 4, "unknown key"),
    (steps_text("{step: embed, until: 0}"), "steps[0].until", 4, "Input should be greater than 0"),
    (steps_text("{step: validate, after: x}"), "steps[0].after", 4, "Input should be a valid integer (found 'x')"),
    (steps_text("{step: empty_tables, tables: []}"), "steps[0].tables", 4, "Tuple should have at least 1 item"),
    (
        steps_text("{step: empty_tables, tables: [{table: users}]}"),
        "steps[0].tables[0].table",
        4,
        "Input should be 'documents'",
    ),
    (
        steps_text("{step: empty_tables, tables: [{table: documents, method: drop}]}"),
        "steps[0].tables[0].method",
        4,
        "Input should be 'truncate' or 'delete' (found 'drop')",
    ),
    (
        steps_text("{step: empty_tables, tables: [{table: documents}, {table: documents, method: delete}]}"),
        "steps[0]",
        4,
        "documents can be emptied only once",
    ),
    (
        steps_text("{step: rebuild_indexes, maintenance_work_mem: 1gb}"),
        "steps[0].maintenance_work_mem",
        4,
        "String should match pattern",
    ),
    (
        steps_text("""{step: rebuild_indexes, maintenance_work_mem: "1GB'; DROP TABLE x; --"}"""),
        "steps[0].maintenance_work_mem",
        4,
        "String should match pattern",
    ),
]


@pytest.mark.parametrize(("text", "path", "line", "message"), HEADS)
def test_wrong_head_or_step(text: str, path: str, line: int, message: str) -> None:
    (problem,) = problems_of(text)
    assert (problem.path, problem.line) == (path, line)
    assert problem.message.startswith(message)


def test_all_problems_at_once_with_their_lines() -> None:
    text = (
        "version: 2\n"
        "workers:\n"
        "  count: 0\n"
        "  cuont: 3\n"
        "model:\n"
        "  pooling: rank\n"
        "steps:\n"
        "  - step: embed\n"
        "    until: 1e3\n"
        "  - stp: embed\n"
        "  - step: validate\n"
        "    before: 3\n"
        "surprise: 1\n"
    )
    assert sorted(places_of(problems_of(text)), key=lambda place: (place[1] or 0, place[0])) == [
        ("name", 1),
        ("version", 1),
        ("workers.count", 3),
        ("workers.cuont", 4),
        ("model.pooling", 6),
        ("steps[0].until", 9),
        ("steps[1]", 10),
        ("steps[2].before", 12),
        ("surprise", 13),
    ]


def test_names_with_dots_are_told_apart() -> None:
    made = playbook("tables: {documents: {table: a.b}, document_chunks: {table: '\"a.b\"'}}")
    assert [made.tables.mapped()[name].schema for name in ("documents", "document_chunks")] == ["a", None]


def test_shipped_playbook_is_the_procedure() -> None:
    made = realign()
    assert [step.step for step in made.steps] == [
        "verify_build", "drop_indexes", "empty_tables", "reseed_queue", "embed", "validate", "embed",
        "rebuild_indexes", "embed", "validate",
    ]  # fmt: skip
    assert made.gates() == (1000, 100_000)
    assert (made.workers.count, made.workers.batch_size) == ("auto", 100)
    assert realign(RAGOPS_WORKERS="3").workers.count == 3
    assert (made.database.dsn, made.model.file, made.model.sha256, made.source.folder) == (None, None, None, None)
    assert made.tables == playbook().tables
    assert made.indexes == playbook().indexes
    assert made.validation == playbook().validation


def test_shipped_playbook_takes_its_variables() -> None:
    made = realign(
        RAGOPS_VALIDATE_AFTER="10",
        RAGOPS_INDEX_AFTER="20",
        RAGOPS_ARCHIVE="false",
        RAGOPS_WORKERS="2",
        RAGOPS_BUILD_VERSION="0.3.16",
        RAGOPS_QUERY_PREFIX="query : ",
    )
    assert made.gates() == (10, 20)
    assert made.workers.count == 2
    assert made.build.version == "0.3.16"
    assert made.model.query_prefix == "query : "
    assert made.steps[2].model_dump()["archive"] is False


DSNS = ["postgresql://u:s3cret-canary@h/db", "host=h password=s3cret-canary", "dbname=s3cret-canary"]


@pytest.mark.parametrize("dsn", DSNS)
def test_ledger_copy_never_carries_the_dsn(dsn: str) -> None:
    made = realign(RAGOPS_DSN=dsn)
    stored = json.dumps(made.ledger_copy(), allow_nan=False)
    assert "s3cret-canary" not in stored
    assert made.database.dsn == dsn
    assert Playbook.model_validate_json(stored) == realign()


AUTO = (
    "workers: {{count: {word}, tokens_per_batch: {word}}}",
    "model: {{parameters: {{n_threads: {word}}}}}",
)


def test_planned_is_an_alias_of_auto() -> None:
    made = playbook(*(line.format(word="planned") for line in AUTO))
    assert made == playbook(*(line.format(word="auto") for line in AUTO)) == playbook()
    assert (made.workers.count, made.workers.tokens_per_batch) == ("auto", "auto")
    assert made.model.parameters.n_threads == "auto"
    assert "planned" not in json.dumps(made.ledger_copy())


def test_a_ledger_copy_of_an_older_version_is_read() -> None:
    copy: dict[str, Any] = realign().ledger_copy()
    copy["workers"] |= {"count": "planned", "tokens_per_batch": "planned"}
    copy["model"]["parameters"]["n_threads"] = "planned"
    assert Playbook.model_validate_json(json.dumps(copy)) == realign()


def test_a_playbook_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        playbook().workers.count = 1
