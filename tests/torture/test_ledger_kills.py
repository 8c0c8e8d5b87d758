"""A controller that is killed at any write to the ledger: resumed, it ends as one that was not killed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
from conftest import Server, fresh_database
from stub_child import stub_command
from workplace import clean_environment

from torture.corpus import write_corpus
from torture.state import query, value
from torture.world import PLAYBOOK

DOCUMENTS = 20
PROGRAM = Path(__file__).with_name("dying_program.py")
BEFORE = (
    "INSERT INTO documents (file_path, content, embedding)"
    " SELECT 'old' || n, 'before ' || n, array_fill(n, ARRAY[32])::vector FROM generate_series(1, 12) n",
    "INSERT INTO document_chunks SELECT id, 0, 'chunk', embedding FROM documents",
    "INSERT INTO files_queue (file_path, status) SELECT 'old' || n, 'completed' FROM generate_series(1, 12) n",
    "CREATE INDEX own_l2 ON documents USING hnsw (embedding vector_l2_ops) WITH (m = 8)",
)
# All that a campaign leaves, but ids, times and how often it was taken over.
LEFT = {
    "documents": "SELECT file_path, content, embedding::text FROM documents",
    "chunks": "SELECT d.file_path, c.chunk_index, c.content, c.embedding::text FROM document_chunks c"
    " JOIN documents d ON d.id = c.document_id",
    "parsed": "SELECT q.file_path, p.content_hash, p.characters, p.chunks FROM parsed_files p"
    " JOIN files_queue q ON q.id = p.file_id",
    "measured": "SELECT sum(documents), sum(chunks), count(DISTINCT fingerprint) FROM ingestion_metrics",
    "queue": "SELECT file_path, status, phase, attempts, claim_id, lease_until, last_error FROM files_queue",
    "order": "SELECT array_agg(file_path ORDER BY id) FROM files_queue",
    "indexes": "SELECT indexdef, indisvalid FROM pg_indexes JOIN pg_index ON indexrelid = indexname::regclass"
    " WHERE schemaname = 'public'",
    "campaigns": "SELECT name, status, phase, holder, lease_until, error, finished_at IS NULL"
    " FROM ragops.campaign",
    "steps": "SELECT number, verb, status, error, effect->>'verdict', effect->>'seeded' FROM ragops.step",
    "journal": "SELECT index_name, table_name, definition, restored_at IS NULL FROM ragops.index_definition",
    "archives": "SELECT logical, rows, queue_source::text, restored_at IS NULL FROM ragops.archive",
    "source": "SELECT queue, source::text FROM ragops.source",
    "undos": "SELECT count(*) FROM ragops.undo",
    "sessions": "SELECT count(*) FROM pg_prepared_xacts",
}


@dataclass
class Zygote:
    """Forks copies of `ragops` that may die."""

    folder: Path
    process: subprocess.Popen[str]
    points: list[str] = field(default_factory=list)
    """The writes of the last copy that was not killed."""

    def run(
        self, *arguments: str, environment: dict[str, str], dies_at: int = 0, when: str = "before"
    ) -> tuple[int, str]:
        """Run a copy to its end or its death; return its exit code and its output."""
        out, points = self.folder / "out", self.folder / "points"
        order: dict[str, Any] = {
            "arguments": arguments,
            "environment": environment,
            "dies_at": dies_at,
            "when": when,
            "stub": stub_command(),
            "out": str(out),
            "points": str(points),
        }
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        code = int(json.loads(self.process.stdout.readline())["code"])
        if code == 0:
            self.points = json.loads(points.read_text())
        return code, out.read_text(encoding="utf-8", errors="replace")


@pytest.fixture
def zygote(tmp_path: Path) -> Iterator[Zygote]:
    environment = clean_environment(tmp_path) | {"OPENBLAS_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, str(PROGRAM)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            yield Zygote(tmp_path, process)
        finally:
            process.kill()


@dataclass(frozen=True, slots=True)
class Trial:
    """A small campaign over a copy of one database."""

    server: Server
    template: str
    folder: Path
    model: Path
    zygote: Zygote

    def run(self, dies_at: int, when: str) -> dict[str, Any]:
        """Kill a campaign at a write, go on in new processes, and return what it left."""
        with fresh_database(self.server, template=self.template) as dsn:
            environment = clean_environment(self.folder) | {
                "RAGOPS_DSN": dsn,
                "TORTURE_MODEL": str(self.model),
                "TORTURE_CORPUS": str(self.folder / "corpus"),
                "TORTURE_LEASE": "60",
                "TORTURE_WORKERS": "1",
                "TORTURE_GATE": "4",
                "TORTURE_INDEX_AFTER": "10",
            }
            playbook = ("--playbook", str(self.folder / "torture.yaml"), "--yes", "--json")
            first = ("reset", *playbook)
            code, output = self.zygote.run(*first, environment=environment, dies_at=dies_at, when=when)
            assert code in (0, -9), output
            assert (code == 0) == (dies_at == 0) or dies_at > len(self.zygote.points), output
            with closing(psycopg.connect(dsn, autocommit=True)) as admin:
                if not _is_done(admin):
                    again = ("reset", "--resume", *playbook) if _is_started(admin) else first
                    code, output = self.zygote.run(*again, environment=environment)
                    assert code == 0, f"killed {when} write {dies_at}, then {again[1]}: {output}"
                return {name: sorted(query(admin, text), key=repr) for name, text in LEFT.items()} | _archived(
                    admin
                )


def _archived(admin: psycopg.Connection[tuple[Any, ...]]) -> dict[str, Any]:
    """The rows of every archive, and that nobody holds the campaign."""
    found: dict[str, Any] = {}
    for logical, table in query(admin, "SELECT logical, archive_table FROM ragops.archive"):
        found[f"archive of {logical}"] = sorted(query(admin, f"SELECT t::text FROM ragops.{table} t"))
    if value(admin, "SELECT to_regclass('ragops.lease') IS NOT NULL"):
        found["leases"] = query(admin, "SELECT * FROM ragops.lease")
    found["tables"] = value(
        admin, "SELECT count(*) FROM pg_tables WHERE schemaname = 'ragops' AND tablename LIKE 'archive\\_%'"
    )
    return found


def _is_started(admin: psycopg.Connection[tuple[Any, ...]]) -> bool:
    if not value(admin, "SELECT to_regclass('ragops.campaign') IS NOT NULL"):
        return False
    return bool(value(admin, "SELECT count(*) FROM ragops.campaign"))


def _is_done(admin: psycopg.Connection[tuple[Any, ...]]) -> bool:
    return _is_started(admin) and bool(value(admin, "SELECT bool_or(status = 'done') FROM ragops.campaign"))


def _kill(server: Server, zygote: Zygote, folder: Path, model: Path, *, first: int, step: int) -> None:
    """Kill a campaign before and after every `step`-th write from `first` on; each ends as one that was not."""
    write_corpus(folder / "corpus", DOCUMENTS, seed=3, name="small")
    (folder / "torture.yaml").write_text(PLAYBOOK)
    with fresh_database(server, template="ragops_template") as dsn:
        with psycopg.connect(dsn, autocommit=True) as admin:
            for statement in BEFORE:
                admin.execute(statement.encode())
        template = str(psycopg.conninfo.conninfo_to_dict(dsn)["dbname"])
        trial = Trial(server, template, folder, model, zygote)
        expected = trial.run(0, "before")
        writes = zygote.points
        assert len(expected["documents"]) == DOCUMENTS and expected["campaigns"][0][1] == "done"
        assert len(expected["archive of documents"]) == 12 and len(writes) > 40
        killed = 0
        for number in range(first, len(writes) + 1, step):
            for when in ("before", "after"):
                found = trial.run(number, when)
                killed += 1
                for name, rows in expected.items():
                    assert found.get(name) == rows, f"killed {when} write {number}, {writes[number - 1]}: {name}"
        print(f"PostgreSQL {server.version}: killed {killed} times at {len(writes)} writes to the ledger")  # noqa: T201


@pytest.mark.slow
@pytest.mark.parametrize("first", [1, 2])
def test_killed_at_some_writes(pg18: Server, zygote: Zygote, tmp_path: Path, tiny_model: Path, first: int) -> None:
    _kill(pg18, zygote, tmp_path, tiny_model, first=first, step=16)


@pytest.mark.slow
@pytest.mark.long
def test_killed_at_every_other_write(server: Server, zygote: Zygote, tmp_path: Path, tiny_model: Path) -> None:
    """At the odd ones on one PostgreSQL, at the even ones on the other."""
    _kill(server, zygote, tmp_path, tiny_model, first=1 if server.version == 18 else 2, step=2)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("first", range(1, 5))
def test_killed_at_every_write(
    server: Server, zygote: Zygote, tmp_path: Path, tiny_model: Path, first: int
) -> None:
    _kill(server, zygote, tmp_path, tiny_model, first=first, step=4)
