"""Run the queue: claims fenced by a fresh id, leases on the server's clock, phases that make gates exact."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import cache
from typing import Any, NamedTuple

import psycopg
from psycopg import sql

from ragops.errors import FenceLost, RagopsError
from ragops.playbook.tables import Tables
from ragops.postgres.collisions import retry_collisions
from ragops.postgres.connection import Connection, fetch_row, transaction
from ragops.postgres.encodings import storable
from ragops.postgres.file_states import forget_failed
from ragops.postgres.filling import Filling, read_filling
from ragops.postgres.statements import Statement, identifiers_of, queue_key, statement

# The largest smallint, which is the type of the phase column. A gate of this phase is no gate.
MAX_PHASE = 32_767
# What `counts` calls failed items that an operator has excluded from the count.
EXCLUDED = "excluded"


class Cursor(NamedTuple):
    """A place in the order of claiming. Ids are compared by the server alone: their order may be a collation's."""

    phase: int
    id: Any


class OpenItems(NamedTuple):
    """Items that are not finished."""

    pending: int
    processing: int


class ItemStatus(StrEnum):
    """Status of an item, as the database spells it."""

    PENDING = "pending"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Item:
    """One claimed row of the queue."""

    id: Any
    location: str
    """Path, or id of a row, of the document; its meaning depends on the source that the queue was filled from."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Items that one worker may process until the lease ends.

    The id is the fence: a statement on behalf of a claim matches it, so that it changes nothing once the items
    have another claim.
    """

    id: uuid.UUID
    items: tuple[Item, ...]
    cursor: Cursor | None = None
    """Place of the last item: where the same worker's next claim may start."""


@cache
def _identifiers(tables: Tables) -> Mapping[str, sql.Composable]:
    """Return the placeholders of queue.sql, among them the gate, which a claim contains."""
    key = queue_key(tables)
    words: dict[str, sql.Composable] = {"queue_key": key, "last_phase": sql.Literal(MAX_PHASE)}
    # The key once a claim, or from the claimant: planning the look into the catalog takes 0.3 ms.
    within = {**words, "queue_key": sql.SQL("(SELECT queue FROM this)"), "campaign_queue": sql.SQL("c.queue")}
    gate = statement("queue", "gate", within)
    # By way of JSON for a command that only looks: a ledger of an older version lacks the column.
    looked_up = sql.SQL("to_jsonb(c)->>'queue'")
    return {**identifiers_of(tables), **words, "gate": gate, "campaign_queue": looked_up}


def seed_statement(tables: Tables, *, relation: sql.Composable | None, gates: Sequence[int]) -> Statement:
    """Compose the statement that fills a queue, without parameters, so that it can be printed before it runs.

    It is an INSERT from `relation`, whose column `id` is the location; a COPY from the client if that is None.
    """
    if relation is None:
        return statement("queue", "seed", _identifiers(tables))
    # A list, because psycopg adapts a tuple to a record instead of an array.
    literal = sql.Literal(sorted(gates))
    return statement("queue", "seed_rows", {**_identifiers(tables), "relation": relation, "gates": literal})


