"""The first minutes with a database that somebody else set up: its DSN, its TLS, its extension, its encoding."""

from __future__ import annotations

import socket
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
from conftest import Server, fresh_database, write_corpus
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from workplace import Workplace, open_workplace

EXTENSION_SCHEMA = '"My Extensions"'
SMALL = """
version: 1
name: small
model: {file: "${RAGOPS_MODEL}"}
source: {folder: "${RAGOPS_CORPUS}"}
steps:
  - step: empty_tables
  - step: reseed_queue
  - step: embed
  - step: validate
"""


@contextmanager
def relay_without_tls(to: str) -> Iterator[int]:
    """A server that has no TLS, on all addresses of this machine: it hands everything on to a Unix socket."""

    def pump(source: socket.socket, sink: socket.socket) -> None:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)

    def carry(client: socket.socket) -> None:
        # What asks for TLS or GSS is 8 bytes, and answered with one: no.
        while client.recv(8, socket.MSG_PEEK)[4:8] in (b"\x04\xd2\x16\x2f", b"\x04\xd2\x16\x30"):
            client.recv(8)
            client.sendall(b"N")
        if client.recv(1, socket.MSG_PEEK):
            server = socket.socket(socket.AF_UNIX)
            server.connect(to)
            threading.Thread(target=pump, args=(server, client), daemon=True).start()
            pump(client, server)

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=carry, args=(client,), daemon=True).start()

    listener = socket.create_server(("0.0.0.0", 0))
    threading.Thread(target=serve, daemon=True).start()
    yield listener.getsockname()[1]
    listener.close()


def test_a_server_without_tls_says_what_was_asked_and_how_to_allow_it(place: Workplace) -> None:
    parts = conninfo_to_dict(place.dsn)
    with relay_without_tls(f"{parts['host']}/.s.PGSQL.{parts.get('port', 5432)}") as port:
        # Not an address of the loopback interface, so that it counts as another machine.
        dsn = f"postgresql://{parts['user']}@0.0.0.0:{port}/{parts['dbname']}"
        refused = place.ragops("status", RAGOPS_DSN=dsn)
        assert refused.code == 1
        assert "sslmode=require, which ragops adds" in refused.err
        assert "database.allow_plaintext: true" in refused.err and "RAGOPS_ALLOW_PLAINTEXT=true" in refused.err
        asked = place.ragops("status", RAGOPS_DSN=f"{dsn}?sslmode=verify-full")
        assert asked.code == 1 and "the DSN's sslmode" in asked.err
        allowed = place.ragops("status", "--json", RAGOPS_DSN=dsn, RAGOPS_ALLOW_PLAINTEXT="true")
        assert allowed.code == 0, allowed.err


def test_a_dsn_of_another_program(place: Workplace) -> None:
    parts = conninfo_to_dict(place.dsn)
    place.execute(
        "CREATE SCHEMA kb", *(f"ALTER TABLE {name} SET SCHEMA kb" for name in ("documents", "files_queue"))
    )
    place.execute("INSERT INTO kb.files_queue (file_path) VALUES ('a.txt')")
    host = quote(str(parts["host"]), safe="")
    dsn = f"DATABASE_URL='postgresql+psycopg://{parts['user']}:s3cret-canary@/{parts['dbname']}?host={host}&pgbouncer=true"
    done = place.ragops("queue", "status", "--json", RAGOPS_DSN=f"{dsn}&schema=kb'")
    assert done.code == 0, done.err
    assert done.json["queue"]["pending"] == 1
    for said in ("postgresql+psycopg:// is read as", "pgbouncer is not for ragops", "schema=kb is read as"):
        assert done.err.count(said) == 1
    assert "s3cret-canary" not in done.err
    wrong = place.ragops("status", "--json", RAGOPS_DSN=f"{dsn}&sslmod=require'")
    assert wrong.code == 2 and "the parameter sslmod (did you mean sslmode?)" in wrong.out + wrong.err
    assert "s3cret-canary" not in wrong.out + wrong.err


