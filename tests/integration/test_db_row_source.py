"""Documents from folders, manifests, tables and queries: each embedded, or failed with its own reason."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from campaigns import execute, make_playbook, open_session, reseed_queue, rows, single, value
from conftest import write_corpus
from stub_child import stub_command

from ragops.campaign.steps import embed
from ragops.errors import PlanRefused, RagopsError, UsageError
from ragops.playbook import Playbook
from ragops.playbook.model import Source

STORED = "SELECT file_path, content FROM documents ORDER BY file_path"
FAILED = "SELECT file_path, last_error FROM files_queue WHERE status = 'failed' ORDER BY file_path"
UUIDS = [f"00000000-0000-0000-0000-00000000000{n}" for n in (1, 2, 3)]
ID_TYPES = [("bigint", ["1", "2", "30"]), ("uuid", UUIDS), ("text", ["a", "b'c", "ü %s {}"])]


def reseed(dsn: str, playbook: Playbook, *, append: bool = False) -> int:
    with open_session(dsn, playbook) as session:
        return reseed_queue(session, append=append)


def embed_all(dsn: str, playbook: Playbook) -> tuple[int, int]:
    """Completed and failed items."""
    with open_session(dsn, playbook, embedder_command=stub_command()) as session:
        result = embed.drain(single(session))
    return result.completed, result.failed


def make_rows(dsn: str, id_type: str, ids: list[str]) -> None:
    execute(dsn, f"CREATE TABLE posts (key {id_type} PRIMARY KEY, body text)")
    quoted = [id.replace("'", "''") for id in ids]
    execute(dsn, *(f"INSERT INTO posts VALUES ('{id}', 'body {n}')" for n, id in enumerate(quoted)))


@pytest.mark.parametrize(("id_type", "ids"), ID_TYPES, ids=[t for t, _ in ID_TYPES])
def test_rows_of_a_table(dsn: str, tiny_model: Path, id_type: str, ids: list[str]) -> None:
    make_rows(dsn, id_type, ids)
    playbook = make_playbook(
        model=tiny_model, source=Source(table="public.posts", id_column="key", text_column="body")
    )
    assert reseed(dsn, playbook) == 3
    assert embed_all(dsn, playbook) == (3, 0)
    assert rows(dsn, STORED) == [(id, f"body {n}") for n, id in enumerate(ids)]


def test_names_of_a_table_that_need_quotes(dsn18: str, tiny_model: Path) -> None:
    execute(
        dsn18, 'CREATE TABLE "Po%s.ts" ("K ey" int, "te""xt %" text)', """INSERT INTO "Po%s.ts" VALUES (7, 'x')"""
    )
    source = Source(table='"Po%s.ts"', id_column="K ey", text_column='te"xt %')
    playbook = make_playbook(model=tiny_model, source=source)
    assert reseed(dsn18, playbook) == 1
    assert embed_all(dsn18, playbook) == (1, 0)
    assert rows(dsn18, STORED) == [("7", "x")]


def test_a_query_with_a_percent_sign_and_a_comment(dsn: str, tiny_model: Path) -> None:
    make_rows(dsn, "bigint", ["1", "2", "30"])
    query = "SELECT key, upper(body) || '{}' AS t FROM posts WHERE body LIKE '%1' OR body LIKE 'body 2%'; -- both"
    with pytest.raises(PlanRefused, match="source cannot be read"):
        reseed(dsn, make_playbook(source=Source(query=query)))
    playbook = make_playbook(model=tiny_model, source=Source(query=query.replace("; --", " --")))
    assert reseed(dsn, playbook) == 2
    assert embed_all(dsn, playbook) == (2, 0)
    assert rows(dsn, STORED) == [("2", "BODY 1{}"), ("30", "BODY 2{}")]


def test_rows_that_are_gone_or_empty_fail_with_the_reason(dsn: str, tiny_model: Path) -> None:
    make_rows(dsn, "bigint", ["1", "2", "3", "4", "5"])
    playbook = make_playbook(model=tiny_model, source=Source(table="posts", id_column="key", text_column="body"))
    reseed(dsn, playbook)
    execute(
        dsn,
        "DELETE FROM posts WHERE key = 2",
        "UPDATE posts SET body = NULL WHERE key = 3",
        "UPDATE posts SET body = ' ' WHERE key = 4",
        "UPDATE posts SET body = 'edited' WHERE key = 5",
    )
    assert embed_all(dsn, playbook) == (2, 3)
    reasons = dict(rows(dsn, FAILED))
    assert reasons["2"] == "no such row in the source"
    assert reasons["3"].startswith("empty document") and reasons["4"].startswith("empty document")
    assert rows(dsn, STORED) == [("1", "body 0"), ("5", "edited")]


@pytest.mark.parametrize(
    "source",
    [
        Source(table="absent"),
        Source(table="posts", id_column="absent", text_column="body"),
        Source(query="SELECT key FROM posts"),
        Source(query="DELETE FROM posts RETURNING key, body"),
        Source(query="SELECT 1, 'a'); DROP TABLE posts; --"),
    ],
)
def test_a_source_that_cannot_be_read_is_refused(dsn18: str, source: Source) -> None:
    make_rows(dsn18, "bigint", ["1"])
    with pytest.raises(PlanRefused) as caught:
        reseed(dsn18, make_playbook(source=source))
    assert caught.value.actual
    assert value(dsn18, "SELECT count(*) FROM posts") == 1
    assert value(dsn18, "SELECT count(*) FROM files_queue") == 0


def test_a_source_without_documents_queues_nothing(dsn18: str, tmp_path: Path) -> None:
    with pytest.raises(RagopsError, match="corpus is empty"):
        reseed(dsn18, make_playbook(source=Source(folder=tmp_path, include=("*.md",))))
    with pytest.raises(UsageError, match="no source"):
        reseed(dsn18, make_playbook())
    assert value(dsn18, "SELECT count(*) FROM files_queue") == 0


def test_files_that_cannot_be_read_fail_with_the_reason(dsn: str, tiny_model: Path, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", 6)
    (corpus / "empty.txt").write_bytes(b"")
    (corpus / "nul.txt").write_bytes(b"a\0b")
    (corpus / "latin.txt").write_bytes("Zürich".encode("latin-1"))
    (corpus / "surrogate.txt").write_bytes(b"\xed\xa0\x80")
    (corpus / "gone.txt").write_text("soon gone")
    (corpus / "link.txt").write_text("soon a link")
    (corpus / "pipe.txt").write_text("soon a FIFO")
    (corpus / "edited.txt").write_text("before")
    playbook = make_playbook(model=tiny_model, source=Source(folder=corpus))
    assert reseed(dsn, playbook) == 14
    for name in ("gone", "link", "pipe"):
        (corpus / f"{name}.txt").unlink()
    (corpus / "link.txt").symlink_to(tmp_path / "outside.txt")
    (tmp_path / "outside.txt").write_text("secret")
    os.mkfifo(corpus / "pipe.txt")
    (corpus / "edited.txt").write_text("after")
    execute(dsn, "UPDATE files_queue SET file_path = '../outside.txt' WHERE file_path = 'part0/doc00000.txt'")
    assert embed_all(dsn, playbook) == (6, 8)
    reasons = dict(rows(dsn, FAILED))
    expected = {
        "empty.txt": "empty document",
        "nul.txt": "NUL",
        "latin.txt": "not UTF-8",
        "surrogate.txt": "not UTF-8",
        "gone.txt": "no such file",
        "link.txt": "symbolic link",
        "pipe.txt": "a FIFO",
        "../outside.txt": "..",
    }
    assert reasons.keys() == expected.keys()
    for path, part in expected.items():
        assert part in reasons[path], (path, reasons[path])
    stored = dict(rows(dsn, STORED))
    assert stored["edited.txt"] == "after"
    assert not any("secret" in content for content in stored.values())


def test_a_manifest_beside_its_files(dsn18: str, tiny_model: Path, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", 4)
    manifest = tmp_path / "list.txt"
    manifest.write_text("# two of four\n./part2/doc00002.txt\n\npart0/doc00000.txt\nabsent.txt\n")
    playbook = make_playbook(model=tiny_model, source=Source(manifest=manifest, root=corpus))
    assert reseed(dsn18, playbook) == 3
    assert embed_all(dsn18, playbook) == (2, 1)
    assert rows(dsn18, FAILED) == [("absent.txt", "no such file")]
    assert [path for path, _ in rows(dsn18, STORED)] == ["part0/doc00000.txt", "part2/doc00002.txt"]


def test_appending_embeds_what_is_new(dsn18: str, tiny_model: Path, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", 5)
    playbook = make_playbook(model=tiny_model, source=Source(folder=corpus))
    reseed(dsn18, playbook)
    assert embed_all(dsn18, playbook) == (5, 0)
    write_corpus(corpus, 8)
    assert reseed(dsn18, playbook, append=True) == 3
    assert embed_all(dsn18, playbook) == (3, 0)
    assert value(dsn18, "SELECT count(DISTINCT file_path) FROM documents") == 8


def test_a_corpus_that_is_away_fails_no_document(dsn18: str, tiny_model: Path, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", 5)
    playbook = make_playbook(model=tiny_model, source=Source(folder=corpus))
    reseed(dsn18, playbook)
    corpus.rename(tmp_path / "unmounted")
    with pytest.raises(RagopsError, match="corpus folder no longer exists"):
        embed_all(dsn18, playbook)
    assert rows(dsn18, "SELECT status, count(*) FROM files_queue GROUP BY 1") == [("pending", 5)]
    (tmp_path / "unmounted").rename(corpus)
    assert embed_all(dsn18, playbook) == (5, 0)