class Queue:
    """Statements on the mapped queue table, over one connection."""

    def __init__(self, connection: Connection, tables: Tables) -> None:
        self._connection = connection
        self._tables = tables
        self._identifiers = _identifiers(tables)

    def _sql(self, name: str, **more: sql.Composable) -> Statement:
        return statement("queue", name, {**self._identifiers, **more} if more else self._identifiers)

    def claim(
        self,
        *,
        size: int,
        worker: str,
        lease_s: float,
        generation: int = 0,
        queue: str | None = None,
        bound: Cursor | None = None,
        after: Cursor | None = None,
    ) -> Claim | None:
        """Claim up to `size` pending items of the open phases, up to `bound`; None if there are none.

        `generation` is that of the filling whose source the claimant reads; the default is that of a queue which
        ragops never filled. Nothing is taken from another filling. `queue` is the qualified name of the table, for
        one who claims often and knows it.

        `after` is the cursor of an earlier claim. Items before it are skipped, including those that came back to
        the queue meanwhile, so claim again without it after a claim that came back short or empty.
        """
        claim_id = uuid.uuid4()
        after_phase, after_id = after or (None, None)
        values = {
            "size": size,
            "worker": worker,
            "lease_s": lease_s,
            "generation": generation,
            **_up_to(bound),
            "after_phase": after_phase,
            "after_id": after_id,
            "claim_id": claim_id,
        }
        key: sql.Composable = self._identifiers["queue_key"] if queue is None else sql.Literal(queue)
        rows = self._connection.execute(self._sql("claim", this_queue=key), values).fetchall()
        if not rows:
            return None
        last, _, phase = rows[-1]
        return Claim(claim_id, tuple(Item(id, location) for id, location, _ in rows), Cursor(phase, last))

    def complete(self, claim: Claim, ids: Sequence[Any]) -> None:
        """Mark claimed items as completed, in the caller's transaction.

        Raises FenceLost if one of them no longer belongs to the claim; the caller rolls back.
        """
        if not ids:
            return
        values = {"claim_id": claim.id, "ids": list(ids)}
        _check_fence(self._connection.execute(self._sql("complete"), values).rowcount, len(ids))

    def fail(self, claim: Claim, failures: Iterable[tuple[Any, str]]) -> None:
        """Mark claimed items as failed, each with its reason. Raises FenceLost as `complete` does."""
        pairs = list(failures)
        if not pairs:
            return
        ids, reasons = map(list, zip(*pairs, strict=True))
        values = {"claim_id": claim.id, "ids": ids, "reasons": storable(self._connection, reasons)}
        _check_fence(self._connection.execute(self._sql("fail"), values).rowcount, len(ids))

    def drop(self, claim: Claim, ids: Sequence[Any]) -> None:
        """Remove claimed items of `ragops.work` that have nothing to embed. Raises FenceLost."""
        if not ids:
            return
        values = {"claim_id": claim.id, "ids": list(ids)}
        _check_fence(self._connection.execute(statement("rows", "drop_items"), values).rowcount, len(ids))

    def finished(self, ids: Sequence[Any], *, worker: str) -> int:
        """Return how many of these items the worker has completed or failed."""
        return int(fetch_row(self._connection, self._sql("finished"), {"ids": list(ids), "worker": worker})[0])

    def release(self, claim: Claim) -> int:
        """Put the claim's unfinished items back into the queue; return their number."""
        return self._connection.execute(self._sql("release"), {"claim_id": claim.id}).rowcount

    def extend_leases(self, claim_ids: Sequence[uuid.UUID], *, lease_s: float) -> int:
        """Extend the leases of which less than half is left to `lease_s`; return the number of items."""
        if not claim_ids:
            return 0
        values = {"claim_ids": list(claim_ids), "lease_s": lease_s}
        return self._connection.execute(self._sql("extend_leases"), values).rowcount

    def reap(
        self,
        *,
        is_dead: Callable[[str], bool] = lambda _: False,
        since: datetime | None = None,
    ) -> int:
        """Put items back whose lease expired (not before `since`) or whose worker is known to be dead.

        Items without lease and claim stay: another program has them. Return their number.
        """
        reaped = self._connection.execute(self._sql("reap_expired"), {"since": since}).rowcount
        workers = [row[0] for row in self._connection.execute(self._sql("claimants")).fetchall()]
        dead = [worker for worker in workers if is_dead(worker)]
        if dead:
            reaped += self._connection.execute(self._sql("release_claimants"), {"workers": dead}).rowcount
        return reaped

    def retry_failed(self, *, excluded: bool = False) -> int:
        """Put the failed items back into the queue, or those that were excluded; return their number.

        Their files are taken as they are then.
        """

        def retry() -> int:
            with transaction(self._connection, is_long=True):
                forget_failed(self._connection, self._tables)
                return self._connection.execute(self._sql("retry_failed"), {"excluded": excluded}).rowcount

        return retry_collisions(retry)

    def counts(self) -> dict[str, int]:
        """Return the number of items by status, 0 included; those that were excluded under a key of their own."""
        counts = {status.value: 0 for status in ItemStatus}
        counts.update(self._connection.execute(self._sql("counts")).fetchall())
        return counts

    def counts_by_target(self) -> dict[int, int]:
        """Return the number of items of `ragops.work` by the number of their target."""
        rows = self._connection.execute(statement("rows", "work_by_target")).fetchall()
        return {int(number): int(items) for number, items in rows}

    def server_time(self) -> datetime:
        """Return the time on the server's clock, which leases end on."""
        now: datetime = fetch_row(self._connection, self._sql("server_time"))[0]
        return now

    def gate(self) -> int:
        """Return the last phase that may be claimed now: an unfinished campaign's, else MAX_PHASE."""
        try:
            return int(fetch_row(self._connection, self._sql("gate"))[0])
        except psycopg.errors.UndefinedTable:
            # Without a ledger there is no campaign: a command that only looks does not create it.
            return MAX_PHASE

    def open_items(self, *, phase: int = MAX_PHASE, bound: Cursor | None = None) -> OpenItems:
        """Return the number of pending and processing items up to a phase and, if given, a bound."""
        values = {"phase": phase, **_up_to(bound)}
        return OpenItems(*fetch_row(self._connection, self._sql("open_items"), values))

    def bound_for(self, *, until: int) -> Cursor | None:
        """Return the last place to claim so that `until` items will be completed; None if there is nothing to do.

        Completed items plus open items up to the bound are `until` in every snapshot, so several commands that
        compute their bounds at different times never complete more than that together.
        """
        with transaction(self._connection):
            # Counts and id must come from the same snapshot: a completion in between would move the bound.
            self._connection.execute(self._sql("snapshot"))
            counts = self.counts()
            missing = until - counts[ItemStatus.COMPLETED]
            is_open = counts[ItemStatus.PENDING] + counts[ItemStatus.PROCESSING]
            if missing <= 0 or is_open == 0:
                return None
            offset = min(missing, is_open) - 1
            row = self._connection.execute(self._sql("nth_open"), {"offset": offset}).fetchone()
        return Cursor(*row) if row else None

    def filling(self) -> Filling:
        """Return what is known of the items that the queue holds now."""
        return read_filling(self._connection, self._tables)

    def load_source(self) -> Mapping[str, object] | None:
        """Return what the queue was last filled from; None if ragops did not fill it."""
        return self.filling().source

    def sample_locations(self, size: int) -> list[str]:
        """Return up to `size` locations from anywhere in the queue, whatever their status."""
        rows = self._connection.execute(self._sql("sample_locations"), {"size": size}).fetchall()
        return [row[0] for row in rows]

    def is_filled(self) -> bool:
        """Return whether the queue holds any item."""
        return bool(fetch_row(self._connection, self._sql("is_filled"))[0])

    def foreign_documents(self, locations: Collection[str]) -> int:
        """Return the number of stored documents that come from none of these locations."""
        values = {"locations": list(locations)}
        return int(fetch_row(self._connection, self._sql("foreign_documents"), values)[0])

    def distinct_locations(self) -> int:
        """Return the number of different locations; a scan of the whole queue."""
        return int(fetch_row(self._connection, self._sql("distinct_locations"))[0])

    def repeated_locations(self) -> int:
        """Return the number of items whose location another item has already; a scan of the whole queue."""
        with transaction(self._connection, is_long=True):
            return int(fetch_row(self._connection, self._sql("repeated_locations"))[0])

    def seed(self, statement: Statement, locations: Iterable[str], *, gates: Sequence[int]) -> int:
        """Stream locations into an empty queue by COPY, in the caller's transaction; return their number.

        `statement` comes from `seed_statement`. An item gets phase k+1 if k gates lie at or below its position,
        from 0: with gates (1000, 100000) the first 1,000 items have phase 1, those up to 100,000 phase 2, the rest
        phase 3. Raises RagopsError if the queue is not empty.
        """
        self.lock()
        self._require_empty()
        # Imported here because it imports numpy, which `ragops status` does without.
        from ragops.postgres.queue_seed import copy_blocks, queue_blocks

        blocks = queue_blocks(locations, status=ItemStatus.PENDING.value, gates=gates)
        return copy_blocks(self._connection, statement, blocks)

    def seed_rows(self, statement: Statement) -> int:
        """Fill an empty queue from rows of this database, as `seed` does; the rows never leave the server."""
        self.lock()
        self._require_empty()
        return self._connection.execute(statement).rowcount

    def receive(self, locations: Iterable[str]) -> None:
        """Stream locations to the server for `append`, in the caller's transaction."""
        from ragops.postgres.queue_seed import copy_blocks, incoming_blocks

        self._connection.execute(self._sql("create_incoming"))
        copy_blocks(self._connection, self._sql("copy_incoming"), incoming_blocks(locations))

    def receive_rows(self, relation: sql.Composable) -> None:
        """Take the locations for `append` from `relation`, its column `id`."""
        self._connection.execute(self._sql("create_incoming"))
        self._connection.execute(self._sql("insert_incoming", relation=relation))

    def append(self, *, phase: int) -> int:
        """Add the received locations that are not in the queue yet; return their number.

        The queue is locked no earlier than now: receiving may take long, and claims go on meanwhile.
        """
        self._connection.execute(self._sql("analyze_incoming"))
        self.lock()
        return self._connection.execute(self._sql("append_incoming"), {"phase": phase}).rowcount

    def lock(self) -> None:
        """Keep other writers out until the end of the caller's transaction."""
        self._connection.execute(self._sql("lock"))

    def analyze(self) -> None:
        """Update the planner's statistics after the queue was filled."""

        def act() -> None:
            with transaction(self._connection, is_long=True):
                self._connection.execute(self._sql("analyze"))

        # Here, not by the caller: the transaction that filled the queue must not be run again with it.
        retry_collisions(act)

    def _require_empty(self) -> None:
        """Raise RagopsError if the queue holds an item."""
        if self.is_filled():
            raise RagopsError(
                "the queue is not empty",
                actual=f"{sum(self.counts().values()):,} items",
                hint="ragops tables empty files_queue   or: ragops queue reseed --append",
            )


def _up_to(bound: Cursor | None) -> dict[str, object]:
    """Return the parameters that end a scan at a bound."""
    last_phase, last_id = bound or (None, None)
    return {"last_phase": last_phase, "last_id": last_id}


def _check_fence(changed: int, claimed: int) -> None:
    """Raise FenceLost if a statement changed fewer items than the claim should hold."""
    if changed != claimed:
        raise FenceLost(
            "batch dropped: its lease expired and its items went back to the queue",
            actual=f"{changed} of {claimed} items still held",
        )
