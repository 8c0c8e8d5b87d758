"""Rehearse a campaign's writes in a transaction that is always rolled back.

It is the real thing, with the real statements: fill the queue, claim, extend, release, complete, fail, store two
documents, delete. The server checks types, constraints, triggers, policies and privileges as it will later; two
documents, because a value that every row would get violates a unique index only in the second one.

What a rollback does not take back: sequences go on, a few dead rows are left to vacuum, and a trigger that acts
outside of the database (dblink, an HTTP call) has acted. Triggers stay enabled nevertheless: whether they raise is
what has to be known, and disabling them would take a lock that stops every reader.

Only ROW EXCLUSIVE locks are taken, with a lock timeout; the caller asks again after LockNotAvailable.
"""

from __future__ import annotations

import random
import string
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import psycopg
from psycopg import sql

from ragops.errors import FenceLost, first_line
from ragops.facts import TableFacts
from ragops.identity import holder_name, short_name
from ragops.playbook.tables import Tables
from ragops.postgres.catalog import has_ragops_schema
from ragops.postgres.connection import Connection, fetch_row, is_lost, set_parameter_sql
from ragops.postgres.copy_binary import Column, text_limit
from ragops.postgres.locks import LOCK_TIMEOUT_S
from ragops.postgres.outages import outage_of
from ragops.postgres.queue import Claim, Item, ItemStatus, Queue, seed_statement
from ragops.postgres.queue_seed import copy_blocks, queue_blocks
from ragops.postgres.refusals import ValueRefused
from ragops.postgres.setup import MADE_MEANWHILE
from ragops.postgres.statements import identifiers_of, statement, statement_names
from ragops.postgres.writer import Batch, BatchMetrics, ChunkRow, DocumentRow, Writer

QUEUE = "files_queue"
FOREIGN_KEY = "23503"
DOCUMENTS = 2
# Longer than what a b-tree takes (2,704 bytes), as most documents are.
TEXT_CHARACTERS = 4000
# A column that holds fewer characters is refused, as few texts would fit.
FEWEST_CHARACTERS = 1000


class Vanished(ValueError):
    """Rows are not there, or not as they were written, although nothing was refused."""


# Raised by the server, and by the encoding of a value that has no place in its column.
REFUSALS = (psycopg.Error, FenceLost, ValueRefused, ValueError, ArithmeticError)


@dataclass(frozen=True, slots=True)
class Scene:
    """Which of the plan's writes are rehearsed."""

    seeds: bool
    embeds: bool
    dimensions: int
    seeds_rows: bool = False
    """The queue is filled from rows of this database, by INSERT instead of COPY."""
    deletes: tuple[str, ...] = ()
    """Tables whose rows the plan deletes."""
    emptied: frozenset[str] = frozenset()
    """Tables whose rows are gone before the first of these writes."""
    left_out: frozenset[str] = frozenset()
    """Tables with problems that are known already."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """What the server, or the encoding of a value, refused. Parts that the server did not name are empty."""

    logical: str
    """The table; empty for constraints that were deferred."""
    action: str
    message: str
    state: str = ""
    """SQLSTATE; empty if ragops itself refused."""
    table: str = ""
    column: str = ""
    constraint: str = ""
    domain: str = ""
    context: str = ""
    is_type: bool = False
    """A value could not be written as its column's type: the server was never asked."""


