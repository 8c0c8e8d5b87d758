"""Commands that only look answer where nothing can be written, locked tables stand, or rights are few."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from conftest import Spawn, wait_for, write_corpus
from probe_factory import QUERY, TEXTS, address_of, fill
from psycopg.conninfo import make_conninfo
from workplace import Finished, Workplace, open_workplace

from ragops.embedder.client import Embedder, EmbedderConfig
from ragops.playbook.tables import Tables
from ragops.postgres.connection import Target, connect
from ragops.postgres.embedded import EmbeddedServer
from ragops.postgres.setup import initialise, plan_setup

COMMANDS = ("status", "queue status", "index status", "archive status", "search red", "validate")
ONLY_DOCUMENTS = (
    "DROP TABLE document_chunks, parsed_files, ingestion_metrics, files_queue",
    "DROP SCHEMA ragops CASCADE",
)
# What a writer would stumble over, and a reader does not.
ONLY_FOR_READERS = (
    "ALTER TABLE documents ADD tenant int NOT NULL DEFAULT 1",
    "ALTER TABLE documents ALTER tenant DROP DEFAULT",
    "ALTER TABLE documents ADD words int GENERATED ALWAYS AS (length(content)) STORED",
    "ALTER TABLE documents ALTER embedding TYPE halfvec(32)",
    "CREATE INDEX half ON documents USING hnsw (embedding halfvec_cosine_ops)",
    "ALTER TABLE documents SET UNLOGGED",
)


@pytest.fixture
def looked(dsn: str, tiny_model: Path, tmp_path: Path) -> Iterator[Workplace]:
    """A terminal and a database with a few documents, embedded as they should be."""
    with Embedder(EmbedderConfig(tiny_model)) as embedder:
        fill(dsn, embedder)
    corpus = write_corpus(tmp_path / "corpus", 3)
    with open_workplace(tmp_path, dsn=dsn, corpus=corpus, model=tiny_model, gate=2, index_after=3) as place:
        yield place


def look(place: Workplace, command: str, *more: str, **variables: str) -> Finished:
    return place.ragops(*command.split(), "--json", *more, **variables)


def assert_all_answer(place: Workplace, **variables: str) -> dict[str, Any]:
    """Run every command that looks, and return what each printed."""
    answers = {}
    for command in COMMANDS:
        done = look(place, command, **variables)
        assert (done.code, "Traceback" in done.err) == (0, False), f"{command}: {done.err}"
        answers[command] = done.json
    assert answers["status"]["documents"]["total"] == len(TEXTS)
    assert len(answers["search red"]["exact"]) == len(TEXTS)
    assert answers["validate"]["verdict"] == "pass"
    return answers


@contextmanager
def role(place: Workplace, *grants: str) -> Iterator[str]:
    """A role that may log in and has nothing but `grants`, where {role} is its name; yields its DSN."""
    name = f"reader_{uuid.uuid4().hex[:8]}"
    place.execute(f"CREATE ROLE {name} LOGIN", *(grant.replace("{role}", name) for grant in grants))
    try:
        yield make_conninfo(place.dsn, user=name)
    finally:
        place.execute(f"DROP OWNED BY {name}", f"DROP ROLE {name}")


def test_a_read_only_database_without_a_queue_and_what_only_writers_need(looked: Workplace) -> None:
    looked.execute(*ONLY_DOCUMENTS, *ONLY_FOR_READERS)
    database = looked.value("SELECT current_database()")
    looked.execute(f"ALTER DATABASE {database} SET default_transaction_read_only = on")
    answers = assert_all_answer(looked)
    assert answers["queue status"]["queue"]["pending"] is None
    assert any("files_queue" in note for note in answers["queue status"]["notes"])
    assert answers["index status"]["indexes"][0]["name"] == "half"
    assert (answers["search red"]["index"], answers["search red"]["recall"]) == ("half", 1.0)
    # A writer is refused as before, with every reason.
    refused = looked.ragops("reset", "-p", "realign", "--dry-run")
    assert refused.code == 1 and "read-only" in refused.err and "halfvec" in refused.err


def test_select_on_one_table_is_enough(looked: Workplace, spawn: Spawn) -> None:
    with role(looked, "GRANT SELECT ON documents TO {role}") as reader:
        # `archive status` reads nothing but the ledger, and says that it may not.
        denied = look(looked, "archive status", RAGOPS_DSN=reader)
        assert denied.code == 1 and "GRANT USAGE ON SCHEMA ragops" in denied.err
        for command in COMMANDS:
            if command != "archive status":
                done = look(looked, command, RAGOPS_DSN=reader)
                assert done.code == 0, f"{command}: {done.err}"
        status = look(looked, "status", RAGOPS_DSN=reader).json
        assert status["documents"]["total"] == len(TEXTS)
        assert any("lacks SELECT on public.files_queue" in note for note in status["notes"])
        process = spawn(
            "probe", "serve", "--port", "0", RAGOPS_DSN=reader, RAGOPS_MODEL=looked.variables["RAGOPS_MODEL"]
        )
        address = address_of(process)
        with httpx.Client(trust_env=False, timeout=60) as client:
            answer = client.get(address, params={"query": QUERY})
        assert answer.json()["comparison_stats"]["total_docs"] == len(TEXTS)
    looked.execute("CREATE SCHEMA hidden", "CREATE TABLE hidden.documents AS TABLE documents")
    (looked.folder / "hidden.yaml").write_text(
        "version: 1\nname: hidden\ntables: {documents: {table: hidden.documents}}\nsteps: [{step: embed}]\n"
    )
    with role(looked, "GRANT SELECT ON hidden.documents, files_queue TO {role}") as reader:
        refused = look(looked, "search red", "-p", "hidden.yaml", RAGOPS_DSN=reader)
        assert refused.code == 1 and "GRANT USAGE ON SCHEMA hidden TO reader_" in refused.err
        shown = look(looked, "status", "-p", "hidden.yaml", RAGOPS_DSN=reader)
        assert shown.code == 0 and shown.json["queue"]["pending"] == 0


def test_locked_tables_are_named_and_nothing_waits(looked: Workplace) -> None:
    looked.execute(
        "ANALYZE documents, files_queue", "CREATE INDEX ON documents USING hnsw (embedding vector_cosine_ops)"
    )
    with psycopg.connect(looked.dsn, application_name="an archive") as holder:
        pid = holder.info.backend_pid
        holder.execute("LOCK TABLE documents, files_queue, ragops.campaign IN ACCESS EXCLUSIVE MODE")
        holder.execute("TRUNCATE parsed_files")
        locked = f"table public.documents is locked by pid {pid} (an archive)"
        # None of these returns before the lock is released if it waits for it, and then the test ends here.
        status = look(looked, "status")
        assert status.code == 0, status.err
        assert status.json["documents"]["total"] == len(TEXTS) and status.json["documents"]["estimated"]
        assert any(locked in note for note in status.json["notes"])
        assert any("the ledger" in note for note in status.json["notes"])
        assert look(looked, "status", "--exact").code == 0
        queue = look(looked, "queue status")
        assert queue.code == 0 and f"locked by pid {pid}" in queue.json["notes"][0]
        indexes = look(looked, "index status")
        assert indexes.code == 0 and indexes.json["indexes"][0]["state"] == "valid"
        for command in ("search red", "validate"):
            refused = look(looked, command)
            assert refused.code == 1 and locked in refused.err
    assert look(looked, "search red").code == 0


def test_locked_archives_are_not_waited_for(looked: Workplace) -> None:
    with psycopg.connect(looked.dsn, application_name="an undo") as holder:
        holder.execute("LOCK TABLE ragops.archive, ragops.index_definition IN ACCESS EXCLUSIVE MODE")
        refused = look(looked, "archive status")
        assert refused.code == 1 and f"pid {holder.info.backend_pid} (an undo), idle in transaction" in refused.err
        assert look(looked, "index status").code == 0
    assert look(looked, "archive status").json == {"archives": [], "vectors": []}


def test_a_lock_that_is_only_awaited_keeps_readers_out_as_well(looked: Workplace) -> None:
    with psycopg.connect(looked.dsn) as reader, psycopg.connect(looked.dsn, autocommit=True) as waiting:
        pid = waiting.info.backend_pid
        reader.execute("SELECT count(*) FROM documents")
        with ThreadPoolExecutor(1) as threads:
            dropping = threads.submit(waiting.execute, "ALTER TABLE documents ADD extra int")
            wait_for(lambda: looked.value("SELECT count(*) FROM pg_locks WHERE NOT granted") == 1)
            shown = look(looked, "status")
            reader.rollback()
            dropping.result(60)
    assert shown.code == 0
    assert f"locked by pid {pid}" in "\n".join(shown.json["notes"])


def test_few_free_connections_are_enough_to_look(looked: Workplace) -> None:
    free = looked.value(
        "SELECT current_setting('max_connections')::int - (SELECT count(*) FROM pg_stat_activity"
        " WHERE backend_type = 'client backend')"
    )
    held = [psycopg.connect(looked.dsn) for _ in range(free - 1)]
    try:
        assert assert_all_answer(looked)["status"]["notes"] == []
    finally:
        for connection in held:
            connection.close()


def test_policies_that_hide_rows_are_named(looked: Workplace) -> None:
    looked.execute(
        "ALTER TABLE documents ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY own ON documents USING (file_path = 'nowhere')",
    )
    with role(looked, "GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}") as reader:
        for command in ("status", "search red", "validate"):
            done = look(looked, command, RAGOPS_DSN=reader)
            said = done.err + "\n".join(done.json.get("notes", ()))
            assert "row-level security of public.documents applies to role reader_" in said


def test_a_hot_standby_answers(tiny_model: Path, tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="ragops-tests-") as folder:
        primary = EmbeddedServer(Path(folder) / "primary", version=18)
        dsn = primary.start().conninfo
        target = Target(dsn, "the primary")
        with connect(target, with_vector=False) as connection:
            initialise(connection, target, plan_setup(connection, Tables(), dimensions=lambda: 32))
        with Embedder(EmbedderConfig(tiny_model)) as embedder:
            fill(dsn, embedder)
        primary.stop()
        # Copied with its owner, who is not always this user.
        copied = Path(folder) / "standby"
        shutil.copytree(primary.folder, copied)
        (copied / "standby.signal").touch()
        for path in (copied, *copied.rglob("*")):
            shutil.chown(path, primary.folder.stat().st_uid, primary.folder.stat().st_gid)
        standby = EmbeddedServer(copied, version=18)
        try:
            reached = standby.start().conninfo
            corpus = tmp_path / "corpus"
            with open_workplace(
                tmp_path, dsn=reached, corpus=corpus, model=tiny_model, gate=2, index_after=3
            ) as place:
                assert place.value("SELECT pg_is_in_recovery()")
                assert_all_answer(place)
        finally:
            standby.stop()


def test_validate_waits_for_a_queue_without_a_ledger(looked: Workplace) -> None:
    looked.execute(
        "DROP SCHEMA ragops CASCADE", "INSERT INTO files_queue (file_path, status) VALUES ('a', 'completed')"
    )
    done = look(looked, "validate", "--after", "1")
    # Five documents and one item: the check of the numbers fails, and nothing else.
    assert done.code == 3, done.err
    assert [check["id"] for check in done.json["checks"] if check["status"] == "fail"] == ["documents"]
