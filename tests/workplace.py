"""A user's workplace: a terminal to type `ragops` in, a database, a corpus and a model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray

SLOW_ROWS = """
CREATE OR REPLACE FUNCTION slow_down() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN PERFORM pg_sleep({seconds}); RETURN NEW; END $$;
CREATE TRIGGER slow_down BEFORE INSERT ON documents FOR EACH ROW EXECUTE FUNCTION slow_down()
"""
TABLES = ("documents", "document_chunks", "parsed_files", "ingestion_metrics", "files_queue")
INDEXES = ("idx_documents_embedding_hnsw", "idx_document_chunks_embedding_hnsw")


@dataclass(frozen=True, slots=True)
class Finished:
    """A program run to its end."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def program() -> list[str]:
    return [sys.executable, "-m", "ragops"]


def clean_environment(folder: Path) -> dict[str, str]:
    """The program's environment: its own data folder, nothing of the user's settings."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("RAGOPS_", "PG")) or k == "RAGOPS_CACHE_DIR"}
    return {
        **kept,
        "RAGOPS_DATA_DIR": str(folder / "data"),
        "RAGOPS_CACHE_MIB": "0",
        "NO_COLOR": "1",
        "COLUMNS": "200",
    }


def run_program(arguments: Sequence[str], *, environment: dict[str, str], cwd: Path, timeout_s: float) -> Finished:
    """Run the program to its end, without a terminal."""
    done = subprocess.run(
        [*program(), *arguments],
        env=environment,
        cwd=cwd,
        capture_output=True,
        text=True,
        encoding="utf-8",
        stdin=subprocess.DEVNULL,
        timeout=timeout_s,
    )
    return Finished(done.returncode, done.stdout, done.stderr)


def start_program(arguments: Sequence[str], *, environment: dict[str, str], cwd: Path) -> subprocess.Popen[str]:
    """Start the program and leave it running."""
    return subprocess.Popen(
        [*program(), *arguments],
        env=environment,
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        encoding="utf-8",
    )


@dataclass
class Workplace:
    """Runs `ragops` with a user's variables in a folder of its own; looks into the database by itself."""

    folder: Path
    dsn: str
    variables: dict[str, str]
    running: list[subprocess.Popen[str]] = field(default_factory=list)

    def ragops(self, *arguments: str, **variables: str) -> Finished:
        environment = clean_environment(self.folder) | self.variables | variables
        return run_program(arguments, environment=environment, cwd=self.folder, timeout_s=240)

    def reset(self, *arguments: str, **variables: str) -> Finished:
        """`ragops reset --playbook realign.yaml --yes --json`, as the README types it."""
        return self.ragops("reset", "--playbook", "realign.yaml", "--yes", "--json", *arguments, **variables)

    def start(self, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        """Start the program; whatever still runs at the end of the test is killed."""
        environment = clean_environment(self.folder) | self.variables | variables
        process = start_program(arguments, environment=environment, cwd=self.folder)
        self.running.append(process)
        return process

    def close(self) -> None:
        for process in self.running:
            if process.poll() is None:
                process.kill()
            process.communicate()

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            return connection.execute(query.encode()).fetchall()

    def value(self, query: str) -> Any:
        return self.rows(query)[0][0]

    def execute(self, *statements: str) -> None:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def slow_down(self, seconds: float) -> None:
        """Make each stored document take so long, so that a test can act in the middle."""
        self.execute(*SLOW_ROWS.replace("{seconds}", str(seconds)).rsplit(";", 1))

    def speed_up(self) -> None:
        self.execute("DROP TRIGGER slow_down ON documents")

    def queue(self) -> dict[str, int]:
        """Items by status; only those that there are."""
        return dict(self.rows("SELECT status, count(*) FROM files_queue GROUP BY 1"))

    def completed(self) -> int:
        return self.queue().get("completed", 0)

    def index_definitions(self) -> list[tuple[str, str, bool]]:
        """Name, definition and validity of every HNSW index."""
        return self.rows(
            "SELECT c.relname, pg_get_indexdef(c.oid), i.indisvalid FROM pg_index i"
            " JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam"
            " WHERE a.amname = 'hnsw' ORDER BY 1"
        )

    def snapshot(self) -> dict[str, Any]:
        """Every row of the five tables, every relation and the ledger: equal before and after means unchanged."""
        relations = self.rows(
            "SELECT n.nspname, c.relname, c.oid, c.relfilenode FROM pg_class c JOIN pg_namespace n"
            " ON n.oid = c.relnamespace WHERE n.nspname IN ('public', 'ragops') ORDER BY 1, 2"
        )
        owned = {name for schema, name, *_ in relations if schema == "public"}
        taken: dict[str, Any] = {"relations": relations}
        for table in (name for name in TABLES if name in owned):
            taken[table] = sorted(self.rows(f"SELECT t::text FROM {table} t"))
        if any(schema == "ragops" for schema, *_ in relations):
            for table in ("campaign", "step", "archive", "index_definition"):
                taken[f"ragops.{table}"] = sorted(self.rows(f"SELECT t::text FROM ragops.{table} t"))
        return taken


@contextmanager
def open_workplace(
    folder: Path, *, dsn: str, corpus: Path, model: Path, gate: int, index_after: int
) -> Iterator[Workplace]:
    """A workplace with the variables of realign.yaml; its programs end with it."""
    variables = {
        "RAGOPS_DSN": dsn,
        "RAGOPS_CORPUS": str(corpus),
        "RAGOPS_MODEL": str(model),
        "RAGOPS_VALIDATE_AFTER": str(gate),
        "RAGOPS_INDEX_AFTER": str(index_after),
    }
    place = Workplace(folder, dsn, variables)
    try:
        yield place
    finally:
        place.close()


@dataclass(frozen=True, slots=True)
class Stored:
    """What one document is in the database, whatever its id."""

    content: str
    vector: NDArray[np.float32]
    chunks: tuple[tuple[int, str], ...]
    chunk_vectors: NDArray[np.float32]


def stored_documents(place: Workplace) -> dict[str, Stored]:
    """Documents by file path. Fails when a file path is there twice."""
    found = place.rows("SELECT id, file_path, content, embedding::real[] FROM documents ORDER BY id")
    cut = place.rows(
        "SELECT document_id, chunk_index, content, embedding::real[] FROM document_chunks ORDER BY 1, 2"
    )
    documents: dict[str, Stored] = {}
    for id, path, content, vector in found:
        assert path not in documents, f"{path} is stored twice"
        own = [row[1:] for row in cut if row[0] == id]
        documents[path] = Stored(
            content,
            np.asarray(vector, dtype=np.float32),
            tuple((index, text) for index, text, _ in own),
            np.asarray([vector for *_, vector in own], dtype=np.float32),
        )
    return documents


def assert_same_documents(found: dict[str, Stored], expected: dict[str, Stored]) -> None:
    """The same texts, chunks and, up to a cosine distance of 1e-6, vectors."""
    assert found.keys() == expected.keys()
    for path, document in found.items():
        assert (document.content, document.chunks) == (expected[path].content, expected[path].chunks), path
        assert cosine_distance(document.vector, expected[path].vector) < 1e-6, path
        for one, other in zip(document.chunk_vectors, expected[path].chunk_vectors, strict=True):
            assert cosine_distance(one, other) < 1e-6, path


def cosine_distance(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    a, b = one.astype(np.float64), other.astype(np.float64)
    return float(1 - a @ b / np.sqrt((a @ a) * (b @ b)))
