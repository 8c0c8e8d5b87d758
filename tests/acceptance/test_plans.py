"""A campaign wipes what was confirmed and never what it needs, through the program, on PostgreSQL 16 and 18."""

from __future__ import annotations

import os
import pty
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from conftest import wait_for, write_corpus
from workplace import Workplace, clean_environment, open_workplace, program

TEXTS = "INSERT INTO documents (content) SELECT 'my only copy ' || n FROM generate_series(1, 30) n"
PLAYBOOK = """
version: 1
name: rows
model: {{file: "${{RAGOPS_MODEL}}"}}
source: {source}
indexes: []
steps:
  - step: empty_tables
    tables: [{{table: documents}}, {{table: document_chunks}}, {{table: files_queue}}, {{table: parsed_files}}]
  - step: reseed_queue
  - step: embed
"""


@pytest.fixture
def place(dsn: str, tiny_model: Path, tmp_path: Path) -> Iterator[Workplace]:
    """60 files, gates at 20 and 40."""
    corpus = write_corpus(tmp_path / "corpus", 60)
    with open_workplace(tmp_path, dsn=dsn, corpus=corpus, model=tiny_model, gate=20, index_after=40) as opened:
        yield opened


def with_source(place: Workplace, source: str, name: str = "rows.yaml") -> str:
    (place.folder / name).write_text(PLAYBOOK.format(source=source), encoding="utf-8")
    return name


def problems(error: dict[str, Any]) -> list[dict[str, str]]:
    found: list[dict[str, str]] = error["error"]["problems"]
    return found


