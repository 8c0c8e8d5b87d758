"""A claim belongs to one filling of the queue; what fills, empties or restores the queue begins another one."""

from __future__ import annotations

from pathlib import Path

import pytest
from campaigns import (
    batch_of,
    claim,
    execute,
    make_playbook,
    open_session,
    queue_of,
    reseed_queue,
    rows,
    seed,
    single,
    table_facts,
    value,
)

from ragops.campaign.steps.empty_tables import EmptyTablesStep
from ragops.campaign.undo import undo
from ragops.errors import FenceLost
from ragops.playbook.model import Source
from ragops.playbook.steps import EmptyTable, EmptyTables
from ragops.playbook.tables import QueueTable, Tables
from ragops.postgres.connection import Connection, Target, connect
from ragops.postgres.setup import ensure_ragops_schema
from ragops.postgres.writer import Writer
from ragops.session import Session


def corpus(folder: Path, *names: str) -> Path:
    folder.mkdir()
    for name in names:
        (folder / name).write_text(f"{folder.name} {name}", encoding="utf-8")
    return folder


def generation(session: Session) -> int:
    return session.queue.filling().generation


def empty(session: Session, method: str, *tables: str) -> None:
    entries = [EmptyTable.model_validate({"table": table, "method": method}) for table in tables]
    EmptyTablesStep(EmptyTables(step="empty_tables", tables=tuple(entries))).run(single(session))


def test_what_begins_another_filling(dsn: str, tmp_path: Path) -> None:
    one, two = corpus(tmp_path / "one", "1.txt", "2.txt"), corpus(tmp_path / "two", "1.txt")
    with open_session(dsn, make_playbook(source=Source(folder=one))) as session:
        assert session.queue.filling().source is None
        assert generation(session) == 0
        reseed_queue(session)
        assert generation(session) == 1
        assert session.queue.filling().queue == "public.files_queue"
        assert session.queue.filling().origin == str(one)
        (one / "3.txt").write_text("more")
        reseed_queue(session, append=True)
        session.queue.retry_failed()
        session.queue.reap()
        assert generation(session) == 1, "the same items, and more of the same source"
        empty(session, "delete", "documents")
        assert generation(session) == 1
        empty(session, "delete", "files_queue")
        assert generation(session) == 2
        undo(session)
        assert (generation(session), session.queue.filling().origin) == (3, str(one))
        empty(session, "truncate", "files_queue", "parsed_files")
        assert generation(session) == 4
        other = session.with_playbook(make_playbook(source=Source(folder=two)))
        reseed_queue(other, append=True)
        assert (generation(session), session.queue.filling().origin) == (5, str(two))


def test_a_claim_takes_nothing_of_another_filling(connection: Connection, dsn: str, tmp_path: Path) -> None:
    with open_session(dsn, make_playbook(source=Source(folder=corpus(tmp_path / "one", "1.txt", "2.txt")))) as s:
        reseed_queue(s)
        queue = queue_of(connection)
        for wrong in (0, 2):
            assert queue.claim(size=9, worker="w", lease_s=60, generation=wrong) is None
        held = queue.claim(size=1, worker="w", lease_s=60, generation=1)
        assert held is not None
        assert held.cursor is not None
        empty(s, "truncate", "files_queue")
        reseed_queue(s)
        for after in (None, held.cursor):
            assert queue.claim(size=9, worker="w", lease_s=60, generation=1, after=after) is None
        assert queue.counts()["pending"] == 2


@pytest.mark.parametrize("method", ["truncate", "delete"])
def test_a_claim_of_an_earlier_filling_completes_nothing(
    connection: Connection, target: Target, dsn: str, tmp_path: Path, method: str
) -> None:
    """Also not by way of an id that the new items have again."""
    writer = Writer(Tables(), table_facts(connection))
    playbook = make_playbook(source=Source(folder=corpus(tmp_path / "one", "1.txt", "2.txt")))
    with open_session(dsn, playbook) as session, connect(target) as other:
        reseed_queue(session)
        zombie = claim(other, 2)
        empty(session, method, "files_queue")
        execute(dsn, "ALTER TABLE files_queue ALTER COLUMN id RESTART WITH 1")
        reseed_queue(session)
        with pytest.raises(FenceLost):
            writer.write(other, batch_of(zombie))
        with pytest.raises(FenceLost):
            queue_of(other).fail(zombie, [(zombie.items[0].id, "late")])
        assert queue_of(other).release(zombie) == 0
        successor = claim(other, 2)
        undo(session)
        with pytest.raises(FenceLost):
            writer.write(other, batch_of(successor))
        assert value(dsn, "SELECT count(*) FROM documents") == 0


