"""Gates: they stop at exactly their number, keep others out, and undo brings the old state back."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import wait_for, write_corpus
from workplace import INDEXES, Workplace

NEGATE = """
CREATE FUNCTION negate() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  NEW.embedding := (SELECT array_agg(-x ORDER BY place)
                      FROM unnest(NEW.embedding::real[]) WITH ORDINALITY AS e(x, place))::vector;
  RETURN NEW;
END $$
"""
ATTACH = "CREATE TRIGGER negate BEFORE INSERT ON documents FOR EACH ROW EXECUTE FUNCTION negate()"
GATE = 20


def contents(place: Workplace) -> dict[str, Any]:
    """Every row of the five tables."""
    taken = place.snapshot()
    return {name: rows for name, rows in taken.items() if name != "relations" and not name.startswith("ragops.")}


@pytest.mark.fault(42)
def test_a_failed_gate_stops_keeps_others_out_and_can_be_undone(place: Workplace) -> None:
    earlier = place.reset(RAGOPS_CORPUS=str(write_corpus(place.folder / "earlier", 60)))
    assert earlier.code == 0, earlier.err
    rows, indexes = contents(place), place.index_definitions()
    assert [name for name, *_ in indexes] == sorted(INDEXES)
    place.execute(NEGATE, ATTACH)

    stopped = place.reset()
    assert stopped.code == 3
    assert "stored_vectors_agree" in stopped.json["error"]["found"]
    assert place.value("SELECT count(*) FROM documents") == GATE
    assert place.queue() == {"completed": GATE, "pending": 120 - GATE}
    assert place.value("SELECT status FROM ragops.campaign ORDER BY id DESC LIMIT 1") == "gate_failed"

    behind = place.ragops("embed", "--json")
    assert behind.code == 0, behind.err
    assert behind.json["completed"] == 0
    # To resume alone fails again: what is stored is wrong.
    assert "100 items lie behind the gate of campaign 2, which failed; next: ragops undo" in behind.json["gate"]
    refused = place.reset()
    assert refused.code == 1 and refused.json["error"]["hint"].startswith("ragops undo")

    again = place.ragops("reset", "--resume", "--json")
    assert again.code == 3
    assert place.value("SELECT count(*) FROM documents") == GATE

    place.execute("DROP TRIGGER negate ON documents")
    undone = place.ragops("undo", "--yes", "--json")
    assert undone.code == 0, undone.err
    assert undone.json["status"] == "undone"
    assert undone.json["rows"]["public.documents"] == 60
    assert contents(place) == rows
    assert place.index_definitions() == indexes
    assert place.ragops("validate", "--json").json["verdict"] == "pass"


@pytest.mark.slow
def test_undo_leaves_ids_that_new_rows_may_take(place: Workplace) -> None:
    """Identity columns go on behind the restored rows: the next campaign collides with none."""
    for _ in range(2):
        done = place.reset("--force")
        assert done.code == 0, done.err
    assert place.ragops("undo", "--yes", "--json").code == 0
    append = write_corpus(place.folder / "more", 125)
    assert place.ragops("queue", "reseed", "--append", "--json", RAGOPS_CORPUS=str(append)).json["seeded"] == 5
    embedded = place.ragops("embed", "--json", RAGOPS_CORPUS=str(append))
    assert embedded.code == 0, embedded.err
    assert place.value("SELECT count(DISTINCT file_path) FROM documents") == 125


def test_embed_until_stops_at_exactly_that_number(place: Workplace) -> None:
    assert place.ragops("queue", "reseed", "--json").json["seeded"] == 120
    done = place.ragops("embed", "--until", "37", "--workers", "3", "--json")
    assert done.code == 0, done.err
    assert place.queue() == {"completed": 37, "pending": 83}
    assert place.ragops("validate", "--after", "37", "--json").json["documents"] == 37


def test_vectors_of_another_pooling_do_not_pass(place: Workplace) -> None:
    """The incident in small: other vectors of the same model."""
    wrong = "cls"
    assert place.ragops("queue", "reseed", "--json", RAGOPS_POOLING=wrong).code == 0
    assert place.ragops("embed", "--json", RAGOPS_POOLING=wrong).code == 0
    judged = place.ragops("validate", "--json")
    assert judged.code == 3
    by_id = {check["id"]: check["status"] for check in judged.json["checks"]}
    assert by_id["stored_vectors_agree"] == "fail"
    assert place.ragops("validate", "--json", RAGOPS_POOLING=wrong).code == 0


def test_items_that_somebody_removed_from_the_queue_fail_the_gate(place: Workplace) -> None:
    place.slow_down(0.05)
    controller = place.start("reset", "--playbook", "realign.yaml", "--yes", "--json")
    wait_for(lambda: place.completed() > 0, what="the first documents")
    place.execute(
        "DELETE FROM files_queue WHERE id IN (SELECT id FROM files_queue WHERE status = 'pending'"
        " ORDER BY phase DESC LIMIT 30)"
    )
    place.speed_up()
    _, err = controller.communicate(timeout=120)
    assert controller.returncode == 3, err
    assert "queued_items: 90 items are in the queue" in err
    assert "queued_items: 120, which the campaign has queued" in err
    assert "ragops queue reseed --append" in err

    assert place.ragops("queue", "reseed", "--append").code == 0
    resumed = place.ragops("reset", "--resume", "--yes", "--json")
    assert resumed.code == 0, resumed.err
    assert place.queue() == {"completed": 120}
