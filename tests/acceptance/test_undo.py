"""`ragops undo` as an operator types it: what comes back, where to, and what it leaves alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import wait_for, write_corpus
from workplace import Workplace, open_workplace

OTHER = """
version: 1
name: other
source: {folder: corpus}
tables:
  documents: {table: kb.documents}
  document_chunks: {table: kb.document_chunks}
  parsed_files: {table: kb.parsed_files}
  ingestion_metrics: {table: kb.ingestion_metrics}
  files_queue: {table: kb.files_queue}
steps: [{step: empty_tables}]
"""
TABLES = ("documents", "document_chunks", "parsed_files", "ingestion_metrics", "files_queue")


@pytest.fixture
def desk(dsn: str, tiny_model: Path, tmp_path: Path) -> Iterator[Workplace]:
    """A terminal and a fresh database on each server, a corpus of 30 documents."""
    corpus = write_corpus(tmp_path / "corpus", 30)
    with open_workplace(tmp_path, dsn=dsn, corpus=corpus, model=tiny_model, gate=10, index_after=20) as opened:
        yield opened


def fill(desk: Workplace, rows: int, *, text: str = "text") -> None:
    desk.execute(f"INSERT INTO documents (content) SELECT '{text} ' || n FROM generate_series(1, {rows}) n")


def light(desk: Workplace) -> str:
    """A playbook that empties and fills the queue, and embeds nothing."""
    path = desk.folder / "light.yaml"
    path.write_text(
        "version: 1\nname: light\nsource: {folder: corpus}\n"
        "steps: [{step: drop_indexes}, {step: empty_tables}, {step: reseed_queue}]\n",
        encoding="utf-8",
    )
    return path.name


def two_campaigns(desk: Workplace, *second: str) -> None:
    assert desk.ragops("reset", "-p", light(desk), "--yes").code == 0
    fill(desk, 3, text="between")
    assert desk.ragops("reset", "-p", light(desk), "--yes", *second).code == 0


def test_rows_come_back_into_the_table_they_were_in(desk: Workplace) -> None:
    """Two corpora in one database: the playbook of the moment does not decide where rows go."""
    desk.execute("CREATE SCHEMA kb", *(f"CREATE TABLE kb.{t} (LIKE public.{t} INCLUDING ALL)" for t in TABLES))
    desk.execute("INSERT INTO kb.documents (content) SELECT 'kb ' || n FROM generate_series(1, 10) n")
    fill(desk, 1000, text="PRODUCTION")
    (desk.folder / "kb.yaml").write_text(OTHER, encoding="utf-8")
    assert desk.ragops("tables", "empty", "documents", "document_chunks", "-p", "kb.yaml", "--yes").code == 0
    done = desk.ragops("undo", "--yes", "--json")
    assert (done.code, done.json["rows"]["kb.documents"]) == (0, 10)
    assert desk.value("SELECT count(*) FROM public.documents WHERE content LIKE 'PRODUCTION %'") == 1000
    assert desk.value("SELECT count(*) FROM kb.documents WHERE content LIKE 'kb %'") == 10


def test_a_table_that_was_replaced_is_refused(desk: Workplace) -> None:
    fill(desk, 5)
    assert desk.ragops("tables", "empty", "--yes").code == 0
    desk.execute("DROP TABLE document_chunks, documents", "CREATE TABLE documents (id int, content text)")
    desk.execute("INSERT INTO documents VALUES (1, 'of another program')")
    refused = desk.ragops("undo", "--yes")
    assert refused.code == 1
    assert (
        "the table public.documents that was archived" in refused.err and "is gone or was replaced" in refused.err
    )
    assert "ragops.archive_" in refused.err
    assert desk.rows("SELECT content FROM documents") == [("of another program",)]


def test_a_renamed_table_gets_its_rows(desk: Workplace) -> None:
    fill(desk, 5)
    assert desk.ragops("tables", "empty", "--yes").code == 0
    desk.execute("ALTER TABLE documents RENAME TO articles")
    assert desk.ragops("undo", "--yes", "--json").json["rows"]["public.articles"] == 5


def test_what_goes_is_kept_and_indexes_stay(desk: Workplace) -> None:
    fill(desk, 5)
    desk.execute("CREATE INDEX mine ON documents USING hnsw (embedding vector_l2_ops) WITH (m = 7)")
    definitions = desk.index_definitions()
    assert desk.ragops("tables", "empty", "documents", "document_chunks", "--yes").code == 0
    fill(desk, 3, text="later")
    done = desk.ragops("undo", "--yes", "--json").json
    assert (desk.value("SELECT count(*) FROM documents"), desk.index_definitions()) == (5, definitions)
    shown = desk.ragops("archive", "status", "--json").json["archives"]
    kept = [a for a in shown if a["generation"] == done["removed_generation"] and a["table"] == "documents"]
    assert [a["rows"] for a in kept] == [3]
    again = desk.ragops("undo", "--generation", str(done["removed_generation"]), "--yes")
    assert again.code == 0, again.err
    assert desk.rows("SELECT content FROM documents ORDER BY 1") == [(f"later {n}",) for n in (1, 2, 3)]
    assert desk.index_definitions() == definitions


def test_undo_again_changes_nothing(desk: Workplace) -> None:
    fill(desk, 5)
    two_campaigns(desk)
    assert desk.ragops("undo", "--yes", "--json").json["campaign"] == 2
    once = desk.snapshot()
    again = desk.ragops("undo", "--yes", "--json")
    assert (again.code, again.json["was_undone"], again.json["rows"]) == (0, True, {})
    assert desk.snapshot() == once
    back = desk.ragops("undo", "--campaign", "1", "--yes", "--json")
    assert (back.code, back.json["campaign"]) == (0, 1)
    assert desk.value("SELECT count(*) FROM documents WHERE content LIKE 'text %'") == 5


def test_a_newer_campaign_is_undone_first(desk: Workplace) -> None:
    two_campaigns(desk)
    refused = desk.ragops("undo", "--campaign", "1", "--yes")
    assert refused.code == 2 and "campaign 2 came after campaign 1" in refused.err


def test_a_failed_undo_leaves_the_status_and_the_queue(desk: Workplace) -> None:
    fill(desk, 5)
    assert desk.ragops("reset", "-p", light(desk), "--yes").code == 0
    desk.execute(
        "ALTER TABLE documents ADD tenant int NOT NULL DEFAULT 1",
        "ALTER TABLE documents ALTER tenant DROP DEFAULT",
    )
    before = desk.snapshot()
    refused = desk.ragops("undo", "--yes", "--json")
    assert refused.code == 1 and "documents.tenant was added since" in refused.err
    assert desk.snapshot() == before and desk.value("SELECT status FROM ragops.campaign") == "done"
    desk.execute('ALTER TABLE "public"."documents" ALTER COLUMN "tenant" DROP NOT NULL')
    done = desk.ragops("undo", "--yes", "--json")
    assert done.code == 0, done.err
    assert desk.rows("SELECT count(*), count(tenant) FROM documents") == [(5, 0)]


def test_every_archive_has_its_table_whatever_the_playbook_maps(desk: Workplace) -> None:
    fill(desk, 10)
    desk.execute("INSERT INTO parsed_files (file_id) SELECT n FROM generate_series(1, 10) n")
    assert desk.ragops("tables", "empty", "--yes").code == 0
    (desk.folder / "pb.yaml").write_text(
        "version: 1\nname: n\nsource: {folder: corpus}\ntables: {parsed_files: null}\nsteps: [{step: validate}]\n",
        encoding="utf-8",
    )
    done = desk.ragops("undo", "--yes", "--json", "-p", "pb.yaml")
    assert done.code == 0, done.err
    assert desk.value("SELECT count(*) FROM parsed_files") == 10
    assert desk.rows(
        "SELECT restored_at IS NOT NULL, count(*) FROM ragops.archive WHERE undo_id IS NULL GROUP BY 1"
    ) == [(True, 5)]


def test_triggers_neither_fire_nor_change(desk: Workplace) -> None:
    fill(desk, 10)
    assert desk.ragops("tables", "empty", "documents", "document_chunks", "--yes").code == 0
    desk.execute(
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN IF NEW.content = 'text 3' THEN RETURN NULL; END IF; NEW.content = 'x'; RETURN NEW; END $$",
        "CREATE TRIGGER a BEFORE INSERT ON documents FOR EACH ROW EXECUTE FUNCTION f()",
        "CREATE TRIGGER b BEFORE INSERT ON documents FOR EACH ROW EXECUTE FUNCTION f()",
        "CREATE TRIGGER c BEFORE INSERT ON documents FOR EACH ROW EXECUTE FUNCTION f()",
        "ALTER TABLE documents DISABLE TRIGGER b",
        "ALTER TABLE documents ENABLE ALWAYS TRIGGER c",
    )
    assert desk.ragops("undo", "--yes").code == 0
    assert desk.value("SELECT count(*) FROM documents WHERE content LIKE 'text %'") == 10
    states = desk.rows("SELECT tgname, tgenabled FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1")
    assert states == [("a", "O"), ("b", "D"), ("c", "A")]


def test_a_rule_that_swallows_rows_is_noticed(desk: Workplace) -> None:
    fill(desk, 10)
    assert desk.ragops("tables", "empty", "documents", "document_chunks", "--yes").code == 0
    desk.execute("CREATE RULE r AS ON INSERT TO documents WHERE NEW.content = 'text 3' DO INSTEAD NOTHING")
    before = desk.snapshot()
    refused = desk.ragops("undo", "--yes")
    assert refused.code == 1 and "did not come back as they were archived" in refused.err
    assert "9 rows" in refused.err and "the 10 rows of ragops.archive_" in refused.err
    # The server numbers relations anew, everything else is as it was.
    after = desk.snapshot()
    assert {k: v for k, v in after.items() if k != "relations"} == {
        k: v for k, v in before.items() if k != "relations"
    }


def test_the_queue_comes_back_with_what_it_was_filled_from(desk: Workplace) -> None:
    old, new = desk.variables["RAGOPS_CORPUS"], desk.folder / "new"
    for number in range(25):
        new.mkdir(exist_ok=True)
        (new / f"{number}.txt").write_text(f"new {number}", encoding="utf-8")
    assert desk.ragops("queue", "reseed").code == 0
    assert desk.ragops("embed", "--until", "10", "--workers", "1").code == 0
    assert desk.reset(RAGOPS_CORPUS=str(new)).code == 0
    assert desk.ragops("undo", "--yes").code == 0
    assert desk.value("SELECT source->>'folder' FROM ragops.source") == old
    assert desk.ragops("embed", "--workers", "1").code == 0
    assert desk.value("SELECT count(*) FROM documents WHERE content LIKE 'note %'") == 30


def test_definitions_outlive_a_campaign_that_was_given_up(desk: Workplace) -> None:
    desk.execute(
        'CREATE INDEX "My own L2 index" ON documents USING hnsw (embedding vector_l2_ops) WITH (m = 12)',
        "CREATE INDEX idx_documents_embedding_hnsw ON documents"
        " USING hnsw (embedding vector_cosine_ops) WITH (m = 8)",
    )
    fill(desk, 5)
    before = desk.index_definitions()
    # The first campaign is killed when its indexes and rows are gone.
    desk.slow_down(0.5)
    first = desk.start("reset", "--yes")
    done = "SELECT count(*) FROM ragops.step WHERE verb = 'reseed_queue' AND status = 'done'"
    wait_for(lambda: desk.value("SELECT count(*) FROM pg_class WHERE relname = 'undo'") and desk.value(done))
    first.kill()
    first.wait()
    desk.speed_up()
    assert desk.index_definitions() == []
    assert desk.reset("--new").code == 0
    built = desk.index_definitions()
    assert set(before) <= set(built)
    undone = desk.ragops("undo", "--yes", "--json")
    assert undone.code == 0, undone.err
    # Back to the time before both: their first rows, their first indexes.
    assert desk.index_definitions() == before
    assert desk.rows("SELECT content FROM documents ORDER BY id") == [(f"text {n}",) for n in range(1, 6)]


def test_a_role_with_delete_alone_can_undo(desk: Workplace) -> None:
    fill(desk, 5)
    (desk.folder / "delete.yaml").write_text(
        "version: 1\nname: n\nsource: {folder: corpus}\nsteps:\n  - step: empty_tables\n    tables:\n"
        "      - {table: document_chunks, method: delete}\n      - {table: documents, method: delete}\n",
        encoding="utf-8",
    )
    role = "deleter_" + desk.dsn.rpartition("dbname=")[2].split()[0].strip("'\"")[-8:]
    desk.execute(
        f"CREATE ROLE {role} LOGIN",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}",
        f"GRANT ALL ON SCHEMA ragops TO {role}",
        f"GRANT ALL ON ALL TABLES IN SCHEMA ragops TO {role}",
        f"GRANT ALL ON ALL SEQUENCES IN SCHEMA ragops TO {role}",
    )
    dsn = f"{desk.dsn} user={role}"
    try:
        emptied = desk.ragops("tables", "empty", "-p", "delete.yaml", "--yes", RAGOPS_DSN=dsn)
        assert emptied.code == 0, emptied.err
        done = desk.ragops("undo", "--yes", RAGOPS_DSN=dsn)
        assert done.code == 0, done.err
        assert desk.value("SELECT count(*) FROM documents") == 5
    finally:
        desk.execute(f"DROP OWNED BY {role}", f"DROP ROLE {role}")


def test_a_table_that_references_the_rows_is_named(desk: Workplace) -> None:
    fill(desk, 5)
    assert desk.ragops("tables", "empty", "documents", "document_chunks", "--yes").code == 0
    desk.execute(
        "INSERT INTO documents (id, content) VALUES (77, 'new')",
        "CREATE TABLE notes (document bigint REFERENCES documents ON DELETE CASCADE, note text)",
        "INSERT INTO notes VALUES (77, 'mine')",
    )
    refused = desk.ragops("undo", "--yes", "--json")
    assert refused.code == 1
    assert (
        "public.notes references public.documents (foreign key notes_document_fkey, ON DELETE CASCADE)"
        in refused.err
    )
    assert desk.value("SELECT count(*) FROM notes") == 1
    desk.execute("DELETE FROM notes")
    assert desk.ragops("undo", "--yes").code == 0
    assert desk.value("SELECT count(*) FROM documents") == 5


def test_a_campaign_without_an_archive_is_not_skipped(desk: Workplace) -> None:
    fill(desk, 5)
    two_campaigns(desk, "--no-archive")
    before = desk.snapshot()
    refused = desk.ragops("undo", "--yes")
    assert refused.code == 1 and "campaign 2 emptied its tables, and there is no archive" in refused.err
    assert desk.snapshot() == before


def test_an_archive_that_was_dropped_is_said(desk: Workplace) -> None:
    fill(desk, 5)
    assert desk.ragops("reset", "-p", light(desk), "--yes").code == 0
    assert desk.ragops("archive", "drop", "--yes").code == 0
    before = desk.snapshot()
    refused = desk.ragops("undo", "--yes")
    assert refused.code == 1 and "there is no archive of the rows" in refused.err
    assert desk.snapshot() == before


def test_the_planner_knows_the_rows_that_came_back(desk: Workplace) -> None:
    fill(desk, 40)
    assert desk.ragops("tables", "empty", "--yes").code == 0
    desk.execute("ANALYZE documents")
    assert desk.ragops("undo", "--yes").code == 0
    assert desk.value("SELECT reltuples FROM pg_class WHERE oid = 'documents'::regclass") == 40


def test_the_planner_knows_what_was_embedded(desk: Workplace) -> None:
    assert desk.ragops("queue", "reseed").code == 0
    assert desk.ragops("embed", "--workers", "1").code == 0
    assert desk.value("SELECT reltuples FROM pg_class WHERE oid = 'documents'::regclass") == 30


def test_a_database_that_was_copied_can_be_undone(desk: Workplace) -> None:
    """As after pg_dump and pg_restore: the oids of the archive are those of another database."""
    fill(desk, 5)
    assert desk.ragops("tables", "empty", "--yes").code == 0
    # Tables of a restored dump have other oids.
    desk.execute(
        "UPDATE ragops.archive SET database_oid = database_oid + 1, table_oid = table_oid + 1",
    )
    assert desk.ragops("undo", "--yes").code == 0
    assert desk.value("SELECT count(*) FROM documents WHERE content LIKE 'text %'") == 5


def test_a_renamed_column_is_not_taken_for_a_dropped_one(desk: Workplace) -> None:
    fill(desk, 5)
    assert desk.ragops("tables", "empty", "--yes").code == 0
    desk.execute("ALTER TABLE documents RENAME content TO body")
    refused = desk.ragops("undo", "--yes", "--json")
    assert refused.code == 1
    cures = [
        p["cure"]
        for p in refused.json["error"]["problems"]
        if "RENAME COLUMN content TO body" in (p["cure"] or "")
    ]
    desk.execute(*cures)
    assert desk.ragops("undo", "--yes").code == 0
    assert desk.value("SELECT count(*) FROM documents WHERE body LIKE 'text %'") == 5


def test_a_ledger_of_an_older_version(desk: Workplace) -> None:
    """Looking changes nothing there; the first command that writes brings it up to date."""
    fill(desk, 5)
    desk.execute("CREATE INDEX mine ON documents USING hnsw (embedding vector_l2_ops)")
    assert desk.ragops("reset", "-p", light(desk), "--yes").code == 0
    desk.execute(
        "DROP TABLE ragops.work, ragops.captured, ragops.cutover, ragops.vector_archive, ragops.row_state,"
        " ragops.target",
        "ALTER TABLE ragops.archive DROP generation, DROP table_oid, DROP database_oid, DROP queue_source,"
        " DROP undo_id",
        "ALTER TABLE ragops.index_definition DROP properties, DROP undo_id",
        "DROP TABLE ragops.undo",
    )
    before = desk.snapshot()
    archives = desk.ragops("archive", "status", "--json").json["archives"]
    assert {archive["generation"] for archive in archives} == {1}
    listed = desk.ragops("index", "status", "--json").json["indexes"]
    assert [index["state"] for index in listed if index["name"] == "mine"] == ["dropped"]
    assert desk.snapshot() == before
    assert desk.ragops("undo", "--yes").code == 0
    assert desk.value("SELECT count(*) FROM documents WHERE content LIKE 'text %'") == 5
    assert [name for name, *_ in desk.index_definitions()] == ["mine"]
