"""The shipped repair.yaml on both versions of PostgreSQL: only what is missing or broken is written."""

from __future__ import annotations

from pathlib import Path

from conftest import Ragops
from workplace import Workplace

SCHEMA = """
CREATE TABLE library (
    shelf int, place text, note text, number int, changed timestamptz DEFAULT '2024-02-29 12:00+00',
    embedding vector(32), PRIMARY KEY (shelf, place));
INSERT INTO library (shelf, place, note, number, embedding)
SELECT n % 3, 'place ''' || n || '''', CASE WHEN n <> 8 THEN 'water on the fire number ' || n END, n,
       CASE n % 4 WHEN 0 THEN NULL WHEN 1 THEN array_fill(0.0, ARRAY[32])::vector
                  WHEN 2 THEN array_fill(9.0, ARRAY[32])::vector
                  ELSE l2_normalize(array_fill(1.0, ARRAY[32])::vector) END
  FROM generate_series(1, 40) n;
CREATE INDEX library_hnsw ON library USING hnsw (embedding vector_cosine_ops);
"""
UNTOUCHED = """
SELECT md5(string_agg(CASE WHEN number % 4 = 3 OR note IS NULL THEN l::text
                           ELSE (shelf, place, note, number, changed)::text END, '' ORDER BY number))
  FROM library l
"""


def test_missing_and_broken_vectors_are_written(
    dsn: str, tiny_model: Path, ragops: Ragops, tmp_path: Path
) -> None:
    place = Workplace(tmp_path, dsn, {})
    place.execute(SCHEMA)
    before = place.value(UNTOUCHED)
    done = ragops(
        *("reset", "--playbook", "repair", "--yes", "--json"),
        RAGOPS_DSN=dsn,
        RAGOPS_MODEL=str(tiny_model),
        RAGOPS_TABLE="library",
        RAGOPS_TEXT="{note}",
        RAGOPS_WORKERS="1",
        RAGOPS_VALIDATE_AFTER="10",
    )
    assert done.code == 0, done.err
    assert place.value(UNTOUCHED) == before
    # Each of them, and each with a vector of its own.
    written = "WHERE number % 4 <> 3 AND note IS NOT NULL"
    assert place.value(f"SELECT count(DISTINCT embedding::text) FROM library {written}") == 29
    assert place.value(f"SELECT bool_and(abs(vector_norm(embedding) - 1) < 1e-3) FROM library {written}")
    assert place.value("SELECT count(*) FROM ragops.work WHERE status = 'completed'") == 29
    ((_, definition, is_valid),) = [row for row in place.index_definitions() if row[0] == "library_hnsw"]
    assert definition.endswith("USING hnsw (embedding vector_cosine_ops)") and is_valid
