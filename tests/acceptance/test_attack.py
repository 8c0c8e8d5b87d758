"""What operators run into: texts of other tools, roles without rights, broken pipes, variables that are unset."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from conftest import Ragops
from tiny_gguf import write_tiny_bert
from workplace import INDEXES, Workplace, clean_environment, program

NEEDS_FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
LONG_WORD = "x" * 600
FOREIGN_CHUNK = (
    "WITH d AS (INSERT INTO documents (file_path, content, embedding) SELECT 'foreign', repeat('fire road ', 900),"
    " embedding FROM documents LIMIT 1 RETURNING id, content, embedding) INSERT INTO document_chunks"
    " (document_id, chunk_index, content, embedding) SELECT id, 0, content, embedding FROM d"
)


def test_a_text_without_spaces_is_no_reason_to_fail(place: Workplace) -> None:
    for number in range(120):
        (place.folder / "corpus" / f"part{number % 7}" / f"doc{number:05}.txt").write_text(LONG_WORD[number:])
    done = place.reset()
    assert done.code == 0, done.err
    assert done.json["verdict"] == "pass"


def test_stored_chunks_that_no_model_embeds_whole_disagree(place: Workplace) -> None:
    assert place.reset().code == 0
    place.execute(FOREIGN_CHUNK)
    found = place.ragops("validate", "--sample", "500", "--json")
    assert found.code == 3, found.err
    assert "1 of 121 stored texts is longer" in found.err
    decisive = next(check for check in found.json["checks"] if check["id"] == "stored_vectors_agree")
    assert decisive["status"] == "fail"
    assert found.json["agreement"]["not_a_number"] == 2
    # What another tool stored is a reason to reset, not one that forbids it.
    again = place.reset()
    assert again.code == 0, again.err
    assert again.json["completed"] == 120


GRANTS = "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}"


@pytest.fixture
def role(place: Workplace) -> Iterator[str]:
    """A role that may read and write the five tables and ragops' own, and owns none of them."""
    name = f"r_{uuid.uuid4().hex[:8]}"
    place.execute(
        f"CREATE ROLE {name} LOGIN",
        GRANTS.format(role=name),
        f"GRANT USAGE ON SCHEMA ragops TO {name}",
        f"GRANT ALL ON ALL TABLES IN SCHEMA ragops TO {name}",
        f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public, ragops TO {name}",
    )
    yield name
    place.execute(f"DROP OWNED BY {name}", f"DROP ROLE {name}")


def as_role(place: Workplace, role: str) -> str:
    return psycopg.conninfo.make_conninfo(place.dsn, user=role)


def test_rights_that_are_missing_are_known_before_anything_is_wiped(place: Workplace, role: str) -> None:
    place.execute("INSERT INTO documents (file_path, content) VALUES ('a', 'b')")
    before = place.snapshot()
    refused = place.reset(RAGOPS_DSN=as_role(place, role))
    assert refused.code == 1
    owning = (
        f"role {role} does not own public.{{table}}, so it can neither drop nor build its indexes "
        f"(or run ragops as its owner): ALTER TABLE public.{{table}} OWNER TO {role}"
    )
    assert refused.json["error"]["found"].splitlines() == [
        f"role {role} lacks CREATE on schema ragops, where rows are archived (or --no-archive): "
        f"GRANT USAGE, CREATE ON SCHEMA ragops TO {role}",
        *(
            f"role {role} lacks TRUNCATE on public.{table}: GRANT TRUNCATE ON public.{table} TO {role}"
            for table in ("documents", "document_chunks", "files_queue")
        ),
        owning.format(table="documents"),
        f"role {role} lacks CREATE on schema public, which an index needs: "
        f"GRANT CREATE ON SCHEMA public TO {role}",
        owning.format(table="document_chunks"),
    ]
    assert place.snapshot() == before


def test_row_level_security_is_known_before_anything_is_wiped(place: Workplace, role: str) -> None:
    place.execute("ALTER TABLE documents ENABLE ROW LEVEL SECURITY")
    refused = place.reset(RAGOPS_DSN=as_role(place, role))
    assert refused.code == 1
    assert f"row-level security of public.documents applies to role {role}" in refused.json["error"]["found"]


def test_reading_without_the_right_says_which(place: Workplace, role: str) -> None:
    place.execute(f"REVOKE ALL ON documents, ingestion_metrics FROM {role}")
    looked = place.ragops("status", "--json", RAGOPS_DSN=as_role(place, role))
    grant = f"role {role} lacks SELECT on public.documents: GRANT SELECT ON public.documents TO {role}"
    assert looked.code == 0 and grant in looked.json["notes"]
    refused = place.ragops("validate", "--json", RAGOPS_DSN=as_role(place, role))
    assert refused.code == 1 and grant in refused.json["error"]["found"].splitlines()


def test_reading_documents_needs_no_other_right(place: Workplace, role: str) -> None:
    assert place.reset().code == 0
    place.execute(
        f"REVOKE ALL ON ALL TABLES IN SCHEMA public, ragops FROM {role}",
        f"REVOKE ALL ON SCHEMA ragops FROM {role}",
        f"GRANT SELECT ON documents TO {role}",
    )
    found = place.ragops("search", "fire", "--limit", "3", "--json", RAGOPS_DSN=as_role(place, role))
    assert found.code == 0, found.err
    assert len(found.json["exact"]) == 3
    probe = place.start("probe", "serve", "--port", "0", RAGOPS_DSN=as_role(place, role))
    assert probe.stderr is not None
    assert "compares with" in probe.stderr.readline()
    address = probe.stderr.readline()
    assert "listening on" in address, address
    url = address.split()[-1].removesuffix("TEXT") + "fire"
    with urllib.request.urlopen(url, timeout=30) as answer:
        assert json.load(answer)["comparison_stats"]["total_docs"] == 120


