"""What a torture takes place in: a server, perhaps a pooler, a network, a database, a model and a playbook."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import psycopg
from own_server import OwnServer, running_server
from pooler import PROGRAM, Pooler, running_pooler
from psycopg.conninfo import make_conninfo
from tiny_gguf import write_tiny_bert
from workplace import clean_environment, run_program

from torture.network import Network
from torture.oracle import Reference
from torture.state import Admin, read_state

PASSWORD = "S3cret-of-the-torture"
LEASE_S = 4
PLAYBOOK = """\
version: 1
name: torture
model: {file: "${TORTURE_MODEL}"}
workers:
  count: ${TORTURE_WORKERS:-2}
  threads: 1
  batch_size: ${TORTURE_BATCH:-20}
  cache_mib: 0
  lease_s: ${TORTURE_LEASE}
  request_deadline_s: 60
  python: ${TORTURE_PYTHON:-}
chunking: {max_tokens: 64}
source: {folder: "${TORTURE_CORPUS}"}
indexes:
  - {name: idx_documents_embedding_hnsw, table: documents}
  - {name: idx_document_chunks_embedding_hnsw, table: document_chunks, m: 8, ef_construction: 32}
validation: {sample: 20}
steps:
  - step: verify_build
  - step: drop_indexes
  - step: empty_tables
  - step: reseed_queue
  - step: embed
    until: ${TORTURE_GATE}
  - step: validate
    after: ${TORTURE_GATE}
  - step: embed
    until: ${TORTURE_INDEX_AFTER}
  - step: rebuild_indexes
  - step: embed
  - step: validate
"""


@dataclass(frozen=True, slots=True)
class Corpus:
    """Documents, and what an undisturbed run makes of them."""

    folder: Path
    documents: int
    reference: Reference

    @property
    def gate(self) -> int:
        """How many are embedded before the first validation."""
        return self.documents // 5


@dataclass
class Machine:
    """A server with a network in front of it; databases on it live as long as one seed."""

    folder: Path
    server: OwnServer
    pooler: Pooler | None
    network: Network
    is_stub: bool
    model: Path
    power: threading.RLock = field(default_factory=threading.RLock)
    """Held by whoever stops or pauses the server."""
    numbers: Iterator[int] = field(default_factory=lambda: iter(range(1, 10_000)))

    @property
    def pace_file(self) -> Path:
        return self.folder / "pace"

    def pace(self, seconds: float) -> None:
        """Let a stub child take so long for each text."""
        file = self.folder / "pace.new"
        file.write_text(f"{seconds:.6f}")
        file.replace(self.pace_file)

    @property
    def python(self) -> Path:
        """An interpreter that starts a paced child in place of an embedder child."""
        return self.folder / "python"

    def environment(self, dsn: str, corpus: Corpus | Path, documents: int) -> dict[str, str]:
        """What `ragops` is started with; gates at a fifth and at the half of the documents."""
        temporary = self.folder / "tmp"
        temporary.mkdir(exist_ok=True)
        folder = corpus.folder if isinstance(corpus, Corpus) else corpus
        return clean_environment(self.folder) | {
            "RAGOPS_DSN": dsn,
            "TMPDIR": str(temporary),
            "TORTURE_MODEL": str(self.model),
            "TORTURE_CORPUS": str(folder),
            "TORTURE_LEASE": str(LEASE_S),
            "TORTURE_PYTHON": str(self.python),
            "TORTURE_GATE": str(documents // 5),
            "TORTURE_INDEX_AFTER": str(documents // 2),
        }

    @contextlib.contextmanager
    def database(self) -> Iterator[str]:
        """The name of a fresh database with the five tables and their indexes, owned by an ordinary role."""
        name = f"t{next(self.numbers)}"
        self.server.execute(f"CREATE DATABASE {name} TEMPLATE ragops_torture OWNER keeper")
        yield name
        self.server.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def dsn(self, database: str) -> str:
        """As ragops connects: by the network, as a role with a password."""
        return f"postgresql://keeper:{PASSWORD}@127.0.0.1:{self.network.proxy.port}/{database}"

    def direct_dsn(self, database: str) -> str:
        return make_conninfo(self.server.dsn(database), user="keeper", password=PASSWORD)

    def admin(self, database: str) -> Admin:
        """Connect past the network, as the superuser."""
        options: dict[str, Any] = {"connect_timeout": 5, "autocommit": True}
        return psycopg.connect(self.server.dsn(database), **options)

    def restart_pooler(self) -> None:
        """Kill the pooler and start it again."""
        assert self.pooler is not None
        self.pooler.process.kill()
        self.pooler.process.communicate()
        assert PROGRAM is not None
        command = [PROGRAM, "-q", str(self.pooler.folder / "pgbouncer.ini")]
        # As `running_pooler` started it: pgbouncer refuses to be run by root.
        owner = self.pooler.folder.stat().st_uid or None
        self.pooler.process = subprocess.Popen(command, stderr=subprocess.PIPE, user=owner)

    def study(self, folder: Path, documents: int) -> Corpus:
        """Run a corpus undisturbed, directly, in a database of its own; Raises AssertionError if that fails."""
        self.pace(0)
        with self.database() as name:
            environment = self.environment(self.direct_dsn(name), folder, documents)
            arguments = ("reset", "--playbook", str(self.folder / "torture.yaml"), "--yes", "--json")
            done = run_program(arguments, environment=environment, cwd=self.folder, timeout_s=600)
            assert done.code == 0, done.err
            with self.admin(name) as admin:
                reference = Reference.of(read_state(admin))
        assert len(reference.by_path) == documents, "the undisturbed run is not complete"
        return Corpus(folder, documents, reference)

    def orphans(self) -> list[str]:
        """Processes that work in this machine's folder and belong to nobody any more."""
        own = str(self.folder)
        found = []
        for process in psutil.process_iter(["cmdline"]):
            command = " ".join(process.info["cmdline"] or ())
            if own in command and "postgres" not in command and "pgbouncer" not in command:
                found.append(f"{process.pid}: {command[:120]}")
        return found


