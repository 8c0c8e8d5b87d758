"""The virtual clock is the only one that leases follow."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from conftest import Server

import ragops
from ragops.playbook.tables import Tables
from ragops.postgres.connection import Connection, connect
from ragops.postgres.queue import Queue, seed_statement
from ragops.workers.maintenance import Reaper
from simulator.clock import BEGINNING_US, set_clock
from simulator.simulation import simulated_world
from simulator.world import World

SQL = Path(ragops.__file__).parent / "postgres" / "sql"
# The system's clock under names that no schema can hide.
KEYWORDS = re.compile(
    r"\b(current_timestamp|localtimestamp|current_time|localtime|current_date|timeofday)\b", re.I
)
MINUTE_US = 60_000_000


@pytest.fixture
def world(pg18: Server, tmp_path: Path) -> Iterator[World]:
    with simulated_world(pg18.target.conninfo, tmp_path) as world:
        yield world


@pytest.fixture
def connection(world: World) -> Iterator[Connection]:
    with connect(world.target) as opened:
        yield opened


def test_no_statement_asks_for_the_time_in_another_way() -> None:
    found = [
        (file.name, match[0])
        for file in sorted(SQL.glob("*.sql"))
        for line in file.read_text(encoding="utf-8").splitlines()
        if not line.startswith("--") and (match := KEYWORDS.search(line))
    ]
    assert found == []
    assert len(list(SQL.glob("*.sql"))) > 5


def test_time_passes_for_every_session_and_within_transactions(world: World) -> None:
    with psycopg.connect(world.dsn) as one, psycopg.connect(world.dsn) as other:
        one.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        seen = [times(one)]
        world.advance(MINUTE_US)
        seen.append(times(one))
        assert times(other)[1] == (BEGINNING_US + MINUTE_US) / 1e6
    # A snapshot does not stop the clock; the transaction's own time stands still.
    assert seen == [(BEGINNING_US / 1e6,) * 2, (BEGINNING_US / 1e6, (BEGINNING_US + MINUTE_US) / 1e6)]


def times(connection: psycopg.Connection[tuple[object, ...]]) -> tuple[float, float]:
    row = connection.execute(
        "SELECT extract(epoch FROM now())::float8, extract(epoch FROM clock_timestamp())::float8"
    ).fetchone()
    assert row is not None
    return float(str(row[0])), float(str(row[1]))


def test_leases_run_out_when_the_virtual_clock_says_so(world: World, connection: Connection) -> None:
    queue, tables = Queue(connection, Tables()), Tables()
    with connection.transaction():
        queue.seed(seed_statement(tables, relation=None, gates=()), ["a.txt", "b.txt"], gates=())
    claim = queue.claim(size=2, worker="w", lease_s=60)
    assert claim is not None
    reaper = Reaper(tables)
    world.advance(59_000_000)
    assert reaper.reap(connection) == 0
    assert queue.extend_leases([claim.id], lease_s=60) == 2
    world.advance(59_000_000)
    assert reaper.reap(connection) == 0
    world.advance(2_000_000)
    assert reaper.reap(connection) == 2


def test_the_clock_can_go_back(world: World, connection: Connection) -> None:
    set_clock(world.admin, BEGINNING_US - MINUTE_US)
    assert Queue(connection, Tables()).server_time().timestamp() == (BEGINNING_US - MINUTE_US) / 1e6
