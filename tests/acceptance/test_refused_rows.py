"""What the database or the model refuses: the document fails alone, with its reason, and one run does the rest."""

from __future__ import annotations

import random
import sqlite3
import stat
import sys
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
import pytest
from conftest import DIMENSIONS, Server, write_corpus
from stub_child import stub_command
from workplace import Workplace, assert_same_documents, open_workplace, stored_documents

from ragops.playbook.tables import Tables
from ragops.postgres.connection import Target, connect
from ragops.postgres.setup import initialise, plan_setup

GOOD = 40
PLAYBOOK = ("--playbook", "realign.yaml", "--json")
RESEED, EMBED = ("queue", "reseed", *PLAYBOOK), ("embed", *PLAYBOOK)
# Whatever an application may put around its tables.
CONSTRAINTS = (
    "ALTER TABLE documents ADD CONSTRAINT no_secrets CHECK (content NOT LIKE '%forbidden%')",
    "ALTER TABLE document_chunks ADD CHECK (content NOT LIKE '%unwanted%')",
    "ALTER TABLE documents ALTER file_path TYPE varchar(60)",
    "CREATE UNIQUE INDEX one_per_path ON documents (file_path)",
    "INSERT INTO documents (file_path, content) VALUES ('bad/taken.txt', 'typed by hand')",
    "CREATE INDEX by_content ON documents (content)",
    # A text of few words stands for the long one: what is refused is the number of lexemes.
    "CREATE FUNCTION lexemes(t text) RETURNS text IMMUTABLE LANGUAGE sql AS"
    " $$ SELECT CASE WHEN t LIKE '%enormous%' THEN"
    " (SELECT string_agg('lexeme' || i, ' ') FROM generate_series(1, 100000) i) ELSE t END $$",
    "ALTER TABLE documents ADD fts tsvector GENERATED ALWAYS AS (to_tsvector('simple', lexemes(content))) STORED",
    "ALTER TABLE documents ADD share integer GENERATED ALWAYS AS (100 / (length(content) - 7)) STORED",
    "CREATE FUNCTION judge() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
    " IF NEW.content LIKE '%objection%' THEN RAISE EXCEPTION 'the trigger objects'; END IF;"
    " IF NEW.content LIKE '%teapot%' THEN RAISE EXCEPTION 'a teapot' USING ERRCODE = 'PT418'; END IF;"
    " IF NEW.content LIKE '%nothing%' THEN NEW.content = NULL; END IF;"
    " RETURN NEW; END $$",
    "CREATE TRIGGER judge BEFORE INSERT ON documents FOR EACH ROW EXECUTE FUNCTION judge()",
    "CREATE FUNCTION judge_item() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
    " IF NEW.status = 'completed' AND NEW.file_path LIKE '%incomplete%' THEN"
    " RAISE EXCEPTION 'never completed'; END IF; RETURN NEW; END $$",
    "CREATE TRIGGER judge_item BEFORE UPDATE ON files_queue FOR EACH ROW EXECUTE FUNCTION judge_item()",
)
# Found out at COMMIT.
DEFERRED = (
    "CREATE TABLE approved AS SELECT id FROM files_queue WHERE file_path NOT LIKE '%orphan%'",
    "ALTER TABLE approved ADD PRIMARY KEY (id)",
    "ALTER TABLE documents ADD CONSTRAINT is_approved FOREIGN KEY (file_id) REFERENCES approved"
    " DEFERRABLE INITIALLY DEFERRED",
)
LONG_NAME = "x" * 60
BAD = {
    "check.txt": ("a forbidden word", 'violates check constraint "no_secrets"'),
    "chunk.txt": ("an unwanted word", "document_chunks_content_check"),
    f"{LONG_NAME}.txt": ("a long name", "value too long for type character varying(60)"),
    "taken.txt": ("the path is taken", 'violates unique constraint "one_per_path"'),
    "index.txt": (
        "".join(random.Random(1).choices("abcdefghijklmnopqrstuvwxyz ", k=5000)),
        "index row size 5",
    ),
    "lexemes.txt": ("enormous", "string is too long for tsvector"),
    "share.txt": ("seven77", "division by zero"),
    "trigger.txt": ("an objection", "the trigger objects"),
    "teapot.txt": ("a teapot", "a teapot"),
    "null.txt": ("nothing at all", 'null value in column "content"'),
    "incomplete.txt": ("all is well", "never completed"),
    "orphan.txt": ("nobody approved it", "is_approved"),
}


