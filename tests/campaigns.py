"""Playbooks, contexts and looks into the database for tests at the level of the Python API."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psycopg

from ragops.campaign.run import CampaignRun, plan_campaign
from ragops.campaign.steps.base import SingleCommand
from ragops.campaign.steps.reseed_queue import ReseedQueueStep, append_source
from ragops.facts import TableFacts
from ragops.playbook import Playbook
from ragops.playbook.model import Chunking, Model, Source, Validation, Workers
from ragops.playbook.steps import (
    DropIndexes,
    Embed,
    EmptyTables,
    RebuildIndexes,
    ReseedQueue,
    Step,
    Validate,
    VerifyBuild,
)
from ragops.playbook.tables import Tables
from ragops.postgres.catalog import read_database
from ragops.postgres.connection import Connection, Target, connect
from ragops.postgres.ledger import Ledger
from ragops.postgres.queue import Claim, Queue, seed_statement
from ragops.postgres.writer import Batch, BatchMetrics, ChunkRow, DocumentRow
from ragops.session import Session

DIMENSIONS = 32
REALIGN: tuple[Step, ...] = (
    VerifyBuild(step="verify_build"),
    DropIndexes(step="drop_indexes"),
    EmptyTables(step="empty_tables"),
    ReseedQueue(step="reseed_queue"),
    Embed(step="embed", until=10),
    Validate(step="validate", after=10),
    Embed(step="embed", until=20),
    RebuildIndexes(step="rebuild_indexes"),
    Embed(step="embed"),
    Validate(step="validate"),
)


def make_playbook(
    *,
    model: Path | None = None,
    source: Source | None = None,
    steps: Sequence[Step] = REALIGN,
    workers: Mapping[str, Any] | None = None,
    tables: Tables | None = None,
    **more: Any,
) -> Playbook:
    """A playbook with gates at 10 and 20, unless `steps` say otherwise; tests share no cache of vectors."""
    return Playbook(
        version=1,
        name="test",
        model=Model(file=model),
        source=source or Source(),
        steps=tuple(steps),
        workers=Workers(**{"count": 1, "threads": 1, "batch_size": 10, "cache_mib": 0, **(workers or {})}),
        tables=tables or Tables(),
        chunking=Chunking(max_tokens=64),
        validation=Validation(sample=10),
        **more,
    )


@dataclass
class Recorder:
    """A reporter that keeps every notice."""

    notices: list[str] = field(default_factory=list)
    _keys: set[str] = field(default_factory=set)

    def info(self, message: str, **fields: object) -> None:
        self.notices.append(message)

    def warning(self, message: str, **fields: object) -> None:
        self.notices.append(message)

    def info_once(self, message: str, *, about: str | None = None) -> None:
        if (about or message) not in self._keys:
            self._keys.add(about or message)
            self.info(message)

    def progress(self, what: str, done: float, total: float | None, note: str = "") -> None: ...

    def end_progress(self) -> None: ...


@contextmanager
def open_session(
    dsn: str, playbook: Playbook, *, embedder_command: tuple[str, ...] | None = None
) -> Iterator[Session]:
    """A session on a test database whose notices can be read with `reported`."""
    target = Target(dsn, "the test database")
    with connect(target) as connection:
        session = Session.on(connection, target, playbook, reporter=Recorder(), embedder_command=embedder_command)
        try:
            yield session
        finally:
            session.database.close()


def single(session: Session) -> SingleCommand:
    """The session's steps, run by themselves."""
    return SingleCommand(session)


def reseed_queue(session: Session, *, append: bool = False) -> int:
    """Fill the queue from the session's source; returns the number of items."""
    if append:
        return append_source(session).seeded
    return ReseedQueueStep(ReseedQueue(step="reseed_queue")).run(single(session)).seeded


def campaign_run(session: Session, ledger: Ledger, *, number: int = 1) -> CampaignRun:
    """A step of the campaign that `ledger` holds, on the session's own connection."""
    return CampaignRun(session, ledger.on(session.connection), plan_campaign(session), number, force=False)


def reported(session: Session) -> str:
    """Every notice of the session so far, one per line."""
    assert isinstance(session.reporter, Recorder)
    return "\n".join(session.reporter.notices)


def rows(dsn: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        return connection.execute(query.encode()).fetchall()


def value(dsn: str, query: str) -> Any:
    return rows(dsn, query)[0][0]


def execute(dsn: str, *statements: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def table_facts(connection: Connection, tables: Tables | None = None) -> dict[str, TableFacts]:
    found = read_database(connection, tables or Tables()).tables
    return {name: table for name, table in found.items() if table}


def queue_of(connection: Connection, tables: Tables | None = None) -> Queue:
    return Queue(connection, tables or Tables())


def seed(connection: Connection, count: int, *, gates: Sequence[int] = (), tables: Tables | None = None) -> None:
    """Items `1.txt` to `COUNT.txt`."""
    statement = seed_statement(tables or Tables(), relation=None, gates=gates)
    with connection.transaction():
        queue_of(connection, tables).seed(statement, [f"{n}.txt" for n in range(1, count + 1)], gates=gates)


def append(connection: Connection, locations: Iterable[str], *, phase: int, tables: Tables | None = None) -> int:
    """Add locations to the queue in a transaction; returns how many were new."""
    with connection.transaction():
        queue_of(connection, tables).receive(locations)
        added = queue_of(connection, tables).append(phase=phase)
        connection.execute("DROP TABLE incoming")
    return added


def claim(
    connection: Connection, size: int = 10, *, worker: str = "w", lease_s: float = 60, tables: Tables | None = None
) -> Claim:
    """A claim that must not come out empty."""
    queue = queue_of(connection, tables)
    found = queue.claim(size=size, worker=worker, lease_s=lease_s, generation=queue.filling().generation)
    assert found is not None
    return found


def random_vector(number: int, *, dimensions: int = DIMENSIONS) -> Any:
    vector = np.random.default_rng(number).normal(size=dimensions).astype(np.float32)
    return vector / np.linalg.norm(vector)


def batch_of(claimed: Claim, *, dimensions: int = DIMENSIONS, chunks: int = 2) -> Batch:
    """A document for every item of the claim, with distinct vectors."""
    documents = []
    for item in claimed.items:
        number = int(item.location.split(".")[0])
        cut = tuple(
            ChunkRow(i, f"chunk {i} of {number}", random_vector(1000 * number + i, dimensions=dimensions))
            for i in range(chunks)
        )
        documents.append(
            DocumentRow(
                item_id=item.id,
                location=item.location,
                text=f"text {number}",
                content_hash=f"{number:064}",
                characters=len(f"text {number}"),
                metadata={"media_type": "text/plain"},
                vector=random_vector(number, dimensions=dimensions),
                chunks=cut,
            )
        )
    return Batch(claimed, tuple(documents), (), BatchMetrics("w", "f" * 16, 20, 5))
