"""Commands that look, on two targets: a composite key and a condition, quoted names and halfvec."""

from __future__ import annotations

from pathlib import Path

import pytest
import row_targets
from workplace import Workplace

STORE = '"Knowledge Base"."Doc Store"'
ROWS = ("--playbook", "rows.yaml")


@pytest.fixture
def filled(place: Workplace, tiny_model: Path) -> Workplace:
    """A place whose last campaign has written both targets."""
    row_targets.install(place, tiny_model)
    place.execute(
        'CREATE INDEX store_i ON "Knowledge Base"."Doc Store" USING hnsw ("Embedding %" halfvec_cosine_ops)'
    )
    done = place.ragops("reset", *ROWS, "--yes", "--json")
    assert done.code == 0, done.err
    return place


def test_a_look_at_rows_needs_no_campaign_and_no_queue(place: Workplace, tiny_model: Path) -> None:
    row_targets.install(place, tiny_model)
    place.execute(
        "DROP SCHEMA ragops CASCADE", "UPDATE kb.articles SET embedding = array_fill(0.5, ARRAY[32])::vector"
    )
    status = place.ragops("status", *ROWS, "--json").json
    assert [(one["rows"], one["with_embedding"], one["missing"]) for one in status["targets"]] == [
        (40, 40, 0),
        (22, 0, 20),
    ]
    assert status["queue"] == {"pending": 0, "processing": 0, "completed": 0, "failed": 0}
    validated = place.ragops("validate", *ROWS, "--json")
    assert validated.code == 3
    wrong = {check["id"] for check in validated.json["checks"] if check["status"] == "fail"}
    assert wrong == {"stored_vectors_agree", f'{STORE}."Embedding %"_no_null'}
    assert validated.json["disagreeing"][0].startswith("kb.articles (")
    assert place.ragops("queue", "status", *ROWS).code == 0
    assert "ragops" not in [row[0] for row in place.rows("SELECT nspname FROM pg_namespace")]
    for command in (("queue", "reseed"), ("tables", "empty", "--yes")):
        refused = place.ragops(*command, *ROWS)
        assert refused.code == 2 and "targets" in refused.err, refused.err


@pytest.mark.slow
def test_commands_without_a_playbook_look_at_the_rows_of_the_last_campaign(filled: Workplace) -> None:
    status = filled.ragops("status", "--json")
    assert "with the playbook of campaign 1 (rows); another one: --playbook FILE" in status.err
    assert [(one["table"], one["rows"], one["dimensions"]) for one in status.json["targets"]] == [
        ("kb.articles", 40, [32]),
        (STORE, 22, [32]),
    ]
    assert status.json["documents"]["with_embedding"] == 60
    assert [index["name"] for index in status.json["indexes"]] == ["store_i"]
    validated = filled.ragops("validate", "--after", "60", "--json")
    assert validated.code == 0, validated.out
    sampled = [one["written"]["rows"] + one["others"]["rows"] for one in validated.json["targets"]]
    assert all(rows >= 20 for rows in sampled)
    found = filled.ragops("search", "sort hash join 7", "--limit", "3", "--json").json
    first, second = found["targets"]
    assert (first["target"], second["target"]) == ("kb.articles.embedding", f'{STORE}."Embedding %"')
    assert second["index"] == "store_i" and second["recall"] == 1.0
    assert second["exact"][0]["text"] == "sort hash join 7"
    assert "store_i" in filled.ragops("index", "status").out
    assert "nothing to embed" in filled.ragops("embed").out
    # A playbook that is named is the one that is meant.
    assert "documents" in filled.ragops("status", "--playbook", "realign.yaml").out
    elsewhere = filled.ragops("status", RAGOPS_DATA_DIR=str(filled.folder / "another"))
    tuned = filled.ragops("tune", "--seconds", "5", "--dry-run", "--json")
    assert tuned.code == 0 and tuned.json["texts"] == 60
    assert elsewhere.code == 1 and "campaign 1 was started elsewhere" in elsewhere.err


def test_failed_rows_are_named_as_people_name_rows(filled: Workplace) -> None:
    filled.execute(
        "UPDATE ragops.work SET status = 'failed', last_error = 'too long' WHERE location = '1:[\"2\", "
        '"2026-01-06"]\''
    )
    shown = filled.ragops("queue", "status", "--all")
    assert "kb.articles (2, 2026-01-06): too long" in shown.out
    (failure,) = filled.ragops("queue", "status", "--json").json["failures"]
    assert failure == {
        "location": '1:["2", "2026-01-06"]',
        "row": "kb.articles (2, 2026-01-06)",
        "reason": "too long",
    }
    assert "1 items are pending again" in filled.ragops("queue", "retry").out
    assert "1 documents" in filled.ragops("embed").out


def test_while_a_campaign_runs_only_what_it_has_written_decides(place: Workplace, tiny_model: Path) -> None:
    steps = row_targets.STEPS.replace(
        "  - step: embed\n",
        "  - step: embed\n    until: 30\n  - step: validate\n    after: 30\n  - step: embed\n",
        1,
    )
    row_targets.install(place, tiny_model, steps=steps)
    place.execute("UPDATE kb.articles SET embedding = array_fill(0.5, ARRAY[32])::vector")
    done = place.ragops("reset", *ROWS, "--yes", "--json")
    assert done.code == 0, done.err
    gate = next(step["effect"] for step in done.json["steps"] if step["name"] == "validate")
    checks = {check["id"]: check for check in gate["checks"]}
    assert checks["stored_vectors_agree"]["status"] == "pass"
    assert checks["other_vectors_agree"]["status"] == "info"
    assert "0 of" not in checks["other_vectors_agree"]["measured"]
    assert checks[f'{STORE}."Embedding %"_no_null']["status"] == "info"
    # One wrong vector among those that it wrote is found by a sample of all.
    place.execute("UPDATE kb.articles SET embedding = array_fill(0.5, ARRAY[32])::vector WHERE id = '2026-01-06'")
    found = place.ragops("validate", "--sample", "1000", "--json")
    assert found.code == 3 and found.json["disagreeing"] == ["kb.articles (2, 2026-01-06)"]


def test_a_text_that_was_edited_since_fails_no_running_campaign(place: Workplace, tiny_model: Path) -> None:
    steps = "steps:\n  - step: select_rows\n  - step: embed\n    until: 30\n  - step: embed\n  - step: validate\n"
    row_targets.install(place, tiny_model, steps=steps)
    # An application that edits a text and does not embed it, while the campaign goes on.
    place.execute(
        "CREATE FUNCTION edit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " UPDATE kb.articles SET title = 'edited ' || tenant_id WHERE (tenant_id, id) = (NEW.tenant_id, NEW.id);"
        " RETURN NULL; END $$",
        "CREATE CONSTRAINT TRIGGER edit AFTER UPDATE OF embedding ON kb.articles DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION edit()",
    )
    text = (place.folder / "rows.yaml").read_text(encoding="utf-8")
    text = text.replace("where: deleted_at IS NULL", "where: deleted_at IS NULL\n    triggers: fire")
    (place.folder / "rows.yaml").write_text(text, encoding="utf-8")
    done = place.ragops("reset", *ROWS, "--yes", "--json")
    assert done.code == 0, done.err
    checks = {check["id"]: check for check in place.ragops("validate", *ROWS, "--json").json["checks"]}
    assert checks["stored_vectors_agree"]["status"] == "fail"
    assert "another text than was embedded" in checks["edited_since"]["measured"]
