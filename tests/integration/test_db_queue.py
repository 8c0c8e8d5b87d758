"""The queue on a real server: every item to one holder, leases on its clock, phases behind gates."""

from __future__ import annotations

import re
import subprocess
import sys

import psycopg
import pytest
from campaigns import append, batch_of, claim, execute, queue_of, seed, table_facts, value

from ragops.errors import FenceLost, RagopsError
from ragops.identity import is_dead_here, process_name
from ragops.playbook.tables import Tables
from ragops.postgres.connection import Connection, Target, connect
from ragops.postgres.failures import Failures
from ragops.postgres.ledger import FINISHED
from ragops.postgres.queue import MAX_PHASE, ItemStatus
from ragops.postgres.statements import text_of
from ragops.postgres.writer import Writer


def counts(connection: Connection) -> dict[str, int]:
    return {status: number for status, number in queue_of(connection).counts().items() if number}


def test_the_enum_is_the_one_of_the_database(connection: Connection) -> None:
    row = connection.execute(
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE conrelid = 'files_queue'::regclass AND contype = 'c'"
    ).fetchone()
    assert row is not None
    assert set(re.findall(r"'(\w+)'", row[0])) == {status.value for status in ItemStatus}


def test_the_gate_and_the_phases_are_those_of_the_database(connection: Connection) -> None:
    gate = text_of(queue_of(connection)._sql("gate"))
    finished = re.search(r"NOT IN \((.*?)\)", gate)
    assert finished is not None
    assert set(re.findall(r"'(\w+)'", finished[1])) == FINISHED
    phase = "SELECT atttypid::regtype::text FROM pg_attribute WHERE attrelid = %s::regclass AND attname = 'phase'"
    for table in ("files_queue", "ragops.campaign"):
        assert connection.execute(phase, [table]).fetchone() == ("smallint",)
    assert connection.execute("SELECT %s::smallint", [MAX_PHASE]).fetchone() == (MAX_PHASE,)
    with pytest.raises(psycopg.errors.NumericValueOutOfRange):
        connection.execute("SELECT %s::int::smallint", [MAX_PHASE + 1])


def test_an_item_goes_from_pending_to_completed(connection: Connection) -> None:
    seed(connection, 3)
    held = claim(connection, 2)
    assert [item.location for item in held.items] == ["1.txt", "2.txt"]
    assert counts(connection) == {"processing": 2, "pending": 1}
    queue_of(connection).complete(held, [item.id for item in held.items])
    assert counts(connection) == {"completed": 2, "pending": 1}
    assert [item.location for item in claim(connection).items] == ["3.txt"]
    assert queue_of(connection).claim(size=5, worker="w", lease_s=60) is None


def test_a_failed_item_keeps_its_reason_and_a_released_one_comes_back(connection: Connection) -> None:
    seed(connection, 3)
    held = claim(connection)
    queue_of(connection).fail(held, [(held.items[1].id, "no such file")])
    assert Failures(connection, Tables()).items() == [("2.txt", "no such file")]
    assert queue_of(connection).release(held) == 2
    assert counts(connection) == {"pending": 2, "failed": 1}
    left = connection.execute(
        "SELECT file_path, attempts, claim_id, claimed_by, lease_until FROM files_queue ORDER BY id"
    ).fetchall()
    assert [row[:3] for row in left] == [("1.txt", 0, None), ("2.txt", 1, None), ("3.txt", 0, None)]
    assert [row[3:] for row in left if row[0] != "2.txt"] == [(None, None)] * 2
    assert queue_of(connection).retry_failed() == 1
    assert counts(connection) == {"pending": 3}


def test_two_connections_never_get_the_same_item(connection: Connection, target: Target) -> None:
    seed(connection, 10)
    with connect(target) as other, connection.transaction():
        # The first claim is not committed yet: the second one must neither wait nor see its items.
        mine = claim(connection, 4)
        other.execute("SET lock_timeout = '2s'")
        theirs = claim(other, 10)
        assert [item.location for item in theirs.items] == [f"{n}.txt" for n in range(5, 11)]
    assert not {item.id for item in mine.items} & {item.id for item in theirs.items}


def test_a_reaped_and_reclaimed_batch_is_dropped_whole(connection: Connection, target: Target) -> None:
    seed(connection, 4)
    writer = Writer(Tables(), table_facts(connection))
    zombie = claim(connection, 4, worker="zombie")
    connection.execute("UPDATE files_queue SET lease_until = clock_timestamp() - interval '1 second'")
    with connect(target) as other:
        assert queue_of(other).reap() == 4
        successor = claim(other, 2, worker="successor")
        with pytest.raises(FenceLost, match="its lease expired"):
            writer.write(connection, batch_of(zombie))
        assert counts(connection) == {"processing": 2, "pending": 2}
        for table in ("documents", "document_chunks", "parsed_files", "ingestion_metrics"):
            assert value(target.conninfo, f"SELECT count(*) FROM {table}") == 0
        writer.write(other, batch_of(successor))
    assert value(target.conninfo, "SELECT array_agg(file_path ORDER BY id) FROM documents") == ["1.txt", "2.txt"]
    with pytest.raises(FenceLost):
        queue_of(connection).fail(zombie, [(zombie.items[3].id, "late")])
    assert queue_of(connection).release(zombie) == 0


