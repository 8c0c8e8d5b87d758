"""What the benchmarks share: a server of their own, playbooks, and the line that says whether a target is met."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg

from ragops.campaign.steps.base import SingleCommand
from ragops.campaign.steps.embed import drain
from ragops.campaign.steps.reseed_queue import ReseedQueueStep
from ragops.demo.corpus import write_stdlib_corpus
from ragops.embedder.client import Embedder, Embeddings, TokenIds
from ragops.host import read_host
from ragops.playbook import Playbook
from ragops.playbook.steps import Embed, ReseedQueue
from ragops.postgres.connection import Target, connect
from ragops.postgres.embedded import EmbeddedServer
from ragops.postgres.setup import initialise, plan_setup
from ragops.session import Session

RESEED = ReseedQueueStep(ReseedQueue(step="reseed_queue"))


def info(line: str = "") -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def machine() -> str:
    """Where and when: the line above every table."""
    host = read_host()
    memory = f"{host.memory_bytes / 2**30:.0f} GiB"
    when = datetime.now(UTC).date().isoformat()
    return f"{host.cpu}, {host.physical_cores} cores, {memory}, Python {platform.python_version()}, {when}"


def judge(what: str, ratio: float, target: float, *, at_most: bool = False) -> int:
    """Print a ratio beside its target; the exit code: 0 when it is met, else 1."""
    is_met = ratio <= target if at_most else ratio >= target
    info(f"{what}: {ratio:.2f} (target {'≤' if at_most else '≥'} {target:g}): {'met' if is_met else 'MISSED'}")
    return 0 if is_met else 1


@contextmanager
def server(version: int = 18) -> Iterator[Target]:
    """An embedded PostgreSQL that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="ragops-benchmark-") as folder:
        # Run by root, the server has a user of its own, which must reach its data.
        Path(folder).chmod(0o755)
        embedded = EmbeddedServer(Path(folder) / "pg", version=version)
        try:
            yield embedded.start()
        finally:
            embedded.stop()


def playbook(
    *, source: Mapping[str, Any], model: Path | None, workers: Mapping[str, Any], **more: Any
) -> Playbook:
    """Reseed and embed; `more` are sections of the playbook."""
    return Playbook.model_validate(
        {
            "version": 1,
            "name": "benchmark",
            "model": {"file": model},
            "source": dict(source),
            "workers": dict(workers),
            "steps": (ReseedQueue(step="reseed_queue"), Embed(step="embed")),
            **more,
        }
    )


def create_tables(target: Target, book: Playbook, *, dimensions: int) -> None:
    """The playbook's tables, new and empty."""
    with connect(target, with_vector=False) as connection:
        initialise(connection, target, plan_setup(connection, book.tables, dimensions=lambda: dimensions))


@contextmanager
def open_session(target: Target, book: Playbook, command: Sequence[str] | None = None) -> Iterator[Session]:
    """What steps need; `command` starts another program than the embedder child."""
    with connect(target) as connection:
        yield Session.on(connection, target, book, embedder_command=tuple(command) if command else None)


def run_sql(target: Target, *statements: str) -> list[tuple[Any, ...]]:
    """Run statements; the rows of the last one."""
    with psycopg.connect(target.conninfo, autocommit=True) as connection:
        for statement in statements:
            cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def corpus(folder: Path, *, documents: int, characters: int) -> Path:
    """Docstrings of the standard library, the first `characters` of each, one a file."""
    found = write_stdlib_corpus(folder, documents=documents)
    assert found == documents, f"this Python has {found} docstrings, {documents} were asked for"
    for file in folder.rglob("*.txt"):
        file.write_text(file.read_text(encoding="utf-8")[:characters], encoding="utf-8")
    return folder


@contextmanager
def fresh_cache() -> Iterator[None]:
    """An empty cache of vectors, gone afterwards; converted models stay where they are."""
    before = os.environ.get("RAGOPS_CACHE_DIR")
    with tempfile.TemporaryDirectory(prefix="ragops-benchmark-") as folder:
        os.environ["RAGOPS_CACHE_DIR"] = folder
        try:
            yield
        finally:
            if before is None:
                del os.environ["RAGOPS_CACHE_DIR"]
            else:
                os.environ["RAGOPS_CACHE_DIR"] = before


@contextmanager
def recorded_requests() -> Iterator[list[list[TokenIds]]]:
    """The token ids of every request that an embedder child is sent meanwhile, apart from measured batches."""
    seen: list[list[TokenIds]] = []
    embed_tokens = Embedder.embed_tokens

    def recording(
        self: Embedder, tokens: Sequence[TokenIds], *, tokens_per_batch: int | None = None
    ) -> Embeddings:
        if tokens_per_batch is None:
            seen.append(list(tokens))
        return embed_tokens(self, tokens, tokens_per_batch=tokens_per_batch)

    Embedder.embed_tokens = recording  # type: ignore[method-assign]
    try:
        yield seen
    finally:
        Embedder.embed_tokens = embed_tokens  # type: ignore[method-assign]


def timed_embed(target: Target, book: Playbook, command: Sequence[str] | None = None) -> tuple[float, int]:
    """Seconds and documents of one `embed` over the whole source, the start of its children included.

    The tables are emptied and the queue is filled before; the cache of vectors is new.
    """
    run_sql(target, "TRUNCATE documents CASCADE", "TRUNCATE files_queue")
    with fresh_cache(), open_session(target, book, command) as session:
        run = SingleCommand(session)
        RESEED.run(run)
        run_sql(target, "CHECKPOINT")
        began = time.perf_counter()
        result = drain(run)
        return time.perf_counter() - began, result.completed
