"""Tables that other people made: what does not fit is named with a way out, and what fits is read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from probe_factory import TEXTS, fill
from workplace import Workplace, open_workplace

from ragops.embedder.client import Embedder, EmbedderConfig

OWN = """
version: 1
name: own
model: {file: "${RAGOPS_MODEL:-}"}
tables:
  documents: {table: documents, columns: {%s}}
  document_chunks: null
  files_queue: {table: %s}
indexes: []
steps: [{step: embed}]
"""


@pytest.fixture
def looked(dsn: str, tiny_model: Path, tmp_path: Path) -> Iterator[Workplace]:
    """A terminal and a database with a few documents, embedded as they should be."""
    with Embedder(EmbedderConfig(tiny_model)) as embedder:
        fill(dsn, embedder)
    with open_workplace(tmp_path, dsn=dsn, corpus=tmp_path, model=tiny_model, gate=2, index_after=3) as place:
        yield place


def own(place: Workplace, columns: str = "", queue: str = "files_queue") -> str:
    (place.folder / "own.yaml").write_text(OWN % (columns, queue), encoding="utf-8")
    return "own.yaml"


def test_ids_that_several_rows_have_and_vectors_of_several_lengths(looked: Workplace) -> None:
    looked.execute(
        "ALTER TABLE documents DROP CONSTRAINT documents_pkey CASCADE", "UPDATE documents SET id = 7 WHERE id < 3"
    )
    repeated = looked.ragops("validate", "--json", "-p", own(looked))
    assert repeated.code == 3, repeated.err
    checks = {check["id"]: check for check in repeated.json["checks"]}
    assert checks["documents_ids_unique"]["status"] == "fail"
    assert repeated.json["repeated_ids"] == ["7"]
    # Without a table of chunks the rows themselves are judged: the same texts, the same vectors.
    assert checks["stored_vectors_agree"]["status"] == "pass"
    assert looked.ragops("validate", "--json").code == 3

    looked.execute(
        "UPDATE documents SET id = file_id",
        "ALTER TABLE documents ALTER embedding TYPE vector",
        "INSERT INTO documents (id, content, embedding) VALUES (8, 'of another model', '[1,2,3]'), (9, '', NULL)",
        "UPDATE documents SET embedding = (SELECT embedding FROM documents WHERE id = 2) WHERE id = 1",
    )
    mixed = looked.ragops("validate", "--json", "-p", own(looked))
    assert mixed.code == 3, mixed.err
    checks = {check["id"]: check for check in mixed.json["checks"]}
    assert sorted(mixed.json["disagreeing"]) == ["document 1", "document 8"]
    assert "3 and 32 dimensions" in checks["distances_are_numbers"]["measured"]
    assert "NaN" not in mixed.out
    # A row without a text has nothing to embed.
    assert checks["documents_no_null"]["status"] == "pass"
    found = looked.ragops("search", "water", "--json")
    assert found.code == 0, found.err
    assert len(found.json["exact"]) == len(TEXTS) and "3 dimensions are left out" in found.json["notes"][0]


def test_rows_without_a_vector_are_no_broken_distances(looked: Workplace) -> None:
    looked.execute("INSERT INTO documents (content) VALUES ('not embedded yet')")
    done = looked.ragops("validate", "--json")
    checks = {check["id"]: check for check in done.json["checks"]}
    assert (done.code, checks["documents_no_null"]["status"]) == (3, "fail")
    assert checks["distances_are_numbers"]["status"] == "pass"
    assert checks["documents_no_null"]["measured"] == "1 rows without embedding"


def test_what_does_not_fit_is_named_with_a_way_out(looked: Workplace) -> None:
    looked.execute(
        "ALTER TABLE documents RENAME content TO content_text",
        "CREATE TABLE work (file text, done boolean)",
        "CREATE VIEW todo AS SELECT * FROM files_queue",
    )
    for command in ("status", "validate", "search x"):
        refused = looked.ragops(*command.split(), "-p", own(looked, "embedding: vector"))
        assert refused.code == 1
        assert "documents.columns.embedding) does not exist" in refused.err and "embedding" in refused.err
        assert "db init" not in refused.err
    refused = looked.ragops("search", "x")
    assert "not mapped yet: content_text" in refused.err and "db init" not in refused.err
    assert "is a view" in looked.ragops("status", "-p", own(looked, "content: content_text", "todo")).err

    before = looked.snapshot()
    for queue, said in (
        ("todo", "todo is a view"),
        ("work", "it has no column id and none file_path and none status"),
    ):
        refused = looked.ragops("db", "init", "-p", own(looked, "content: content_text", queue))
        assert refused.code == 1 and said in refused.err, refused.err
    assert looked.snapshot() == before
    assert looked.value("SELECT count(*) FROM pg_attribute WHERE attrelid = 'work'::regclass AND attnum > 0") == 2


def test_indexes_of_any_metric_and_one_that_was_dropped_before_any_campaign(looked: Workplace) -> None:
    looked.execute(
        "CREATE INDEX later ON documents USING hnsw (embedding vector_cosine_ops) WHERE file_id > 3",
        "CREATE INDEX l1 ON documents USING hnsw (embedding vector_l1_ops)",
    )
    found = looked.ragops("search", "water", "--json")
    assert (found.json["metric"], found.json["index"]) == ("l1", "l1")
    dropped = looked.ragops("index", "drop", "l1", "--yes")
    assert dropped.code == 0, dropped.err
    # The partial one is left, and does not serve.
    found = looked.ragops("search", "water", "--json")
    assert (found.json["index"], found.json["recall"]) == (None, None) and "later" in found.json["notes"][0]
    listed = looked.ragops("index", "status", "--json").json["indexes"]
    assert {index["name"]: index["state"] for index in listed}["l1"] == "dropped"
    assert "l1" in looked.ragops("status").out
    restored = looked.ragops("index", "rebuild", "l1")
    assert restored.code == 0, restored.err
    assert "vector_l1_ops" in looked.value("SELECT pg_get_indexdef('l1'::regclass)")
