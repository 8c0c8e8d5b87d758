"""A second column: filled beside the first while the application writes, exchanged with it, and back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_gguf import write_tiny_bert
from workplace import Workplace

PLAYBOOK = """
version: 1
name: reembed
database: {dsn: "${RAGOPS_DSN:-}"}
model: {file: "${RAGOPS_MODEL}"}
workers: {count: 1, threads: 1, cache_mib: 0}
targets:
  - table: kb.articles
    text: "{title}\\n\\n{body}"
    where: "deleted_at IS NULL"
    write: beside
HOOKS
steps:
  - step: add_column
  - step: capture_writes
  - step: select_rows
    rows: [all]
  - step: embed
  - step: rebuild_indexes
    concurrently: true
  - step: drain
  - step: cut_over
    when: WHEN
"""
SCHEMA = """
CREATE SCHEMA kb;
CREATE TABLE kb.articles (
    tenant int, id int, title text, body text, deleted_at timestamptz,
    note jsonb DEFAULT '{"a": 1}', embedding vector(32) NOT NULL, PRIMARY KEY (tenant, id));
INSERT INTO kb.articles (tenant, id, title, body, deleted_at, embedding)
SELECT n % 3, n, 'Title ' || n, CASE WHEN n % 10 = 0 THEN NULL ELSE 'The body of article ' || n END,
       CASE WHEN n % 20 = 1 THEN now() END, array_fill(0.5, ARRAY[32])::vector
  FROM generate_series(1, 60) n;
CREATE INDEX articles_hnsw ON kb.articles USING hnsw (embedding vector_cosine_ops) WITH (m = 8);
COMMENT ON COLUMN kb.articles.embedding IS 'of the title and the body';
CREATE ROLE reader;
GRANT SELECT (id, embedding) ON kb.articles TO reader;
CREATE VIEW kb.shown AS SELECT id, embedding FROM kb.articles WHERE deleted_at IS NULL;
CREATE VIEW kb.shown_twice WITH (security_barrier) AS SELECT id, embedding <=> embedding AS d, embedding FROM kb.shown;
COMMENT ON VIEW kb.shown IS 'for the application';
GRANT SELECT ON kb.shown_twice TO reader;
"""


@pytest.fixture(scope="session")
def wide_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another model, of 48 dimensions."""
    return write_tiny_bert(tmp_path_factory.mktemp("models") / "wide.gguf", dimensions=48)


def write_playbook(place: Workplace, *, when: str = "ready", hooks: str = "") -> None:
    text = PLAYBOOK.replace("WHEN", when).replace("HOOKS", hooks)
    (place.folder / "reembed.yaml").write_text(text, encoding="utf-8")


def test_a_column_of_another_model_takes_the_place_of_the_first_and_gives_it_back(
    place: Workplace, wide_model: Path
) -> None:
    place.execute("DROP ROLE IF EXISTS reader", SCHEMA)
    place.variables["RAGOPS_MODEL"] = str(wide_model)
    place.execute("UPDATE kb.articles SET deleted_at = NULL")
    write_playbook(place, when="asked")
    planned = place.ragops("reset", "--playbook", "reembed.yaml", "--dry-run")
    print(planned.out, planned.err)
    assert planned.code == 0, planned.err
    done = place.ragops("reset", "--playbook", "reembed.yaml", "--yes", "--json")
    print(done.out, done.err)
    assert done.code == 0, done.err
    assert done.json["waiting_for"] == "ragops cutover run"
    status = place.ragops("cutover", "status", "--json")
    assert status.code == 0, status.err
    print(status.out)
    done = place.ragops("cutover", "run")
    print(done.out, done.err)
    assert done.code == 0, done.err
    print(place.ragops("cutover", "status").out)
    print(place.rows("SELECT pg_get_viewdef('kb.shown_twice'::regclass), attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'kb.shown_twice'::regclass"))
    print(json.dumps(place.index_definitions(), indent=1))
    done = place.ragops("cutover", "rollback")
    print(done.out, done.err)
    assert done.code == 0
    print(json.dumps(place.index_definitions(), indent=1))
    assert 0
