"""Workers against a real server and real llama.cpp: every document once, through outages and stops."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest
from campaigns import execute, make_playbook, open_session, queue_of, reported, rows, single, value
from conftest import wait_for, write_corpus

from ragops.campaign.steps.embed import drain
from ragops.campaign.steps.reseed_queue import ReseedQueueStep
from ragops.embedder.client import Embedder, EmbedderConfig
from ragops.errors import Interrupted
from ragops.playbook import Playbook
from ragops.playbook.model import Source
from ragops.playbook.steps import ReseedQueue
from ragops.postgres.writer import Batch, Stored, Writer
from ragops.quality.vectors import normalize
from ragops.workers import maintenance
from ragops.workers.inflight import UniqueText
from ragops.workers.supervisor import Outcome, Supervisor

RESEED = ReseedQueueStep(ReseedQueue(step="reseed_queue"))

COMPLETE = """
SELECT count(*), count(DISTINCT d.file_id), count(d.embedding),
       (SELECT count(*) FROM files_queue WHERE status = 'completed'),
       (SELECT count(*) FROM parsed_files), (SELECT sum(documents) FROM ingestion_metrics),
       (SELECT count(DISTINCT document_id) FROM document_chunks), (SELECT max(attempts) FROM files_queue)
  FROM documents d JOIN files_queue q ON q.id = d.file_id AND q.file_path = d.file_path
"""


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return write_corpus(tmp_path / "corpus", 60)


@pytest.fixture
def playbook(tiny_model: Path, corpus: Path) -> Playbook:
    return make_playbook(model=tiny_model, source=Source(folder=corpus), workers={"count": 2, "batch_size": 5})


def assert_complete(dsn: str, documents: int) -> None:
    """Every document is stored exactly once and no attempt was burnt."""
    assert rows(dsn, COMPLETE) == [(documents,) * 7 + (0,)]


def interfering(monkeypatch: pytest.MonkeyPatch, interfere: Callable[[int], object]) -> None:
    """Call `interfere` with the number of the transaction, after its documents were embedded."""
    write, lock, count = Writer.write, threading.Lock(), [0]

    def interfered(self: Writer, connection: Any, *batches: Batch) -> Stored:
        with lock:
            count[0] += 1
            number = count[0]
        interfere(number)
        return write(self, connection, *batches)

    monkeypatch.setattr(Writer, "write", interfered)


def before_requests(monkeypatch: pytest.MonkeyPatch, interfere: Callable[[int], object]) -> None:
    """Call `interfere` with the number of the request, before its texts are embedded."""
    embed_request, lock, count = Supervisor.embed, threading.Lock(), [0]

    def interfered(self: Supervisor, texts: Sequence[UniqueText]) -> Outcome:
        with lock:
            count[0] += 1
            number = count[0]
        interfere(number)
        return embed_request(self, texts)

    monkeypatch.setattr(Supervisor, "embed", interfered)


def test_sixty_documents_with_two_workers(
    dsn: str, playbook: Playbook, corpus: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Neither embeds its first request before the other has one: a slow start must not leave one idle.
    both = threading.Barrier(2)
    before_requests(monkeypatch, lambda number: number <= 2 and both.wait(60))
    with open_session(dsn, playbook) as session:
        RESEED.run(single(session))
        result = drain(single(session))
    assert_complete(dsn, 60)
    assert (result.completed, result.failed, result.queue["pending"]) == (60, 0, 0)
    assert value(dsn, "SELECT count(DISTINCT worker) FROM ingestion_metrics") == 2
    fingerprints = rows(dsn, "SELECT DISTINCT fingerprint FROM ingestion_metrics")
    assert fingerprints == rows(dsn, "SELECT id FROM ragops.fingerprint")
    stored = rows(dsn, "SELECT file_path, content, embedding::text FROM documents ORDER BY file_path")
    assert all((corpus / path).read_text() == content for path, content, _ in stored)
    with Embedder(EmbedderConfig(tiny_model)) as embedder:
        again = normalize(embedder.embed([content for _, content, _ in stored]).vectors)
    for (path, _, text), vector in zip(stored, again, strict=True):
        found = [float(x) for x in text.strip("[]").split(",")]
        assert abs(1 - float(vector @ found)) < 1e-5, path


def test_until_stops_at_exactly_the_number(dsn18: str, playbook: Playbook) -> None:
    with open_session(dsn18, playbook) as session:
        RESEED.run(single(session))
        assert drain(single(session), until=17).completed == 17
        assert drain(single(session), until=17).completed == 0
        counts = queue_of(session.connection).counts()
        assert counts == {"pending": 43, "processing": 0, "completed": 17, "failed": 0}
    assert_complete(dsn18, 17)


def test_terminated_connections_lose_and_double_nothing(
    dsn: str, playbook: Playbook, monkeypatch: pytest.MonkeyPatch
) -> None:
    all_of_them = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name LIKE 'ragops%' AND datname = current_database()"
    )
    with open_session(dsn, playbook) as session:
        RESEED.run(single(session))

        def terminate(number: int) -> None:
            if number in (2, 5):
                execute(dsn, all_of_them)

        interfering(monkeypatch, terminate)
        assert drain(single(session)).completed == 60
        notices = reported(session)
    assert ": reconnected; before: an administrator ended the connection" in notices
    assert_complete(dsn, 60)


def test_a_lost_answer_to_the_commit_doubles_nothing(
    dsn: str, playbook: Playbook, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, done = Writer.write, threading.Event()

    def lose_the_answer(self: Writer, connection: Any, *batches: Batch) -> Stored:
        stored = write(self, connection, *batches)
        if not done.is_set():
            done.set()
            connection.close()
            raise psycopg.OperationalError("server closed the connection unexpectedly")
        return stored

    monkeypatch.setattr(Writer, "write", lose_the_answer)
    with open_session(dsn, playbook) as session:
        RESEED.run(single(session))
        # Only the answer is lost: what was stored counts, and nothing is called dropped.
        assert drain(single(session)).completed == 60
        assert "batch dropped" not in reported(session)
    assert done.is_set()
    assert_complete(dsn, 60)


def test_a_stop_stores_what_is_embedded_and_leaves_the_rest(
    dsn: str, playbook: Playbook, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_worker = playbook.with_changes(workers={"count": 1})
    with open_session(dsn, one_worker) as session:
        RESEED.run(single(session))
        # A claim of five short texts is one request: two of them are embedded.
        before_requests(monkeypatch, lambda number: session.stop.requested.set() if number == 2 else None)
        with pytest.raises(Interrupted, match="stopped after 10 documents; what was embedded is stored"):
            drain(single(session))
        counts = queue_of(session.connection).counts()
        assert counts == {"pending": 50, "processing": 0, "completed": 10, "failed": 0}
    assert_complete(dsn, 10)
    with open_session(dsn, one_worker) as session:
        drain(single(session))
    assert_complete(dsn, 60)


def test_an_abort_gives_the_items_back(dsn18: str, playbook: Playbook, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_session(dsn18, playbook) as session:
        RESEED.run(single(session))

        def abort(number: int) -> None:
            if number == 2:
                session.stop.aborted.set()
                raise Interrupted("stopped")

        interfering(monkeypatch, abort)
        with pytest.raises(Interrupted, match="items in flight were given back"):
            drain(single(session))
        assert queue_of(session.connection).counts()["processing"] == 0
    stored = value(dsn18, "SELECT count(*) FROM documents")
    assert stored < 60
    assert_complete(dsn18, stored)


def test_a_zombie_writes_nothing(dsn: str, playbook: Playbook, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the first batch is about to be written its lease runs out and another worker completes its items."""

    def another_worker(number: int) -> None:
        if number > 1:
            return
        # What the first fleet claims after this would be waited for, and it waits in here.
        pending, seen = "SELECT count(*) FROM files_queue WHERE status = 'pending'", -1
        while (now := value(dsn, pending)) != seen:
            seen = now
            time.sleep(1.5)
        execute(
            dsn,
            "UPDATE files_queue SET lease_until = clock_timestamp() - interval '1 s' WHERE claim_id IS NOT NULL",
        )
        with open_session(dsn, one_worker) as other:
            queue_of(other.connection).reap()
            drain(single(other))

    one_worker = playbook.with_changes(workers={"count": 1})
    with open_session(dsn, one_worker) as session:
        RESEED.run(single(session))
        interfering(monkeypatch, another_worker)
        result = drain(single(session))
        assert result.completed == 0
        assert "batch dropped: its lease expired" in reported(session)
    assert_complete(dsn, 60)


