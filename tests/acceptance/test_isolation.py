"""Whatever isolation level the database has as its default: fleets share the queue, and campaigns end."""

from __future__ import annotations

import pytest
from conftest import wait_for
from workplace import Workplace, stored_documents

DOCUMENTS = 120
SLOW_CLAIMS = (
    "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS"
    " $$ BEGIN PERFORM pg_sleep(0.01); RETURN NEW; END $$",
    "CREATE TRIGGER slow BEFORE UPDATE ON files_queue FOR EACH ROW EXECUTE FUNCTION slow()",
)


def set_default(place: Workplace, *settings: str) -> None:
    database = place.value("SELECT current_database()")
    place.execute(*(f"ALTER DATABASE {database} SET {setting}" for setting in settings))


@pytest.mark.parametrize("level", ["serializable", "repeatable read"])
def test_fleets_share_the_queue(place: Workplace, level: str) -> None:
    set_default(place, f"default_transaction_isolation = '{level}'", "default_transaction_deferrable = on")
    assert place.ragops("queue", "reseed", "--json").json["seeded"] == DOCUMENTS
    # Claims that overlap: each finds rows pending that another one takes.
    place.execute(*SLOW_CLAIMS)
    fleets = [place.start("embed", "--workers", "2", "--batch-size", "2", "--json") for _ in range(3)]
    for fleet in fleets:
        _, err = fleet.communicate(timeout=180)
        assert fleet.returncode == 0, err
        assert "heartbeat failed" not in err and "could not serialize" not in err
    assert len(stored_documents(place)) == DOCUMENTS
    assert place.queue() == {"completed": DOCUMENTS}
    assert place.value("SELECT count(DISTINCT split_part(worker, ':', 2)) FROM ingestion_metrics") >= 2


@pytest.mark.slow
def test_a_campaign_and_its_undo(place: Workplace) -> None:
    set_default(place, "default_transaction_isolation = 'serializable'")
    place.slow_down(0.02)
    controller = place.start("reset", "--playbook", "realign.yaml", "--yes", "--json")
    wait_for(lambda: place.completed() > 0, what="the first documents")
    helper = place.start("embed", "--workers", "1", "--batch-size", "5")
    for process in (controller, helper):
        _, err = process.communicate(timeout=180)
        assert process.returncode == 0, err
    assert len(stored_documents(place)) == DOCUMENTS
    place.execute("UPDATE files_queue SET status = 'failed' WHERE id % 40 = 0")
    assert place.ragops("queue", "retry", "--json").json["retried"] == 3
    done = place.ragops("undo", "--yes", "--json")
    assert done.code == 0, done.err
    assert place.queue() == {}
