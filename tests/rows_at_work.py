"""Rows that stay, without a program: select, claim, read and store them as a fleet does."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ragops.playbook.steps import SelectRows
from ragops.playbook.targets import RowTarget, work_tables
from ragops.postgres.connection import Connection, transaction
from ragops.postgres.filling import record_filling
from ragops.postgres.queue import Claim, Queue
from ragops.postgres.row_selection import Selection, create_archive_statement
from ragops.postgres.row_source import pin_text_form
from ragops.postgres.row_texts import TargetTexts
from ragops.postgres.row_work import ROW_EMPTY, ROW_GONE, RowFilling, RowWork, register_archive, target_id
from ragops.postgres.row_writer import RowWriter
from ragops.postgres.statements import statement
from ragops.postgres.targets import find_targets
from ragops.postgres.vector_type import vector_schema
from ragops.postgres.writer import Batch, BatchMetrics, DocumentRow, Stored

TABLES = work_tables()


def vector_of(text: str, *, dimensions: int = 32) -> NDArray[np.float32]:
    """A unit vector that the text decides."""
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    vector = np.random.default_rng(seed).standard_normal(dimensions).astype(np.float32)
    return vector / np.float32(np.linalg.norm(vector))


@dataclass
class RowsAtWork:
    """Targets of one database, queued; `embed` makes the vectors."""

    connection: Connection
    work: RowWork
    selected: int
    embed: Callable[[str], NDArray[np.float32]] = vector_of

    def claim(self, size: int = 1000) -> Claim | None:
        queue = Queue(self.connection, TABLES)
        return queue.claim(size=size, worker="test", lease_s=60, generation=queue.filling().generation)

    def read(self, claim: Claim) -> Batch:
        """Return the batch that a fleet would store of a claim."""
        found = TargetTexts(self.work).fetch(
            self.connection, [item.location for item in claim.items], most_bytes=1 << 20
        )
        documents, failures = [], []
        for item in claim.items:
            row = found.get(item.location)
            if row is None or not (row.text or "").strip():
                failures.append((item.id, ROW_GONE if row is None else ROW_EMPTY))
                continue
            text = row.text or ""
            documents.append(
                DocumentRow(
                    item_id=item.id,
                    location=item.location,
                    text=text,
                    content_hash=hashlib.sha256(text.encode()).hexdigest(),
                    characters=len(text),
                    metadata={},
                    vector=self.embed(text),
                    chunks=(),
                    version=row.version,
                )
            )
        return Batch(claim, tuple(documents), tuple(failures), BatchMetrics("test", "space", 1, 1))

    def write(self, batch: Batch) -> Stored:
        return RowWriter(TABLES, self.work).write(self.connection, batch)

    def drain(self) -> int:
        """Embed until nothing is left; return how many rows were stored."""
        stored = 0
        while (claim := self.claim()) is not None:
            batch = self.read(claim)
            stored += len(batch.documents) - len(self.write(batch).returned)
        return stored

    def statuses(self) -> dict[str, int]:
        return Queue(self.connection, TABLES).counts()


def put_to_work(
    connection: Connection,
    *targets: RowTarget,
    settings: SelectRows | None = None,
    max_distance: float | None = None,
    gates: Sequence[int] = (),
) -> RowsAtWork:
    """Queue rows of targets as the step does."""
    facts, problems = find_targets(connection, targets)
    assert not problems, problems
    schema = vector_schema(connection) or "public"
    chosen = settings or SelectRows(step="select_rows")
    selection = Selection(chosen, targets, facts, schema, 32)
    archives: list[str | None] = []
    with transaction(connection):
        pin_text_form(connection)
        connection.execute(statement("rows", "clear_work"))
        ids = [target_id(connection, one) for one in facts]
        for target, one, id in zip(targets, facts, ids, strict=True):
            if one.filled != one.embedding:
                archives.append(None)
                continue
            row = connection.execute(statement("rows", "next_archives"), {"count": 1}).fetchone()
            assert row is not None
            archives.append(f"vectors_{row[0]}")
            connection.execute(create_archive_statement(f"vectors_{row[0]}", target, one, schema))
            register_archive(connection, campaign=None, target=id, archive=f"vectors_{row[0]}", of=one.table)
        selected = connection.execute(selection.fill_statement(gates)).rowcount
        filling = RowFilling(
            targets=tuple(target.model_dump(mode="json") for target in targets),
            rows=chosen.rows,
            max_distance=max_distance,
            ids=tuple(ids),
            archives=tuple(archives),
        )
        record_filling(connection, TABLES, filling.to_json())
    return RowsAtWork(connection, RowWork(targets, facts, filling, schema), selected)


def with_embedding(rows: RowsAtWork, embed: Callable[[str], NDArray[np.float32]]) -> RowsAtWork:
    """Return the same rows with another model."""
    return replace(rows, embed=embed)
