"""Tables that a campaign could not fill are refused before anything changes; the printed cure makes them pass."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from campaigns import execute, make_playbook, open_session, rows, table_facts, value
from conftest import TEMPLATE, Server, fresh_database, wait_for, write_corpus
from facts_factory import model as model_facts
from stub_child import stub_command
from unfillable import GRANTED, KINDS, ROLE, Kind

from ragops.campaign import rehearsal
from ragops.campaign import run as campaign
from ragops.campaign.plan import Plan
from ragops.errors import PlanRefused, RagopsError
from ragops.facts import vector_dimensions
from ragops.findings import PlanProblem
from ragops.playbook import Playbook
from ragops.playbook.model import Source
from ragops.playbook.steps import Embed, EmptyTables, ReseedQueue
from ragops.postgres.filling import Filling
from ragops.postgres.queue import Queue
from ragops.postgres.statements import statement, statement_names
from ragops.retry import Backoff

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
        # pytest-xdist may come back to this module with the same servers.
        exists = f"SELECT 1 FROM pg_roles WHERE rolname = '{ROLE}'"
        if not rows(server.target.conninfo, exists):
            execute(server.target.conninfo, f"CREATE ROLE {ROLE} LOGIN")


def test_there_are_many_kinds() -> None:
    assert len(KINDS) == len({kind.name for kind in KINDS}) >= 60


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
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


EMBED = Embed(step="embed")
# Without those that judge vectors, for a stub's.
FILLING = tuple(
    step for step in make_playbook().steps if step.step not in ("verify_build", "validate") and step != EMBED
)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.runs], ids=lambda kind: kind.name)
def test_a_cured_campaign_runs_to_its_end(pg18: Server, kind: Kind, tiny_model: Path, tmp_path: Path) -> None:
    with spoilt(pg18, kind) as dsn:
        source = Source(folder=write_corpus(tmp_path / "corpus", 3))
        playbook = make_playbook(model=tiny_model, source=source, steps=(*FILLING, EMBED))
        execute(dsn, *(problem.cure for problem in problems(dsn, playbook, kind)))
        with open_session(dsn, playbook, embedder_command=stub_command()) as session:
            made = campaign.plan_campaign(session, model=model_facts(dimensions=32), items=3)
            done = campaign.start(session, made)
        assert (done.status, done.completed, done.failed) == ("done", 3, 0)
        assert rows(dsn, "SELECT count(*), count(embedding) FROM documents") == [(3, 3)]


def planned(dsn: str, **more: Any) -> Plan:
    playbook = make_playbook(**{"source": Source(folder=Path("corpus")), **more})
    with open_session(dsn, playbook) as session:
        return campaign.plan_campaign(session, model=model_facts(dimensions=32), items=3)


def test_the_new_items_are_the_ones_that_are_claimed(dsn: str) -> None:
    """A queue that holds items already does not answer for the new ones."""
    execute(
        dsn,
        "INSERT INTO files_queue (file_path) SELECT 'old' || n FROM generate_series(1, 50) n",
        "CREATE FUNCTION guard() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN IF OLD.file_path LIKE 'old%' THEN RAISE EXCEPTION 'not this one'; END IF; RETURN NEW; END $$",
        "CREATE TRIGGER guard BEFORE UPDATE OF status ON files_queue FOR EACH ROW EXECUTE FUNCTION guard()",
    )
    before = snapshot(dsn)
    assert any("trigger guard (BEFORE UPDATE) on public.files_queue fires" in note for note in planned(dsn).notes)
    assert snapshot(dsn) == before


def test_a_collision_with_rows_that_the_plan_removes_is_none(dsn: str) -> None:
    execute(
        dsn,
        "ALTER TABLE documents ADD UNIQUE (file_id)",
        "INSERT INTO documents (file_id, content) SELECT n, n FROM generate_series(1, 100) n",
        # As after a restored dump: the sequence is behind the ids.
        "INSERT INTO documents (id, content) SELECT n, 'x' || n FROM generate_series(101, 300) n",
    )
    assert planned(dsn).steps
    steps = (EMBED,)
    execute(dsn, "UPDATE documents SET file_id = -id", "INSERT INTO files_queue (file_path) VALUES ('a'), ('b')")
    with pytest.raises(PlanRefused) as refused:
        planned(dsn, steps=steps)
    (problem,) = refused.value.problems
    assert "duplicate key value" in problem.what
    # Nothing removes the old rows: the sequence has to go behind them.
    assert "setval" in problem.cure
    execute(dsn, problem.cure)
    assert planned(dsn, steps=steps).steps


def test_a_table_that_somebody_holds_is_said(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsal, "PLAN_PATIENCE", Backoff(total_s=0.1))
    with psycopg.connect(dsn, application_name="nightly export") as other:
        other.execute("LOCK TABLE documents IN SHARE MODE")
        with pytest.raises(RagopsError, match="could not get a lock; nothing was changed") as caught:
            planned(dsn)
    assert "nightly export" in str(caught.value.actual)


def test_the_schema_that_another_command_makes_meanwhile_is_no_problem(dsn: str) -> None:
    execute(dsn, "DROP SCHEMA ragops CASCADE")
    with psycopg.connect(dsn) as other, ThreadPoolExecutor() as pool:
        for name in statement_names("ragops_schema"):
            other.execute(statement("ragops_schema", name))
        plan = pool.submit(planned, dsn)
        wait_for(lambda: value(dsn, "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'") == 1)
        other.commit()
        assert plan.result().steps


@pytest.mark.parametrize("state", ["40P01", "40001", "53100", "57P01"])
def test_what_passes_by_itself_is_no_problem_of_the_plan(dsn: str, state: str) -> None:
    execute(
        dsn,
        # A sequence keeps its count when a transaction is rolled back.
        "CREATE SEQUENCE tries",
        "CREATE FUNCTION passing() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        f" IF nextval('tries') < 3 THEN RAISE EXCEPTION 'not now' USING ERRCODE = '{state}'; END IF;"
        " RETURN NEW; END $$",
        "CREATE TRIGGER passing BEFORE INSERT ON documents FOR EACH ROW EXECUTE FUNCTION passing()",
    )
    with open_session(dsn, make_playbook(source=Source(folder=Path("corpus")))) as session:
        plan = session.through_outages(
            lambda: campaign.plan_campaign(session, model=model_facts(dimensions=32), items=3)
        )
    assert plan.steps
    assert value(dsn, "SELECT last_value FROM tries") >= 3


def test_a_filling_that_began_before_the_claim_is_no_problem(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real, looks = Queue.filling, iter([99])

    def filling(self: Queue) -> Filling:
        found = real(self)
        return replace(found, generation=next(looks, found.generation))

    monkeypatch.setattr(Queue, "filling", filling)
    assert planned(dsn).steps
    assert next(looks, None) is None


def test_what_the_operator_should_know(dsn: str) -> None:
    execute(
        dsn,
        "ALTER TABLE documents ADD made timestamptz DEFAULT now(), ADD tenant int",
        "CREATE TABLE bookmarks (document_id bigint)",
        "INSERT INTO documents (content, tenant, embedding) VALUES ('x', 7, array_fill(1, ARRAY[32])::vector)",
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$",
        "CREATE TRIGGER reembed AFTER INSERT OR UPDATE ON documents FOR EACH ROW EXECUTE FUNCTION note()",
        "CREATE TRIGGER wiped AFTER TRUNCATE ON documents EXECUTE FUNCTION note()",
        "CREATE TRIGGER quiet AFTER DELETE ON documents EXECUTE FUNCTION note()",
        "CREATE PUBLICATION p FOR TABLE documents",
        "CREATE INDEX my_hnsw ON documents USING hnsw (embedding vector_cosine_ops)",
        "CREATE INDEX broken_ccnew ON documents (file_path)",
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'broken_ccnew'::regclass",
        "ALTER TABLE parsed_files ALTER content_hash TYPE varchar(100)",
    )
    steps = tuple(
        step.model_copy(update={"accept_lost_columns": ("documents.tenant",)})
        if isinstance(step, EmptyTables)
        else step
        for step in make_playbook().steps
    )
    plan = planned(dsn, steps=steps)
    notes = "\n".join([*plan.notes, *(note for step in plan.steps for note in step.notes)])
    for part in (
        "trigger reembed (AFTER INSERT OR UPDATE) on public.documents fires for every row",
        "trigger wiped (AFTER TRUNCATE) on public.documents fires once a statement",
        "TRUNCATE of public.documents goes to the subscribers of publication p, too",
        "index public.broken_ccnew of public.documents is invalid, a leftover of an interrupted build: DROP INDEX",
        "idx_documents_embedding_hnsw is not built: my_hnsw is equal to it",
        "documents get new ids: what holds an id of public.documents without a foreign key dangles",
        "public.bookmarks.document_id",
        "public.documents, once emptied and filled again, will be: tenant NULL (1 of 1 rows hold something else)",
        "public.documents: made will be made anew by the default",
        "connections: ",
    ):
        assert part in notes, part
    assert "quiet" not in "\n".join(plan.notes)
    assert "embed" not in "\n".join(planned(dsn, steps=(ReseedQueue(step="reseed_queue"),)).notes)


def test_only_what_is_left_of_a_campaign_is_rehearsed(dsn: str) -> None:
    """What would keep the queue from being filled is no reason not to embed what it holds."""
    execute(
        dsn,
        "INSERT INTO files_queue (file_path) SELECT 'item' || n FROM generate_series(1, 5) n",
        "CREATE FUNCTION full_up() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'full'; END $$",
        "CREATE TRIGGER full_up BEFORE INSERT ON files_queue EXECUTE FUNCTION full_up()",
    )
    playbook = make_playbook(source=Source(folder=Path("corpus")))
    with open_session(dsn, playbook) as session:
        with pytest.raises(PlanRefused, match="nothing was changed"):
            campaign.plan_campaign(session)
        assert campaign.plan_campaign(session, done=range(1, 5)).steps


def test_a_plan_says_how_many_connections_the_role_may_open(server: Server, roles: None) -> None:
    kind = Kind("limited", (f"ALTER ROLE {ROLE} CONNECTION LIMIT 4",), "", as_role=True)
    playbook = make_playbook(source=Source(folder=Path("corpus")))
    with spoilt(server, kind) as dsn:
        (problem,) = problems(dsn, playbook, kind)
        assert problem.what.startswith("3 of the 4 connections that the role allows are free, ragops needs 5")
        execute(dsn, problem.cure)
        assert problems(dsn, playbook, kind) == ()
        execute(dsn, f"ALTER ROLE {ROLE} CONNECTION LIMIT -1")


def test_a_vector_of_a_schema_that_needs_quotes(dsn: str) -> None:
    execute(dsn, 'CREATE SCHEMA "My ""Own"""', 'ALTER EXTENSION vector SET SCHEMA "My ""Own"""')
    with psycopg.connect(dsn) as connection:
        tables = table_facts(connection)
    assert vector_dimensions(tables["documents"], "embedding") == 32
