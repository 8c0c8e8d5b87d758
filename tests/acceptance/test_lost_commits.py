"""A failover to a server that lacks the last seconds: what the campaign had recorded is gone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

import psycopg
from conftest import wait_for
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from workplace import Workplace


@contextmanager
def shut(place: Workplace) -> Iterator[tuple[psycopg.Connection[tuple[object, ...]], str]]:
    """Let nobody into the database for a moment; yields a connection beside it and the database's name."""
    parts = conninfo_to_dict(place.dsn)
    name = str(parts["dbname"])
    with psycopg.connect(place.dsn, dbname="postgres", autocommit=True) as admin:
        open_or_shut = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
        admin.execute(open_or_shut.format(sql.Identifier(name), sql.SQL("false")))
        sessions = "FROM pg_stat_activity WHERE datname = %s"
        admin.execute(f"SELECT pg_terminate_backend(pid) {sessions}".encode(), [name])
        wait_for(lambda: admin.execute(f"SELECT {sessions}".encode(), [name]).fetchone() is None, what="silence")
        yield admin, name
        admin.execute(open_or_shut.format(sql.Identifier(name), sql.SQL("true")))


def test_steps_that_a_failover_has_lost_are_named(place: Workplace) -> None:
    place.slow_down(0.1)
    campaigns = "SELECT count(*) FROM ragops.step WHERE verb = 'empty_tables' AND status = 'running'"
    with closing(psycopg.connect(place.dsn)) as other:
        other.execute("LOCK TABLE documents IN ACCESS SHARE MODE")
        controller = place.start("reset", "--playbook", "realign.yaml", "--yes", "--json")
        wait_for(lambda: place.value(campaigns) == 1, what="step empty_tables")
        with shut(place) as (admin, name):
            old = sql.Identifier(f"{name}_old")
            admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(old, sql.Identifier(name)))
    wait_for(lambda: 0 < place.completed() < 100, what="documents")
    with shut(place) as (admin, name):
        lost, own = sql.Identifier(f"{name}_lost"), sql.Identifier(name)
        rename = sql.SQL("ALTER DATABASE {} RENAME TO {}")
        admin.execute(rename.format(own, lost))
        admin.execute(rename.format(old, own))
        admin.execute(sql.SQL("DROP DATABASE {}").format(lost))
    _, err = controller.communicate(timeout=120)

    assert controller.returncode == 1, err
    assert "the database has lost what it had confirmed: steps 3, 4" in err
    assert "ragops reset --resume" in err
    assert place.rows("SELECT status FROM ragops.campaign") == [("failed",)]
    place.speed_up()
    # Other than a standby, this database is a copy, which may not be emptied with an answer that was given before.
    resumed = place.ragops("reset", "--resume", "--yes", "--json")
    assert resumed.code == 4, resumed.err
    assert f"{name} is another database of that name" in resumed.err
    again = place.reset("--new")
    assert again.code == 0, again.err
    assert place.queue() == {"completed": 120}
    assert place.value("SELECT count(*) FROM documents") == 120
