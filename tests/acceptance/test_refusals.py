"""Through the program: a campaign that could not fill the tables is refused while they are full."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import write_corpus
from workplace import Workplace, open_workplace


@pytest.fixture
def here(dsn: str, tiny_model: Path, tmp_path: Path) -> Iterator[Workplace]:
    """A terminal and a fresh database on each supported PostgreSQL, with 30 documents to embed."""
    corpus = write_corpus(tmp_path / "corpus", 30)
    with open_workplace(tmp_path, dsn=dsn, corpus=corpus, model=tiny_model, gate=10, index_after=20) as opened:
        opened.execute("INSERT INTO documents (content) SELECT 'old ' || n FROM generate_series(1, 5) n")
        yield opened


def test_every_reason_is_said_at_once_and_its_cure_is_sql(here: Workplace) -> None:
    here.execute(
        "ALTER TABLE files_queue DROP CONSTRAINT files_queue_status_check",
        "ALTER TABLE files_queue ADD CONSTRAINT states CHECK (status IN ('queued', 'running', 'done'))",
        "ALTER TABLE documents ADD CONSTRAINT brief CHECK (length(content) < 9)",
        "ALTER TABLE parsed_files DROP id, ALTER content_hash TYPE bytea USING content_hash::bytea",
        "CREATE PUBLICATION p FOR TABLE parsed_files",
        "CREATE FUNCTION enqueue() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no jobs'; END $$",
        "CREATE TRIGGER reembed AFTER INSERT ON document_chunks EXECUTE FUNCTION enqueue()",
    )
    before = here.snapshot()
    for refused in (here.reset("--dry-run"), here.reset("--no-archive")):
        assert refused.code == 1
        problems = refused.json["error"]["problems"]
        said = "\n".join(problem["what"] for problem in problems)
        assert all(problem["cure"] for problem in problems), problems
        assert 'violates check constraint "states"' in said
        assert 'violates check constraint "brief"' in said
        assert "public.parsed_files is in publication p, which forbids DELETE" in said
        assert here.snapshot() == before
    # A table with one problem is looked at again once that is cured.
    for _ in range(3):
        here.execute(*(problem["cure"] for problem in problems))
        planned = here.reset("--dry-run")
        if planned.code == 0:
            break
        problems = planned.json["error"]["problems"]
        assert here.value("SELECT count(*) FROM documents") == 5
    done = here.reset()
    assert done.code == 0, done.err
    assert done.json["completed"] == 30


def test_values_that_would_be_lost_have_to_be_accepted(here: Workplace) -> None:
    here.execute("ALTER TABLE documents ADD tenant_id int, ADD title text", "UPDATE documents SET tenant_id = 7")
    before = here.snapshot()
    refused = here.reset()
    assert refused.code == 1
    (problem,) = refused.json["error"]["problems"]
    assert "tenant_id NULL (5 of 5 rows hold something else)" in problem["what"]
    assert "accept_lost_columns: [documents.tenant_id]" in problem["what"]
    assert problem["cure"] is None
    assert here.snapshot() == before
    planned = here.ragops("reset", "--dry-run", "--accept-lost-column", "documents.tenant_id")
    assert planned.code == 0, planned.err
    assert "tenant_id NULL (5 of 5 rows hold something else)" in " ".join(planned.out.split())
    done = here.reset("--accept-lost-column", "documents.tenant_id")
    assert done.code == 0, done.err
    assert here.value("SELECT count(*) FROM documents") == 30


def test_embedding_alone_is_refused_before_a_model_is_loaded(here: Workplace) -> None:
    assert here.ragops("queue", "reseed", "--json").json["seeded"] == 30
    here.execute("ALTER TABLE documents ALTER id DROP IDENTITY")
    # A model that cannot be loaded would be named if a child were started.
    refused = here.ragops("embed", "--json", RAGOPS_MODEL=str(here.folder / "none.gguf"))
    assert refused.code == 1
    (problem,) = refused.json["error"]["problems"]
    assert "has type bigint without an identity or a sequence" in problem["what"]
    here.execute(problem["cure"])
    done = here.ragops("embed", "--json")
    assert done.code == 0, done.err
    assert done.json["completed"] == 30