def answer(place: Workplace, arguments: tuple[str, ...], typed: str, act: Any = None) -> tuple[int, str]:
    """Run the program on a terminal, do something while its question stands, then type."""
    ours, theirs = pty.openpty()
    environment = clean_environment(place.folder) | place.variables
    process = subprocess.Popen(
        [*program(), *arguments], env=environment, cwd=place.folder, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    seen = b""
    while b"to go on" not in seen:
        read = os.read(ours, 4096)
        assert read, seen
        seen += read
    if act:
        act()
    os.write(ours, f"{typed}\n".encode())
    try:
        while read := os.read(ours, 4096):
            seen += read
    except OSError:
        # Linux reports the end of a terminal's other side as EIO.
        pass
    os.close(ours)
    return process.wait(timeout=60), seen.decode(errors="replace")


def test_a_source_that_would_be_emptied_is_refused(place: Workplace) -> None:
    place.execute(
        TEXTS,
        "CREATE VIEW over_it AS SELECT id, content FROM documents",
        "CREATE MATERIALIZED VIEW copied AS SELECT * FROM over_it",
    )
    before = place.snapshot()
    for source, flags in (
        ("{table: documents}", ("--dry-run",)),
        ('{query: "SELECT id, content FROM copied"}', ("--yes", "--no-archive")),
    ):
        with_source(place, source)
        refused = place.ragops("reset", "-p", "rows.yaml", "--json", *flags)
        assert refused.code == 1, refused.out
        (problem,) = problems(refused.json)
        assert "reads public.documents" in problem["what"] and "empty_tables" in problem["what"]
    emptied = place.ragops("tables", "empty", "documents", "document_chunks", "-p", "rows.yaml", "--yes")
    assert emptied.code == 1 and "reads public.documents" in emptied.err
    assert place.snapshot() == before
    # The cure, run as it is printed, and the playbook changed as it says, let the campaign pass.
    place.execute(problem["cure"])
    with_source(place, "{table: public.documents_texts, id_column: id, text_column: text}")
    done = place.ragops("reset", "-p", "rows.yaml", "--yes", "--json")
    assert done.code == 0, done.err
    assert place.value("SELECT count(DISTINCT content) FROM documents WHERE content LIKE 'my only copy%'") == 30


def test_ids_that_identify_no_row_are_refused(place: Workplace) -> None:
    place.execute(
        TEXTS,
        "CREATE TABLE pages (id int, content text)",
        "INSERT INTO pages SELECT nullif(n / 3, 0), 'page ' || n FROM generate_series(0, 29) n",
    )
    before = place.snapshot()
    with_source(place, "{table: pages}")
    refused = place.ragops("reset", "-p", "rows.yaml", "--json", "--yes")
    assert refused.code == 1
    nulls, repeated = problems(refused.json)
    assert "gives 3 of 30 rows no id" in nulls["what"]
    assert "gives 27 rows only 9 different ids" in repeated["what"] and " 3 times" in repeated["what"]
    for append in ((), ("--append",)):
        seeded = place.ragops("queue", "reseed", "--table", "pages", *append)
        assert seeded.code == 1 and "only 9 different ids" in seeded.err, seeded.err
    assert place.snapshot() == before


def test_a_slow_source_under_a_statement_timeout_whose_ids_are_times(place: Workplace) -> None:
    """Ids are read and written the same by every session, whatever its role's settings are."""
    database = place.value("SELECT current_database()")
    place.execute(
        "CREATE TABLE notes (at timestamptz PRIMARY KEY, score float8, body text)",
        "INSERT INTO notes SELECT '2026-01-01'::timestamptz + n * interval '1.000001 h', n / 3.0, 'note ' || n"
        " FROM generate_series(1, 5) n",
        f"ALTER DATABASE {database} SET statement_timeout = '300ms'",
        f"ALTER DATABASE {database} SET TimeZone = 'Asia/Kolkata'",
    )
    query = "SELECT at, body FROM notes, (SELECT pg_sleep(0.4) OFFSET 0) AS slow"
    with_source(place, f'{{query: "{query}"}}')
    planned = place.ragops("reset", "-p", "rows.yaml", "--dry-run")
    assert planned.code == 0, planned.err
    assert "source.query runs again for each claim" in planned.out
    seeded = place.ragops("queue", "reseed", "-p", "rows.yaml", "--json")
    assert seeded.code == 0, seeded.err
    place.execute(
        f"ALTER DATABASE {database} SET TimeZone = 'America/New_York'",
    )
    done = place.ragops("embed", "-p", "rows.yaml", "--json")
    assert done.code == 0 and done.json["completed"] == 5, done.out + done.err
    assert place.value("SELECT count(DISTINCT content) FROM documents") == 5


def test_nothing_to_reset_is_said_of_a_complete_corpus_only(place: Workplace) -> None:
    assert place.ragops("queue", "reseed").code == 0
    assert place.ragops("embed", "--until", "20").code == 0
    first = place.reset()
    assert (first.code, first.json["status"], first.json["completed"]) == (0, "done", 60), first.err
    assert "40 items of the queue are pending" in first.err
    assert "index idx_documents_embedding_hnsw on public.documents is missing" in first.err
    assert place.reset().json["status"] == "nothing_to_reset"


def test_a_campaign_that_was_given_up_is_not_taken_for_complete(place: Workplace) -> None:
    place.slow_down(0.05)
    process = place.start("reset", "--yes")
    wait_for(lambda: place.completed() >= 5, what="some documents are stored")
    process.kill()
    process.wait()
    place.speed_up()
    started = place.reset("--new")
    assert (started.code, started.json["status"], started.json["completed"]) == (0, "done", 60), started.err
    assert len(place.index_definitions()) == 2


def test_a_resume_that_would_empty_more_says_which_indexes_are_gone(place: Workplace) -> None:
    place.execute(TEXTS, "CREATE INDEX mine ON documents USING hnsw (embedding vector_l2_ops)")
    with psycopg.connect(place.dsn) as reader:
        # Nothing but the emptying waits for it.
        reader.execute("SELECT count(*) FROM parsed_files")
        process = place.start("reset", "--force", "--yes")
        emptying = "SELECT count(*) FROM ragops.step WHERE verb = 'empty_tables' AND status = 'running'"

        def is_emptying() -> bool:
            assert process.poll() is None, process.communicate()
            return bool(place.value(emptying))

        wait_for(is_emptying, what="the emptying")
        process.kill()
        process.wait()
    place.execute("INSERT INTO documents (content) SELECT 'late ' || n FROM generate_series(1, 7) n")
    resumed = place.ragops("reset", "--resume", "--yes", "--json")
    assert resumed.code == 4, resumed.err
    assert "no row was removed" in resumed.json["error"]["what"]
    assert "37 rows, planned 30" in resumed.json["error"]["found"]
    assert "dropped already: mine" in resumed.json["error"]["found"]


@pytest.mark.fault(17)
def test_what_came_while_the_question_stood_is_not_wiped(place: Workplace) -> None:
    place.execute(TEXTS, "CREATE INDEX mine ON documents USING hnsw (embedding vector_l2_ops)")
    database = place.value("SELECT current_database()")
    indexes = place.index_definitions()
    insert = "INSERT INTO documents (content) SELECT 'late ' || n FROM generate_series(1, 7) n"

    code, seen = answer(place, ("reset", "--force"), database, lambda: place.execute(insert))
    assert code == 4, seen
    assert "37 rows, planned 30" in seen and "nothing was changed" in seen and "ragops reset --resume" in seen
    assert (place.value("SELECT count(*) FROM documents"), place.index_definitions()) == (37, indexes)
    # The campaign is there to be resumed: more rows than were confirmed are asked about, never taken along.
    resumed = place.ragops("reset", "--resume", "--yes", "--json")
    assert resumed.code == 4, resumed.err
    assert "37 rows, planned 30" in resumed.json["error"]["found"]
    assert place.ragops("reset", "--resume").code == 4
    assert place.value("SELECT status FROM ragops.campaign") == "failed"
    code, seen = answer(place, ("reset", "--resume"), "no")
    assert code == 2 and "37 rows, planned 30" in seen
    assert place.value("SELECT count(*) FROM documents") == 37
    code, seen = answer(place, ("reset", "--resume"), database)
    assert code == 0, seen
    assert place.value("SELECT count(*) FROM documents") == 60
    assert place.value("SELECT plan->'tables'->'documents'->>'rows' FROM ragops.campaign") == "37"
    # --force was remembered.
    assert place.value("SELECT plan->'force' FROM ragops.campaign") is True

    empty = ("tables", "empty", "documents", "document_chunks", "--no-archive")
    code, seen = answer(place, empty, database, lambda: place.execute(insert))
    assert code == 4 and "67 rows, planned 60" in seen

    def start_campaign() -> None:
        place.execute(
            "INSERT INTO ragops.campaign (name, playbook, plan, holder, lease_until) SELECT 'other', playbook, "
            " plan, 'elsewhere:1', now() + interval '1 h' FROM ragops.campaign ORDER BY id DESC LIMIT 1"
        )

    code, seen = answer(place, empty, database, start_campaign)
    assert code == 1 and "is held by elsewhere:1" in seen
    assert place.value("SELECT count(*) FROM documents") == 67


def test_a_resume_that_is_refused_leaves_the_campaign_as_it_was(place: Workplace) -> None:
    place.execute(TEXTS)
    with psycopg.connect(place.dsn) as blocker:
        blocker.execute("SELECT 1 FROM documents")
        process = place.start("reset", "--force", "--yes")
        running = "SELECT 1 FROM ragops.step WHERE verb = 'empty_tables' AND status = 'running'"
        wait_for(lambda: bool(place.rows(running)), what="the reset waits for the reader")
        process.kill()
        process.wait()
    place.execute("CREATE TABLE remarks (document_id bigint REFERENCES documents)")
    before = place.rows("SELECT c, l FROM ragops.campaign c, ragops.lease l")
    assert len(before) == 1
    refused = place.ragops("reset", "--resume", "--json")
    assert refused.code == 1
    (problem,) = problems(refused.json)
    assert problem["cure"] == "ALTER TABLE public.remarks DROP CONSTRAINT remarks_document_id_fkey"
    # No lease of the process that was refused keeps others away.
    assert place.rows("SELECT c, l FROM ragops.campaign c, ragops.lease l") == before
    assert "campaign 1 over" not in refused.err
    place.execute(problem["cure"])
    done = place.ragops("reset", "--resume", "--json")
    assert (done.code, done.json["status"], done.json["completed"]) == (0, "done", 60), done.err
