"""What a fleet does every few seconds: extend leases, take back abandoned items, name who slows the queue down."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial

from ragops.playbook.tables import Tables
from ragops.postgres.connection import OUTAGES, Connection
from ragops.postgres.ledger import is_dead_here
from ragops.postgres.queue import Claim, Queue
from ragops.postgres.vacuum_blockers import oldest_blocker
from ragops.workers.buffer import Pipeline
from ragops.workers.database import Database
from ragops.workers.state import Stats

EVERY_S = 5.0
HELD_S = 600
"""So old is a transaction elsewhere that is named: vacuum cannot remove what the queue leaves behind."""
EVERYTHING_EVERY = timedelta(seconds=60)
# A claim that was under way during the last look may have set its lease before it and committed after it.
OVERLAP = timedelta(seconds=10)


class Maintenance:
    """Runs in the controller's own thread."""

    def __init__(
        self,
        pipeline: Pipeline,
        database: Database,
        tables: Tables,
        *,
        stats: Stats,
        lease_s: float,
        heartbeat: Callable[[Connection], None],
    ) -> None:
        self._pipeline = pipeline
        self._database = database
        self._tables = tables
        self._stats = stats
        self._lease_s = lease_s
        self._heartbeat = heartbeat
        self._reaper = Reaper(tables, is_dead=is_dead_here)
        self._named: set[tuple[str, str, int | None]] = set()
        self._due_at = 0.0

    def maintain(self, info: Callable[[str], None]) -> None:
        """Pass notices on, and tend when it is time to. An outage here is the others' to wait for."""
        for notice in self._stats.take_notices():
            info(notice)
        if time.monotonic() < self._due_at:
            return
        self._due_at = time.monotonic() + min(EVERY_S, self._lease_s / 3)
        try:
            back = self._database.try_once(self._beat)
            if back:
                info(f"{back:,} items of dead or stalled workers were put back into the queue")
        except OUTAGES as error:
            info(f"no heartbeat: {str(error).splitlines()[0] if str(error) else type(error).__name__}")

    def give_back(self) -> None:
        """Whatever ended the fleet, the items in hand are nobody's fault: they go back to the queue."""
        for claim in self._pipeline.held_claims():
            try:
                self._database.try_once(partial(self._release, claim))
            except OUTAGES as error:
                # The lease ends by itself; saying so is all that can be done without a database.
                self._stats.info_once(f"items could not be given back, their lease will run out: {error}")

    def _release(self, claim: Claim, connection: Connection) -> int:
        return Queue(connection, self._tables).release(claim)

    def _beat(self, connection: Connection) -> int:
        held = [claim.id for claim in self._pipeline.held_claims()]
        Queue(connection, self._tables).extend_leases(held, lease_s=self._lease_s)
        back = self._reaper.reap(connection)
        self._heartbeat(connection)
        self._report_blocker(connection)
        return back

    def _report_blocker(self, connection: Connection) -> None:
        holder = oldest_blocker(connection, min_age_s=HELD_S)
        if holder is None or (holder.kind, holder.name, holder.pid) in self._named:
            return
        self._named.add((holder.kind, holder.name, holder.pid))
        self._stats.info(f"vacuum is held back, so that the queue grows: {holder}; to end it: {holder.remedy}")


class Reaper:
    """One process's reaping: all leases once a minute, in between those that ran out since the last look.

    While a long transaction elsewhere holds vacuum back, the index of leases keeps an entry of every item
    that was ever claimed: a look at all of them takes a second per million. Times are the server's.
    """

    def __init__(self, tables: Tables, *, is_dead: Callable[[str], bool] = lambda _: False) -> None:
        self._tables = tables
        self._is_dead = is_dead
        self._looked: datetime | None = None
        self._looked_at_all: datetime | None = None

    def reap(self, connection: Connection) -> int:
        """Give back items whose lease has run out or whose worker is known to be dead; returns their number."""
        queue = Queue(connection, self._tables)
        now = queue.server_time()
        if self._looked_at_all is None or not timedelta(0) <= now - self._looked_at_all < EVERYTHING_EVERY:
            since, self._looked_at_all = None, now
        else:
            assert self._looked is not None
            since = self._looked - OVERLAP
        reaped = queue.reap(is_dead=self._is_dead, since=since)
        self._looked = now
        return reaped
