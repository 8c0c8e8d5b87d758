"""An undo whose connection dies at any point, before or after a statement: run again, it ends the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from campaigns import Recorder, execute, make_playbook, open_session, rows, value
from conftest import Server, fresh_database
from pgvector.psycopg import register_vector

from ragops.campaign import run as campaign
from ragops.campaign.undo import undo
from ragops.errors import RagopsError
from ragops.playbook.steps import DropIndexes, EmptyTables, RebuildIndexes
from ragops.postgres.connection import Target
from ragops.session import Session

STEPS = (
    DropIndexes(step="drop_indexes"),
    EmptyTables(step="empty_tables"),
    RebuildIndexes(step="rebuild_indexes"),
)
FILL = (
    "INSERT INTO documents (content, embedding)"
    " SELECT '{} ' || n, array_fill(n, ARRAY[32])::vector FROM generate_series(1, {}) n",
    "INSERT INTO document_chunks SELECT id, 0, 'chunk', embedding FROM documents",
    "INSERT INTO files_queue (file_path, status) SELECT '{} ' || n, 'completed' FROM generate_series(1, {}) n",
)
OWN = (
    "CREATE INDEX own_l2 ON documents USING hnsw (embedding vector_l2_ops) WITH (m = 8)",
    "CREATE INDEX own_lists ON document_chunks USING ivfflat (embedding vector_cosine_ops) WITH (lists = 2)",
    "CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS"
    " $$ BEGIN NEW.content := upper(NEW.content); RETURN NEW; END $$",
)


class Dying(psycopg.Connection[tuple[Any, ...]]):
    """A connection whose server process is ended at one exchange with the server, before it or after it."""

    exchanges = 0
    dies_at: tuple[int, str] | None = None
    admin: psycopg.Connection[tuple[Any, ...]] | None = None

    def wait(self, *args: Any, **kwargs: Any) -> Any:
        """Exchange one message with the server, as every statement, BEGIN and COMMIT do."""
        self.exchanges += 1
        at, when = self.dies_at or (0, "")
        if self.exchanges == at and when == "before":
            self._die()
        result = super().wait(*args, **kwargs)
        if self.exchanges == at and when == "after":
            # The server has done it, and its answer never arrives.
            self._die()
            self.close()
            raise psycopg.OperationalError("the connection was lost")
        return result

    def _die(self) -> None:
        assert self.admin is not None
        self.admin.execute("SELECT pg_terminate_backend(%s, 5000)", (self.info.backend_pid,))


@pytest.fixture(scope="module")
def staged(pg18: Server) -> Iterator[tuple[Server, str]]:
    with _staged(pg18) as name:
        yield pg18, name


@contextmanager
def _staged(server: Server) -> Iterator[str]:
    """A database after two campaigns: 30 rows before the first, 20 between, 10 now."""
    with fresh_database(server, template="ragops_template") as dsn:
        name = psycopg.conninfo.conninfo_to_dict(dsn)["dbname"]
        execute(dsn, *(line.format("first", 30) for line in FILL), *OWN)
        with open_session(dsn, make_playbook(steps=STEPS)) as session:
            campaign.start(session, campaign.plan_campaign(session))
            execute(dsn, *(line.format("second", 20) for line in FILL))
            execute(
                dsn,
                "CREATE TRIGGER shout BEFORE INSERT ON documents FOR EACH ROW EXECUTE FUNCTION shout()",
                "DROP INDEX own_l2",
                "CREATE INDEX own_ip ON documents USING hnsw (embedding vector_ip_ops) WITH (m = 6)",
            )
        with open_session(dsn, make_playbook(steps=STEPS)) as session:
            campaign.start(session, campaign.plan_campaign(session))
            execute(dsn, *(line.format("third", 10) for line in FILL))
        yield str(name)


def state(dsn: str) -> dict[str, Any]:
    return {
        "documents": rows(dsn, "SELECT content, embedding::text FROM documents ORDER BY id"),
        "chunks": rows(dsn, "SELECT document_id, content FROM document_chunks ORDER BY 1"),
        "queue": rows(dsn, "SELECT file_path, status FROM files_queue ORDER BY id"),
        "indexes": rows(
            dsn,
            "SELECT indexdef, indisvalid FROM pg_indexes JOIN pg_index ON indexrelid = indexname::regclass"
            " WHERE schemaname = 'public' ORDER BY 1",
        ),
        "triggers": rows(dsn, "SELECT tgname, tgenabled FROM pg_trigger WHERE NOT tgisinternal"),
        "campaigns": rows(dsn, "SELECT id, status FROM ragops.campaign ORDER BY id"),
        "restored": rows(
            dsn, "SELECT id, restored_at IS NOT NULL FROM ragops.archive WHERE undo_id IS NULL ORDER BY 1"
        ),
        "unfinished": value(dsn, "SELECT count(*) FROM ragops.undo WHERE finished_at IS NULL"),
        "missing": rows(
            dsn, "SELECT index_name FROM ragops.index_definition WHERE undo_id > 0 AND restored_at IS NULL"
        ),
    }


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_some_exchanges(staged: tuple[Server, str], when: str) -> None:
    _kill(*staged, when=when, step=20)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_every_exchange(server: Server, when: str) -> None:
    with _staged(server) as name:
        _kill(server, name, when=when, step=1)


def _kill(server: Server, template: str, *, when: str, step: int) -> None:
    """Kill an undo at every `step`-th exchange, run it again, and compare with one that was not killed."""
    with psycopg.connect(server.target.conninfo, autocommit=True) as admin:
        expected, exchanges = _try(admin, server, template, dies_at=(0, when))
        # The campaign before stays as it is.
        assert len(expected["documents"]) == 20 and expected["campaigns"] == [(1, "done"), (2, "undone")]
        assert expected["missing"] == [] and expected["unfinished"] == 0
        assert {content.split()[0] for content, _ in expected["documents"]} == {"second"}
        assert {"own_ip", "own_lists"} <= {definition.split()[2] for definition, _ in expected["indexes"]}
        assert exchanges > 60
        for at in range(1, exchanges + 1, step):
            now, _ = _try(admin, server, template, dies_at=(at, when))
            assert now == expected, f"killed {when} exchange {at}"


def _try(
    admin: psycopg.Connection[tuple[Any, ...]], server: Server, template: str, *, dies_at: tuple[int, str]
) -> tuple[dict[str, Any], int]:
    """Undo in a copy of the staged database, then again; return the state and the exchanges of the first one."""
    # CREATE DATABASE copies none that is in use.
    admin.execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s", (template,))
    with fresh_database(server, template=template) as dsn:
        exchanges = _undo_dying(dsn, admin, dies_at=dies_at)
        with open_session(dsn, make_playbook(steps=STEPS)) as session:
            undo(session)
        return state(dsn), exchanges


def _undo_dying(dsn: str, admin: psycopg.Connection[tuple[Any, ...]], *, dies_at: tuple[int, str]) -> int:
    """Undo through a connection that dies; returns how many exchanges there were."""
    with Dying.connect(dsn, autocommit=True, prepare_threshold=None) as connection:
        register_vector(connection)
        connection.admin, connection.exchanges, connection.dies_at = admin, 0, dies_at
        session = Session.on(connection, Target(dsn, "test"), make_playbook(steps=STEPS), reporter=Recorder())
        try:
            undo(session)
        except (RagopsError, psycopg.Error):
            # That the command fails is what a lost connection does; what counts is what the next one finds.
            assert dies_at[0] > 0
        return connection.exchanges