@pytest.mark.slow
def test_everything_works_with_pgvector_in_a_schema_of_its_own(
    server: Server, tiny_model: Path, tmp_path: Path
) -> None:
    corpus = write_corpus(tmp_path / "corpus", 30)
    with (
        fresh_database(server, template="template1") as dsn,
        open_workplace(tmp_path, dsn=dsn, corpus=corpus, model=tiny_model, gate=10, index_after=20) as place,
    ):
        place.execute(f"CREATE SCHEMA {EXTENSION_SCHEMA}", f"CREATE EXTENSION vector SCHEMA {EXTENSION_SCHEMA}")
        printed = place.ragops("db", "init", "--dry-run")
        assert printed.code == 0 and f'{EXTENSION_SCHEMA}."vector"(32)' in printed.out
        for command in ("db init --dimensions 32", "reset -p realign.yaml --yes"):
            done = place.ragops(*command.split(), "--json")
            assert done.code == 0, f"{command}: {done.err}"
        assert place.value("SELECT count(*) FROM documents WHERE embedding IS NOT NULL") == 30
        found = place.ragops("search", "index vector", "--json")
        assert found.code == 0 and found.json["index"] == "idx_documents_embedding_hnsw", found.err
        assert found.json["recall"] == 1.0
        before = place.index_definitions()
        again = (
            "index drop --yes",
            "index rebuild",
            "validate",
            "status",
            "reset -p realign.yaml --yes --force",
            "undo --yes",
        )
        for command in again:
            done = place.ragops(*command.split(), "--json")
            assert done.code == 0, f"{command}: {done.err}"
        assert place.index_definitions() == before
        assert place.value("SELECT count(*) FROM documents WHERE embedding IS NOT NULL") == 30
        name = f"reader_{uuid.uuid4().hex[:8]}"
        place.execute(f"CREATE ROLE {name} LOGIN", f"GRANT SELECT ON documents TO {name}")
        refused = place.ragops("search", "index", "--json", RAGOPS_DSN=make_conninfo(dsn, user=name))
        assert refused.code == 1
        assert (
            f"GRANT USAGE ON SCHEMA {EXTENSION_SCHEMA} TO {name}" in refused.json["error"]["problems"][0]["cure"]
        )
        place.execute(f"DROP OWNED BY {name}", f"DROP ROLE {name}")


def test_an_extension_that_the_server_does_not_allow(place: Workplace) -> None:
    place.execute(
        "DROP TABLE document_chunks, documents",
        "DROP EXTENSION vector",
        "CREATE FUNCTION deny() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION"
        " 'vector is not allow-listed for this service'"
        " USING ERRCODE = '0A000', HINT = 'ask the service desk'; END $$",
        "CREATE EVENT TRIGGER deny ON ddl_command_start WHEN TAG IN ('CREATE EXTENSION') EXECUTE FUNCTION deny()",
    )
    refused = place.ragops("db", "init", "--dimensions", "32")
    assert refused.code == 1
    assert "vector is not allow-listed for this service" in refused.err and "ask the service desk" in refused.err
    assert "not available" not in refused.err


@pytest.mark.parametrize(
    ("encoding", "version", "client"), [("LATIN1", 16, ""), ("SQL_ASCII", 18, ""), ("UTF8", 18, "LATIN1")]
)
def test_texts_are_stored_as_they_are_whatever_the_encoding(
    request: pytest.FixtureRequest, tiny_model: Path, tmp_path: Path, encoding: str, version: int, client: str
) -> None:
    server: Server = request.getfixturevalue(f"pg{version}")
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    # 150 two-byte letters and one byte: in a database that counts bytes, 300 of them end within a letter.
    long = "x" + "ä" * 200
    (corpus / "größe.txt").write_text("Äpfel in der Stadt", encoding="utf-8")
    (corpus / "lang.txt").write_text(long, encoding="utf-8")
    (tmp_path / "small.yaml").write_text(SMALL, encoding="utf-8")
    name = f"t_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server.target.conninfo, autocommit=True) as admin:
        options = f"ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
        admin.execute(f"CREATE DATABASE {name} {options}".encode())
        dsn = make_conninfo(server.dsn(name), client_encoding="UTF8")
        with open_workplace(tmp_path, dsn=dsn, corpus=corpus, model=tiny_model, gate=1, index_after=2) as place:
            more = {"PGCLIENTENCODING": client, "RAGOPS_DSN": server.dsn(name)} if client else {}
            commands = (
                "db init --dimensions 32",
                "reset -p small.yaml --yes",
                "status",
                "validate",
                "search Stadt",
            )
            for command in commands:
                done = place.ragops(*command.split(), "--json", **more)
                assert done.code == 0, f"{command}: {done.err}"
            stored = place.rows("SELECT file_path::bytea, content::bytea FROM documents ORDER BY 1")
            codec = "latin-1" if encoding == "LATIN1" else "utf-8"
            texts = {bytes(path).decode(codec): bytes(content).decode(codec) for path, content in stored}
            assert texts == {"größe.txt": "Äpfel in der Stadt", "lang.txt": long}
            # A check's limit is written with a sign that LATIN1 does not have.
            effect = place.value("SELECT effect::text FROM ragops.step WHERE verb = 'validate'")
            assert ("<= 5.0%" if encoding == "LATIN1" else "≤ 5.0%") in effect
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.mark.slow
def test_a_date_style_of_the_database_does_not_matter(place: Workplace) -> None:
    name = place.value("SELECT current_database()")
    place.execute(
        f"ALTER DATABASE {name} SET datestyle = 'Postgres, DMY'",
        f"ALTER DATABASE {name} SET intervalstyle = 'sql_standard'",
        f"ALTER DATABASE {name} SET timezone = 'Asia/Kathmandu'",
    )
    assert place.reset().code == 0
    assert place.ragops("archive", "status", "--json").json["archives"]
    assert place.ragops("undo", "--yes").code == 0
    assert place.ragops("status", "--json").json["campaign"]["status"] == "undone"
