"""Rows that stay: a campaign replaces their vectors and changes nothing else."""

from __future__ import annotations

import pytest
from workplace import Workplace

PLAYBOOK = """
version: 1
name: repair
database: {dsn: "${RAGOPS_DSN:-}"}
model: {file: "${RAGOPS_MODEL}"}
targets:
  - table: kb.articles
    text: "{title}\\n\\n{body}"
    where: "deleted_at IS NULL"
steps:
  - step: select_rows
    rows: [ROWS]
  - step: embed
    until: 50
  - step: embed
"""
SCHEMA = """
CREATE SCHEMA kb;
CREATE TABLE kb.articles (
    tenant int, id uuid DEFAULT gen_random_uuid(), title text NOT NULL, body text, deleted_at timestamptz,
    note jsonb DEFAULT '{"a": 1}', embedding vector(32), PRIMARY KEY (tenant, id));
INSERT INTO kb.articles (tenant, title, body, deleted_at, embedding)
SELECT n % 3, 'Title ' || n, CASE WHEN n % 10 = 0 THEN NULL ELSE 'The body of article ' || n END,
       CASE WHEN n % 20 = 1 THEN now() END,
       CASE WHEN n % 2 = 0 THEN array_fill(0.5, ARRAY[32])::vector END
  FROM generate_series(1, 200) n;
CREATE INDEX articles_hnsw ON kb.articles USING hnsw (embedding vector_cosine_ops);
"""
OTHERS = """
SELECT md5(string_agg((a.tenant, a.id, a.title, a.body, a.deleted_at, a.note)::text, '' ORDER BY a.id))
  FROM kb.articles a
"""


@pytest.mark.parametrize("rows, expected", [("all", 190), ("missing", 90), ("missing, broken", 190)])
def test_vectors_are_replaced_and_nothing_else(place: Workplace, rows: str, expected: int) -> None:
    place.execute(SCHEMA)
    before = place.value(OTHERS)
    (place.folder / "repair.yaml").write_text(PLAYBOOK.replace("ROWS", rows), encoding="utf-8")
    done = place.ragops("reset", "--playbook", "repair.yaml", "--yes", "--json")
    assert done.code == 0, done.err
    assert place.value(OTHERS) == before
    assert place.value("SELECT count(*) FROM ragops.row_state") == expected
    assert place.value("SELECT count(*) FROM ragops.work WHERE status = 'completed'") == expected
    assert place.value("SELECT count(*) FROM ragops.vectors_1") == expected


LONG = """
CREATE TABLE notes (id int PRIMARY KEY, body text, embedding halfvec(32));
INSERT INTO notes
SELECT n, CASE WHEN n % 2 = 0 THEN 'short ' || n ELSE repeat('index vector query ' || n || ' ', 400) END
  FROM generate_series(1, 6) n;
"""


def test_a_long_text_is_divided_cut_off_or_refused(place: Workplace) -> None:
    place.execute(LONG)
    found = {}
    for word in ("mean", "truncate", "fail"):
        playbook = PLAYBOOK.replace("ROWS", "all").replace(
            '  - table: kb.articles\n    text: "{title}\\n\\n{body}"\n    where: "deleted_at IS NULL"',
            f'  - table: notes\n    text: "{{body}}"\n    long_text: {word}',
        )
        (place.folder / "long.yaml").write_text(playbook, encoding="utf-8")
        place.execute("UPDATE notes SET embedding = NULL")
        done = place.ragops("reset", "--playbook", "long.yaml", "--yes", "--json")
        assert done.code == 0, done.err
        found[word] = dict(place.rows("SELECT id, embedding::text FROM notes"))
    short, long = (2, 4, 6), (1, 3, 5)
    assert all(found["mean"][id] == found["truncate"][id] == found["fail"][id] is not None for id in short)
    assert all(found["fail"][id] is None for id in long)
    assert all(found["mean"][id] != found["truncate"][id] for id in long)
    assert "long_text: fail" in place.value("SELECT min(last_error) FROM ragops.work")
