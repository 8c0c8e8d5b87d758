"""The queue: claims fenced by a fresh id, leases on the server's clock, phases for exact gates."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from psycopg import sql
from psycopg.types.json import Jsonb

from ragops.errors import FenceLost, RagopsError
from ragops.playbook.tables import Tables
from ragops.postgres.connection import Connection, transaction
from ragops.postgres.statements import Statement, identifiers_of, statement

MAX_PHASE = 32767

Cursor = tuple[int, Any]
"""A place in the order of claiming: phase and id of a row."""


class ItemStatus(StrEnum):
    """The states of an item, as the database spells them."""

    PENDING = "pending"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Item:
    """One claimed row: its id and where its document lies."""

    id: Any
    location: str


@dataclass(frozen=True, slots=True)
class Claim:
    """A fenced right to process some items; it ends when the lease does."""

    id: uuid.UUID
    items: tuple[Item, ...]
    cursor: Cursor | None = None
    """The last place taken: where the same claimant's next claim may start."""


class Queue:
    """Statements on the mapped queue table, over one connection."""

    def __init__(self, connection: Connection, tables: Tables) -> None:
        self._connection = connection
        self._identifiers = identifiers_of(tables)
        self._name = tables.files_queue.table

    def _sql(self, name: str, **more: sql.Composable) -> sql.Composed:
        return statement("queue", name, {**self._identifiers, **more})

    def claim(
        self,
        *,
        size: int,
        worker: str,
        lease_s: float,
        last_id: Any = None,
        after: Cursor | None = None,
    ) -> Claim | None:
        """Claim up to `size` pending items within the open phases; None when there is none to be had.

        `after` is the mark of an earlier claim: items before it are passed over unseen, those that came
        back to the queue among them. When such a claim comes back short or empty, claim again without it.
        """
        claim_id = uuid.uuid4()
        after_phase, after_id = after or (None, None)
        values = {
            "size": size,
            "worker": worker,
            "lease_s": lease_s,
            "last_id": last_id,
            "after_phase": after_phase,
            "after_id": after_id,
            "claim_id": claim_id,
        }
        rows = self._connection.execute(self._sql("claim"), values).fetchall()
        if not rows:
            return None
        last_taken, _, phase = rows[-1]
        return Claim(claim_id, tuple(Item(id, location) for id, location, _ in rows), (phase, last_taken))

    def complete(self, claim: Claim, ids: Sequence[Any]) -> None:
        """Mark claimed items completed, in the caller's transaction.

        Raises FenceLost when any of them no longer belongs to the claim; the caller rolls back.
        """
        if not ids:
            return
        done = self._connection.execute(self._sql("complete"), {"claim_id": claim.id, "ids": list(ids)}).rowcount
        _check_fence(done, len(ids))

    def fail(self, claim: Claim, failures: Iterable[tuple[Any, str]]) -> None:
        """Mark claimed items failed with their reasons. Raises FenceLost as `complete` does."""
        pairs = list(failures)
        if not pairs:
            return
        ids, reasons = map(list, zip(*pairs, strict=True))
        values = {"claim_id": claim.id, "ids": ids, "reasons": reasons}
        _check_fence(self._connection.execute(self._sql("fail"), values).rowcount, len(ids))

    def release(self, claim: Claim) -> int:
        """Give the claim's unfinished items back; returns their number."""
        return self._connection.execute(self._sql("release"), {"claim_id": claim.id}).rowcount

    def extend_leases(self, claim_ids: Sequence[uuid.UUID], *, lease_s: float) -> int:
        """Lengthen to `lease_s` the leases of which less than half is left; returns the number of items."""
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
        """Give back items whose lease has run out (not before `since`) or whose worker is known to be dead."""
        reaped = self._connection.execute(self._sql("reap_expired"), {"since": since}).rowcount
        workers = [row[0] for row in self._connection.execute(self._sql("claimants")).fetchall()]
        dead = [worker for worker in workers if is_dead(worker)]
        if dead:
            reaped += self._connection.execute(self._sql("release_claimants"), {"workers": dead}).rowcount
        return reaped

    def retry_failed(self) -> int:
        return self._connection.execute(self._sql("retry_failed")).rowcount

    def counts(self) -> dict[str, int]:
        """Items by status; every status is there, with 0 where it has none."""
        found = {status.value: 0 for status in ItemStatus}
        found.update(self._connection.execute(self._sql("counts")).fetchall())
        return found

    def server_time(self) -> datetime:
        """The clock that leases end on."""
        row = self._connection.execute(self._sql("server_time")).fetchone()
        assert row is not None
        found: datetime = row[0]
        return found

    def gate(self) -> int:
        """The phase up to which items may be claimed now: an unfinished campaign's, else every one."""
        row = self._connection.execute(self._sql("gate")).fetchone()
        assert row is not None
        return int(row[0])

    def open_items(self, *, phase: int = MAX_PHASE, last_id: Any = None) -> tuple[int, int]:
        """Pending and processing items within a phase."""
        row = self._connection.execute(self._sql("open_items"), {"phase": phase, "last_id": last_id}).fetchone()
        assert row is not None
        return row[0], row[1]

    def bound_for(self, *, until: int) -> Any:
        """The last id to claim so that `until` items will be completed; None: nothing to do.

        Completed plus open items up to the bound make `until` in every snapshot, so several
        commands that compute their own bound never pass it together.
        """
        with transaction(self._connection):
            self._connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            counts = self.counts()
            missing = until - counts[ItemStatus.COMPLETED]
            is_open = counts[ItemStatus.PENDING] + counts[ItemStatus.PROCESSING]
            if missing <= 0 or is_open == 0:
                return None
            offset = min(missing, is_open) - 1
            row = self._connection.execute(self._sql("nth_open"), {"offset": offset}).fetchone()
        return row[0] if row else None

    def save_source(self, source: Mapping[str, Any]) -> None:
        """Remember what the queue was filled from, in the caller's transaction."""
        self._connection.execute(self._sql("save_source"), {"queue": self._name, "source": Jsonb(source)})

    def load_source(self) -> dict[str, Any] | None:
        """What the queue was last filled from; None when ragops did not fill it."""
        row = self._connection.execute(self._sql("load_source"), {"queue": self._name}).fetchone()
        return row[0] if row else None

    def failures(self, *, limit: int = 10) -> list[tuple[str, str]]:
        """Locations and reasons of failed items, the first ones."""
        return [(r[0], r[1]) for r in self._connection.execute(self._sql("failures"), {"limit": limit}).fetchall()]

    def is_filled(self) -> bool:
        row = self._connection.execute(self._sql("is_filled")).fetchone()
        return bool(row and row[0])

    def seed(self, statement: Statement, locations: Iterable[str], *, gates: Sequence[int]) -> int:
        """Stream locations into an empty queue by binary COPY, in the caller's transaction.

        `statement` is `seed_statement`'s. Item i gets phase k+1 where k gates lie below it: with gates
        (1000, 100000) the first 1,000 items have phase 1, up to 100,000 phase 2, the rest phase 3.
        Returns the count.
        """
        self._require_empty()
        from ragops.postgres.queue_seed import copy_blocks, queue_blocks  # with numpy: a look needs neither

        blocks = queue_blocks(locations, status=ItemStatus.PENDING.value, gates=gates)
        return copy_blocks(self._connection, statement, blocks)

    def seed_rows(self, statement: Statement) -> int:
        """Fill an empty queue from rows of this database, which never leave the server."""
        self._require_empty()
        return self._connection.execute(statement).rowcount

    def append(self, locations: Iterable[str], *, phase: int) -> int:
        """Add the locations that the queue has not yet, in the caller's transaction; returns their count."""
        from ragops.postgres.queue_seed import copy_blocks, incoming_blocks

        self._connection.execute(self._sql("create_incoming"))
        copy_blocks(self._connection, self._sql("copy_incoming"), incoming_blocks(locations))
        return self._append_incoming(phase)

    def append_rows(self, relation: sql.Composable, *, phase: int) -> int:
        """The same from `relation`, whose column `id` is the location."""
        self._connection.execute(self._sql("create_incoming"))
        self._connection.execute(self._sql("insert_incoming", relation=relation))
        return self._append_incoming(phase)

    def analyze(self) -> None:
        """Tell the planner what was queued; without it, it takes the queue for what it was before."""
        with transaction(self._connection, is_long=True):
            self._connection.execute(self._sql("analyze"))

    def _require_empty(self) -> None:
        """Raise RagopsError when the queue holds an item."""
        if self.is_filled():
            raise RagopsError(
                "the queue is not empty",
                actual=f"{sum(self.counts().values()):,} items",
                hint="ragops tables empty files_queue   or: ragops queue reseed --append",
            )

    def _append_incoming(self, phase: int) -> int:
        self._connection.execute(self._sql("analyze_incoming"))
        return self._connection.execute(self._sql("append_incoming"), {"phase": phase}).rowcount


def _check_fence(changed: int, wanted: int) -> None:
    """Raise FenceLost when a statement changed fewer items than the claim was thought to hold."""
    if changed != wanted:
        raise FenceLost(
            "a batch was dropped: its lease had run out and its items were claimed anew",
            actual=f"{changed} of {wanted} items still held",
        )


def seed_statement(tables: Tables, *, relation: sql.Composable | None, gates: Sequence[int]) -> Statement:
    """Compose what fills a queue: COPY from the client, or INSERT from `relation`, whose column `id` is the location."""
    identifiers = identifiers_of(tables)
    if relation is None:
        return statement("queue", "seed", identifiers)
    # A list, since psycopg writes a tuple as a record.
    literal = sql.Literal(sorted(gates))
    return statement("queue", "seed_rows", {**identifiers, "relation": relation, "gates": literal})
