"""`ragops reset` from beginning to end on 300 documents, and what every other command says afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import Server, fresh_database, write_corpus
from workplace import INDEXES, Finished, Workplace, open_workplace, stored_documents

DOCUMENTS = 300
STEPS = [
    "verify_build",
    "drop_indexes",
    "empty_tables",
    "reseed_queue",
    "embed",
    "validate",
    "embed",
    "rebuild_indexes",
    "embed",
    "validate",
]


@dataclass(frozen=True, slots=True)
class Run:
    place: Workplace
    dry: Finished
    untouched: bool
    reset: Finished


@pytest.fixture(scope="module")
def run(pg18: Server, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    folder = tmp_path_factory.mktemp("reset")
    corpus = write_corpus(folder / "corpus", DOCUMENTS)
    with (
        fresh_database(pg18, template="ragops_template") as dsn,
        open_workplace(folder, dsn=dsn, corpus=corpus, model=tiny_model, gate=30, index_after=60) as place,
    ):
        before = place.snapshot()
        dry = place.ragops("reset", "--playbook", "realign.yaml", "--dry-run", "--json")
        untouched = place.snapshot() == before
        yield Run(place, dry, untouched, place.reset())


def test_reset_says_what_it_did_as_one_json_object(run: Run) -> None:
    assert run.reset.code == 0, run.reset.err
    result = run.reset.json
    assert {name: result[name] for name in ("campaign", "status", "seeded", "completed", "failed", "verdict")} == {
        "campaign": 1,
        "status": "done",
        "seeded": DOCUMENTS,
        "completed": DOCUMENTS,
        "failed": 0,
        "verdict": "pass",
    }
    assert [step["name"] for step in result["steps"]] == STEPS
    assert {step["status"] for step in result["steps"]} == {"done"}
    assert all(step["seconds"] >= 0 for step in result["steps"])


def test_every_document_is_stored_with_its_vector(run: Run) -> None:
    stored = stored_documents(run.place)
    written = {str(path.relative_to(run.place.folder / "corpus")) for path in run.place.folder.rglob("doc*.txt")}
    assert stored.keys() == written
    assert len(written) == DOCUMENTS
    counts = "SELECT count(embedding), count(DISTINCT file_path), min(vector_dims(embedding)) FROM documents"
    assert run.place.rows(counts) == [(DOCUMENTS, DOCUMENTS, 32)]
    assert run.place.queue() == {"completed": DOCUMENTS}


def test_both_hnsw_indexes_are_valid_with_the_procedure_s_parameters(run: Run) -> None:
    found = run.place.index_definitions()
    assert {name for name, _, _ in found} == set(INDEXES)
    for name, definition, is_valid in found:
        assert is_valid, name
        assert "USING hnsw (embedding vector_cosine_ops) WITH (m='16', ef_construction='64')" in definition


def test_gates_saw_exactly_their_numbers_of_documents(run: Run) -> None:
    steps = run.reset.json["steps"]
    seen = [step["effect"]["documents"] for step in steps if step["name"] == "validate"]
    assert seen == [30, DOCUMENTS]
    assert [step["effect"]["completed"] for step in steps if step["name"] == "embed"] == [30, 30, 240]
    built = next(step["effect"] for step in steps if step["name"] == "rebuild_indexes")
    assert [index["name"] for index in built["indexes"]] == list(INDEXES)


def test_dry_run_prints_a_plan_and_changes_nothing(run: Run) -> None:
    assert run.dry.code == 0, run.dry.err
    assert run.untouched
    assert [step["verb"] for step in run.dry.json["steps"]] == STEPS


def test_dry_run_s_sql_is_what_runs(run: Run) -> None:
    planned = {step["number"]: step["sql"] for step in run.dry.json["steps"]}
    steps = run.reset.json["steps"]
    emptied = next(step for step in steps if step["name"] == "empty_tables")
    assert emptied["effect"]["sql"] == planned[emptied["number"]]
    assert any("TRUNCATE" in statement for statement in planned[emptied["number"]])
    built = next(step for step in steps if step["name"] == "rebuild_indexes")
    creates = [statement for statement in planned[built["number"]] if statement.startswith("CREATE INDEX")]
    assert [index["sql"] for index in built["effect"]["indexes"]] == creates
    assert run.place.rows("SELECT plan->'steps'->2->'sql' FROM ragops.campaign") == [(planned[3],)]


def test_status_afterwards(run: Run) -> None:
    status = run.place.ragops("status", "--json").json
    assert (status["documents"]["total"], status["documents"]["with_embedding"]) == (DOCUMENTS, DOCUMENTS)
    assert status["documents"]["bytes"] > 0
    assert status["queue"] == {"pending": 0, "processing": 0, "completed": DOCUMENTS, "failed": 0}
    assert status["parsed_files"] == {"total": DOCUMENTS, "unique_files": DOCUMENTS, "estimated": False}
    assert {(i["name"], i["table"], i["valid"], i["bytes"] > 0) for i in status["indexes"]} == {
        (INDEXES[0], "public.documents", True, True),
        (INDEXES[1], "public.document_chunks", True, True),
    }


def test_status_for_people(run: Run) -> None:
    screen = run.place.ragops("status")
    assert screen.code == 0
    assert "campaign 1 (realign): done" in screen.out
    assert INDEXES[0] in screen.out
    assert "\x1b" not in screen.out


def test_queue_and_index_status_afterwards(run: Run) -> None:
    queue = run.place.ragops("queue", "status", "--json").json
    assert queue["queue"]["completed"] == DOCUMENTS
    assert queue["percent"]["completed"] == 100.0
    assert queue["failures"] == []
    listed = run.place.ragops("index", "status", "--json").json["indexes"]
    assert {(index["name"], index["state"]) for index in listed} == {(name, "valid") for name in INDEXES}


def test_validate_afterwards(run: Run) -> None:
    done = run.place.ragops("validate", "--after", "100", "--json")
    assert done.code == 0, done.err
    found = done.json
    assert (found["verdict"], found["documents"]) == ("pass", DOCUMENTS)
    assert all({"id", "status", "measured", "expected"} <= check.keys() for check in found["checks"])
    assert found["checks"][0]["id"] == "stored_vectors_agree"
    stats = found["comparison_stats"]
    assert 0 <= stats["distance_min"] <= stats["distance_avg"] <= stats["distance_max"]
    assert stats["count_threshold_0.3"] <= stats["count_threshold_0.9"] <= DOCUMENTS


def test_search_afterwards(run: Run) -> None:
    done = run.place.ragops("search", "note 17 index vector query", "--json", "--limit", "5")
    assert done.code == 0, done.err
    for neighbours in (done.json["exact"], done.json["indexed"]):
        assert len(neighbours) == 5
        assert all({"id", "distance", "text"} <= row.keys() for row in neighbours)
        distances = [row["distance"] for row in neighbours]
        assert distances == sorted(distances)


def test_embed_and_index_rebuild_find_nothing_to_do(run: Run) -> None:
    before = run.place.snapshot()
    embedded = run.place.ragops("embed", "--workers", "3", "--json")
    assert embedded.code == 0, embedded.err
    assert (embedded.json["completed"], embedded.json["pending"]) == (0, 0)
    rebuilt = run.place.ragops("index", "rebuild", "--json")
    assert rebuilt.code == 0, rebuilt.err
    assert set(rebuilt.json["present"]) == set(INDEXES)
    assert rebuilt.json["indexes"] == []
    assert run.place.snapshot() == before
