"""Round trips over random tables: after a campaign and its undo everything is as it was."""

from __future__ import annotations

import psycopg
import pytest
from campaigns import open_session
from conftest import Server, fresh_database
from psycopg import sql
from random_tables import RandomTables

from ragops.campaign import run as campaign
from ragops.campaign.undo import undo

FEW = range(6)
MANY = range(6, 206)


def prepare_tablespace(server: Server) -> None:
    """Create a tablespace inside the server's own folder, for indexes that are elsewhere."""
    with psycopg.connect(server.target.conninfo, autocommit=True) as admin:
        if admin.execute("SELECT 1 FROM pg_tablespace WHERE spcname = 'other'").fetchone() is None:
            admin.execute("SET allow_in_place_tablespaces = on")
            admin.execute("CREATE TABLESPACE other LOCATION ''")


def round_trip(server: Server, seed: int) -> None:
    """Reset, let the application write, undo, compare."""
    with (
        fresh_database(server, template="ragops_template") as dsn,
        psycopg.connect(dsn, autocommit=True) as connection,
    ):
        tables = RandomTables(connection, seed)
        tables.create(tablespace=True)
        connection.execute(
            sql.SQL('INSERT INTO ragops.source (queue, source) VALUES ({}, \'{{"folder": "/old"}}\')').format(
                sql.Literal(tables.queue)
            )
        )
        before, sequences = tables.snapshot(), tables.sequences()
        with open_session(dsn, tables.playbook()) as session:
            result = campaign.start(session, campaign.plan_campaign(session))
            assert result.status == "done"
            connection.execute(b'UPDATE ragops.source SET source = \'{"folder": "/new"}\'')
            after = tables.snapshot()
            assert after["indexes"] == before["indexes"]
            tables.insert(seed % 7, of="after")
            noted = tables.snapshot()["noted"]
            undone = undo(session)
            now = tables.snapshot()
            assert now.pop("noted") == noted, "an undo fires no trigger"
            before.pop("noted")
            assert now == before
            assert all(value >= sequences[name] for name, value in tables.sequences().items())
            # What was removed comes back, too.
            if undone.removed is not None:
                undo(session, generation=undone.removed)
                redone = tables.snapshot()
                assert [len(redone[name]) for name in ("documents", "queue")] == [seed % 7, seed % 7]
                assert redone["indexes"] == before["indexes"]


@pytest.mark.parametrize("seed", FEW)
def test_everything_is_as_it_was(server: Server, seed: int) -> None:
    prepare_tablespace(server)
    round_trip(server, seed)


@pytest.mark.slow
@pytest.mark.long
def test_two_hundred_round_trips(server: Server) -> None:
    prepare_tablespace(server)
    for seed in MANY:
        try:
            round_trip(server, seed)
        except BaseException:
            print(f"seed {seed}")  # noqa: T201 (the failure can be run again)
            raise
