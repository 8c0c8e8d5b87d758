"""Items that another program has in process, such as the runbook's own workers: they are left to it."""

from __future__ import annotations

from pathlib import Path

import pytest
from campaigns import claim, execute, make_playbook, open_session, queue_of, reported, rows, seed, single, value
from stub_child import stub_command

from ragops.campaign.steps.embed import drain
from ragops.playbook.model import Source
from ragops.playbook.tables import Tables
from ragops.postgres.connection import Connection
from ragops.postgres.taken_items import return_items, taken_items
from ragops.workers import maintenance, others
from ragops.workers.others import OtherPrograms

TAKE = "UPDATE files_queue SET status = 'processing' WHERE id <= {}"
STATUSES = "SELECT array_agg(status ORDER BY id) FROM files_queue"


def test_items_without_lease_and_claim_are_never_taken_at_once(connection: Connection, dsn: str) -> None:
    seed(connection, 4)
    execute(dsn, TAKE.format(2), "UPDATE files_queue SET claimed_by = 'legacy' WHERE id = 2")
    assert queue_of(connection).reap(is_dead=lambda _: True) == 0
    held = claim(connection)
    assert [item.id for item in held.items] == [3, 4]
    # A claim without a lease is ragops' own.
    execute(dsn, "UPDATE files_queue SET lease_until = NULL WHERE id = 3")
    assert queue_of(connection).reap() == 1
    assert value(dsn, STATUSES) == ["processing", "processing", "pending", "processing"]


def test_what_is_seen_unchanged_for_long_comes_back(
    connection: Connection, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = 1000.0
    monkeypatch.setattr("ragops.workers.others.time.monotonic", lambda: clock)
    seed(connection, 5)
    execute(dsn, TAKE.format(3))
    watch = OtherPrograms(Tables())
    assert watch.look(connection) == others.Look(3)
    clock += others.LEFT_AFTER_S - 1
    # One is done, one was touched: its program lives. One was not.
    execute(dsn, "UPDATE files_queue SET status = 'completed' WHERE id = 1")
    execute(dsn, "UPDATE files_queue SET attempts = attempts + 1 WHERE id = 2")
    assert watch.look(connection) == others.Look(2)
    clock += 1
    assert watch.look(connection) == others.Look(1, returned=1)
    assert value(dsn, STATUSES) == ["completed", "processing", "pending", "pending", "pending"]
    # A new watch has seen nothing yet.
    clock += others.LEFT_AFTER_S
    assert OtherPrograms(Tables()).look(connection) == others.Look(1)


def test_what_changes_at_the_last_moment_stays(connection: Connection, dsn: str) -> None:
    seed(connection, 2)
    execute(dsn, TAKE.format(2))
    seen = taken_items(connection, Tables())
    execute(dsn, "UPDATE files_queue SET attempts = attempts + 1 WHERE id = 2")
    assert return_items(connection, Tables(), seen) == 1
    assert value(dsn, STATUSES) == ["pending", "processing"]
    assert return_items(connection, Tables(), seen) == 0


def test_a_fleet_says_what_it_waits_for_and_ends_by_itself(
    dsn18: str, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(1, 7):
        (tmp_path / f"{number}.txt").write_text(f"text {number}", encoding="utf-8")
    playbook = make_playbook(model=tiny_model, source=Source(folder=tmp_path))
    monkeypatch.setattr(maintenance, "EVERY_S", 0.1)
    monkeypatch.setattr(others, "LEFT_AFTER_S", 1.0)
    with open_session(dsn18, playbook, embedder_command=stub_command()) as session:
        seed(session.connection, 6)
        execute(dsn18, TAKE.format(2))
        result = drain(single(session))
        said = reported(session)
    assert result.completed == 6
    assert said.count("2 items are in process without a lease or claim") == 1
    assert "ragops queue release" in said
    assert "returned 2 items to the queue that another program had left" in said
    assert rows(dsn18, "SELECT status, count(*) FROM files_queue GROUP BY 1") == [("completed", 6)]
