"""While one document is cut, the others of its claim and those of later claims are stored."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from campaigns import make_playbook, open_session, rows, single, value
from conftest import wait_for, write_corpus
from stub_child import stub_command

from ragops.campaign.steps.embed import drain
from ragops.campaign.steps.reseed_queue import ReseedQueueStep
from ragops.playbook.model import Source
from ragops.playbook.steps import ReseedQueue
from ragops.postgres.connection import connect
from ragops.workers import sources
from ragops.workers.long_documents import LONG

DOCUMENTS = 30
RESEED = ReseedQueueStep(ReseedQueue(step="reseed_queue"))
COMPLETED = "SELECT count(*) FROM files_queue WHERE status = 'completed'"
LONG_TEXT = "SLOW sentence of words. " * (LONG // 20)


@pytest.mark.parametrize("kind", ["files", "rows"])
def test_others_are_stored_while_a_document_is_cut(
    dsn18: str, tiny_model: Path, tmp_path: Path, kind: str
) -> None:
    gate = tmp_path / "gate"
    if kind == "files":
        corpus = write_corpus(tmp_path / "corpus", DOCUMENTS)
        (corpus / "0.txt").write_text(LONG_TEXT)
        source = Source(folder=corpus)
    else:
        with (
            open_session(dsn18, make_playbook(model=tiny_model)) as session,
            connect(session.target) as connection,
        ):
            connection.execute("CREATE TABLE texts (id int PRIMARY KEY, body text)")
            connection.execute("INSERT INTO texts VALUES (0, %s)", [LONG_TEXT])
            connection.execute(
                "INSERT INTO texts SELECT n, 'a few words ' || n FROM generate_series(1, %s) n", [DOCUMENTS]
            )
        source = Source(table="texts", id_column="id", text_column="body")
    playbook = make_playbook(model=tiny_model, source=source, workers={"batch_size": 3})
    with open_session(dsn18, playbook, embedder_command=stub_command(f"cut={gate}")) as session:
        RESEED.run(single(session))
        thread = threading.Thread(target=lambda: drain(single(session)))
        thread.start()
        try:
            wait_for(lambda: value(dsn18, COMPLETED) == DOCUMENTS, what="all others")
            assert rows(dsn18, "SELECT status FROM files_queue WHERE status <> 'completed'") == [("processing",)]
        finally:
            gate.touch()
            thread.join(60)
    assert value(dsn18, COMPLETED) == DOCUMENTS + 1
    stored = rows(
        dsn18,
        "SELECT d.content, count(*) FROM documents d JOIN document_chunks c ON c.document_id = d.id "
        "GROUP BY d.id, d.content HAVING count(*) > 1",
    )
    ((content, chunks),) = stored
    assert content.split() == LONG_TEXT.split()
    assert chunks > 100


def test_a_row_that_is_too_large_fails_alone(
    dsn18: str, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "MAX_BYTES", 1000)
    with open_session(dsn18, make_playbook(model=tiny_model)) as session, connect(session.target) as connection:
        connection.execute("CREATE TABLE texts (id int PRIMARY KEY, body text)")
        connection.execute("INSERT INTO texts SELECT n, repeat('word ', n) FROM generate_series(199, 201) n")
    source = Source(table="texts", id_column="id", text_column="body")
    playbook = make_playbook(model=tiny_model, source=source)
    with open_session(dsn18, playbook, embedder_command=stub_command()) as session:
        RESEED.run(single(session))
        drain(single(session))
    failed = rows(dsn18, "SELECT file_path, last_error FROM files_queue WHERE status = 'failed'")
    assert failed == [("201", "text larger than 1000 bytes")]
    assert value(dsn18, COMPLETED) == 2
