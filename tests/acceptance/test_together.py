"""Several commands at once on one database: work is shared, campaigns are not."""

from __future__ import annotations

import socket

import psycopg
import pytest
from conftest import wait_for
from workplace import Workplace, stored_documents

DOCUMENTS = 120
HELD = (
    ("reset", "--resume"),
    ("reset", "--new", "--yes"),
    ("undo", "--yes"),
    ("tables", "empty", "--yes"),
    ("index", "drop", "--yes"),
    ("index", "rebuild"),
    ("queue", "reseed"),
    ("queue", "retry"),
)


def test_two_embeds_share_the_queue(place: Workplace) -> None:
    assert place.ragops("queue", "reseed", "--json").json["seeded"] == DOCUMENTS
    place.slow_down(0.05)
    one = place.start("embed", "--workers", "1", "--batch-size", "5", "--json")
    other = place.start("embed", "--workers", "2", "--batch-size", "5", "--json")
    for process in (one, other):
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
    assert len(stored_documents(place)) == DOCUMENTS
    assert place.queue() == {"completed": DOCUMENTS}
    shares = dict(
        place.rows("SELECT split_part(worker, ':', 2)::int, sum(documents)::int FROM ingestion_metrics GROUP BY 1")
    )
    assert shares.keys() == {one.pid, other.pid}
    assert sum(shares.values()) == DOCUMENTS


@pytest.mark.slow
@pytest.mark.fault(6)
def test_a_second_campaign_is_refused_while_one_runs(place: Workplace) -> None:
    place.slow_down(0.1)
    first = place.start("reset", "--playbook", "realign.yaml", "--yes", "--json")
    wait_for(lambda: place.completed() >= 2, what="the first documents")
    holder = f"{socket.gethostname()}:{first.pid}"
    with psycopg.connect(place.dsn) as writer:
        # The first campaign waits here for as long as the others are tried.
        writer.execute("LOCK TABLE documents IN SHARE MODE")
        second = place.reset()
        assert second.code == 1
        assert "campaign 1 (realign) is unfinished" in second.json["error"]["what"]
        assert holder in second.json["error"]["found"]
        for arguments in HELD:
            refused = place.ragops(*arguments, "--json")
            assert refused.code == 1, arguments
            assert f"campaign 1 is held by {holder} until" in refused.json["error"]["what"], arguments
        assert place.ragops("status", "--json").json["campaign"]["holder"] == holder
    place.speed_up()
    _, err = first.communicate(timeout=120)
    assert first.returncode == 0, err
    assert place.value("SELECT count(*) FROM ragops.campaign") == 1
    assert len(stored_documents(place)) == DOCUMENTS


def test_of_campaigns_that_start_together_one_runs(place: Workplace) -> None:
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'ragops.campaign'::regclass"
    with psycopg.connect(place.dsn) as reader:
        # All of them have seen that there is no campaign before any of them can write its own.
        reader.execute("LOCK TABLE ragops.campaign IN SHARE MODE")
        processes = [place.start("reset", "--playbook", "realign.yaml", "--yes", "--json") for _ in range(3)]
        wait_for(lambda: place.value(waiting) == 3, what="three campaigns about to start")
    ends = [(*process.communicate(timeout=120), process.returncode) for process in processes]
    assert sorted(code for *_, code in ends) == [0, 1, 1], [err for _, err, _ in ends]
    refusals = [err for _, err, code in ends if code == 1]
    assert all("campaign 1" in err and "next:" in err for err in refusals), refusals
    assert place.value("SELECT count(*) FROM ragops.campaign") == 1
    assert len(stored_documents(place)) == DOCUMENTS
    assert place.queue() == {"completed": DOCUMENTS}