def make_corpus(folder: Path, bad: dict[str, tuple[str, str]]) -> Path:
    corpus = write_corpus(folder / "corpus", GOOD)
    (corpus / "bad").mkdir()
    for name, (text, _) in bad.items():
        (corpus / "bad" / name).write_text(text, encoding="utf-8")
    return corpus


@contextmanager
def refusing(
    dsn: str, model: Path, folder: Path, *statements: str, bad: dict[str, tuple[str, str]] | None = None
) -> Iterator[Workplace]:
    """A workplace with a filled queue, `GOOD` documents beside those that are refused."""
    corpus = make_corpus(folder, bad or {})
    with open_workplace(folder, dsn=dsn, corpus=corpus, model=model, gate=20, index_after=30) as place:
        place.execute(*statements)
        reseeded = place.ragops(*RESEED)
        assert reseeded.code == 0, reseeded.err
        yield place


def assert_stored_once(place: Workplace, documents: int) -> None:
    """Vectors are there if and only if their item is completed, and the metrics count them all."""
    assert place.completed() == documents
    joined = "FROM documents d JOIN files_queue q ON q.id = d.file_id AND q.status = 'completed'"
    assert place.rows(f"SELECT count(*), count(DISTINCT q.id) {joined}") == [(documents, documents)]
    assert place.value("SELECT count(*) FROM documents WHERE file_id IS NOT NULL") == documents
    assert place.value("SELECT count(DISTINCT document_id) FROM document_chunks") == documents
    assert place.value("SELECT coalesce(sum(documents), 0) FROM ingestion_metrics") == documents


def reasons(place: Workplace) -> dict[str, str]:
    return dict(place.rows("SELECT file_path, last_error FROM files_queue WHERE status = 'failed'"))


def test_every_document_that_the_database_refuses_fails_alone(dsn: str, tiny_model: Path, tmp_path: Path) -> None:
    with refusing(dsn, tiny_model, tmp_path, *CONSTRAINTS, bad=BAD) as place:
        place.execute(*DEFERRED)
        done = place.ragops(*EMBED)
        assert done.code == 0, done.err
        assert (done.json["completed"], done.json["failed"], done.json["pending"]) == (GOOD, len(BAD), 0)
        found = reasons(place)
        assert found.keys() == {f"bad/{name}" for name in BAD}
        for name, (_, reason) in BAD.items():
            assert found[f"bad/{name}"].startswith("the database refused this document: "), name
            assert reason in found[f"bad/{name}"]
            assert "\n" not in found[f"bad/{name}"]
        # The server names neither table nor column in its message, only where it was.
        assert "documents.file_path" in found[f"bad/{LONG_NAME}.txt"]
        assert_stored_once(place, GOOD)
        assert "ragops queue status" in done.err


def test_a_database_that_refuses_everything_stops_the_run(dsn: str, tiny_model: Path, tmp_path: Path) -> None:
    shut = "ALTER TABLE documents ADD CONSTRAINT shut CHECK (content IS NULL)"
    with refusing(dsn, tiny_model, tmp_path, shut) as place:
        done = place.ragops(*EMBED)
        assert done.code == 1
        error = done.json["error"]
        assert "stopped before it refuses the whole queue" in error["what"]
        assert 'violates check constraint "shut"' in error["found"]
        assert len(reasons(place)) == 3
        assert place.queue() == {"failed": 3, "pending": GOOD - 3}


