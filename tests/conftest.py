"""Shared fixtures: real PostgreSQL 16 and 18 with pgvector, real GGUF models, the real program."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from tiny_gguf import write_tiny_bert

from ragops.playbook.tables import Tables
from ragops.postgres.connection import Connection, Target, connect
from ragops.postgres.embedded import EmbeddedServer
from ragops.postgres.setup import ensure_ragops_schema, initialise, plan_setup

DIMENSIONS = 32
TEMPLATE = "ragops_template"
WORDS = ("index", "vector", "query", "table", "row", "page", "lock", "plan", "cost", "scan", "join", "sort", "hash")


@dataclass(frozen=True, slots=True)
class Server:
    """A running server with a template database that holds the five tables."""

    version: int
    target: Target

    def dsn(self, database: str) -> str:
        return psycopg.conninfo.make_conninfo(self.target.conninfo, dbname=database)


def _start(folder: Path, version: int) -> Iterator[Server]:
    server = EmbeddedServer(folder / f"pg{version}", version=version)
    running = Server(version, server.start())
    with psycopg.connect(running.target.conninfo, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {TEMPLATE}")
    template = Target(running.dsn(TEMPLATE), TEMPLATE)
    with connect(template, with_vector=False) as connection:
        initialise(connection, template, plan_setup(connection, Tables(), dimensions=lambda: DIMENSIONS))
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        ensure_ragops_schema(connection)
    yield running
    server.stop()


@pytest.fixture(scope="session")
def pg18(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from _start(tmp_path_factory.mktemp("postgres"), 18)


@pytest.fixture(scope="session")
def pg16(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from _start(tmp_path_factory.mktemp("postgres"), 16)


def _fresh(server: Server, *, template: str) -> Iterator[str]:
    name = f"t_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server.target.conninfo, autocommit=True) as admin:
        create = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        admin.execute(create.format(sql.Identifier(name), sql.Identifier(template)))
        yield server.dsn(name)
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture(params=[16, 18], ids=["pg16", "pg18"])
def server(request: pytest.FixtureRequest) -> Server:
    """Each supported PostgreSQL in turn."""
    found: Server = request.getfixturevalue(f"pg{request.param}")
    return found


@pytest.fixture
def dsn(server: Server) -> Iterator[str]:
    """A fresh database with pgvector, the five tables (32 dimensions) and ragops' schema, on 16 and on 18."""
    yield from _fresh(server, template=TEMPLATE)


@pytest.fixture
def dsn18(pg18: Server) -> Iterator[str]:
    """The same on PostgreSQL 18 alone, for tests of the whole program."""
    yield from _fresh(pg18, template=TEMPLATE)


@pytest.fixture
def bare_dsn(pg18: Server) -> Iterator[str]:
    """A fresh database without pgvector and without tables."""
    yield from _fresh(pg18, template="template1")


@pytest.fixture
def target(dsn: str) -> Target:
    return Target(dsn, "the test database")


@pytest.fixture
def connection(target: Target) -> Iterator[Connection]:
    with connect(target) as opened:
        yield opened


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT with 32 dimensions and mean pooling that real llama.cpp loads."""
    return write_tiny_bert(tmp_path_factory.mktemp("models") / "tiny.gguf", dimensions=DIMENSIONS)


def write_corpus(folder: Path, documents: int) -> Path:
    """Distinct short texts, one file each; the same for the same number."""
    for number in range(documents):
        place = folder / f"part{number % 7}"
        place.mkdir(parents=True, exist_ok=True)
        words = [WORDS[(number * 7 + i * (number % 5 + 1)) % len(WORDS)] for i in range(12 + number % 9)]
        (place / f"doc{number:05}.txt").write_text(f"note {number} " + " ".join(words), encoding="utf-8")
    return folder


@dataclass(frozen=True, slots=True)
class Finished:
    """A program run to its end."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Ragops = Callable[..., Finished]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The program's environment: its own data folder, nothing of the user's settings."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("RAGOPS_", "PG")) or k == "RAGOPS_CACHE_DIR"}
    return {**kept, "RAGOPS_DATA_DIR": str(tmp_path / "data"), "NO_COLOR": "1", "COLUMNS": "200"}


def program() -> list[str]:
    return [sys.executable, "-m", "ragops"]


@pytest.fixture
def ragops(environment: dict[str, str], tmp_path: Path) -> Ragops:
    """Runs the real program to its end: `ragops("status", "--json", RAGOPS_DSN=…)`."""

    def run(*arguments: str, timeout_s: float = 240, cwd: Path | None = None, **variables: str) -> Finished:
        done = subprocess.run(
            [*program(), *arguments],
            env={**environment, **variables},
            cwd=cwd or tmp_path,
            capture_output=True,
            text=True,
            encoding="utf-8",
            stdin=subprocess.DEVNULL,
            timeout=timeout_s,
        )
        return Finished(done.returncode, done.stdout, done.stderr)

    return run


Spawn = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def spawn(environment: dict[str, str], tmp_path: Path) -> Iterator[Spawn]:
    """Starts the real program and leaves it running; whatever still runs at the end is killed."""
    running: list[subprocess.Popen[str]] = []

    def start(*arguments: str, **variables: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*program(), *arguments],
            env={**environment, **variables},
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
        )
        running.append(process)
        return process

    yield start
    for process in running:
        if process.poll() is None:
            process.kill()
        process.communicate()


def wait_for(condition: Callable[[], bool], *, timeout_s: float = 60.0, what: str = "condition") -> None:
    """Poll until `condition` holds; fails the test after `timeout_s`."""
    until = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > until:
            pytest.fail(f"{what} did not come true within {timeout_s:g} s")
        time.sleep(0.05)
