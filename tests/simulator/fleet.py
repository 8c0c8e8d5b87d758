"""A fleet without children: the real claims, writer and reconnections; vectors are computed in place."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from types import SimpleNamespace
from typing import cast

import numpy as np

from ragops.campaign.steps.base import Run
from ragops.errors import FenceLost, Interrupted, RagopsError
from ragops.facts import BuildFacts, ModelFacts
from ragops.identity import holder_name, is_dead_here
from ragops.postgres.connection import OUTAGES, Connection, connect
from ragops.postgres.queue import Claim, Cursor, Item, Queue
from ragops.postgres.row_work import RowWork
from ragops.postgres.writer import Batch, BatchMetrics, ChunkRow, DocumentRow, Writer
from ragops.session import Session
from ragops.workers.database import Database
from ragops.workers.fleet import FleetResult
from ragops.workers.maintenance import Reaper
from ragops.workers.space import SpaceGuard
from ragops.workers.state import Stats
from ragops.workers.supervisor import Supervisor
from simulator.processes import Process, current_process
from simulator.programs import LEASE_S, filling_of
from simulator.world import DIMENSIONS, embed_text, read_text

IDLE_S = 0.3
# The chance that an item fails.
FAILS = 0.02


def run_fleet(
    run: Run,
    session: Session,
    generation: int,
    bound: Cursor | None,
    goal: int,
    phase: int | None,
    work: RowWork | None,
) -> tuple[FleetResult, int]:
    """Drain the queue as `Fleet` does, with its claims, writer and reconnections; vectors are computed here."""
    process = current_process()
    process.playbook, process.renew = session.playbook, run.renew
    stats = Stats()
    database = Database("fleet", session.target, stop=session.stop, outages=session.database.outages)
    is_campaign = run.campaign is not None
    fleet = _Fleet(process, session, database, generation, bound, stats, is_campaign=is_campaign)
    try:
        fleet.join_space()
        if phase is not None:
            session.through_outages(lambda: run.open_phase(phase))
        fleet.drain()
    finally:
        if not process.is_killed:
            fleet.give_back()
        process.held.clear()
        process.renew = None
        database.close()
    if session.stop.requested.is_set():
        raise Interrupted("stopped", signal_number=2)
    return FleetResult(stats.completed, stats.failed, 0, 0, 0, 0, 1.0), fleet.generation


def supervisor_of(pooling: str) -> Supervisor:
    """Return what the guard of the space asks of a child: its build and its model, which differ by the pooling."""
    build = BuildFacts("python", "3.11", "0.3.16", "AVX2 = 1", {"AVX2": "1"}, "linux")
    model = ModelFacts(
        "model.gguf", 1, "bert", "tiny", "tiny", DIMENSIONS, 512, 100, 1000, pooling, False, 512, {}, {}
    )
    embedder = SimpleNamespace(build=build, model=model)
    return cast(Supervisor, SimpleNamespace(embedder=embedder, ask=lambda work: work(embedder)))


class _Fleet:
    """One fleet: it claims, embeds and stores one or two claims at a time."""

    def __init__(
        self,
        process: Process,
        session: Session,
        database: Database,
        generation: int,
        bound: Cursor | None,
        stats: Stats,
        *,
        is_campaign: bool,
    ) -> None:
        self._is_campaign = is_campaign
        self._process, self._session, self._database = process, session, database
        self.generation, self._bound, self._stats = generation, bound, stats
        self._tables = session.playbook.tables
        self._writer = Writer(self._tables, process.world.tables)
        self._source = filling_of(process.world, session.playbook).source
        self._cursor: Cursor | None = None

    def join_space(self) -> None:
        """Join the space of the filling's first fleet, or refuse, as a fleet does before it claims."""
        guard = SpaceGuard(
            self._session.playbook,
            self._process.world.tables,
            self._database,
            sha256="0" * 64,
            generation=self.generation,
            is_campaign=self._is_campaign,
            stop=self._session.stop,
            stats=self._stats,
        )
        self.generation = guard.join(supervisor_of(str(self._session.playbook.model.pooling))).generation

    def drain(self) -> None:
        stop, rng = self._session.stop.requested, self._process.rng
        while not stop.is_set():
            claims = [claim for _ in range(rng.choice((1, 1, 2))) if (claim := self._database.run(self._claim))]
            if not claims:
                self._database.run(self._check_filling)
                if sum(self._database.run(self._open_items)) == 0:
                    return
                stop.wait(IDLE_S)
                continue
            # The model computes.
            stop.wait(IDLE_S)
            if self._session.stop.aborted.is_set() or (stop.is_set() and rng.random() < 0.5):
                # What is held is given back.
                return
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
            size=size,
            worker=holder_name(),
            lease_s=LEASE_S,
            generation=self.generation,
            bound=self._bound,
            after=self._cursor,
        )
        self._cursor = claim.cursor if claim is not None and len(claim.items) == size else None
        if claim is not None:
            self._process.held[claim.id] = claim
        return claim

    def _open_items(self, connection: Connection) -> tuple[int, int]:
        queue = self._queue(connection)
        return queue.open_items(phase=queue.gate(), bound=self._bound)

    def _check_filling(self, connection: Connection) -> None:
        """Raise RagopsError as the fetcher does, which is the only one here that asks."""
        found = self._queue(connection).filling().generation
        if found != self.generation:
            raise RagopsError("the queue was filled again", actual=str(found), expected=str(self.generation))

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
