"""Workers with children that die, hang, refuse and lie: only the document at fault fails."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
from campaigns import execute, make_playbook, open_session, queue_of, reported, rows, single, value
from conftest import write_corpus
from stub_child import stub_command

from ragops.campaign.steps.base import SingleCommand
from ragops.campaign.steps.embed import drain
from ragops.campaign.steps.reseed_queue import ReseedQueueStep
from ragops.embedder.starting import STARTS_AGAIN
from ragops.errors import EmbedderError
from ragops.playbook.model import Source
from ragops.playbook.steps import ReseedQueue
from ragops.postgres.connection import Connection
from ragops.session import Session
from ragops.workers import maintenance
from ragops.workers.inflight import UniqueText
from ragops.workers.supervisor import Outcome, Supervisor

DOCUMENTS = 20
TIMEOUT_S = 60
FAILED = "SELECT file_path, last_error, attempts FROM files_queue WHERE status = 'failed' ORDER BY file_path"
RESEED = ReseedQueueStep(ReseedQueue(step="reseed_queue"))
Run = Callable[..., Session]


@pytest.fixture
def run(dsn18: str, tiny_model: Path, tmp_path: Path) -> Run:
    """Embeds twenty documents, some with texts of the test, with stub children."""

    def runner(
        texts: Mapping[str, str] | None = None,
        *arguments: str,
        again: bool = False,
        raises: type[Exception] | None = None,
        **workers: Any,
    ) -> Session:
        corpus = write_corpus(tmp_path / "corpus", DOCUMENTS)
        for name, text in (texts or {}).items():
            (corpus / name).write_text(text)
        playbook = make_playbook(model=tiny_model, source=Source(folder=corpus), workers=workers)
        with open_session(dsn18, playbook, embedder_command=stub_command(*arguments)) as session:
            if not again:
                RESEED.run(single(session))
            if raises is None:
                drain(single(session))
            else:
                with pytest.raises(raises) as caught:
                    drain(single(session))
                session.reporter.info(str(caught.value))
        return session

    return runner


def counts(dsn: str) -> dict[str, int]:
    return dict(rows(dsn, "SELECT status, count(*) FROM files_queue GROUP BY 1"))


def assert_stored(dsn: str, documents: int) -> None:
    """Vectors exist if and only if their item is completed, and all are unit vectors."""
    assert counts(dsn).get("completed", 0) == documents
    query = """
        SELECT count(*), count(DISTINCT d.file_id), count(*) FILTER (WHERE abs(vector_norm(embedding) - 1) < 1e-5)
          FROM documents d JOIN files_queue q ON q.id = d.file_id AND q.status = 'completed'"""
    assert rows(dsn, query) == [(documents,) * 3]
    assert value(dsn, "SELECT count(*) FROM documents") == documents
    assert value(dsn, "SELECT count(DISTINCT document_id) FROM document_chunks") == documents


@pytest.mark.parametrize("workers", [1, 2])
def test_a_poison_document_fails_alone(run: Run, dsn18: str, workers: int) -> None:
    session = run({"part3/bad.txt": "take POISON now"}, count=workers)
    ((path, reason, attempts),) = rows(dsn18, FAILED)
    assert (path, attempts) == ("part3/bad.txt", 1)
    assert reason.startswith("the embedder child crashed on this document")
    assert_stored(dsn18, DOCUMENTS)
    assert "embedder child crashed" in reported(session)


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize(
    ("word", "ending"),
    [("POISON", "ended by SIGABRT"), ("KILLED", "ended by SIGKILL"), ("EXITS", "ended with code 3")],
)
def test_the_reason_of_a_crash_names_its_signal_or_code(run: Run, dsn18: str, word: str, ending: str) -> None:
    run({"part3/bad.txt": f"take {word} now"})
    ((path, reason, _),) = rows(dsn18, FAILED)
    assert path == "part3/bad.txt"
    assert reason.startswith(f"the embedder child crashed on this document: {ending} during a request of 1 texts")
    assert_stored(dsn18, DOCUMENTS)


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_child_that_is_killed_with_one_text_in_flight_blames_nobody(
    run: Run, dsn18: str, tmp_path: Path
) -> None:
    """The only text of a request, and the last one of a bisection."""
    folder = tmp_path / "chance"
    folder.mkdir()
    (folder / "1").touch()
    run({"part3/innocent.txt": "by CHANCE"}, f"chance={folder}", batch_size=1)
    assert list(folder.iterdir()) == []
    assert rows(dsn18, FAILED) == []
    assert_stored(dsn18, DOCUMENTS + 1)


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("workers", [1, 2])
def test_children_that_are_killed_while_they_start_are_started_again(
    run: Run, dsn18: str, tmp_path: Path, workers: int
) -> None:
    folder = tmp_path / "killed"
    folder.mkdir()
    for number in range(STARTS_AGAIN):
        (folder / str(number)).touch()
    session = run(None, f"killed={folder}", count=workers)
    assert list(folder.iterdir()) == []
    notice = "embedder child did not start (ended by SIGKILL while it started"
    assert reported(session).count(notice) == STARTS_AGAIN
    assert_stored(dsn18, DOCUMENTS)


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("NAN", "chunk 0: NaN at position 3"),
        ("INF", "chunk 0: Inf at position 3"),
        ("ZERO", "chunk 0: zero vector (norm 0)"),
        ("WIDE", "the embedder child refused this document: 132 bytes for 1 vectors of 32"),
        ("REFUSED", "the embedder child refused this document: llama_encode returned -3"),
    ],
)
def test_a_broken_vector_fails_its_document(run: Run, dsn18: str, word: str, reason: str) -> None:
    run({"part3/bad.txt": f"this is {word}"})
    assert rows(dsn18, FAILED) == [("part3/bad.txt", reason, 1)]
    assert_stored(dsn18, DOCUMENTS)


def test_a_child_that_hangs_is_killed_and_counts_as_dead(run: Run, dsn18: str) -> None:
    started = time.monotonic()
    run({"part3/bad.txt": "HANG here"}, batch_size=4, request_deadline_s=1)
    assert time.monotonic() - started < 60
    ((path, reason, _),) = rows(dsn18, FAILED)
    assert path == "part3/bad.txt"
    assert "no response during a request of 1 texts" in reason
    assert_stored(dsn18, DOCUMENTS)


def test_a_child_that_dies_on_everything_fails_no_document(run: Run, dsn18: str) -> None:
    session = run(None, "all", raises=EmbedderError)
    assert "SIGABRT" in reported(session)
    assert counts(dsn18) == {"pending": DOCUMENTS}
    assert_stored(dsn18, 0)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("batch_size", [1, 10])
def test_a_child_that_dies_on_every_document_fails_at_most_three(
    run: Run, dsn18: str, workers: int, batch_size: int
) -> None:
    session = run(None, "all-but-ok", raises=EmbedderError, count=workers, batch_size=batch_size)
    assert "3 documents in a row" in reported(session)
    items = counts(dsn18)
    failed = items.get("failed", 0)
    assert failed <= 3
    assert items == {"failed": failed, "pending": DOCUMENTS - failed}
    assert_stored(dsn18, 0)


def test_after_a_broken_build_is_fixed_everything_is_embedded(run: Run, dsn18: str) -> None:
    run(None, "all-but-ok", raises=EmbedderError)
    execute(dsn18, "UPDATE files_queue SET status = 'pending' WHERE status = 'failed'")
    run(again=True)
    assert_stored(dsn18, DOCUMENTS)


def test_many_poison_documents_in_a_row_cost_one_run(run: Run, dsn18: str) -> None:
    run({f"part0/a{n}.txt": f"POISON {n}" for n in range(7)})
    assert counts(dsn18) == {"failed": 7, "completed": DOCUMENTS}
    assert_stored(dsn18, DOCUMENTS)


@pytest.mark.parametrize("word", ["NAN", "REFUSED"])
def test_many_documents_in_a_row_that_a_living_child_fails_on_fail_alone(run: Run, dsn18: str, word: str) -> None:
    run({f"part0/a{n}.txt": f"{word} {n}" for n in range(7)})
    assert counts(dsn18) == {"failed": 7, "completed": DOCUMENTS}
    assert_stored(dsn18, DOCUMENTS)


def test_failed_items_make_room_for_others_up_to_the_bound(dsn18: str, tiny_model: Path, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", DOCUMENTS)
    (corpus / "part0" / "a.txt").write_text("POISON")
    (corpus / "part0" / "b.txt").write_bytes(b"")
    playbook = make_playbook(model=tiny_model, source=Source(folder=corpus))
    with open_session(dsn18, playbook, embedder_command=stub_command()) as session:
        RESEED.run(single(session))
        result = drain(single(session), until=7)
        assert (result.completed, result.failed) == (7, 2)
        assert queue_of(session.connection).counts()["pending"] == DOCUMENTS + 2 - 9
    assert_stored(dsn18, 7)


def test_a_failing_heartbeat_stops_the_fleet(
    dsn18: str, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody extends leases any more: what is embedded is stored, the rest goes back, and the error comes out."""
    embed_request, working, failed = Supervisor.embed, threading.Event(), threading.Event()

    def held_up(self: Supervisor, texts: Sequence[UniqueText]) -> Outcome:
        # Most documents are not claimed yet when the heartbeat fails: the fetcher waits for this request.
        working.set()
        failed.wait(TIMEOUT_S)
        return embed_request(self, texts)

    def fail(self: SingleCommand, connection: Connection) -> None:
        if working.is_set():
            failed.set()
            connection.execute("SELECT 1 / 0")

    monkeypatch.setattr(Supervisor, "embed", held_up)
    monkeypatch.setattr(SingleCommand, "renew", fail)
    monkeypatch.setattr(maintenance, "EVERY_S", 0.0)
    corpus = write_corpus(tmp_path / "corpus", DOCUMENTS)
    playbook = make_playbook(model=tiny_model, source=Source(folder=corpus), workers={"batch_size": 1})
    with (
        open_session(dsn18, playbook, embedder_command=stub_command()) as session,
        ThreadPoolExecutor(1) as controller,
    ):
        RESEED.run(single(session))
        ended = controller.submit(drain, single(session))
        try:
            with pytest.raises(psycopg.errors.DivisionByZero):
                ended.result(TIMEOUT_S)
        finally:
            # A fleet that went on without its controller would keep this test from ending, too.
            session.stop.requested.set()
    items = counts(dsn18)
    assert set(items) <= {"completed", "pending"}
    assert items["pending"] > 0
    assert_stored(dsn18, items.get("completed", 0))
