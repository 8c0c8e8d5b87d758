"""Vector indexes of rows that stay, with the real program."""

from __future__ import annotations

import re

import pytest
from workplace import Workplace

SCHEMA = """
CREATE TABLE notes (id int PRIMARY KEY, body text, embedding vector(16), other vector(16));
INSERT INTO notes SELECT n, 'note ' || n, v, v FROM (
    SELECT n, ARRAY(SELECT sin(n * k) FROM generate_series(1, 16) k)::vector(16) AS v
      FROM generate_series(1, 60) n) r;
CREATE INDEX notes_hnsw ON notes USING hnsw (embedding vector_cosine_ops) WITH (m=4, ef_construction=20);
CREATE INDEX notes_lists ON notes USING ivfflat (embedding vector_cosine_ops) WITH (lists=2);
CREATE INDEX notes_other ON notes USING hnsw (other vector_cosine_ops);
"""
PLAYBOOK = """
version: 1
name: repair
database: {dsn: "${RAGOPS_DSN:-}"}
model: {file: "${RAGOPS_MODEL}", dimensions: 16}
targets:
  - {table: notes, text: "{body}"}
steps:
  - {step: verify_build}
  - {step: select_rows, rows: [all]}
STEPS
"""
DEFINITIONS = "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'notes' ORDER BY 1"


def write(place: Workplace, *steps: str) -> tuple[str, str]:
    """Write a playbook with those steps; return the options that name it."""
    lines = "\n".join(f"  - {{step: {step}}}" for step in steps)
    (place.folder / "notes.yaml").write_text(PLAYBOOK.replace("STEPS", lines), encoding="utf-8")
    return "--playbook", "notes.yaml"


def test_a_campaign_drops_the_indexes_of_its_column_and_builds_them_again(place: Workplace) -> None:
    place.execute(SCHEMA)
    named = write(place, "drop_indexes", "embed", "rebuild_indexes")
    before = place.rows(DEFINITIONS)
    other = place.value("SELECT 'notes_other'::regclass::oid")
    done = place.ragops("reset", *named, "--yes", "--json")
    assert done.code == 0, done.err
    assert place.rows(DEFINITIONS) == before
    assert place.value("SELECT 'notes_other'::regclass::oid") == other
    # Cut to 16 of the model's 32 dimensions, and normalised again.
    assert place.value("SELECT bool_and(abs(vector_norm(embedding) - 1) < 1e-5) FROM notes")


def test_lists_that_stay_are_made_of_the_new_vectors(place: Workplace) -> None:
    place.execute(SCHEMA)
    named = write(place, "embed")
    planned = place.ragops("reset", *named, "--dry-run")
    assert planned.code == 0, planned.err
    shown = " ".join(planned.out.split())
    assert "notes_lists (IVFFlat) keeps the lists of the old vectors" in shown
    assert re.search(r"updating 60 rows with the index in place: about \d+ s \(measured: [\d,]+ rows/s\)", shown)
    assert "dropping and rebuilding: about" in shown
    named = write(place, "embed", "rebuild_indexes")
    node = "SELECT pg_relation_filenode('notes_lists'), pg_relation_filenode('notes_hnsw')"
    ((lists, hnsw),) = place.rows(node)
    done = place.ragops("reset", *named, "--yes", "--json")
    assert done.code == 0, done.err
    ((lists_now, hnsw_now),) = place.rows(node)
    assert (lists_now != lists, hnsw_now == hnsw) == (True, True)


@pytest.mark.slow
def test_the_commands_of_indexes(place: Workplace) -> None:
    place.execute(SCHEMA)
    named = write(place, "embed")
    before = place.rows(DEFINITIONS)
    assert place.ragops("index", "drop", *named, "--yes", "--json").json["dropped"] == [
        "notes_hnsw",
        "notes_lists",
    ]
    assert place.ragops("index", "rebuild", "notes_hnsw", *named).code == 0
    listed = place.ragops("index", "status", *named, "--json")
    assert {i["name"]: i["state"] for i in listed.json["indexes"]} == {
        "notes_hnsw": "valid",
        "notes_lists": "dropped",
    }
    assert place.ragops("index", "rebuild", *named).code == 0
    assert place.rows(DEFINITIONS) == before


@pytest.mark.slow
def test_undo_brings_dropped_indexes_and_old_vectors_back(place: Workplace) -> None:
    place.execute(SCHEMA)
    named = write(place, "drop_indexes", "embed")
    before = place.rows(DEFINITIONS)
    vectors = "SELECT md5(string_agg(embedding::text, '' ORDER BY id)) FROM notes"
    old = place.value(vectors)
    done = place.ragops("reset", *named, "--yes", "--json")
    assert done.code == 0, done.err
    assert [row[0] for row in place.rows(DEFINITIONS)] == ["notes_other", "notes_pkey"]
    undone = place.ragops("undo", *named, "--yes", "--json")
    assert undone.code == 0, undone.err
    assert place.rows(DEFINITIONS) == before
    assert place.value(vectors) == old
