"""A user's own tables: other names, another schema, uuid ids, documents that are rows."""

from __future__ import annotations

from workplace import Workplace

TABLES = """
CREATE SCHEMA "Rag";
CREATE TABLE "Rag"."Article" (article_no uuid PRIMARY KEY DEFAULT gen_random_uuid(), body text NOT NULL);
INSERT INTO "Rag"."Article" (body)
  SELECT 'article ' || i || ' on ' || repeat(substr('vectorindexqueryplan', i % 9 + 1, 4) || ' ', 6)
    FROM generate_series(1, 70) i;
CREATE TABLE "Rag".docs ("docId" uuid PRIMARY KEY DEFAULT gen_random_uuid(), origin text, body text NOT NULL,
  vec vector(32), "queueId" uuid, tenant text NOT NULL DEFAULT 'acme', added timestamptz NOT NULL DEFAULT now());
CREATE TABLE "Rag"."doc parts" (doc uuid NOT NULL REFERENCES "Rag".docs ON DELETE CASCADE, part int NOT NULL,
  body text NOT NULL, vec vector(32), PRIMARY KEY (doc, part));
CREATE TABLE "Rag".todo (todo_id uuid PRIMARY KEY DEFAULT gen_random_uuid(), item text NOT NULL,
  state text NOT NULL DEFAULT 'pending');
CREATE INDEX old_vec ON "Rag".docs USING hnsw (vec vector_cosine_ops) WITH (m = 8, ef_construction = 40);
INSERT INTO "Rag".docs (origin, body, vec) VALUES ('before', 'an old row', array_fill(1, ARRAY[32])::vector)
"""
PLAYBOOK = """
version: 1
name: own-names
model: {file: "${RAGOPS_MODEL}"}
source: {table: Rag.Article, id_column: article_no, text_column: body}
tables:
  documents:
    table: Rag.docs
    columns: {id: docId, file_id: queueId, file_path: origin, content: body, metadata: null, embedding: vec}
  document_chunks:
    table: Rag.doc parts
    columns: {document_id: doc, chunk_index: part, content: body, embedding: vec}
  parsed_files: null
  ingestion_metrics: null
  files_queue: {table: Rag.todo, columns: {id: todo_id, location: item, status: state}}
indexes:
  - {name: Parts Index, table: document_chunks, m: 4, ef_construction: 16}
steps:
  - step: verify_build
  - step: drop_indexes
  - step: empty_tables
    tables: [{table: document_chunks}, {table: documents}, {table: files_queue}]
  - step: reseed_queue
  - {step: embed, until: 15}
  - {step: validate, after: 15}
  - step: rebuild_indexes
  - step: embed
  - step: validate
"""


def test_a_whole_campaign_on_a_user_s_own_tables(place: Workplace) -> None:
    place.execute(TABLES)
    (place.folder / "own.yaml").write_text(PLAYBOOK, encoding="utf-8")
    created = place.ragops("db", "init", "-p", "own.yaml", "--json")
    assert created.code == 0, created.err
    assert any("lease_until" in addition["what"] for addition in created.json["created"])

    done = place.ragops("reset", "-p", "own.yaml", "--yes", "--json")
    assert done.code == 0, done.err
    assert (done.json["seeded"], done.json["completed"], done.json["verdict"]) == (70, 70, "pass")
    gates = [step["effect"]["documents"] for step in done.json["steps"] if step["name"] == "validate"]
    assert gates == [15, 70]

    same = 'FROM "Rag".docs d JOIN "Rag"."Article" a ON a.article_no::text = d.origin AND a.body = d.body'
    assert place.value(f"SELECT count(*) {same}") == 70
    assert place.value('SELECT count(DISTINCT (doc, part)) FROM "Rag"."doc parts" WHERE vec IS NOT NULL') >= 70
    assert place.rows('SELECT state, count(*) FROM "Rag".todo GROUP BY 1') == [("completed", 70)]
    assert [(name, is_valid) for name, _, is_valid in place.index_definitions()] == [
        ("Parts Index", True),
        ("old_vec", True),
    ]
    assert "m='8', ef_construction='40'" in place.index_definitions()[1][1]

    found = place.ragops("search", "article 7", "-p", "own.yaml", "--json", "--limit", "3").json
    assert len(found["exact"]) == len(found["indexed"]) == 3
    assert place.ragops("status", "-p", "own.yaml", "--json").json["parsed_files"] == {
        "total": 0,
        "unique_files": 0,
        "estimated": False,
    }

    undone = place.ragops("undo", "-p", "own.yaml", "--yes", "--json")
    assert undone.code == 0, undone.err
    assert place.rows('SELECT origin, body FROM "Rag".docs') == [("before", "an old row")]
    assert [name for name, *_ in place.index_definitions() if name == "old_vec"] == ["old_vec"]
    for table in ("documents", "document_chunks", "files_queue"):
        assert place.value(f"SELECT count(*) FROM {table}") == 0