def test_a_batch_of_which_one_item_was_taken_is_dropped_whole(connection: Connection) -> None:
    seed(connection, 3)
    writer = Writer(Tables(), table_facts(connection))
    held = claim(connection)
    connection.execute("UPDATE files_queue SET lease_until = NULL WHERE file_path = '2.txt'")
    assert queue_of(connection).reap() == 1
    with pytest.raises(FenceLost) as caught:
        writer.write(connection, batch_of(held))
    assert caught.value.actual == "2 of 3 items still held"
    assert counts(connection) == {"processing": 2, "pending": 1}


def test_a_batch_is_not_written_twice(connection: Connection) -> None:
    seed(connection, 2)
    writer = Writer(Tables(), table_facts(connection))
    batch = batch_of(claim(connection))
    writer.write(connection, batch)
    # As after a COMMIT whose answer was lost.
    with pytest.raises(FenceLost):
        writer.write(connection, batch)
    row = connection.execute("SELECT count(*) FROM documents").fetchone()
    assert row == (2,)


def test_leases_end_on_the_servers_clock_and_can_be_extended(connection: Connection, dsn: str) -> None:
    seed(connection, 2)
    short, long = claim(connection, 1, lease_s=0), claim(connection, 1, lease_s=600)
    assert short.id != long.id
    assert value(dsn, "SELECT bool_and(lease_until <= clock_timestamp() + interval '600 s') FROM files_queue")
    assert queue_of(connection).extend_leases([short.id], lease_s=60) == 1
    assert queue_of(connection).reap() == 0
    connection.execute("UPDATE files_queue SET lease_until = clock_timestamp() WHERE claim_id = %s", [short.id])
    assert queue_of(connection).reap() == 1
    assert [item.id for item in claim(connection).items] == [short.items[0].id]


def test_items_of_a_dead_worker_come_back_at_once(connection: Connection) -> None:
    ended = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    name = process_name(ended.pid)
    host, pid, mark = name.split(":")
    ended.communicate()
    seed(connection, 3)
    claim(connection, 1, worker=name)
    # The same process id of another machine or container under this one's name.
    claim(connection, 1, worker=f"{host}:{pid}:00000000-{mark.partition('-')[2]}")
    assert queue_of(connection).reap() == 0
    assert queue_of(connection).reap(is_dead=is_dead_here) == 1
    assert counts(connection) == {"pending": 2, "processing": 1}


def test_phases_follow_the_gates(connection: Connection, dsn: str) -> None:
    seed(connection, 7, gates=(2, 5))
    assert value(dsn, "SELECT array_agg(phase ORDER BY id) FROM files_queue") == [1, 1, 2, 2, 2, 3, 3]
    assert queue_of(connection).open_items(phase=2) == (5, 0)
    held = claim(connection, 3)
    queue_of(connection).complete(held, [held.items[0].id])
    queue_of(connection).fail(held, [(held.items[2].id, "x")])
    assert queue_of(connection).open_items(phase=1) == (0, 1)
    assert queue_of(connection).open_items(phase=2) == (2, 1)


def test_an_unfinished_campaign_is_the_gate(connection: Connection, dsn: str) -> None:
    seed(connection, 4, gates=(1, 2))
    assert queue_of(connection).gate() == MAX_PHASE
    execute(dsn, "INSERT INTO ragops.campaign (name, playbook, plan, phase) VALUES ('c', '{}', '{}', 0)")
    assert queue_of(connection).gate() == 0
    assert queue_of(connection).claim(size=9, worker="w", lease_s=60) is None
    execute(dsn, "UPDATE ragops.campaign SET phase = 2, status = 'gate_failed'")
    assert [item.location for item in claim(connection).items] == ["1.txt", "2.txt"]
    assert queue_of(connection).claim(size=9, worker="w", lease_s=60) is None
    for status in ("done", "abandoned", "undone"):
        execute(dsn, f"UPDATE ragops.campaign SET status = '{status}'")
        assert queue_of(connection).gate() == MAX_PHASE
    assert [item.location for item in claim(connection).items] == ["3.txt", "4.txt"]


def test_a_filled_queue_is_not_seeded_and_appending_skips_what_is_there(connection: Connection, dsn: str) -> None:
    seed(connection, 2)
    with pytest.raises(RagopsError, match="not empty") as caught:
        seed(connection, 2)
    assert caught.value.actual == "2 items"
    assert append(connection, ["z.txt", "2.txt", "a.txt", "z.txt"], phase=3) == 2
    assert value(dsn, "SELECT array_agg(file_path || ' ' || phase ORDER BY id) FROM files_queue") == [
        "1.txt 1",
        "2.txt 1",
        "z.txt 3",
        "a.txt 3",
    ]
    assert append(connection, ["a.txt", "1.txt"], phase=3) == 0