def test_what_the_encoding_of_the_database_lacks_fails_alone(
    server: Server, tiny_model: Path, tmp_path: Path
) -> None:
    """More in a row than a transaction holds, and the first of all."""
    name = f"latin_{uuid.uuid4().hex[:12]}"
    create = f"CREATE DATABASE {name} ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
    bad = {f"{number:02}.txt": (f"text {number} 日本語", "LATIN1") for number in range(30)}
    with psycopg.connect(server.target.conninfo, autocommit=True) as admin:
        admin.execute(create.encode())
        try:
            dsn = psycopg.conninfo.make_conninfo(server.dsn(name), client_encoding="UTF8")
            target = Target(dsn, name)
            with connect(target, with_vector=False) as connection:
                initialise(connection, target, plan_setup(connection, Tables(), dimensions=lambda: DIMENSIONS))
            with refusing(dsn, tiny_model, tmp_path, bad=bad) as place:
                done = place.ragops(*EMBED)
                assert done.code == 0, done.err
                found = reasons(place)
                assert found.keys() == {f"bad/{name}" for name in bad}
                assert all("has no equivalent in encoding" in reason for reason in found.values())
                assert_stored_once(place, GOOD)
        finally:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


PYTHON = """#!{python}
import os, sys
stands_in = sys.argv[1:2] and os.path.basename(sys.argv[1]) == "child.py" and {command!r}
os.execv({python!r}, list(stands_in) if stands_in else [{python!r}, *sys.argv[1:]])
"""


def interpreter(folder: Path, *arguments: str) -> Path:
    """An interpreter of the workers whose embedder child dies of some texts."""
    program = folder / "worker-python"
    program.write_text(PYTHON.format(python=sys.executable, command=stub_command(*arguments)), encoding="utf-8")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return program


def test_many_documents_that_crash_the_child_cost_one_run(dsn18: str, tiny_model: Path, tmp_path: Path) -> None:
    bad = {f"{number:02}.txt": (f"POISON {number}", "") for number in range(12)}
    with refusing(dsn18, tiny_model, tmp_path, bad=bad) as place:
        done = place.ragops(*EMBED, RAGOPS_WORKER_PYTHON=str(interpreter(tmp_path)))
        assert done.code == 0, done.err
        assert (done.json["completed"], done.json["failed"], done.json["pending"]) == (GOOD, 12, 0)
        found = reasons(place)
        assert found.keys() == {f"bad/{name}" for name in bad}
        assert all("crashed on this document" in reason for reason in found.values())
        assert_stored_once(place, GOOD)


@pytest.mark.fault(28)
def test_a_child_that_crashes_on_everything_stops_after_three(
    dsn18: str, tiny_model: Path, tmp_path: Path
) -> None:
    with refusing(dsn18, tiny_model, tmp_path) as place:
        done = place.ragops(*EMBED, RAGOPS_WORKER_PYTHON=str(interpreter(tmp_path, "all-but-ok")))
        assert done.code == 1
        assert "3 documents in a row and on a simple sentence" in done.json["error"]["what"]
        assert place.queue() == {"failed": 3, "pending": GOOD - 3}


def test_a_damaged_vector_in_the_cache_is_embedded_again(dsn18: str, tiny_model: Path, tmp_path: Path) -> None:
    damage = "CASE id % 8 WHEN 0 THEN zeroblob(length(vector)) ELSE x'0000c07f' || substr(vector, 5) END"
    cache = {"RAGOPS_CACHE_MIB": "64", "RAGOPS_CACHE_DIR": str(tmp_path / "cache")}
    with refusing(dsn18, tiny_model, tmp_path) as place:
        assert place.ragops(*EMBED, **cache).code == 0
        (file,) = (tmp_path / "cache").rglob("*.sqlite")
        with closing(sqlite3.connect(file)) as other, other:
            other.execute(f"UPDATE vectors SET vector = CAST({damage} AS BLOB) WHERE id % 4 = 0")
        before = stored_documents(place)
        place.execute("TRUNCATE documents, document_chunks, files_queue, parsed_files, ingestion_metrics")
        assert place.ragops(*RESEED).code == 0
        done = place.ragops(*EMBED, **cache)
        assert done.code == 0, done.err
        assert (done.json["embedded"], done.json["reused"]) == (GOOD // 4, GOOD - GOOD // 4)
        assert_stored_once(place, GOOD)
        assert_same_documents(stored_documents(place), before)
