"""A table of articles with what hangs on its vector column, and a playbook that embeds it beside."""

from __future__ import annotations

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
CREATE VIEW kb.shown_twice WITH (security_barrier) AS
    SELECT id, embedding <=> embedding AS d, embedding FROM kb.shown;
COMMENT ON VIEW kb.shown IS 'for the application';
GRANT SELECT ON kb.shown_twice TO reader;
"""
# Rows whose vector is not of their present text, as far as ragops knows; rows without a text have none.
WRONG = """
SELECT a.id FROM kb.articles a
  LEFT JOIN ragops.target t ON t.relation = 'kb.articles' AND t.column_name = '{column}'
  LEFT JOIN ragops.row_state s
         ON s.target_id = t.id AND s.key = jsonb_build_array(a.tenant::text, a.id::text)::text
 WHERE CASE WHEN a.deleted_at IS NOT NULL THEN false
            WHEN num_nonnulls(a.title, a.body) = 0 THEN a.{column} IS NOT NULL
            ELSE a.{column} IS NULL OR s.text_hash IS DISTINCT FROM
                 sha256(convert_to(coalesce(a.title, '') || E'\\n\\n' || coalesce(a.body, ''), 'UTF8')) END
"""


def write_playbook(place: Workplace, *, when: str = "ready", hooks: str = "") -> None:
    text = PLAYBOOK.replace("WHEN", when).replace("HOOKS", hooks)
    (place.folder / "reembed.yaml").write_text(text, encoding="utf-8")