@contextlib.contextmanager
def running_machine(
    version: int = 18, *, pooled: bool = False, is_stub: bool = True, **settings: object
) -> Iterator[Machine]:
    """A server that can be broken, with a template database, a model and a playbook."""
    # fsync off: what crashes here are processes, and the kernel keeps what they have written.
    usual = {"fsync": "off", "autovacuum_naptime": "5s", "log_min_messages": "fatal"}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ragops-torture-")))
        server = stack.enter_context(running_server(version))
        server.configure(**(usual | settings))
        _make_role(server)
        pooler = stack.enter_context(running_pooler(server.dsn(), pool_size=12)) if pooled else None
        network = Network(pooler.dsn(server.dsn()) if pooler else server.dsn())
        stack.callback(network.close)
        model = write_tiny_bert(folder / "tiny.gguf", dimensions=32)
        machine = Machine(folder, server, pooler, network, is_stub, model)
        (folder / "torture.yaml").write_text(PLAYBOOK)
        _write_interpreter(machine)
        _make_template(machine)
        yield machine


def _make_role(server: OwnServer) -> None:
    """An ordinary role with a password that the server asks for."""
    server.execute(f"CREATE ROLE keeper LOGIN PASSWORD '{PASSWORD}'")
    rules = server.folder / "pg_hba.conf"
    own = "host all keeper 127.0.0.1/32 scram-sha-256\n"
    rules.write_text(own + rules.read_text(encoding="utf-8"), encoding="utf-8")
    server.reload()


def _write_interpreter(machine: Machine) -> None:
    child = Path(__file__).with_name("paced_child.py")
    script = machine.python
    real = "" if machine.is_stub else ' "$1"'
    script.write_text(
        "#!/bin/sh\n"
        f'case "$1" in */embedder/child.py) exec "{sys.executable}" "{child}" "{machine.pace_file}"{real};; esac\n'
        f'exec "{sys.executable}" "$@"\n'
    )
    script.chmod(0o755)
    machine.pace(0)


def _make_template(machine: Machine) -> None:
    server = machine.server
    server.execute("CREATE DATABASE ragops_torture TEMPLATE ragops_template OWNER keeper")
    owned = ["documents", "document_chunks", "parsed_files", "ingestion_metrics", "files_queue"]
    server.execute(
        *(f"ALTER TABLE {table} OWNER TO keeper" for table in owned),
        "DROP SCHEMA ragops CASCADE",
        "GRANT CREATE ON SCHEMA public TO keeper",
        "CREATE INDEX idx_documents_embedding_hnsw ON documents USING hnsw (embedding vector_cosine_ops)",
        "CREATE INDEX idx_document_chunks_embedding_hnsw ON document_chunks"
        " USING hnsw (embedding vector_cosine_ops) WITH (m = 8, ef_construction = 32)",
        "CREATE INDEX own_path ON documents (file_path)",
        "CREATE INDEX own_l2 ON documents USING hnsw (embedding vector_l2_ops) WITH (m = 6, ef_construction = 24)",
        database="ragops_torture",
    )
