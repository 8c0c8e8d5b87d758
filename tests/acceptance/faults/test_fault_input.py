"""Input that attacks the program: playbooks, identifiers, DSNs of the wrong database."""

from __future__ import annotations

import psycopg
import pytest
from conftest import Server, fresh_database, wait_for
from fault_fixtures import RESET, SHIPPED
from workplace import TABLES, Workplace

HEAD = "version: 1\nname: x\n"
STEPS = "steps: [{step: embed}]\n"
# What the playbook has, the line of the fault, and the words that name it.
HOSTILE = {
    "tag": (f"{HEAD}workers: {{count: !!python/object/apply:os.system [touch pwned]}}\n{STEPS}", 3, "not allowed"),
    "alias bomb": (f"{HEAD}a: &a [x, x, x]\nb: &b [*a, *a]\nc: [*b, *b, *b, *b]\n{STEPS}", 4, "aliases"),
    "nesting": (f"{HEAD}steps: {'[' * 3000}{']' * 3000}\n", 3, "nested deeper"),
    "duplicate key": (f"{HEAD}name: y\n{STEPS}", 3, "duplicate key"),
    "unknown key": (f"{HEAD}workers: {{cuont: 3}}\n{STEPS}", 3, "workers.cuont: unknown key"),
    "exponent": (f"{HEAD}workers: {{count: 1e5}}\n{STEPS}", 3, "without an exponent"),
}
# Names that a careless program would execute, cut or confuse.
HOSTILE_NAME = 'do"cs; DROP TABLE kept; --'
PERCENT_NAME = "100% {sure} $1 %s"


@pytest.mark.fault(35)
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_playbook_is_refused_with_file_and_line(place: Workplace, name: str) -> None:
    text, line, words = HOSTILE[name]
    (place.folder / "hostile.yaml").write_text(text, encoding="utf-8")
    before = place.snapshot()
    done = place.ragops("reset", "-p", "hostile.yaml", "--yes", "--json")
    assert done.code == 2
    assert "hostile.yaml" in done.json["error"]["where"]
    assert (line, True) in [
        (found["line"], words in f"{found['path']}: {found['message']}")
        for found in done.json["error"]["problems"]
    ]
    assert "ragops playbook check hostile.yaml" in done.err
    assert not (place.folder / "pwned").exists()
    assert place.snapshot() == before


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def playbook_with(place: Workplace, **replaced: str) -> str:
    """Write realign.yaml with other values after `documents: table:` and the like."""
    text = SHIPPED.read_text(encoding="utf-8")
    for known, other in replaced.items():
        # The tables come first; `indexes` names them again by their logical names.
        assert f": {known}\n" in text, known
        text = text.replace(f": {known}\n", f": {other}\n", 1)
    (place.folder / "names.yaml").write_text(text, encoding="utf-8")
    return "names.yaml"


@pytest.mark.fault(36)
def test_hostile_names_are_quoted_in_a_whole_campaign(place: Workplace) -> None:
    documents, queue = quoted(HOSTILE_NAME), quoted(PERCENT_NAME)
    place.execute(
        "CREATE TABLE kept (id int)",
        f"ALTER TABLE documents RENAME TO {documents}",
        f"ALTER TABLE {documents} RENAME COLUMN content TO {queue}",
        f"ALTER TABLE files_queue RENAME TO {queue}",
    )
    playbook = playbook_with(
        place,
        documents=f"'{documents}'\n    columns: {{content: '{PERCENT_NAME}'}}",
        files_queue=f"'{queue}'",
        idx_documents_embedding_hnsw="'x\"; DROP TABLE kept; --'",
    )
    done = place.ragops("reset", "-p", playbook, "--yes", "--json")
    assert done.code == 0, done.err
    assert place.value(f"SELECT count(*) FROM {documents}") == 120
    assert place.value("SELECT count(*) FROM kept") == 0
    assert [name for name, *_ in place.index_definitions() if "kept" in name] == ['x"; DROP TABLE kept; --']
    undone = place.ragops("undo", "-p", playbook, "--yes", "--json")
    assert undone.code == 0, undone.err
    assert place.value("SELECT count(*) FROM kept") == 0


@pytest.mark.fault(36)
@pytest.mark.parametrize("name", ["x" * 64, "é" * 32], ids=["64 bytes", "32 characters of 64 bytes"])
def test_a_name_that_the_server_would_cut_is_refused(place: Workplace, name: str) -> None:
    """PostgreSQL cuts names at 63 bytes with a notice, and another table may have that name."""
    place.execute(f'CREATE TABLE "{name[:63] if name.isascii() else name[:31]}" (LIKE documents INCLUDING ALL)')
    playbook = playbook_with(place, documents=f"'{name}'")
    before = place.snapshot()
    done = place.ragops("reset", "-p", playbook, "--yes", "--json")
    assert done.code == 2, done.err
    assert "63" in done.json["error"]["found"]
    assert place.snapshot() == before


@pytest.mark.fault(17)
def test_another_database_is_not_the_one_of_the_campaign(place: Workplace, pg18: Server) -> None:
    """The campaign was started in one database; resumed in another, nothing happens there."""
    place.slow_down(0.1)
    started = place.start(*RESET)
    wait_for(lambda: place.completed() > 0, what="a document")
    started.kill()
    started.communicate()
    with fresh_database(pg18, template="ragops_template") as other:
        with psycopg.connect(other, autocommit=True) as connection:
            connection.execute("INSERT INTO documents (content) SELECT n::text FROM generate_series(1, 9) n")
        done = place.ragops("reset", "--resume", "--json", RAGOPS_DSN=other)
        assert done.code == 1
        assert "nothing to resume" in done.json["error"]["what"]
        with psycopg.connect(other) as connection:
            for table, rows in ((table, 9 if table == "documents" else 0) for table in TABLES):
                found = connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchone()
                assert found == (rows,), table
