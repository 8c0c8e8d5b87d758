"""Nothing is embedded twice: equal texts, repeated and resumed campaigns; nothing of another space is taken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from campaigns import execute, make_playbook, open_session, reported, rows, single, value
from conftest import write_corpus
from stub_child import stub_command

from ragops.campaign.steps.embed import EmbedResult, drain
from ragops.campaign.steps.reseed_queue import ReseedQueueStep
from ragops.errors import Interrupted
from ragops.paths import cache_file
from ragops.playbook import Playbook
from ragops.playbook.model import Source
from ragops.playbook.steps import ReseedQueue
from ragops.workers.supervisor import Outcome, Supervisor

DOCUMENTS = 30
RESEED = ReseedQueueStep(ReseedQueue(step="reseed_queue"))
STORED = "SELECT file_path, embedding::text FROM documents ORDER BY file_path"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAGOPS_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def playbook(tiny_model: Path, tmp_path: Path) -> Playbook:
    corpus = write_corpus(tmp_path / "corpus", DOCUMENTS)
    return make_playbook(model=tiny_model, source=Source(folder=corpus), workers={"cache_mib": 16})


def embed_anew(dsn: str, playbook: Playbook, **more: Any) -> EmbedResult:
    """Reseed emptied tables and embed everything."""
    execute(dsn, "TRUNCATE documents, document_chunks, files_queue, parsed_files")
    with open_session(dsn, playbook, **more) as session:
        RESEED.run(single(session))
        return drain(single(session))


def reuse(result: EmbedResult) -> tuple[int, int]:
    return result.embedded, result.reused


def test_equal_documents_are_embedded_once(dsn18: str, playbook: Playbook) -> None:
    folder = playbook.source.folder
    assert folder is not None
    for number in range(20):
        (folder / "part0" / f"copy{number}.txt").write_text("the same in twenty places")
    for cache_mib in (0, 16):
        result = embed_anew(dsn18, playbook.with_changes(workers={"cache_mib": cache_mib}))
        assert (result.completed, reuse(result)) == (DOCUMENTS + 20, (DOCUMENTS + 1, 19))
    query = "SELECT count(*), count(DISTINCT embedding::text) FROM documents WHERE file_path LIKE '%copy%'"
    assert rows(dsn18, query) == [(20, 1)]


def test_a_repeated_campaign_embeds_nothing_and_stores_the_same(dsn: str, playbook: Playbook) -> None:
    first = embed_anew(dsn, playbook)
    assert reuse(first) == (DOCUMENTS, 0)
    stored = rows(dsn, STORED)
    again = embed_anew(dsn, playbook)
    assert (again.completed, reuse(again)) == (DOCUMENTS, (0, DOCUMENTS))
    assert rows(dsn, STORED) == stored


@pytest.mark.parametrize(
    "changes",
    [
        {"model": {"pooling": "cls"}},
        {"model": {"document_prefix": "passage: "}},
        {"workers": {"cache_mib": 0}},
    ],
    ids=["pooling", "prefix", "switched off"],
)
def test_what_was_kept_for_another_space_is_not_taken(
    dsn18: str, playbook: Playbook, changes: dict[str, dict[str, Any]]
) -> None:
    embed_anew(dsn18, playbook)
    other = playbook.with_changes(**changes)
    # A prefix may cut a text in two.
    assert embed_anew(dsn18, other).embedded >= DOCUMENTS


def test_a_model_of_other_weights_finds_nothing(dsn18: str, playbook: Playbook, tmp_path: Path) -> None:
    embed_anew(dsn18, playbook)
    assert playbook.model.file is not None
    data = bytearray(playbook.model.file.read_bytes())
    data[-1] ^= 1  # one bit of the last weight
    other = tmp_path / "other.gguf"
    other.write_bytes(data)
    assert reuse(embed_anew(dsn18, playbook.with_changes(model={"file": other}))) == (DOCUMENTS, 0)


def test_without_a_cache_no_file_is_kept(dsn18: str, playbook: Playbook) -> None:
    embed_anew(dsn18, playbook.with_changes(workers={"cache_mib": 0}))
    assert not cache_file().exists()
    embed_anew(dsn18, playbook)
    assert cache_file().is_file()


def test_a_resumed_run_embeds_only_what_was_not_reached(
    dsn18: str, playbook: Playbook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was embedded and then lost with its transaction is known all the same."""
    embed_request, asked = Supervisor.embed, [0]

    def stop_at_the_second(self: Supervisor, texts: Any) -> Outcome:
        asked[0] += 1
        if asked[0] == 2:
            session.stop.requested.set()
        return embed_request(self, texts)

    with monkeypatch.context() as patch, open_session(dsn18, playbook) as session:
        RESEED.run(single(session))
        patch.setattr(Supervisor, "embed", stop_at_the_second)
        with pytest.raises(Interrupted):
            drain(single(session))
    done = value(dsn18, "SELECT count(*) FROM documents")
    assert 0 < done < DOCUMENTS
    result = embed_anew(dsn18, playbook)
    assert reuse(result) == (DOCUMENTS - done, done)


def test_one_poison_text_fails_every_document_that_has_it(dsn18: str, playbook: Playbook) -> None:
    folder = playbook.source.folder
    assert folder is not None
    for number in range(6):
        (folder / f"bad{number}.txt").write_text("take POISON now")
    execute(dsn18, "TRUNCATE files_queue")
    with open_session(dsn18, playbook, embedder_command=stub_command()) as session:
        RESEED.run(single(session))
        result = drain(single(session))
        notices = reported(session)
    assert (result.completed, result.failed) == (DOCUMENTS, 6)
    failed = rows(dsn18, "SELECT file_path, last_error FROM files_queue WHERE status = 'failed' ORDER BY 1")
    assert [path for path, _ in failed] == [f"bad{n}.txt" for n in range(6)]
    assert {reason.split(":")[0] for _, reason in failed} == {"the embedder child crashed on this document"}
    # Bisected once, not once a document.
    assert notices.count("embedder child crashed") < 6
