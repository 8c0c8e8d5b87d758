"""`ragops queue status` and `ragops db init`: what they say about old transactions and another role's queue."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from campaigns import execute, value
from psycopg import sql

from ragops.cli import database, queue

PLAYBOOK = "realign"


@contextmanager
def open_transaction(dsn: str) -> Iterator[None]:
    with psycopg.connect(dsn, application_name="re[p]ort") as other:
        other.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        other.execute("SELECT 1 FROM files_queue")
        yield
        other.rollback()


def test_status_names_who_holds_vacuum_back(
    dsn: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_transaction(dsn):
        queue.status(playbook=PLAYBOOK, dsn=dsn, as_json=True)
        assert json.loads(capsys.readouterr().out)["holder"] is None
        monkeypatch.setattr(queue, "OLD_S", 0.0)
        queue.status(playbook=PLAYBOOK, dsn=dsn, as_json=True)
        holder = json.loads(capsys.readouterr().out)["holder"]
        queue.status(playbook=PLAYBOOK, dsn=dsn, as_json=False)
        screen = " ".join(capsys.readouterr().out.split())
    assert (holder["kind"], holder["name"], holder["state"]) == ("session", "re[p]ort", "idle in transaction")
    # Seconds may pass between the two answers.
    summary = re.escape(holder["summary"]).replace(re.escape(f"for {holder['age_s']} s"), r"for \d+ s")
    assert re.search(f"vacuum is held back, so that the tables grow: {summary}", screen)
    assert f"next: SELECT pg_terminate_backend({holder['pid']})" in screen


def test_init_advises_where_another_role_owns_the_queue(dsn: str, capsys: pytest.CaptureFixture[str]) -> None:
    role = f"guest_{value(dsn, 'SELECT current_database()')}"
    quoted = sql.Identifier(role).as_string(None)
    execute(
        dsn,
        "ALTER TABLE files_queue RESET (fillfactor)",
        f"CREATE ROLE {quoted} LOGIN",
        f"GRANT USAGE ON SCHEMA ragops TO {quoted}",
        f"GRANT ALL ON ALL TABLES IN SCHEMA public, ragops TO {quoted}",
    )
    try:
        guest = psycopg.conninfo.make_conninfo(dsn, user=role)
        database.init(None, dry_run=False, playbook=PLAYBOOK, dsn=guest, model=None, as_json=True)
        result = json.loads(capsys.readouterr().out)
        assert result["created"] == []
        assert [advice["sql"] for advice in result["advice"]] == [
            'ALTER TABLE "files_queue" SET (fillfactor = 70)'
        ]
        database.init(None, dry_run=False, playbook=PLAYBOOK, dsn=guest, model=None, as_json=False)
        assert capsys.readouterr().out.splitlines() == [
            "-- not created: another role owns the queue. It works without, but is faster if its owner runs",
            'ALTER TABLE "files_queue" SET (fillfactor = 70);',
        ]
    finally:
        execute(dsn, f"DROP OWNED BY {quoted}", f"DROP ROLE {quoted}")
