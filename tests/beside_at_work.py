"""A second column without a program: added, filled, drained and exchanged as the steps do it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

import numpy as np
import psycopg
from campaigns import open_session, single
from psycopg import sql
from rows_at_work import RowsAtWork, vector_of

from ragops.campaign.cutover import draining, switching
from ragops.campaign.cutover.beside import Beside, besides
from ragops.campaign.cutover.draining import DrainResult
from ragops.campaign.cutover.ending import EndResult, find_droppable, finish, undo_beside
from ragops.campaign.cutover.exchange import ExchangeResult, exchange
from ragops.campaign.cutover.results import CutOverResult, InUse, RollbackResult
from ragops.campaign.cutover.switching import roll_back, settle_not_null
from ragops.campaign.rows import work_of
from ragops.campaign.steps.add_column import AddColumnStep
from ragops.campaign.steps.base import Run, SingleCommand
from ragops.campaign.steps.capture_writes import CaptureWritesStep
from ragops.campaign.steps.embed import EmbedResult
from ragops.campaign.steps.select_rows import SelectRowsStep
from ragops.playbook import parse_playbook
from ragops.playbook.model import Hooks
from ragops.playbook.steps import AddColumn, CaptureWrites, SelectRows
from ragops.session import Session

PLAYBOOK = """
version: 1
name: beside
model: {{file: x.gguf, dimensions: {dimensions}}}
targets:
  - table: {table}
    text: "{text}"
    write: beside
steps: [{{step: add_column}}, {{step: capture_writes}}, {{step: select_rows}}, {{step: embed}}, {{step: cut_over}}]
"""


USED = InUse("x.gguf", "0" * 64, 32, "mean", "", "", "", "", ())


@dataclass(frozen=True, slots=True)
class BesideAtWork:
    session: Session
    dimensions: int

    @property
    def run(self) -> SingleCommand:
        return single(self.session)

    @property
    def found(self) -> tuple[Beside, ...]:
        return besides(self.session, is_added=True)

    def add(self) -> None:
        AddColumnStep(AddColumn(step="add_column")).run(self.run)

    def capture(self) -> None:
        CaptureWritesStep(CaptureWrites(step="capture_writes")).run(self.run)

    def fill(self) -> None:
        SelectRowsStep(SelectRows(step="select_rows")).run(self.run)
        self.embed(self.run)

    def prepare(self) -> None:
        self.add()
        self.capture()
        self.fill()

    def embed(self, run: Run) -> EmbedResult:
        """Embed what is queued with vectors that the text decides."""
        connection = run.session.connection
        work = work_of(run.session, run.session.queue.filling())
        assert work is not None
        # What a killed one has claimed.
        run.session.queue.reap(is_dead=lambda _: True)
        rows = RowsAtWork(connection, work, 0, lambda text: vector_of(text, dimensions=self.dimensions))
        return EmbedResult(queue={}, completed=rows.drain())

    @contextmanager
    def embedding(self) -> Iterator[None]:
        """Let drains embed so, too."""
        with patch.object(draining, "embed_open", self.embed):
            yield

    def drain(self, *, sweeps: bool = False) -> DrainResult:
        with self.embedding():
            return draining.drain(self.run, sweeps=sweeps)

    def cut_over(self) -> ExchangeResult:
        self.drain()
        done = exchange(self.run, self.found, lock_timeout_s=2.0)
        self.drain()
        settle_not_null(self.run)
        return done

    def run_cutover(self) -> CutOverResult:
        """Cut over with everything that surrounds it, as the step and the command do."""
        with patch.object(switching, "_in_use", lambda _: USED), self.embedding():
            return switching.cut_over(self.run, lock_timeout_s=2.0)

    def with_hooks(self, **hooks: Any) -> BesideAtWork:
        changed = self.session.playbook.model_copy(update={"hooks": Hooks(**hooks)})
        return replace(self, session=self.session.with_playbook(changed))

    def roll_back(self) -> RollbackResult:
        return roll_back(self.run, lock_timeout_s=2.0)

    def finish(self) -> EndResult:
        return finish(self.run)

    def undo(self) -> EndResult:
        return undo_beside(self.run, find_droppable(self.session))

    def wrong_rows(self, text: str, *, column: str | None = None) -> Sequence[str]:
        """Return the keys of rows whose vector is not that of their present text."""
        one = self.found[0]
        connection = self.session.connection
        query = sql.SQL("SELECT ctid::text, {} AS text, {} FROM {}").format(
            sql.SQL(text),
            sql.Identifier(column or one.facts.filled),
            sql.Identifier(one.table.schema, one.table.name),
        )
        return [
            place
            for place, content, vector in connection.execute(query).fetchall()
            if not self._is_right(content, vector)
        ]

    def _is_right(self, content: str | None, vector: object) -> bool:
        if content is None or not content.strip():
            return vector is None
        if vector is None:
            return False
        found = np.asarray(vector.to_list(), dtype=np.float32)  # type: ignore[attr-defined]
        made = vector_of(content, dimensions=self.dimensions)
        return len(found) == self.dimensions and bool(np.allclose(found, made, atol=1e-2))


@contextmanager
def beside_at_work(
    dsn: str, *, table: str = "notes", text: str = "{body}", dimensions: int = 32
) -> Iterator[BesideAtWork]:
    """Work on a table of a test's database."""
    playbook = parse_playbook(
        PLAYBOOK.format(table=table, text=text, dimensions=dimensions), file="beside.yaml", environment={}
    )
    with open_session(dsn, playbook) as session:
        yield BesideAtWork(session, dimensions)


def execute(dsn: str, *statements: str) -> list[str]:
    """Execute statements in one session of an application; return its warnings."""
    warnings: list[str] = []
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.add_notice_handler(lambda notice: warnings.append(notice.message_primary or ""))
        for statement in statements:
            connection.execute(statement.encode())
    return warnings
