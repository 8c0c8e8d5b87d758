"""Periodic maintenance of a running fleet: extend leases, requeue abandoned items, report vacuum blockers."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial

from ragops.errors import first_line
from ragops.identity import is_dead_here
from ragops.playbook.tables import Tables
from ragops.postgres.connection import DATABASE_ERRORS, OUTAGES, Connection, transaction
from ragops.postgres.locks import LOCK_TIMEOUT_S, TIMED_OUT, TIMED_OUT_OR_CANCELLED
from ragops.postgres.outages import outage_of
from ragops.postgres.queue import Claim, Queue
from ragops.postgres.vacuum_blockers import oldest_blocker
from ragops.workers.buffer import Pipeline
from ragops.workers.database import Database
from ragops.workers.lock_watch import LockWatch
from ragops.workers.others import OtherPrograms
from ragops.workers.state import Stats

EVERY_S = 5.0
# Report transactions older than this: they keep vacuum from removing the queue's dead rows.
HELD_S = 600
# Failed attempts in a row before it is worth a notice.
MISSED = 3
EVERYTHING_EVERY = timedelta(seconds=60)
# A claim that was under way at the last check may have set its lease before it and committed after it.
OVERLAP = timedelta(seconds=10)


class Maintenance:
    """Runs in the controller's thread."""

    def __init__(
        self,
        pipeline: Pipeline,
        database: Database,
        tables: Tables,
        *,
        stats: Stats,
        lease_s: float,
        heartbeat: Callable[[Connection], None],
        locks: LockWatch,
    ) -> None:
        """`heartbeat` is called with the connection each time; a campaign renews its own lease in it."""
        self._pipeline = pipeline
        self._database = database
        self._tables = tables
        self._stats = stats
        self._lease_s = lease_s
        self._heartbeat = heartbeat
        self._locks = locks
        self._reaper = Reaper(tables, is_dead=is_dead_here)
        self._others = OtherPrograms(tables)
        self._has_named_others = False
        self._reported: set[tuple[str, str, int | None]] = set()
        self._due_at = 0.0
        self._missed, self._is_late = 0, False
        self._is_left = False

    def maintain(self, info: Callable[[str], None]) -> None:
        """Pass notices on to `info`, and do the rest if it is due.

        Does not wait for a database that is unavailable: the other threads do, and progress must go on.
        """
        for notice in self._stats.take_notices():
            info(notice)
        if time.monotonic() < self._due_at:
            return
        # A lease survives two failed attempts.
        self._due_at = time.monotonic() + min(EVERY_S, self._lease_s / 3)
        try:
            reaped = self._database.try_once(self._run)
        except TIMED_OUT_OR_CANCELLED:
            # `LockWatch` names who has locked a table; a role's statement_timeout may be shorter than a reap.
            return
        except Exception as error:
            outage = outage_of(error, is_lost=self._database.is_lost)
            if outage is None:
                raise
            self._missed += 1
            # The fetcher and the completer report an outage; this is said where only the leases suffer.
            if self._missed >= MISSED and not self._database.outages.are_open and not self._is_late:
                self._is_late = True
                info(f"leases could not be renewed: {outage.reason}; other workers may take the items")
            # A setting of the session would stay as it is: default_transaction_read_only.
            self._database.close()
            return
        self._missed, self._is_late = 0, False
        if reaped:
            info(f"returned {reaped:,} items of dead or stalled workers to the queue")

    @property
    def has_given_back(self) -> bool:
        """Whether nothing in flight was left to its lease."""
        return not self._is_left

    def give_back(self) -> None:
        """Return the items in flight to the queue: whatever ended the fleet, they did not cause it."""
        for claim in self._pipeline.held_claims():
            try:
                self._database.try_once(partial(self._release, claim))
            except (*DATABASE_ERRORS, *OUTAGES) as error:
                # Without a database a notice is all that can be done; other workers reap the lease.
                self._stats.info_once(
                    f"cannot return items to the queue ({first_line(error)}); "
                    f"their lease runs out within {self._lease_s:g} s"
                )
                self._is_left = True
                return

    def _release(self, claim: Claim, connection: Connection) -> int:
        return Queue(connection, self._tables).release(claim)

    def _run(self, connection: Connection) -> int:
        self._locks.look(connection)
        queue = Queue(connection, self._tables)
        # A table that someone has locked is waited for by the other threads, while this one says who it is.
        reaped = 0
        with suppress(*TIMED_OUT):
            with transaction(connection, lock_timeout_s=LOCK_TIMEOUT_S):
                queue.extend_leases([claim.id for claim in self._pipeline.held_claims()], lease_s=self._lease_s)
            with transaction(connection, lock_timeout_s=LOCK_TIMEOUT_S):
                reaped = self._reaper.reap(connection)
            self._look_at_others(connection)
        self._heartbeat(connection)
        blocker = oldest_blocker(connection, min_age_s=HELD_S)
        if blocker is not None and (key := (blocker.kind, blocker.name, blocker.pid)) not in self._reported:
            self._reported.add(key)
            self._stats.info(
                f"vacuum is held back and the queue table grows: {blocker}; to end it: {blocker.remedy}"
            )
        return reaped

    def _look_at_others(self, connection: Connection) -> None:
        look = self._others.look(connection)
        if look.taken and not self._has_named_others:
            self._has_named_others = True
            self._stats.info(look.notice)
        if look.returned:
            self._stats.info(f"returned {look.returned:,} items to the queue that another program had left")


class Reaper:
    """Requeue expired claims: all of them once a minute, in between those that ran out since the last call.

    While a long transaction elsewhere holds vacuum back, the index of leases keeps an entry for every item that
    was ever claimed; reading all of them takes a second per million. Times are the server's.
    """

    def __init__(self, tables: Tables, *, is_dead: Callable[[str], bool] = lambda _: False) -> None:
        self._tables = tables
        self._is_dead = is_dead
        self._last: datetime | None = None
        self._last_of_all: datetime | None = None

    def reap(self, connection: Connection) -> int:
        """Requeue items whose lease has run out or whose worker is known to be dead; return their number."""
        queue = Queue(connection, self._tables)
        now = queue.server_time()
        since = None
        # Not below zero either: the clock may go back, for example at a failover.
        if self._last_of_all is None or not timedelta(0) <= now - self._last_of_all < EVERYTHING_EVERY:
            self._last_of_all = now
        elif self._last is not None:
            since = self._last - OVERLAP
        reaped = queue.reap(is_dead=self._is_dead, since=since)
        self._last = now
        return reaped
