"""Shared fixtures: real PostgreSQL 16 and 18 with pgvector, real GGUF models, the real program."""

from __future__ import annotations

import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from hypothesis import settings
from psycopg import sql
from tiny_gguf import write_tiny_bert
from workplace import Finished as Finished
from workplace import Workplace, clean_environment, open_workplace, run_program, start_program

from ragops.playbook.tables import Tables
from ragops.postgres.connection import Connection, Target, connect
from ragops.postgres.embedded import EmbeddedServer
from ragops.postgres.setup import ensure_ragops_schema, initialise, plan_setup

pytest_plugins = ["fault_fixtures", "zoo_summary"]
# How long an example takes says nothing about the code: the machine may do other work.
settings.register_profile("ragops", deadline=None)
settings.load_profile("ragops")

DIMENSIONS = 32
TEMPLATE = "ragops_template"
WORDS = (
    "index",
    "vector",
    "query",
    "table",
    "row",
    "page",
    "lock",
    "plan",
    "cost",
    "scan",
    "join",
    "sort",
    "hash",
)


@dataclass(frozen=True, slots=True)
class Server:
    """A running server with a template database that holds the five tables."""

    version: int
    target: Target

    def dsn(self, database: str) -> str:
        return psycopg.conninfo.make_conninfo(self.target.conninfo, dbname=database)


def _start(version: int) -> Iterator[Server]:
    # Not below pytest's own folder: run by root, the server has a user of its own, and the next pytest
    # that starts closes that folder to other users.
    with tempfile.TemporaryDirectory(prefix="ragops-tests-") as folder:
        yield from _serve(EmbeddedServer(Path(folder) / f"pg{version}", version=version), version)


def _serve(server: EmbeddedServer, version: int) -> Iterator[Server]:
    running = Server(version, server.start())
    with psycopg.connect(running.target.conninfo, autocommit=True) as admin:
        # Most of a test's time is the making of its database; none of these has to survive a power loss.
        admin.execute("ALTER SYSTEM SET fsync = off")
        admin.execute("SELECT pg_reload_conf()")
        admin.execute(f"CREATE DATABASE {TEMPLATE}")
    template = Target(running.dsn(TEMPLATE), TEMPLATE)
    with connect(template, with_vector=False) as connection:
        initialise(connection, template, plan_setup(connection, Tables(), dimensions=lambda: DIMENSIONS))
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        ensure_ragops_schema(connection)
    yield running
    server.stop()


@pytest.fixture(scope="session")
def pg18() -> Iterator[Server]:
    yield from _start(18)


@pytest.fixture(scope="session")
def pg16() -> Iterator[Server]:
    yield from _start(16)


def _fresh(server: Server, *, template: str) -> Iterator[str]:
    name = f"t_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server.target.conninfo, autocommit=True) as admin:
        create = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        admin.execute(create.format(sql.Identifier(name), sql.Identifier(template)))
        yield server.dsn(name)
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


fresh_database = contextmanager(_fresh)


def pytest_make_parametrize_id(val: object) -> str | None:
    """Name bytes by no more than what they are: compressed data holds the time, and every process must agree."""
    return "bytes" if isinstance(val, bytes) else None


@pytest.hookimpl(tryfirst=True)  # before the marks are looked at
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave the whole program on 16 to the slow tests, which the full check runs: SQL is tested on both anyway."""
    for item in items:
        if "acceptance" in item.path.parts and "[pg16" in item.name:
            item.add_marker(pytest.mark.slow)


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


Ragops = Callable[..., Finished]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The program's environment: its own data folder, nothing of the user's settings."""
    return clean_environment(tmp_path)


@pytest.fixture
def ragops(environment: dict[str, str], tmp_path: Path) -> Ragops:
    """Runs the real program to its end: `ragops("status", "--json", RAGOPS_DSN=…)`."""

    def run(*arguments: str, timeout_s: float = 240, cwd: Path | None = None, **variables: str) -> Finished:
        return run_program(
            arguments, environment={**environment, **variables}, cwd=cwd or tmp_path, timeout_s=timeout_s
        )

    return run


Spawn = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def spawn(environment: dict[str, str], tmp_path: Path) -> Iterator[Spawn]:
    """Starts the real program and leaves it running; whatever still runs at the end is killed."""
    running: list[subprocess.Popen[str]] = []

    def start(*arguments: str, **variables: str) -> subprocess.Popen[str]:
        process = start_program(arguments, environment={**environment, **variables}, cwd=tmp_path)
        running.append(process)
        return process

    yield start
    for process in running:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def place(dsn18: str, tiny_model: Path, tmp_path: Path) -> Iterator[Workplace]:
    """A terminal, a fresh database and 120 documents, gates at 20 and 40."""
    corpus = write_corpus(tmp_path / "corpus", 120)
    with open_workplace(tmp_path, dsn=dsn18, corpus=corpus, model=tiny_model, gate=20, index_after=40) as opened:
        yield opened


def wait_for(condition: Callable[[], bool], *, timeout_s: float = 60.0, what: str = "condition") -> None:
    """Poll until `condition` holds; fails the test after `timeout_s`."""
    until = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > until:
            pytest.fail(f"{what} did not come true within {timeout_s:g} s")
        time.sleep(0.05)
