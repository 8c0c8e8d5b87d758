"""Tables with enums, domains and other numbers than ragops' own: filled, embedded and retried by the program."""

from __future__ import annotations

from pathlib import Path

from conftest import write_corpus
from workplace import open_workplace

TABLES = (
    "CREATE TYPE state AS ENUM ('pending', 'processing', 'completed', 'failed')",
    "CREATE DOMAIN place AS varchar(80) CHECK (value <> '')",
    "CREATE DOMAIN reference AS bigint",
    "DROP TABLE files_queue",
    "CREATE TABLE files_queue (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, file_path place NOT NULL,"
    " status state NOT NULL DEFAULT 'pending', attempts smallint, phase bigint, claim_id uuid,"
    " claimed_by varchar(100), lease_until timestamptz, last_error varchar(200))",
    "ALTER TABLE documents ALTER file_id TYPE reference, ALTER file_path TYPE place, ALTER content TYPE char(200)",
    "ALTER TABLE parsed_files ALTER file_id TYPE numeric",
)


def test_a_queue_and_documents_of_other_types(dsn: str, tiny_model: Path, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", 30)
    (corpus / "part0" / "empty.txt").write_text("")
    with open_workplace(tmp_path, dsn=dsn, corpus=corpus, model=tiny_model, gate=10, index_after=20) as place:
        place.execute(*TABLES)
        reseeded = place.ragops("queue", "reseed", "--playbook", "realign.yaml", "--json")
        assert reseeded.code == 0, reseeded.err
        embedded = place.ragops("embed", "--playbook", "realign.yaml", "--json")
        assert embedded.code == 0, embedded.err
        assert (embedded.json["completed"], embedded.json["failed"], embedded.json["pending"]) == (30, 1, 0)
        joined = "documents d JOIN files_queue q ON q.id = d.file_id AND q.file_path = d.file_path"
        assert place.value(f"SELECT count(*) FROM {joined} WHERE q.status = 'completed'") == 30
        assert place.rows("SELECT file_path, attempts, last_error FROM files_queue WHERE status = 'failed'") == [
            ("part0/empty.txt", 1, "empty document: 0 bytes")
        ]
