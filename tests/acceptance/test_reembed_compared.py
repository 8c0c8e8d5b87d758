"""`reembed.yaml` as it is shipped: a comparison that decides nothing stops it, an answer lets it go on."""

from __future__ import annotations

import pytest
from workplace import Workplace

SCHEMA = (
    "CREATE TABLE notes (id bigint PRIMARY KEY, body text, embedding vector(16))",
    "INSERT INTO notes SELECT n, 'note ' || n || ' lock table index ' || n % 7,"
    " (SELECT array_agg(sin(n * i)) FROM generate_series(1, 16) i)::vector FROM generate_series(1, 200) n",
    "CREATE INDEX notes_hnsw ON notes USING hnsw (embedding vector_cosine_ops)",
)


@pytest.mark.slow
def test_an_inconclusive_comparison_is_answered(place: Workplace) -> None:
    place.execute(*SCHEMA)
    place.variables |= {"RAGOPS_TABLE": "notes", "RAGOPS_TEXT": "{body}", "RAGOPS_CUT_OVER": "ready"}
    place.variables |= {"RAGOPS_COMPARE_SAMPLE": "20"}
    planned = place.ragops("reset", "-p", "reembed", "--dry-run")
    assert "20 queries cannot show that, even if none loses anything" in " ".join(planned.out.split()), planned.err
    stopped = place.ragops("reset", "-p", "reembed", "--yes", "--json")
    assert stopped.code == 3 and "INCONCLUSIVE" in stopped.err, stopped.err
    # The application reads the old column as before.
    assert place.value("SELECT vector_dims(embedding) FROM notes LIMIT 1") == 16
    assert place.value("SELECT status FROM ragops.campaign") == "gate_failed"
    refused = place.ragops("reset", "-p", "reembed", "--yes")
    assert refused.code == 1 and "--compare-sample N" in refused.err, refused.err
    done = place.ragops("reset", "-p", "reembed", "--resume", "--compare-sample", "200", "--json")
    assert done.code == 0, done.err
    (compared,) = (step["effect"] for step in done.json["steps"] if step["name"] == "compare")
    assert (compared["verdict"], compared["targets"][0]["queries"]) == ("GO", 200)
    assert place.rows("SELECT setting, before::int, after::int FROM ragops.change") == [
        ("compare.sample", 20, 200)
    ]
    assert place.value("SELECT vector_dims(embedding) FROM notes LIMIT 1") == 32
