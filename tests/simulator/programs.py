"""The programs of simulated processes: the real campaign, queue, writer and undo; a fleet without children."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import numpy as np
from pgvector.psycopg.vector import register_vector_info
from psycopg.types import TypeInfo

from ragops import session as session_module
from ragops.campaign import planning
from ragops.campaign import run as campaign
from ragops.campaign.plan import Outlook
from ragops.campaign.steps import embed as embedding
from ragops.campaign.steps import validate as validation
from ragops.campaign.steps.base import Run, SingleCommand
from ragops.campaign.undo import undo
from ragops.errors import FenceLost, Interrupted, NegativeVerdict, RagopsError, first_line
from ragops.facts import DatabaseFacts
from ragops.playbook import Playbook
from ragops.playbook.model import Model, Source, Workers
from ragops.playbook.steps import Embed, EmptyTables, ReseedQueue, Validate
from ragops.playbook.tables import Tables
from ragops.postgres import connection as connection_module
from ragops.postgres.catalog import Rows
from ragops.postgres.connection import DATABASE_ERRORS, OUTAGES, Connection, connect
from ragops.postgres.ledger import Ledger, holder_name, is_dead_here
from ragops.postgres.queue import Claim, Item, Queue
from ragops.postgres.writer import Batch, BatchMetrics, ChunkRow, DocumentRow, Writer
from ragops.session import Session
from ragops.workers.database import Database
from ragops.workers.fleet import FleetResult
from ragops.workers.maintenance import Reaper
from ragops.workers.state import Stats
from simulator.oracle import Filling
from simulator.processes import Process, current_process
from simulator.world import GATES, Violation, World, embed_text, read_text

LEASE_S = 120.0
IDLE_S = 0.3
# Chances that an item fails, and that a validation does.
FAILS, FAILS_GATE = 0.02, 0.05


def make_playbook(world: World, *, source: str, pooling: str) -> Playbook:
    """Return the playbook of a campaign over a corpus, with two gates."""
    first, second = GATES
    return Playbook(
        version=1,
        name="simulated",
        model=Model(pooling=pooling),
        source=Source(folder=world.corpora[source]),
        steps=(
            EmptyTables(step="empty_tables"),
            ReseedQueue(step="reseed_queue"),
            Embed(step="embed", until=first),
            Validate(step="validate", after=first),
            Embed(step="embed", until=second),
            Validate(step="validate", after=second),
            Embed(step="embed"),
            Validate(step="validate"),
        ),
        workers=Workers(count=1, threads=1, lease_s=int(LEASE_S), cache_mib=0),
    )


def filling_of(world: World, playbook: Playbook) -> Filling:
    """Return what a campaign with this playbook fills the queue with."""
    source = next(name for name, folder in world.corpora.items() if folder == playbook.source.folder)
    return Filling(source, str(playbook.model.pooling), playbook.gates())


# What the commands do.


def program(process: Process) -> None:
    """Run a command to its end, as the command line does; its errors are its outcome."""
    world = process.world
    try:
        with connect(world.target) as connection:
            session = Session(world.target, process.playbook, connection, stop=process.stop, trust_stored=True)
            process.outcome = _COMMANDS[process.kind](session) or "done"
    except (RagopsError, *DATABASE_ERRORS) as error:
        process.outcome = f"{type(error).__name__}: {first_line(error)}"
    except KeyboardInterrupt:
        process.outcome = "interrupted"


def _reset(session: Session) -> str:
    campaign.refuse_unfinished(session)
    plan = campaign.plan_campaign(session)
    campaign.refuse_unfinished(session)
    return campaign.start(session, plan).status


def _reset_new(session: Session) -> str:
    campaign.refuse_held(session)
    plan = campaign.plan_campaign(session)
    campaign.give_up_unfinished(session)
    return campaign.start(session, plan).status


def _resume(session: Session) -> str:
    return campaign.resume(session, confirm=lambda changes: None).status


def _embed(session: Session) -> str:
    result = embedding.drain(SingleCommand(session))
    return f"embedded {result.completed}"


def _undo(session: Session) -> str:
    result = undo(session)
    return "undone before" if result.was_undone else f"undone {result.campaign}"


def _retry(session: Session) -> str:
    return f"{session.queue.retry_failed()} retried"


_COMMANDS = {
    "reset": _reset,
    "new": _reset_new,
    "resume": _resume,
    "embed": _embed,
    "undo": _undo,
    "retry": _retry,
}


# What takes the place of children, threads and planning.


def run_fleet(run: Run, session: Session, last_id: Any) -> FleetResult:
    """Drain the queue as `Fleet` does: with its claims, its writer, its reconnections; vectors are computed here."""
    process = current_process()
    process.playbook, process.renew = session.playbook, run.renew
    stats = Stats()
    database = Database("fleet", session.target, stop=session.stop, stats=stats)
    fleet = _Fleet(process, session, database, Writer(session.playbook.tables, process.world.tables), last_id, stats)
    try:
        fleet.drain()
    finally:
        if not process.is_killed:
            fleet.give_back()
        process.held.clear()
        process.renew = None
        database.close()
    if session.stop.requested.is_set():
        raise Interrupted("stopped", signal_number=2)
    return FleetResult(stats.completed, stats.failed, 0, 0, 0, 0, 1.0)


class _Fleet:
    """One fleet: it claims, embeds and stores one or two claims at a time."""

    def __init__(
        self, process: Process, session: Session, database: Database, writer: Writer, last_id: Any, stats: Stats
    ) -> None:
        self._process, self._session, self._database = process, session, database
        self._writer, self._last_id, self._stats = writer, last_id, stats
        self._tables = session.playbook.tables
        self._source = filling_of(process.world, session.playbook).source
        self._cursor: Any = None

    def drain(self) -> None:
        stop, rng = self._session.stop.requested, self._process.rng
        while not stop.is_set():
            claims = [claim for _ in range(rng.choice((1, 1, 2))) if (claim := self._database.run(self._claim))]
            if not claims:
                if sum(self._database.run(self._open_items)) == 0:
                    return
                stop.wait(IDLE_S)
                continue
            # The model computes.
            stop.wait(IDLE_S)
            self._store([self._embed(claim) for claim in claims])
            for claim in claims:
                self._process.held.pop(claim.id, None)

    def give_back(self) -> None:
        for claim in list(self._process.held.values()):
            with suppress(*OUTAGES):
                self._database.try_once(lambda c, claim=claim: Queue(c, self._tables).release(claim))  # type: ignore[misc]

    def _claim(self, connection: Connection) -> Claim | None:
        size = self._process.rng.randint(1, 3)
        claim = self._queue(connection).claim(
            size=size, worker=holder_name(), lease_s=LEASE_S, last_id=self._last_id, after=self._cursor
        )
        self._cursor = claim.cursor if claim is not None and len(claim.items) == size else None
        if claim is not None:
            self._process.held[claim.id] = claim
        return claim

    def _open_items(self, connection: Connection) -> tuple[int, int]:
        queue = self._queue(connection)
        return queue.open_items(phase=queue.gate(), last_id=self._last_id)

    def _queue(self, connection: Connection) -> Queue:
        return Queue(connection, self._tables)

    def _embed(self, claim: Claim) -> Batch:
        documents, failures = [], []
        for item in claim.items:
            text = read_text(self._source, item.location)
            if text is None:
                failures.append((item.id, "the file is gone"))
            elif self._process.rng.random() < FAILS:
                failures.append((item.id, "the model failed"))
            else:
                documents.append(self._document(item, text))
        return Batch(claim, tuple(documents), tuple(failures), BatchMetrics(holder_name(), "f" * 16, 1, 1))

    def _document(self, item: Item, text: str) -> DocumentRow:
        vector = embed_text(text, str(self._session.playbook.model.pooling))
        chunks = (ChunkRow(0, text, vector),)
        return DocumentRow(item.id, item.location, text, "0" * 64, len(text), {}, np.array(vector), chunks)

    def _store(self, batches: Sequence[Batch]) -> None:
        """Store as the completer does: together, and claim by claim if one was lost."""
        try:
            self._database.run(lambda connection: self._writer.write(connection, *batches))
        except FenceLost:
            if len(batches) > 1:
                for batch in batches:
                    self._store([batch])
            return
        for batch in batches:
            self._stats.add(completed=len(batch.documents), failed=len(batch.failures), chunks=0, tokens=0)


def keep_alive(process: Process) -> None:
    """Do what a process does every few seconds beside its work, each time that it is resumed."""
    world, task = process.world, process.beat
    assert task is not None
    tables = process.playbook.tables
    reaper = Reaper(tables, is_dead=is_dead_here)
    connection: Connection | None = None
    while True:
        task.sleep()
        try:
            if connection is None or connection.closed:
                connection = connect(world.target)
            if process.renew is not None:
                Queue(connection, tables).extend_leases(list(process.held), lease_s=LEASE_S)
                reaper.reap(connection)
            if process.ledger is not None:
                process.ledger.on(connection).renew()
        except OUTAGES:
            continue


@contextmanager
def _heartbeat(session: Session, ledger: Ledger) -> Iterator[None]:
    process = current_process()
    process.ledger, process.playbook = ledger, session.playbook
    try:
        yield
    finally:
        process.ledger = None


class _Validated(validation.ValidationResult):
    """A validation whose verdict was drawn."""

    @property
    def verdict(self) -> str:
        return "pass" if self.processing_time_ms == 0 else "fail"

    def refuse_failure(self) -> None:
        if self.verdict == "fail":
            raise NegativeVerdict("validation failed")

    def to_json(self) -> dict[str, object]:
        return {"verdict": self.verdict}


def _validate(run: Run, *, after: int | None = None, seed: float | None = None) -> _Validated:
    """Wait for the gate as the real step does, look whether it is one, and draw a verdict."""
    process = current_process()
    if after is not None:
        validation.wait_until(run, after)
    for _ in range(process.rng.randint(0, 2)):
        run.session.stop.requested.wait(1.0)
        run.session.queue.counts()
    try:
        process.world.oracle.judge_gate(process, after=after)
    except Violation as violation:
        process.world.violation = violation
    fails = process.rng.random() < FAILS_GATE
    return _Validated((), None, None, int(fails))  # type: ignore[arg-type]


_COUNTS = " UNION ALL ".join(
    f"SELECT '{logical}', count(*) FROM {table.schema or 'public'}.{table.name}"
    for logical, table in Tables().mapped().items()
)


def _read_database(connection: Connection, tables: Tables, *, rows: Rows = Rows.EXACT) -> DatabaseFacts:
    """Return the facts, with the rows as they are now: reading the catalog takes 30 ms, and nothing changes it."""
    facts = current_process().world.facts
    counts = dict(connection.execute(_COUNTS.encode()).fetchall())
    counted = {name: table and replace(table, rows=counts[name]) for name, table in facts.tables.items()}
    return replace(facts, tables=counted)


_types: list[tuple[str, int, int]] = []


def _register_types(connection: Connection) -> bool:
    """Register pgvector's type without asking for its oid each time: all databases are copies of one."""
    if not _types:
        query = "SELECT typname, oid::bigint, typarray::bigint FROM pg_type WHERE typname = 'vector'"
        _types.extend(connection.execute(query.encode()).fetchall())
    register_vector_info(connection, TypeInfo(*_types[0]))
    return True


@contextmanager
def simulated_program() -> Iterator[None]:
    """Put the simulated fleet in the place of children and threads; planning looks at facts alone."""
    with ExitStack() as stack:
        for module, name, value in (
            (campaign, "heartbeat", _heartbeat),
            (embedding, "_run_fleet", run_fleet),
            (validation, "validate", _validate),
            (session_module, "read_database", _read_database),
            (connection_module, "register_vector_types", _register_types),
            (planning, "look_ahead", lambda *_, **__: Outlook((), ())),
        ):
            stack.enter_context(patch.object(module, name, value))
        yield

