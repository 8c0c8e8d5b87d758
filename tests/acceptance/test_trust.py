"""What only the database names is neither read nor started nor sent anything, unless this user stored it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest
from workplace import Finished, Workplace

SECRET = "root:x:0:0 this file is a file of no corpus"

# Ends the run at the first such document: a damaged table is no document's fault, and passes by no waiting.
DAMAGED = (
    "CREATE FUNCTION damaged() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.content LIKE 'note 7 %'"
    " THEN RAISE EXCEPTION 'invalid page' USING ERRCODE = 'XX001'; END IF; RETURN NEW; END $$",
    "CREATE TRIGGER damaged BEFORE INSERT ON documents FOR EACH ROW EXECUTE FUNCTION damaged()",
)


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """A folder that no playbook names."""
    folder = tmp_path / "private"
    folder.mkdir()
    (folder / "passwd.txt").write_text(SECRET, encoding="utf-8")
    return folder


def plant_source(place: Workplace, **values: object) -> None:
    """What anyone who may write the table can do."""
    source = place.value("SELECT source FROM ragops.source") | values
    with psycopg.connect(place.dsn, autocommit=True) as connection:
        connection.execute("UPDATE ragops.source SET source = %s", [json.dumps(source)])


def plant_playbook(place: Workplace, section: str, **values: object) -> None:
    with psycopg.connect(place.dsn, autocommit=True) as connection:
        (playbook,) = connection.execute("SELECT playbook FROM ragops.campaign").fetchone() or ({},)
        playbook[section] = {**playbook[section], **values}
        connection.execute("UPDATE ragops.campaign SET playbook = %s", [json.dumps(playbook)])


def refused(done: Finished, *parts: str) -> dict[str, Any]:
    assert done.code == 1, done.out + done.err
    error: dict[str, Any] = json.loads(done.out)["error"]
    shown = json.dumps(error, ensure_ascii=False)
    for part in (*parts, "--trust-stored", "--playbook FILE"):
        assert part in shown, shown
    return error


def test_embed_reads_no_folder_that_the_database_alone_names(
    place: Workplace, other: Path, tmp_path: Path
) -> None:
    assert place.ragops("queue", "reseed").code == 0
    corpus = place.variables["RAGOPS_CORPUS"]
    place.execute("UPDATE files_queue SET file_path = 'passwd.txt' WHERE id = (SELECT min(id) FROM files_queue)")
    plant_source(place, folder=str(other))
    for command in (("embed",), ("tune", "--seconds", "5")):
        refused(place.ragops(*command, "--json"), f"source.folder: the database says {other}", f"says {corpus}")
    plant_source(place, folder=None, manifest=str(other / "passwd.txt"), root=str(other))
    refused(place.ragops("embed", "--json"), "source.manifest", "source.root")
    plant_source(place, manifest=None, root=None, query="SELECT usename, passwd FROM pg_shadow")
    refused(place.ragops("embed", "--json"), "source.query: the database says SELECT usename, passwd")
    plant_source(place, query=None, table="pg_catalog.pg_authid", id_column="rolname", text_column="rolpassword")
    refused(place.ragops("embed", "--json"), "source.table", "source.text_column")
    assert place.queue() == {"pending": 120}
    assert place.value("SELECT count(*) FROM documents") == 0
    # The same playbook on another machine, and the default one on this machine, go on without a question.
    plant_source(place, table=None, folder=corpus, id_column="id", text_column="content")
    elsewhere = str(tmp_path / "another machine's data")
    assert place.ragops("embed", "--until", "3", RAGOPS_DATA_DIR=elsewhere).code == 0
    assert place.ragops("embed", "--until", "3", RAGOPS_CORPUS="").code == 0
    # Who knows the folder says so, once.
    plant_source(place, folder=str(other))
    place.execute("UPDATE files_queue SET file_path = 'passwd.txt' WHERE status = 'pending' AND id % 30 = 0")
    assert place.ragops("embed", "--trust-stored").code == 0
    assert place.ragops("embed").code == 0
    assert place.value(f"SELECT count(*) FROM documents WHERE content = '{SECRET}'") >= 1
    # A file that others can write to proves nothing.
    (tmp_path / "data" / "stored-from-here").chmod(0o666)
    refused(place.ragops("embed", "--json"), "source.folder")


def test_resume_starts_no_program_that_the_database_alone_names(
    place: Workplace, other: Path, tmp_path: Path
) -> None:
    place.execute("INSERT INTO parsed_files (file_id, content_hash) VALUES (1, 'kept')")
    place.execute(*DAMAGED)
    assert place.reset().code == 1
    planted = tmp_path / "planted"
    planted.write_text(f"#!{sys.executable}\nopen({str(tmp_path / 'ran')!r}, 'w')\n", encoding="utf-8")
    planted.chmod(0o755)
    place.execute("CREATE TABLE kept AS SELECT playbook FROM ragops.campaign")
    for section, values, part in (
        ("workers", {"python": str(planted)}, f"workers.python: the database says {planted}, the playbook says"),
        ("model", {"file": "/tmp/planted.gguf"}, "model.file: the database says /tmp/planted.gguf"),
        ("source", {"folder": str(other)}, f"source.folder: the database says {other}"),
        ("source", {"folder": None, "query": "SELECT 1, 'x'"}, "source.query: the database says SELECT 1"),
        ("reference", {"fingerprint": "/etc/passwd"}, "reference.fingerprint: the database says /etc/passwd"),
        (
            "reference",
            {"openai": {"url": "http://evil.example/v1", "api_key_env": "HOME", "allow_plaintext": True}},
            "reference.openai.api_key_env: the database says HOME",
        ),
        ("database", {"allow_plaintext": True}, "database.allow_plaintext: the database says True"),
    ):
        plant_playbook(place, section, **values)
        refused(place.ragops("reset", "--resume", "--json"), part)
        place.execute("UPDATE ragops.campaign SET playbook = (SELECT playbook FROM kept)")
    assert not (tmp_path / "ran").exists()
    # Undo needs none of them, and neither reads nor starts anything.
    plant_playbook(place, "workers", python=str(planted))
    assert place.ragops("undo", "--yes").code == 0
    assert not (tmp_path / "ran").exists()
    assert place.value("SELECT content_hash FROM parsed_files") == "kept"


def test_resume_goes_on_here_without_the_playbook_and_elsewhere_with_it(place: Workplace, tmp_path: Path) -> None:
    place.execute(*DAMAGED)
    assert place.reset().code == 1
    place.execute("DROP TRIGGER damaged ON documents", "UPDATE ragops.campaign SET status = 'stopped'")
    # On another machine without its playbook's values, and then with them.
    elsewhere = str(tmp_path / "another machine's data")
    bare = {"RAGOPS_CORPUS": "", "RAGOPS_MODEL": ""}
    refused(place.ragops("reset", "--resume", "--json", RAGOPS_DATA_DIR=elsewhere, **bare), "model.file")
    done = place.ragops("reset", "--resume", "--json", RAGOPS_DATA_DIR=elsewhere)
    assert done.code == 0, done.err
    # Here, from the same state, without them.
    place.execute("UPDATE ragops.campaign SET status = 'stopped', finished_at = NULL")
    done = place.ragops("reset", "--resume", "--json", **bare)
    assert done.code == 0, done.err


def test_a_schema_of_a_stranger_is_refused(place: Workplace) -> None:
    place.execute(
        "CREATE ROLE stranger", "CREATE ROLE operator LOGIN", "GRANT ALL ON SCHEMA public TO operator",
        "GRANT ALL ON ALL TABLES IN SCHEMA public TO operator", "GRANT USAGE, CREATE ON SCHEMA ragops TO operator",
        "GRANT ALL ON ALL TABLES IN SCHEMA ragops TO operator",
        "GRANT ALL ON ALL SEQUENCES IN SCHEMA ragops TO operator",
    )  # fmt: skip
    mine = place.dsn.replace("user=postgres", "user=operator")
    assert mine != place.dsn
    try:
        assert place.ragops("queue", "reseed", RAGOPS_DSN=mine).code == 0
        place.execute("ALTER TABLE ragops.source OWNER TO stranger")
        for dsn, role in ((mine, "operator"), (place.dsn, "postgres")):
            done = place.ragops("embed", "--json", RAGOPS_DSN=dsn)
            assert done.code == 1, done.err
            assert json.loads(done.out)["error"]["problems"] == [
                {
                    "what": "table ragops.source is owned by stranger",
                    "cure": f"ALTER TABLE ragops.source OWNER TO {role};",
                }
            ]
        place.execute("GRANT stranger TO operator")
        assert place.ragops("queue", "retry", RAGOPS_DSN=mine).code == 0
        place.execute("REVOKE stranger FROM operator", "ALTER TABLE ragops.source OWNER TO postgres")
        place.execute("ALTER SCHEMA ragops OWNER TO stranger")
        assert "schema ragops is owned by stranger" in place.ragops("embed", "--json", RAGOPS_DSN=mine).out
        # A schema that a stranger made in advance, still empty.
        place.execute("DROP SCHEMA ragops CASCADE", "CREATE SCHEMA ragops AUTHORIZATION stranger")
        assert "schema ragops is owned by stranger" in place.ragops("embed", "--json").out
    finally:
        place.execute("DROP OWNED BY stranger, operator", "DROP ROLE stranger, operator")


@pytest.mark.parametrize(
    "definition",
    [
        "CREATE INDEX x ON public.documents USING hnsw (embedding vector_cosine_ops); DROP TABLE parsed_files",
        "DROP TABLE parsed_files",
        "CREATE INDEX x ON public.parsed_files USING btree (id)",
        "CREATE TABLE x AS SELECT 1",
    ],
)
def test_a_journal_restores_indexes_and_nothing_else(place: Workplace, definition: str) -> None:
    place.execute(
        "INSERT INTO ragops.index_definition (schema_name, index_name, table_name, definition, bytes)"
        f" VALUES ('public', 'x', 'public.documents', $${definition}$$, 1)"
    )
    done = place.ragops("index", "rebuild", "--json")
    assert done.code == 1, done.out
    assert place.value("SELECT to_regclass('parsed_files')::text") == "parsed_files"
    assert place.value("SELECT to_regclass('x')") is None


def test_a_cache_that_others_may_write_is_not_used(place: Workplace, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    cache.chmod(0o777)
    variables = {"RAGOPS_CACHE_DIR": str(cache), "RAGOPS_CACHE_MIB": "16"}
    assert place.ragops("queue", "reseed").code == 0
    done = place.ragops("embed", "--until", "5", **variables)
    assert done.code == 0, done.err
    assert f"the vector cache is not used: {cache}: other users may write to it" in done.err
    assert list(cache.iterdir()) == []
    cache.chmod(0o700)
    done = place.ragops("embed", "--until", "10", **variables)
    assert "not used" not in done.err
    assert {oct(file.stat().st_mode & 0o777) for file in cache.iterdir()} == {"0o600"}
