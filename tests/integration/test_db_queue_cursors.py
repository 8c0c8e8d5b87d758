"""A long queue: claims behind a cursor, failures at once, leases renewed late, locked rows passed over."""

from __future__ import annotations

import re
import uuid
from datetime import timedelta

import pytest
from campaigns import claim, execute, queue_of, rows, seed, value

from ragops.errors import FenceLost
from ragops.playbook.tables import QueueTable, Tables
from ragops.postgres.connection import Connection, Target, connect
from ragops.postgres.queue import Claim, Cursor
from ragops.postgres.setup import initialise, plan_setup
from ragops.postgres.statements import queue_key
from ragops.workers import maintenance
from ragops.workers.maintenance import Reaper


def take(connection: Connection, size: int, after: Cursor | None, *, tables: Tables | None = None) -> Claim | None:
    return queue_of(connection, tables).claim(size=size, worker="w", lease_s=60, after=after)


def locations(claimed: Claim | None) -> list[str]:
    return [item.location for item in claimed.items] if claimed else []


def test_a_claim_continues_behind_its_cursor_and_through_the_phases(connection: Connection) -> None:
    seed(connection, 7, gates=(3,))
    first = claim(connection, 2)
    assert first.cursor == Cursor(1, 2)
    second = take(connection, 3, first.cursor)
    assert locations(second) == ["3.txt", "4.txt", "5.txt"]
    assert second is not None and second.cursor == Cursor(2, 5)
    assert locations(take(connection, 9, second.cursor)) == ["6.txt", "7.txt"]


def test_what_came_back_before_the_cursor_is_for_a_claim_without(connection: Connection) -> None:
    seed(connection, 6)
    first = claim(connection, 2)
    second = take(connection, 2, first.cursor)
    assert second is not None
    assert queue_of(connection).release(first) == 2
    third = take(connection, 9, second.cursor)
    assert locations(third) == ["5.txt", "6.txt"]
    assert third is not None and take(connection, 9, third.cursor) is None
    assert locations(take(connection, 9, None)) == ["1.txt", "2.txt"]


def test_a_cursor_respects_gate_and_bound(connection: Connection, dsn: str) -> None:
    seed(connection, 6, gates=(4,))
    execute(dsn, "INSERT INTO ragops.campaign (name, playbook, plan, phase) VALUES ('c', '{}', '{}', 1)")
    first = claim(connection, 1)
    bounded = queue_of(connection).claim(size=9, worker="w", lease_s=60, bound=Cursor(1, 2), after=first.cursor)
    assert locations(bounded) == ["2.txt"]
    assert bounded is not None
    assert locations(take(connection, 9, bounded.cursor)) == ["3.txt", "4.txt"]


def test_cursors_follow_the_order_of_the_database(connection: Connection, target: Target) -> None:
    """Python orders some types otherwise, and these not at all."""
    ids = ["::1", "9.0.0.1", "10.0.0.1", "fe80::1", "10.0.0.0"]
    connection.execute("CREATE TABLE hosts (id inet PRIMARY KEY, file_path text, status text DEFAULT 'pending')")
    connection.execute("INSERT INTO hosts SELECT i::inet, i FROM unnest(%s::text[]) i", [ids])
    tables = Tables(files_queue=QueueTable(table="hosts"))
    initialise(connection, target, plan_setup(connection, tables, dimensions=lambda: 32))
    cursor: Cursor | None = None
    taken: list[str] = []
    while claimed := take(connection, 2, cursor, tables=tables):
        taken += locations(claimed)
        cursor = claimed.cursor
    assert taken == ["9.0.0.1", "10.0.0.0", "10.0.0.1", "::1", "fe80::1"]


def plan_of(connection: Connection, name: str, **values: object) -> str:
    more = {"this_queue": queue_key(Tables())} if name == "claim" else {}
    query = b"EXPLAIN " + queue_of(connection)._sql(name, **more).as_bytes(connection)
    return "\n".join(row[0] for row in connection.execute(query, values).fetchall())


def test_the_scan_starts_at_the_cursor(connection: Connection) -> None:
    """Dead entries before the cursor are not read: the plan's index condition holds it."""
    seed(connection, 3000)
    queue_of(connection).analyze()
    values = {"size": 10, "worker": "w", "lease_s": 60, "claim_id": None, "generation": 0}
    values |= {"last_phase": None, "last_id": None}
    without = plan_of(connection, "claim", **values, after_phase=None, after_id=None)
    assert not re.search(r"Index Cond: .*ROW\(phase, id\)", without)
    behind = plan_of(connection, "claim", **values, after_phase=1, after_id=2000)
    assert re.search(r"Index Cond: .*ROW\(phase, id\) > ROW\(", behind), behind


