"""Whatever is wrong is said once, in words that help, with its exit code; nothing is changed."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest
from workplace import Finished, Workplace

CANARY = "c4n4ry-pa55word"
RESET = ("reset", "--playbook", "realign.yaml", "--yes")
ONE_DOCUMENT = "INSERT INTO documents (file_path, content) VALUES ('a', 'b')"
ONE_INDEX = "CREATE INDEX mine ON documents USING hnsw (embedding vector_cosine_ops)"
ONE_ARCHIVE = (
    "CREATE TABLE ragops.archive_1 AS TABLE documents",
    "INSERT INTO ragops.archive (logical, schema_name, table_name, archive_table, rows, generation)"
    " VALUES ('documents', 'public', 'documents', 'archive_1', 0, 1)",
)
THREE_ITEMS = "INSERT INTO files_queue (file_path) SELECT 'part0/x' || i FROM generate_series(1, 3) i"
WRONG_PLAYBOOK = """version: 1
name: wrong
surprise: 1
workers: {count: 0}
steps:
  - step: embed
  - step: empty_tables
  - step: nonsense
"""


@dataclass(frozen=True)
class Case:
    """What is typed, under which circumstances, and what the one error must say."""

    arguments: tuple[str, ...]
    code: int
    words: tuple[str, ...]
    variables: dict[str, str] = field(default_factory=dict)
    before: tuple[str, ...] = ()


def files(folder: Path) -> None:
    """What the cases name with relative paths."""
    (folder / "empty").mkdir()
    (folder / "text.gguf").write_text("this is no model", encoding="utf-8")
    (folder / "cut.gguf").write_bytes(b"GGUF\x03\x00\x00\x00\xff\xff")
    (folder / "list.txt").write_text("one.txt\n", encoding="utf-8")


DATABASE = {
    "unreachable": Case(
        RESET, 1, ("cannot be reached", "localhost:1"), {"RAGOPS_DSN": f"postgresql://me:{CANARY}@localhost:1/rag"}
    ),
    "not a URL": Case(RESET, 2, ("the DSN is malformed",), {"RAGOPS_DSN": f"postgres//me:{CANARY}@localhost/rag"}),
    "bad escape": Case(RESET, 2, ("the DSN is malformed",), {"RAGOPS_DSN": f"postgresql://me:{CANARY}%et@h/rag"}),
    "no TLS": Case(
        ("status",),
        2,
        ("unencrypted", "sslmode"),
        {"RAGOPS_DSN": f"postgresql://me:{CANARY}@db.example/rag?sslmode=prefer"},
    ),
    "no such database": Case(
        ("status",), 1, ("cannot be reached", "no_such_database"), {"RAGOPS_DSN": "{dsn} dbname=no_such_database"}
    ),
    "no pgvector": Case(RESET, 1, ("pgvector", "ragops db init"), before=("DROP EXTENSION vector CASCADE",)),
    "no table": Case(
        RESET, 1, ("table parsed_files", "does not exist", "ragops db init"), before=("DROP TABLE parsed_files",)
    ),
    "no column": Case(
        RESET,
        1,
        ("public.documents.content", "does not exist"),
        before=("ALTER TABLE documents DROP COLUMN content",),
    ),
    "two things at once": Case(
        RESET,
        1,
        ("2 problems", "public.documents.content", "table parsed_files"),
        before=("ALTER TABLE documents DROP COLUMN content", "DROP TABLE parsed_files"),
    ),
    "other dimensions": Case(
        RESET,
        1,
        ("holds 16 dimensions, the model makes 32",),
        before=("ALTER TABLE documents ALTER embedding TYPE vector(16)",),
    ),
    "unlogged table": Case(
        RESET, 1, ("UNLOGGED", "files_queue"), before=("ALTER TABLE files_queue SET UNLOGGED",)
    ),
    "foreign key from outside": Case(
        RESET,
        1,
        ("public.notes", "Drop the key first", "DROP CONSTRAINT notes_document_id_fkey"),
        before=("CREATE TABLE notes (document_id bigint REFERENCES documents)",),
    ),
    "nothing to resume": Case(("reset", "--resume"), 1, ("nothing to resume", "no campaign")),
    "nothing to undo": Case(("undo", "--yes"), 1, ("nothing to bring back",)),
    "filled queue": Case(("queue", "reseed"), 1, ("the queue is not empty", "3 items"), before=(THREE_ITEMS,)),
    "after beyond the queue": Case(
        ("validate", "--after", "50"), 1, ("cannot reach 50 documents", "3 pending"), before=(THREE_ITEMS,)
    ),
}

MODEL_AND_CORPUS = {
    "no model named": Case(RESET, 2, ("no model is named", "RAGOPS_MODEL"), {"RAGOPS_MODEL": ""}),
    "no model": Case(RESET, 1, ("does not exist", "nowhere.gguf"), {"RAGOPS_MODEL": "nowhere.gguf"}),
    "not a GGUF": Case(RESET, 1, ("text.gguf", "GGUF"), {"RAGOPS_MODEL": "text.gguf"}),
    "a GGUF cut short": Case(RESET, 1, ("cut.gguf",), {"RAGOPS_MODEL": "cut.gguf"}),
    "not the pinned model": Case(
        RESET, 1, ("not the pinned one", f"SHA-256 {'ab' * 32}"), {"RAGOPS_MODEL_SHA256": "ab" * 32}
    ),
    "no corpus named": Case(RESET, 2, ("no source", "RAGOPS_CORPUS"), {"RAGOPS_CORPUS": ""}),
    "no corpus folder": Case(RESET, 2, ("nowhere", "folder"), {"RAGOPS_CORPUS": "nowhere"}),
    "empty corpus": Case(
        RESET, 1, ("the corpus is empty", "empty"), {"RAGOPS_CORPUS": "empty"}, (ONE_DOCUMENT, ONE_INDEX)
    ),
    "empty corpus, one step": Case(("queue", "reseed"), 1, ("the corpus is empty",), {"RAGOPS_CORPUS": "empty"}),
}

COMMAND_LINE = {
    "unknown playbook": Case(("reset", "-p", "nope.yaml"), 2, ("unknown playbook", "nope.yaml", "realign.yaml")),
    "no terminal for reset": Case(("reset",), 2, ("no terminal", "--yes"), before=(ONE_DOCUMENT,)),
    "no terminal for tables": Case(("tables", "empty"), 2, ("no terminal", "--yes"), before=(ONE_DOCUMENT,)),
    "no terminal for index": Case(("index", "drop"), 2, ("no terminal", "--yes"), before=(ONE_INDEX,)),
    "no terminal for undo": Case(("undo",), 2, ("no terminal", "--yes"), before=ONE_ARCHIVE),
    "unknown index to drop": Case(("index", "drop", "nope", "--yes"), 2, ("nope", "mine"), before=(ONE_INDEX,)),
    "unknown index to build": Case(("index", "rebuild", "nope"), 2, ("unknown index: nope", "idx_documents")),
    "unknown table": Case(("tables", "empty", "nope", "--yes"), 2, ("unknown table: nope", "files_queue")),
    "not an amount": Case(("index", "rebuild", "--maintenance-work-mem", "lots"), 2, ("amount of memory", "lots")),
    "two sources": Case(
        ("queue", "reseed", "--folder", "empty", "--manifest", "list.txt"), 2, ("one source only",)
    ),
    "not a table name": Case(
        ("queue", "reseed", "--table", "a.b.c.d"), 2, ("source.table", "'a.b.c.d' is not a table name")
    ),
    "empty id column": Case(("queue", "reseed", "--table", "documents", "--id-column", ""), 2, ("column",)),
    "empty pattern": Case(("queue", "reseed", "--pattern", ""), 2, ("pattern",)),
    "resume and new": Case(("reset", "--resume", "--new"), 2, ("it does not take --new",)),
    "resume without archive": Case(("reset", "--resume", "--no-archive"), 2, ("it does not take --no-archive",)),
    "unknown option": Case(("status", "--nope"), 2, ("No such option", "--nope")),
    "no workers": Case(("embed", "--workers", "0"), 2, ("--workers",)),
    "unknown command": Case(("emebd",), 2, ("No such command", "emebd")),
}
WITHOUT_HINT = {
    "two sources",
    "resume and new",
    "resume without archive",
    "unknown option",
    "no workers",
    "unknown command",
    "nothing to undo",
}


def assert_one_error(done: Finished, case: Case, *, has_hint: bool) -> None:
    assert done.code == case.code, done.err
    assert "Traceback" not in done.out + done.err
    assert CANARY not in done.out + done.err
    said = " ".join(done.err.split())
    errors = [line for line in done.err.splitlines() if line.startswith("error: ") or "─ Error ─" in line]
    assert len(errors) == 1, done.err
    for word in case.words:
        assert word in said, done.err
    assert set(done.json) == {"status", "error"}
    error = done.json["error"]
    assert done.json["status"] == "error"
    assert error["what"]
    if has_hint:
        assert "next:" in done.err or error.get("needed"), done.err


@pytest.mark.fault(8, 16, 34, 37, 39)
@pytest.mark.parametrize("name", [*DATABASE, *MODEL_AND_CORPUS, *COMMAND_LINE])
def test_it_is_refused_and_nothing_is_changed(place: Workplace, name: str) -> None:
    case = (DATABASE | MODEL_AND_CORPUS | COMMAND_LINE)[name]
    files(place.folder)
    place.execute(*case.before)
    before = place.snapshot()
    variables = {key: value.replace("{dsn}", place.dsn) for key, value in case.variables.items()}
    done = place.ragops(*case.arguments, "--json", **variables)
    assert_one_error(done, case, has_hint=name not in WITHOUT_HINT)
    assert place.snapshot() == before


def test_a_wrong_playbook_shows_all_its_problems(place: Workplace) -> None:
    file = place.folder / "wrong.yaml"
    file.write_text(WRONG_PLAYBOOK, encoding="utf-8")
    before = place.snapshot()
    for arguments in (("reset", "-p", "wrong.yaml", "--yes"), ("playbook", "check", "wrong.yaml")):
        done = place.ragops(*arguments, "--json")
        assert done.code == 2
        problems = done.json["error"]["problems"]
        places = " ".join(problem["path"] for problem in problems)
        assert {problem["line"] for problem in problems} >= {3, 4, 8}
        assert all(word in places for word in ("surprise", "workers.count", "steps[2]"))
        assert "playbook check wrong.yaml" in done.err
    assert place.snapshot() == before


def test_a_database_without_anything_in_it(bare_dsn: str, place: Workplace) -> None:
    for arguments in (("status",), ("embed",), ("search", "x"), RESET, ("queue", "status")):
        done = place.ragops(*arguments, "--json", RAGOPS_DSN=bare_dsn)
        assert done.code == 1, arguments
        assert "pgvector" in done.json["error"]["what"]
        assert "ragops db init" in done.err


def test_debug_shows_a_traceback_and_no_password(place: Workplace) -> None:
    done = place.ragops("--debug", "status", RAGOPS_DSN=f"postgresql://me:{CANARY}@localhost:1/rag")
    assert done.code == 1
    assert "Traceback" in done.err
    assert CANARY not in done.out + done.err


def test_an_empty_database_has_nothing_to_validate(place: Workplace) -> None:
    done = place.ragops("validate", "--json")
    assert done.code == 3
    assert done.json["verdict"] == "fail"
    assert {check["id"] for check in done.json["checks"] if check["status"] == "fail"} >= {"documents"}