def test_leases_are_extended_while_a_batch_is_at_hand(
    dsn18: str, playbook: Playbook, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = playbook.with_changes(workers={"count": 1, "lease_s": 1, "batch_size": 60})

    def slow(number: int) -> None:
        if number == 1:
            seen = value(dsn18, "SELECT max(lease_until) FROM files_queue")
            later = f"SELECT min(lease_until) > '{seen}'::timestamptz + interval '1 s' FROM files_queue"
            wait_for(lambda: bool(value(dsn18, later)), what="a lease that was extended")

    before_requests(monkeypatch, slow)
    with open_session(dsn18, short) as session:
        RESEED.run(single(session))
        drain(single(session))
        assert "dropped" not in reported(session)
    assert_complete(dsn18, 60)


def test_workers_of_another_space_are_reported(dsn18: str, playbook: Playbook) -> None:
    """The queue was filled again, and what the tables hold of an earlier filling is another space."""
    with open_session(dsn18, playbook) as session:
        RESEED.run(single(session))
        drain(single(session), until=20)
        assert "other workers wrote here too" not in reported(session)
        execute(dsn18, "TRUNCATE files_queue")
        RESEED.run(single(session))
        other = session.with_playbook(session.playbook.with_changes(model={"pooling": "cls"}))
        drain(single(other), until=20)
        assert reported(session).count("other workers wrote here too") == 1


def test_a_vacuum_blocker_is_reported_once(dsn: str, playbook: Playbook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maintenance, "HELD_S", 0)
    monkeypatch.setattr(maintenance, "EVERY_S", 0.0)
    with psycopg.connect(dsn, application_name="a report") as reader, open_session(dsn, playbook) as session:
        RESEED.run(single(session))
        reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        reader.execute("SELECT count(*) FROM files_queue")
        drain(single(session))
        notices = reported(session)
    assert notices.count("vacuum is held back") == 1
    assert "(a report)" in notices
    assert_complete(dsn, 60)