@dataclass
class _Rehearsal:
    connection: Connection
    tables: Tables
    facts: Mapping[str, TableFacts]
    scene: Scene
    refusals: list[Refusal] = field(default_factory=list)
    is_made_up: bool = False
    """The stored documents belong to items that do not exist."""

    @contextmanager
    def attempt(self, logical: str, action: str, *, keeps: bool = True) -> Iterator[None]:
        """Run a part within a savepoint and note what refused it; with `keeps` its effects stay."""
        try:
            with self.connection.transaction(force_rollback=not keeps):
                yield
        except psycopg.errors.LockNotAvailable:
            raise
        except REFUSALS as error:
            # A crash, a shutdown, a full disk, a deadlock: nothing is wrong with the plan, and it is made again.
            is_gone = is_lost(self.connection)
            if is_gone or outage_of(error, is_lost=is_gone) is not None:
                raise
            self.refusals.append(_refusal(logical, action, error))

    def failed(self, logical: str) -> bool:
        return any(refusal.logical == logical for refusal in self.refusals)

    def run(self) -> None:
        queue = Queue(self.connection, self.tables)
        if not has_ragops_schema(self.connection) and not self.create_schema():
            return
        is_queue_known = QUEUE not in self.scene.left_out
        ids = self.seed() if self.scene.seeds and is_queue_known else []
        if self.scene.embeds:
            claim = self.claim(queue, ids) if is_queue_known and not self.failed(QUEUE) else None
            if "documents" not in self.scene.left_out:
                self.store(queue, claim)
        for logical in self.scene.deletes:
            if logical not in self.scene.left_out:
                with self.attempt(logical, "deleting rows"):
                    table = self.facts[logical]
                    parts = {"table": sql.Identifier(table.schema, table.name)}
                    self.connection.execute(statement("constraints", "delete_none", parts))
        with self.attempt("", "checking deferred constraints"):
            self.connection.execute(statement("constraints", "check_deferred"))

    def create_schema(self) -> bool:
        """Create the schema `ragops`, unless another command was faster; return whether it is there."""
        with self.attempt("", "creating the schema ragops"):
            try:
                with self.connection.transaction():
                    for name in statement_names("ragops_schema"):
                        self.connection.execute(statement("ragops_schema", name))
            except MADE_MEANWHILE:
                if not has_ragops_schema(self.connection):
                    raise
        return not self.refusals

    def seed(self) -> list[Any]:
        """Queue items whose locations cannot exist yet; return their ids."""
        column = self.facts[QUEUE].columns[self.tables.columns_of(QUEUE)["location"]]
        length = min(32, text_limit(column.type) or 32)
        locations = [uuid.uuid4().hex[:length] for _ in range(DOCUMENTS + 1)]
        found: list[Any] = []
        with self.attempt(QUEUE, "filling the queue"):
            if self.scene.seeds_rows:
                relation = sql.SQL("(SELECT unnest({}::text[]) AS id) AS source").format(sql.Literal(locations))
                self.connection.execute(seed_statement(self.tables, relation=relation, gates=()))
            else:
                blocks = queue_blocks(locations, status=ItemStatus.PENDING.value, gates=())
                copy_blocks(self.connection, seed_statement(self.tables, relation=None, gates=()), blocks)
            placeholders = identifiers_of(self.tables)
            query = statement("constraints", "seeded", placeholders)
            found = [row[0] for row in self.connection.execute(query, {"locations": locations})]
            if len(found) != len(locations):
                raise Vanished(f"{len(found)} of {len(locations)} new rows are there after it")
        if found:
            # Older items would be claimed first. Where the table forbids this phase, they are: as good for this.
            try:
                with self.connection.transaction():
                    query = statement("constraints", "move_forward", placeholders)
                    self.connection.execute(query, {"ids": found})
            except psycopg.errors.LockNotAvailable:
                raise
            except psycopg.Error:
                pass
        return found

    def claim(self, queue: Queue, seeded: Sequence[Any]) -> Claim | None:
        """Claim as a worker does, and try all that it may do with a claim; None without one."""
        claim: Claim | None = None
        with self.attempt(QUEUE, "claiming items"):
            generation: int | None = None
            # Again if another command began a filling between the look and the claim.
            while claim is None and generation != (now := queue.filling().generation):
                generation = now
                claim = queue.claim(size=DOCUMENTS + 1, worker=holder_name(), lease_s=60, generation=generation)
            if claim is None and seeded:
                raise Vanished("no item is claimed although some are pending")
        if claim is None:
            return None
        ids = [item.id for item in claim.items]
        parts: dict[str, Callable[[], object]] = {
            "extending a lease": lambda: queue.extend_leases([claim.id], lease_s=600),
            "giving items back": lambda: queue.release(claim),
            "completing items": lambda: queue.complete(claim, ids),
            "marking items as failed": lambda: queue.fail(claim, [(id, "a reason") for id in ids]),
        }
        for action, part in parts.items():
            with self.attempt(QUEUE, action, keeps=False):
                part()
        return claim

    def store(self, queue: Queue, claim: Claim | None) -> None:
        """Store documents as the completer does, through a writer that notes every table's refusal."""
        if claim is None or len(claim.items) < DOCUMENTS or self.failed(QUEUE):
            held, self.is_made_up = self._made_up(), True
        else:
            held = claim
        documents = tuple(self._document(item) for item in held.items[:DOCUMENTS])
        failures = tuple((item.id, "a reason") for item in held.items[DOCUMENTS:])
        # No worker's name is longer: a number has fewer digits.
        worker = f"{short_name(holder_name())}:cache"
        batch = Batch(held, documents, failures, BatchMetrics(worker, "f" * 16, 20, 5))
        with self.attempt("documents", "making ids"):
            writer = _NotingWriter(self)
            if not self.is_made_up:
                writer.write(self.connection, batch)
            else:
                writer.store(self.connection, batch)

    def _made_up(self) -> Claim:
        """Return a claim of items that do not exist, for a queue that could not give any."""
        kind = self.facts[QUEUE].columns.get(self.tables.columns_of(QUEUE)["id"])
        numbers = [2_000_000_000 + number for number in range(DOCUMENTS)]
        ids: Sequence[Any] = numbers
        if kind is not None and kind.type == "uuid":
            ids = [uuid.uuid4() for _ in numbers]
        elif kind is not None and text_like(kind.type):
            ids = [uuid.uuid4().hex[:8] for _ in numbers]
        return Claim(uuid.uuid4(), tuple(Item(id, uuid.uuid4().hex) for id in ids))

    def _document(self, item: Item) -> DocumentRow:
        vector = np.random.default_rng().normal(size=self.scene.dimensions).astype(np.float32)
        vector /= np.linalg.norm(vector)
        text = self._text("documents", TEXT_CHARACTERS)
        chunk = ChunkRow(0, self._text("document_chunks", TEXT_CHARACTERS // 2), vector)
        # As long as a SHA-256 in hexadecimal digits.
        content_hash = uuid.uuid4().hex * 2
        return DocumentRow(
            item.id, item.location, text, content_hash, len(text), {"media_type": "text/plain"}, vector, (chunk,)
        )

    def _text(self, logical: str, length: int) -> str:
        """Return a text that does not compress, as long as its column allows, but not shorter than most texts."""
        if logical in self.facts:
            column = self.facts[logical].columns.get(self.tables.columns_of(logical)["content"])
            limit = text_limit(column.type) if column else None
            length = length if limit is None else max(FEWEST_CHARACTERS, min(limit, length))
        return (
            "".join(random.choices(string.ascii_letters + string.digits + " ", k=length))
            .strip()
            .ljust(length, "x")
        )

    def compare(self, logical: str, ids: Sequence[Any], texts: Sequence[str]) -> None:
        """Raise Vanished if a trigger took rows away or changed them."""
        columns, table = self.tables.columns_of(logical), self.facts[logical]
        key = columns["id" if logical == "documents" else "document_id"]
        parts = {
            "table": sql.Identifier(table.schema, table.name),
            "content": sql.Identifier(columns["content"]),
            "embedding": sql.Identifier(columns["embedding"]),
            "key": sql.Identifier(key),
            # The catalog's own spelling. A cast of the values, because one of the column could use no index.
            "type": sql.SQL(table.columns[key].type),
        }
        query = statement("constraints", "stored", parts)
        values = {"ids": [str(id) for id in ids], "texts": list(texts)}
        rows, texts_kept, vectors = fetch_row(self.connection, query, values)
        if rows < len(texts):
            raise Vanished(f"{rows} of {len(texts)} rows are there after it")
        if texts_kept < len(texts):
            raise Vanished("the text that is stored is not the one that was written")
        if vectors < len(texts):
            raise Vanished("the vector is NULL after it")


class _NotingWriter(Writer):
    """The real writer; a table that refuses its rows does not keep the next one from being tried."""

    def __init__(self, rehearsal: _Rehearsal) -> None:
        left_out = rehearsal.scene.left_out
        super().__init__(
            rehearsal.tables, {name: table for name, table in rehearsal.facts.items() if name not in left_out}
        )
        self._rehearsal = rehearsal
        self.ids: Sequence[Any] = ()
        # The rehearsal itself says how long it waits for a lock.
        self.lock_timeout_s = None

    def _new_ids(self, connection: Connection, count: int) -> Sequence[Any]:
        self.ids = super()._new_ids(connection, count)
        if "documents" in self._rehearsal.scene.emptied and isinstance(self.ids[0], int):
            # A sequence behind the ids that are there, as after a restored dump, would hide what else is wrong.
            table = self._facts["documents"]
            parts = {"key": sql.Identifier(self._id_column), "table": sql.Identifier(table.schema, table.name)}
            (largest,) = fetch_row(connection, statement("constraints", "largest", parts))
            first = max(self.ids[0], (largest or 0) + 1)
            self.ids = range(first, first + count)
        return self.ids

    def _record(self, connection: Connection, batches: Sequence[Batch]) -> None:
        """Leave out ragops' own tables: `unrecordable` has looked at the role's privileges there."""

    def _copy(self, connection: Connection, logical: str, make: Callable[[], dict[str, Column]]) -> None:
        rehearsal = self._rehearsal
        if logical == "document_chunks" and rehearsal.failed("documents"):
            # They reference documents that are not there.
            return
        with rehearsal.attempt(logical, "storing rows"):
            columns = make()
            super()._copy(connection, logical, lambda: columns)
            if "content" in columns and logical in self._facts:
                rehearsal.compare(logical, self.ids, [str(text) for text in columns["content"]])


def rehearse(
    connection: Connection, tables: Tables, facts: Mapping[str, TableFacts], scene: Scene
) -> list[Refusal]:
    """Return what the server would refuse of the plan's writes. Raises LockNotAvailable for a locked table."""
    rehearsal = _Rehearsal(connection, tables, facts, scene)
    with connection.transaction(force_rollback=True):
        for name, value in {
            "lock_timeout": f"{int(LOCK_TIMEOUT_S * 1000)}ms",
            "statement_timeout": "0",
            "idle_in_transaction_session_timeout": "0",
        }.items():
            connection.execute(set_parameter_sql(name, value))
        rehearsal.run()
    if rehearsal.is_made_up:
        # Such documents reference no item.
        return [one for one in rehearsal.refusals if one.logical == QUEUE or one.state != FOREIGN_KEY]
    return rehearsal.refusals


def text_like(type_name: str) -> bool:
    """Return whether a value of this type is written as text."""
    return type_name in ("text", "citext") or type_name.startswith("character")


def _refusal(logical: str, action: str, error: Exception) -> Refusal:
    if isinstance(error, ValueRefused):
        column = (error.where or "").rpartition(".")[2]
        return Refusal(logical, action, f"{error.what}: {error.actual}", column=column, is_type=True)
    if not isinstance(error, psycopg.Error):
        return Refusal(logical, action, first_line(error), is_type=not isinstance(error, (Vanished, FenceLost)))
    diag = error.diag
    return Refusal(
        logical,
        action,
        diag.message_primary or first_line(error),
        state=error.sqlstate or "",
        table=diag.table_name or "",
        column=diag.column_name or "",
        constraint=diag.constraint_name or "",
        domain=f"{diag.schema_name}.{diag.datatype_name}" if diag.datatype_name else "",
        context=diag.context or "",
        # psycopg's own errors have no state.
        is_type=error.sqlstate is None,
    )