def test_a_claim_that_waits_for_a_filling_sees_it(connection: Connection, target: Target, dsn: str) -> None:
    """Its snapshot is taken after the lock: nothing of the new items under the old generation."""
    import threading

    seed(connection, 2)
    found: list[object] = []
    with connect(target) as other:
        with connection.transaction():
            connection.execute("LOCK TABLE files_queue IN SHARE ROW EXCLUSIVE MODE")
            thread = threading.Thread(
                target=lambda: found.append(queue_of(other).claim(size=9, worker="w", lease_s=60))
            )
            thread.start()
            waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'files_queue'::regclass"
            while not value(dsn, waits):
                pass
            connection.execute("INSERT INTO ragops.source (queue, generation) VALUES ('public.files_queue', 1)")
        thread.join(60)
    assert found == [None]


def test_two_spellings_are_one_queue(dsn: str) -> None:
    playbook = make_playbook(source=Source(query="SELECT 1 AS id, 'text' AS text"))
    spelled = playbook.model_copy(update={"tables": Tables(files_queue=QueueTable(table="public.files_queue"))})
    with open_session(dsn, playbook) as session:
        reseed_queue(session)
        again = session.with_playbook(spelled)
        assert again.queue.filling() == session.queue.filling()
        empty(again, "delete", "files_queue")
        reseed_queue(again)
    assert rows(dsn, "SELECT queue, generation FROM ragops.source") == [("public.files_queue", 3)]


def test_sources_of_an_older_version_are_found_and_converted(connection: Connection, dsn: str) -> None:
    execute(
        dsn,
        "ALTER TABLE ragops.source DROP COLUMN generation, DROP COLUMN fingerprint, DROP COLUMN chunking",
        'CREATE SCHEMA "My Docs"',
        'CREATE TABLE "My Docs".queue (LIKE files_queue INCLUDING ALL)',
        """INSERT INTO ragops.source (queue, source, seeded_at) VALUES
           ('files_queue', '{"folder": "/new"}', '2026-02-02'),
           ('public.files_queue', '{"folder": "/old"}', '2026-01-01'),
           ('"My Docs".queue', '{"folder": "/quoted"}', '2026-01-01'),
           ('My Docs.queue', '{"folder": "/typed"}', '2026-01-01'),
           ('gone', '{"folder": "/gone"}', '2026-01-01')""",
    )
    typed = Tables(files_queue=QueueTable(table="My Docs.queue"))
    # A command that only looks changes nothing. The qualified name counts before the typed one.
    assert queue_of(connection, typed).load_source() == {"folder": "/quoted"}
    execute(dsn, "DELETE FROM ragops.source WHERE queue LIKE '%\"%'")
    assert queue_of(connection, typed).load_source() == {"folder": "/typed"}
    ensure_ragops_schema(connection)
    assert queue_of(connection).load_source() == {"folder": "/new"}
    assert queue_of(connection, typed).load_source() == {"folder": "/typed"}
    assert rows(dsn, "SELECT queue, generation FROM ragops.source ORDER BY 1") == [
        ("My Docs.queue", 0),
        ("gone", 0),
        ("public.files_queue", 0),
    ]
    with open_session(
        dsn, make_playbook(source=Source(query="SELECT 1 AS id, 'text' AS text"), tables=typed)
    ) as session:
        reseed_queue(session)
    left = rows(dsn, "SELECT queue, generation FROM ragops.source ORDER BY 1")
    assert left == [('"My Docs".queue', 1), ("gone", 0), ("public.files_queue", 0)]