def test_a_right_that_only_the_server_knows_of(place: Workplace, role: str) -> None:
    place.execute(f"REVOKE ALL ON SCHEMA ragops FROM {role}")
    refused = place.ragops("embed", RAGOPS_DSN=as_role(place, role))
    assert refused.code == 1
    assert "permission denied: the database role lacks a privilege" in refused.err
    assert "permission denied for schema ragops" in refused.err
    assert "GRANT" in refused.err
    assert "--debug" not in refused.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("status", "--dsn", ""),
        ("status", "--dsn="),
        ("verify", "--against", ""),
        ("queue", "reseed", "--folder", "", "--append"),
        ("queue", "reseed", "--append", "--query", ""),
    ],
)
def test_an_empty_value_is_not_the_default(place: Workplace, arguments: tuple[str, ...]) -> None:
    """`--dsn "$PROD"` with an unset variable would work on another database."""
    before = place.snapshot()
    refused = place.ragops(*arguments, "--json")
    assert refused.code == 2
    assert refused.json["error"]["what"].endswith("has an empty value")
    assert place.snapshot() == before


@pytest.mark.skipif(sys.platform == "win32", reason="shells of Windows close no file of a program")
@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("tables empty <&-", 2, "no terminal to ask on"),
        ("playbook schema --json | true", 0, ""),
        ("no-such-command --json | true", 0, ""),
        ("fingerprint script -o no/such/folder/file.py", 1, "where:  no/such/folder/file.py"),
        ("fingerprint script -o .", 1, "Is a directory"),
        pytest.param("playbook list --json > /dev/full", 1, "No space left", marks=NEEDS_FULL),
        pytest.param("no-such-command --json > /dev/full", 2, "No such command", marks=NEEDS_FULL),
    ],
)
def test_files_that_a_shell_takes_away(place: Workplace, line: str, code: int, words: str) -> None:
    place.execute("INSERT INTO documents (file_path, content) VALUES ('a', 'b')")
    environment = {**clean_environment(place.folder), **place.variables}
    environment.pop("PYTHONUNBUFFERED", None)
    command = f"{shlex.join(program())} {line}"
    done = subprocess.run(
        ["sh", "-c", command], env=environment, cwd=place.folder, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert "should not" not in done.stderr


def test_a_reference_that_is_no_url(place: Workplace) -> None:
    refused = place.ragops("verify", "--against", "http://")
    assert refused.code == 2
    assert "the reference's URL is malformed" in refused.err


def test_undo_does_not_ask_about_nothing(place: Workplace) -> None:
    refused = place.ragops("undo")
    assert refused.code == 1
    assert "there is nothing to bring back" in refused.err


def test_a_model_of_other_dimensions_finds_nothing_and_says_so(place: Workplace) -> None:
    other = write_tiny_bert(place.folder / "wide.gguf", dimensions=64)
    refused = place.ragops("search", "road", "--model", str(other))
    assert refused.code == 1
    assert "32 dimensions stored, 64 of the model" in refused.err


def test_a_gate_that_nothing_reached_names_the_queue(place: Workplace) -> None:
    for number in range(20):
        (place.folder / "corpus" / f"part{number % 7}" / f"a{number:05}.txt").write_text("")
    for file in place.folder.joinpath("corpus").rglob("doc*.txt"):
        file.unlink()
    failed = place.reset()
    assert failed.code == 3
    assert failed.json["error"]["hint"].startswith("ragops queue status")
    status = place.ragops("status").out.splitlines()
    error = status[status.index(next(line for line in status if line.startswith("campaign"))) + 1 :]
    assert [line.startswith("  ") for line in error[:4]] == [True] * 4


def test_names_are_never_cut_in_a_narrow_window(place: Workplace) -> None:
    shown = place.ragops("index", "status", COLUMNS="60", FORCE_COLOR="1", TERM="xterm").out
    assert "…" not in shown


@pytest.mark.parametrize("content", ["", '{"variab', "[]", '{"variables": 3}'])
def test_a_half_written_note_of_the_demo_is_as_none(ragops: Ragops, tmp_path: Path, content: str) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "demo.json").write_text(content)
    (tmp_path / "a.json").write_text("{}")
    refused = ragops("fingerprint", "compare", "a.json", "a.json")
    assert refused.code == 2
    assert "not a fingerprint" in refused.err


@pytest.mark.skipif(sys.platform == "win32", reason="Rich ends a program with a broken pipe on POSIX only")
def test_a_reader_of_stderr_that_has_gone_is_logged(place: Workplace) -> None:
    place.execute(
        *(f"CREATE INDEX {name} ON documents USING hnsw (embedding vector_cosine_ops)" for name in INDEXES[:1])
    )
    log = place.folder / "broken.log"
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [*program(), "index", "rebuild", "--log-file", str(log), "--log-format", "json"],
            env=clean_environment(place.folder) | place.variables,
            cwd=place.folder,
            stdout=subprocess.PIPE,
            stderr=writer,
            stdin=subprocess.DEVNULL,
            timeout=120,
            check=False,
        )
    finally:
        os.close(writer)
    assert done.returncode == 1
    events = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    assert [event["event"] for event in events][-2:] == ["error", "command_end"]
    assert "the reader of the output has gone" in events[-2]["message"]
