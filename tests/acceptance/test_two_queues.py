"""Two corpora in one database: each queue has its own campaign, gate and undo."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import write_corpus
from workplace import Finished, Workplace

PLAYBOOK = """
version: 1
name: {name}
model: {{file: {model}}}
workers: {{count: 1, threads: 1}}
source: {{folder: {corpus}}}
tables:
  documents: {{table: {documents}}}
  document_chunks: null
  parsed_files: null
  ingestion_metrics: null
  files_queue: {{table: {queue}}}
indexes: [{{name: {index}, table: documents, metric: cosine, m: 8, ef_construction: 32}}]
validation: {{sample: 5, max_failed_share: 0}}
steps:
  - step: drop_indexes
  - step: empty_tables
    tables: [{{table: documents, method: truncate}}, {{table: files_queue, method: truncate}}]
  - step: reseed_queue
  - {{step: embed, until: 10}}
  - {{step: validate, after: 10}}
  - step: embed
  - step: rebuild_indexes
"""
CREATED = (
    "DROP TABLE document_chunks",
    "CREATE SCHEMA kb",
    "CREATE TABLE kb.articles (LIKE documents INCLUDING ALL)",
    "CREATE TABLE kb.queue (LIKE files_queue INCLUDING ALL)",
    "INSERT INTO kb.articles (file_path, content) VALUES ('old', 'old')",
    "CREATE INDEX kb_hnsw ON kb.articles USING hnsw (embedding vector_cosine_ops)",
    "INSERT INTO documents (file_path, content) VALUES ('old', 'old')",
    "CREATE INDEX a_hnsw ON documents USING hnsw (embedding vector_cosine_ops)",
)


@pytest.fixture
def both(place: Workplace) -> Workplace:
    """Playbooks a (30 documents) and b (20 documents) on different tables, with one old row and one index each."""
    place.execute(*CREATED)
    write(place, "a", documents="documents", queue="files_queue", index="a_hnsw", count=30)
    write(place, "b", documents="kb.articles", queue="kb.queue", index="kb_hnsw", count=20)
    return place


def write(place: Workplace, name: str, *, documents: str, queue: str, index: str, count: int) -> None:
    corpus = write_corpus(place.folder / f"corpus-{name}", count)
    text = PLAYBOOK.format(
        name=name,
        model=place.variables["RAGOPS_MODEL"],
        corpus=corpus,
        documents=documents,
        queue=queue,
        index=index,
    )
    (place.folder / f"{name}.yaml").write_text(text)


def run(place: Workplace, playbook: str, *arguments: str) -> Finished:
    return place.ragops(*arguments, "--playbook", f"{playbook}.yaml")


def stop_at_the_gate(place: Workplace, playbook: str) -> None:
    """Run a campaign whose gate fails: one of its first documents is empty until then."""
    first = min((place.folder / f"corpus-{playbook}").rglob("*.txt"))
    text = first.read_text()
    first.write_text("")
    failed = run(place, playbook, "reset", "--yes")
    assert failed.code == 3, failed.err
    first.write_text(text)


def statuses(place: Workplace, queue: str) -> dict[str, int]:
    return dict(place.rows(f"SELECT status, count(*) FROM {queue} GROUP BY 1"))


def campaigns(place: Workplace) -> list[tuple[Any, ...]]:
    return place.rows("SELECT name, queue, status FROM ragops.campaign ORDER BY id")


def old_rows(place: Workplace, table: str) -> list[tuple[Any, ...]]:
    return place.rows(f"SELECT file_path, content FROM {table}")


@pytest.mark.slow
def test_the_gate_of_one_queue_closes_no_other(both: Workplace) -> None:
    stop_at_the_gate(both, "a")
    assert statuses(both, "files_queue") == {"completed": 9, "failed": 1, "pending": 20}
    assert run(both, "b", "queue", "reseed").code == 0
    embedded = run(both, "b", "embed", "--json")
    assert (embedded.code, embedded.json["completed"], embedded.json["gate"]) == (0, 20, None), embedded.err
    closed = run(both, "a", "embed", "--json")
    assert (closed.code, closed.json["completed"]) == (0, 0)
    assert "20 items lie behind the gate" in closed.json["gate"]
    assert run(both, "a", "status", "--json").json["campaign"]["status"] == "gate_failed"
    assert run(both, "b", "status", "--json").json["campaign"] is None
    nothing = run(both, "b", "reset", "--resume")
    assert nothing.code == 1
    assert "no campaign was ever started" in nothing.err


@pytest.mark.slow
def test_campaigns_of_two_queues_and_the_undo_of_each(both: Workplace) -> None:
    stop_at_the_gate(both, "a")
    done = run(both, "b", "reset", "--yes", "--json")
    assert (done.code, done.json["status"]) == (0, "done"), done.err
    assert campaigns(both) == [("a", "public.files_queue", "gate_failed"), ("b", "kb.queue", "done")]
    # What A dropped is A's to build.
    assert "kb_hnsw" in dict.fromkeys(name for name, *_ in both.index_definitions())
    assert "a_hnsw" not in dict.fromkeys(name for name, *_ in both.index_definitions())
    again = run(both, "b", "reset", "--new", "--yes", "--force", "--json")
    assert (again.code, again.json["status"]) == (0, "done"), again.err
    assert campaigns(both)[0] == ("a", "public.files_queue", "gate_failed"), "given up by nobody"
    undone = run(both, "a", "undo", "--yes", "--json")
    assert (undone.code, undone.json["campaign"]) == (0, 1), undone.err
    assert old_rows(both, "documents") == [("old", "old")]
    assert len(old_rows(both, "kb.articles")) == 20
    assert {"a_hnsw", "kb_hnsw"} <= {name for name, *_ in both.index_definitions()}
    for campaign in (3, 2):
        back = run(both, "b", "undo", "--yes", "--json", "--campaign", str(campaign))
        assert (back.code, back.json["campaign"]) == (0, campaign), back.err
    assert old_rows(both, "kb.articles") == [("old", "old")]
    assert [status for *_, status in campaigns(both)] == ["undone"] * 3


def test_resuming_and_giving_up_concern_the_own_queue(both: Workplace) -> None:
    stop_at_the_gate(both, "a")
    stop_at_the_gate(both, "b")
    refused = run(both, "a", "reset", "--yes")
    assert refused.code == 1
    assert "campaign 1 (a) is unfinished: gate_failed" in refused.err
    new = run(both, "a", "reset", "--new", "--yes", "--json")
    assert (new.code, new.json["status"]) == (0, "done"), new.err
    assert [status for *_, status in campaigns(both)] == ["abandoned", "gate_failed", "done"]
    assert run(both, "b", "status", "--json").json["campaign"]["id"] == 2


def test_shared_tables_are_refused_by_name(both: Workplace) -> None:
    stop_at_the_gate(both, "a")
    write(both, "c", documents="documents", queue="kb.queue", index="a_hnsw", count=5)
    for arguments in (("--yes",), ("--new", "--yes")):
        refused = run(both, "c", "reset", *arguments)
        assert refused.code == 1, refused.err
        assert "campaign 1 (a) of the queue public.files_queue is unfinished" in refused.err
        assert "public.documents" in refused.err
    assert len(campaigns(both)) == 1


def test_a_campaign_of_an_older_version_holds_for_every_queue(both: Workplace) -> None:
    stop_at_the_gate(both, "a")
    both.execute("UPDATE ragops.campaign SET queue = NULL")
    assert run(both, "b", "status", "--json").json["campaign"]["id"] == 1
    refused = run(both, "b", "reset", "--yes")
    assert (refused.code, "campaign 1 (a) is unfinished" in refused.err) == (1, True)
    both.execute(
        "ALTER TABLE ragops.campaign DROP COLUMN queue",
        "ALTER TABLE ragops.source DROP COLUMN generation",
        "DROP TABLE ragops.measured, ragops.tokens, ragops.change, ragops.seeding, ragops.file_state",
    )
    # A command that only looks reads the older form, and one that writes extends it.
    assert run(both, "b", "status", "--json").json["campaign"]["id"] == 1
    assert Path(both.folder / "b.yaml").is_file()
    assert run(both, "b", "queue", "reseed").code == 0
    assert both.value("SELECT count(*) FROM ragops.campaign WHERE queue IS NULL") == 1