def test_leases_and_claims_are_found_by_their_own_index(connection: Connection) -> None:
    """Also while the planner believes that no item is processed, as it does after a reseeding."""
    seed(connection, 3000)
    queue_of(connection).analyze()
    claim(connection, 10)
    reaping_plan = plan_of(connection, "reap_expired", since=queue_of(connection).server_time())
    assert "Index Cond: ((lease_until < now()) AND (lease_until >= " in reaping_plan, reaping_plan
    assert "Index Cond: (lease_until IS NULL)" in reaping_plan, reaping_plan
    assert "Index Cond: (lease_until IS NULL)" in plan_of(connection, "taken_by_others", limit=9)
    assert "Index Cond: (lease_until >= now())" in plan_of(connection, "claimants")
    ids = [uuid.uuid4()]
    for name, values in (("release", {"claim_id": ids[0]}), ("extend_leases", {"claim_ids": ids, "lease_s": 9})):
        assert "Index Cond: (claim_id = " in plan_of(connection, name, **values), name


def test_failures_are_marked_at_once_each_with_its_reason(connection: Connection, dsn: str) -> None:
    seed(connection, 4)
    held = claim(connection)
    ids = [item.id for item in held.items]
    queue_of(connection).fail(held, ())
    queue_of(connection).fail(held, iter([(ids[2], "too 'long' %s"), (ids[0], "")]))
    failed = "SELECT file_path, last_error, attempts FROM files_queue WHERE status = 'failed' ORDER BY id"
    assert rows(dsn, failed) == [("1.txt", "", 1), ("3.txt", "too 'long' %s", 1)]
    with pytest.raises(FenceLost) as caught, connection.transaction():
        queue_of(connection).fail(held, [(ids[0], "again"), (ids[1], "x")])
    assert caught.value.actual == "1 of 2 items still held"
    assert value(dsn, "SELECT count(*) FROM files_queue WHERE last_error IN ('again', 'x')") == 0


def test_a_lease_is_renewed_only_when_less_than_half_is_left(connection: Connection, dsn: str) -> None:
    seed(connection, 4)
    held = claim(connection, lease_s=100)
    assert queue_of(connection).extend_leases([held.id], lease_s=100) == 0
    execute(
        dsn,
        "UPDATE files_queue SET lease_until = clock_timestamp() + interval '40 s' WHERE id = 1",
        "UPDATE files_queue SET lease_until = clock_timestamp() + interval '70 s' WHERE id = 2",
        "UPDATE files_queue SET lease_until = NULL WHERE id = 3",
    )
    assert queue_of(connection).extend_leases([held.id], lease_s=100) == 2
    left = rows(
        dsn, "SELECT extract(epoch FROM lease_until - clock_timestamp()) > 80 FROM files_queue ORDER BY id"
    )
    assert left == [(True,), (False,), (True,), (True,)]


def test_a_heartbeat_waits_for_no_row_that_is_being_completed(connection: Connection, target: Target) -> None:
    seed(connection, 4)
    held = claim(connection, lease_s=0)
    with connect(target) as other, connection.transaction():
        queue_of(connection).complete(held, [held.items[0].id])
        other.execute("SET lock_timeout = '2s'")
        assert queue_of(other).extend_leases([held.id], lease_s=0) == 3
        assert queue_of(other).reap(is_dead=lambda _: True) == 3
    assert queue_of(connection).counts() == {"pending": 3, "processing": 0, "completed": 1, "failed": 0}


def test_a_reaper_looks_at_recent_leases_and_now_and_then_at_all(
    connection: Connection, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed(connection, 4)
    claim(connection, 4, lease_s=0)
    reaper = Reaper(Tables())
    assert reaper.reap(connection) == 4
    claim(connection, 2, lease_s=0)
    execute(dsn, "UPDATE files_queue SET lease_until = lease_until - interval '1 h' WHERE id = 1")
    # The recent one only: the other cannot have come to be since the first look, except by a jump of the clock.
    assert reaper.reap(connection) == 1
    assert reaper.reap(connection) == 0
    monkeypatch.setattr(maintenance, "EVERYTHING_EVERY", timedelta(0))
    assert reaper.reap(connection) == 1


def test_a_reaper_takes_from_the_dead_at_every_look(connection: Connection) -> None:
    seed(connection, 3)
    reaper = Reaper(Tables(), is_dead=lambda worker: worker == "dead")
    assert reaper.reap(connection) == 0
    claim(connection, 1, worker="dead", lease_s=600)
    claim(connection, 1, worker="alive", lease_s=600)
    assert reaper.reap(connection) == 1
    assert queue_of(connection).counts()["processing"] == 1
