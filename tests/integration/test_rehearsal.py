"""Tables that a campaign could not fill are refused before anything changes; the printed cure makes them pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from campaigns import execute, make_playbook, open_session, rows
from conftest import TEMPLATE, Server, fresh_database
from facts_factory import model as model_facts
from unfillable import GRANTED, KINDS, ROLE, Kind

from ragops.campaign import run as campaign
from ragops.campaign.plan import Plan
from ragops.errors import PlanRefused
from ragops.findings import PlanProblem
from ragops.playbook import Playbook
from ragops.playbook.model import Source

OLD_ROWS = (
    "INSERT INTO documents (content, embedding) SELECT 'old ' || n, array_fill(1, ARRAY[32])::vector"
    " FROM generate_series(1, 3) n",
    "INSERT INTO parsed_files (file_id) VALUES (1)",
    "INSERT INTO files_queue (file_path, status) VALUES ('done.txt', 'completed'), ('next.txt', 'pending')",
)


@contextmanager
def spoilt(server: Server, kind: Kind) -> Iterator[str]:
    """A database whose tables are of that kind."""
    with fresh_database(server, template=TEMPLATE) as dsn:
        if kind.as_role:
            execute(dsn, f"ALTER ROLE {ROLE} NOBYPASSRLS", *GRANTED)
        if kind.has_rows and not kind.as_role:
            execute(dsn, *OLD_ROWS)
        execute(dsn, *kind.spoil)
        yield dsn


def snapshot(dsn: str) -> list[Any]:
    """Every row and every relation."""
    relations = rows(
        dsn,
        "SELECT n.nspname, c.relname, c.oid, c.relfilenode, c.relkind, c.relowner FROM pg_class c"
        " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname IN ('public', 'ragops') ORDER BY 1, 2",
    )
    tables = [name for schema, name, _, _, kind, _ in relations if kind in "rp" and schema == "public"]
    return [relations, *(sorted(rows(dsn, f"SELECT t::text FROM {name} t")) for name in tables)]


def plan(dsn: str, playbook: Playbook, kind: Kind) -> Plan:
    user = {"user": ROLE} if kind.as_role else {}
    with open_session(psycopg.conninfo.make_conninfo(dsn, **user), playbook) as session:
        return campaign.plan_campaign(session, model=model_facts(dimensions=kind.dimensions), items=3)


def problems(dsn: str, playbook: Playbook, kind: Kind) -> tuple[PlanProblem, ...]:
    try:
        plan(dsn, playbook, kind)
    except PlanRefused as refused:
        return refused.problems
    return ()


@pytest.fixture(scope="module")
def roles(pg16: Server, pg18: Server) -> None:
    for server in (pg16, pg18):
        execute(server.target.conninfo, f"CREATE ROLE {ROLE} LOGIN")


def test_there_are_many_kinds() -> None:
    assert len(KINDS) == len({kind.name for kind in KINDS}) >= 60


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name.replace(" ", "-"))
def test_a_table_that_cannot_be_filled(server: Server, kind: Kind, roles: None) -> None:
    playbook = make_playbook(**{"source": Source(folder=Path("corpus")), **kind.playbook})
    with spoilt(server, kind) as dsn:
        before = snapshot(dsn)
        found = problems(dsn, playbook, kind)
        assert kind.says in "\n".join(map(str, found)), (kind.name, found)
        assert snapshot(dsn) == before, kind.name
        assert all(problem.cure for problem in found) == kind.cure_is_sql, (kind.name, found)
        if kind.cure_is_sql:
            execute(dsn, *(problem.cure for problem in found))
            assert problems(dsn, playbook, kind) == (), kind.name
