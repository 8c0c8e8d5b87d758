"""Indexes of every kind after a campaign: what was there is there again, nothing is built twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import write_corpus
from workplace import Workplace, open_workplace

VECTOR_INDEXES = (
    "SELECT i.relname, pg_get_indexdef(i.oid), x.indisvalid FROM pg_index x"
    " JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_am a ON a.oid = i.relam"
    " WHERE a.amname IN ('hnsw', 'ivfflat') ORDER BY 1"
)
PARTITIONED = (
    "DROP TABLE document_chunks, documents",
    "CREATE SEQUENCE ids",
    "CREATE TABLE documents (id bigint DEFAULT nextval('ids'), file_id bigint, file_path text,"
    " content text NOT NULL, metadata jsonb NOT NULL DEFAULT '{}', embedding vector(32),"
    " PRIMARY KEY (id)) PARTITION BY HASH (id)",
    "CREATE TABLE d0 PARTITION OF documents FOR VALUES WITH (MODULUS 2, REMAINDER 0)",
    "CREATE TABLE d1 PARTITION OF documents FOR VALUES WITH (MODULUS 2, REMAINDER 1)",
)
NO_CHUNKS = """
version: 1
name: partitioned
model: {file: "${RAGOPS_MODEL}"}
source: {folder: "${RAGOPS_CORPUS}"}
workers: {count: 1, threads: 1, cache_mib: 0}
tables: {document_chunks: null}
indexes: []
steps:
  - {step: drop_indexes}
  - {step: empty_tables, tables: [{table: documents}, {table: files_queue}]}
  - {step: reseed_queue}
  - {step: embed}
  - {step: rebuild_indexes}
  - {step: validate}
"""


@pytest.fixture
def desk(dsn: str, tiny_model: Path, tmp_path: Path) -> Iterator[Workplace]:
    corpus = write_corpus(tmp_path / "corpus", 30)
    with open_workplace(tmp_path, dsn=dsn, corpus=corpus, model=tiny_model, gate=10, index_after=20) as opened:
        yield opened


def test_the_index_of_a_partitioned_table_comes_back_whole(desk: Workplace) -> None:
    desk.execute(
        *PARTITIONED,
        "INSERT INTO documents (content, embedding)"
        " SELECT n, array_fill(n, ARRAY[32])::vector FROM generate_series(1, 40) n",
        "CREATE INDEX own_name ON d1 USING hnsw (embedding vector_cosine_ops)",
        "CREATE INDEX emb ON documents USING hnsw (embedding vector_cosine_ops)",
        "CREATE INDEX leaf ON d0 USING hnsw (embedding vector_l2_ops) WITH (m = 5)",
    )
    (desk.folder / "p.yaml").write_text(NO_CHUNKS, encoding="utf-8")
    before = desk.rows(VECTOR_INDEXES)
    refused = desk.ragops("index", "drop", "own_name", "--yes", "-p", "p.yaml")
    assert refused.code == 2 and "own_name belongs to the index public.emb" in refused.err
    dropped = desk.ragops("index", "drop", "--yes", "-p", "p.yaml", "--json")
    assert (dropped.code, desk.rows(VECTOR_INDEXES)) == (0, [])
    assert len(dropped.json["sql"]) == 2 and len(dropped.json["dropped"]) == 4
    rebuilt = desk.ragops("index", "rebuild", "--concurrently", "-p", "p.yaml")
    assert rebuilt.code == 0, rebuilt.err
    assert desk.rows(VECTOR_INDEXES) == before
    # A second one finds nothing to do.
    again = desk.ragops("index", "rebuild", "-p", "p.yaml", "--json")
    assert (again.json["indexes"], desk.rows(VECTOR_INDEXES)) == ([], before)
    reset = desk.ragops("reset", "-p", "p.yaml", "--yes")
    assert reset.code == 0, reset.err
    assert desk.rows(VECTOR_INDEXES) == before
    assert desk.ragops("undo", "--yes").code == 0
    assert desk.rows(VECTOR_INDEXES) == before
    assert desk.value("SELECT count(*) FROM documents") == 40


def test_ivfflat_indexes_get_new_lists_and_equal_indexes_are_not_doubled(desk: Workplace) -> None:
    desk.execute(
        "CREATE INDEX my_hnsw ON documents USING hnsw (embedding vector_cosine_ops) WITH (m = 20)",
        "CREATE INDEX lists ON document_chunks USING ivfflat (embedding vector_l2_ops) WITH (lists = 3)",
        "COMMENT ON INDEX lists IS 'of the application'",
    )
    before = desk.rows(VECTOR_INDEXES)
    lists = desk.value("SELECT pg_relation_filenode('lists')")
    planned = desk.ragops("reset", "--dry-run")
    assert "idx_documents_embedding_hnsw is not built: my_hnsw is equal to it" in planned.out
    assert 'DROP INDEX "public"."lists"' in planned.out
    assert desk.reset().code == 0
    chunks = ("idx_document_chunks_embedding_hnsw",)
    after = desk.rows(VECTOR_INDEXES)
    assert [index for index in after if index[0] not in chunks] == before
    assert desk.value("SELECT pg_relation_filenode('lists')") != lists
    assert desk.value("SELECT obj_description('lists'::regclass)") == "of the application"
    # What the operator names is built all the same.
    built = desk.ragops("index", "rebuild", "idx_documents_embedding_hnsw", "--json")
    assert [index["name"] for index in built.json["indexes"]] == ["idx_documents_embedding_hnsw"]


def test_an_index_that_was_dropped_by_hand_can_be_named(desk: Workplace) -> None:
    desk.execute("CREATE INDEX my_own ON documents USING hnsw (embedding vector_l2_ops)")
    before = desk.rows(VECTOR_INDEXES)
    assert desk.ragops("index", "drop", "my_own", "--yes").code == 0
    listed = desk.ragops("index", "status", "--json").json["indexes"]
    assert [index["state"] for index in listed if index["name"] == "my_own"] == ["dropped"]
    assert desk.ragops("index", "rebuild", "my_own").code == 0
    assert desk.rows(VECTOR_INDEXES) == before


def test_two_tables_with_an_index_of_the_same_name(desk: Workplace) -> None:
    desk.execute(
        "CREATE SCHEMA kb",
        "ALTER TABLE document_chunks SET SCHEMA kb",
        "CREATE INDEX same ON public.documents USING hnsw (embedding vector_l2_ops)",
        "CREATE INDEX same ON kb.document_chunks USING hnsw (embedding vector_ip_ops)",
    )
    (desk.folder / "kb.yaml").write_text(
        "version: 1\nname: kb\nsource: {folder: corpus}\ntables: {document_chunks: {table: kb.document_chunks}}\n"
        "indexes: []\nsteps: [{step: drop_indexes}]\n",
        encoding="utf-8",
    )
    before = desk.rows(VECTOR_INDEXES)
    assert desk.ragops("index", "drop", "--yes", "-p", "kb.yaml").code == 0
    # As after a rebuild that was interrupted behind the first one.
    desk.execute("CREATE INDEX same ON public.documents USING hnsw (embedding vector_l2_ops)")
    assert desk.ragops("index", "rebuild", "-p", "kb.yaml").code == 0
    assert desk.rows(VECTOR_INDEXES) == before
