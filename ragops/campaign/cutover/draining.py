"""Embed what the application wrote, in rounds, and every row whose vector is not of its text."""

from __future__ import annotations

from dataclasses import dataclass

from ragops.campaign.cutover.beside import besides
from ragops.campaign.steps.base import Run
from ragops.campaign.steps.embed import drain as embed_open
from ragops.postgres.cutover_queue import RowDrain
from ragops.postgres.locks import LOCK_TIMEOUT_S

# Rows that an application writes while a fleet starts and ends; fewer are not worth another fleet.
HANDFUL = 10
MOST_ROUNDS = 20


@dataclass(frozen=True, slots=True)
class DrainResult:
    """What rounds of a drain did."""

    rounds: int = 0
    noted: int = 0
    """Keys that the trigger had noted."""
    swept: int = 0
    """Rows that only a look at the whole table found."""
    embedded: int = 0
    failed: int = 0
    cleared: int = 0
    """Rows without a text that lost their vector."""

    def to_json(self) -> dict[str, object]:
        return {
            "rounds": self.rounds,
            "noted": self.noted,
            "swept": self.swept,
            "embedded": self.embedded,
            "failed": self.failed,
            "cleared": self.cleared,
        }


@dataclass(slots=True)
class _Sums:
    rounds: int = 0
    noted: int = 0
    swept: int = 0
    embedded: int = 0
    failed: int = 0
    cleared: int = 0

    def result(self) -> DrainResult:
        return DrainResult(self.rounds, self.noted, self.swept, self.embedded, self.failed, self.cleared)


def drain(run: Run, *, sweeps: bool) -> DrainResult:
    """Embed noted rows until a round finds next to none, or the application writes as fast as they are embedded.

    `sweeps`: look at every row afterwards, for what the trigger could not note. Raises as `ragops embed` does.
    """
    sums = _Sums()
    _rounds(run, sums)
    if sweeps:
        found = _queue(run, sums, sweeps=True)
        if found:
            run.session.reporter.info(f"{found:,} rows were written meanwhile, or had no note; embedding them")
            _embed(run, sums)
            _rounds(run, sums)
    return sums.result()


def _rounds(run: Run, sums: _Sums) -> None:
    before: int | None = None
    for _ in range(MOST_ROUNDS):
        noted, sums.rounds = sums.noted, sums.rounds + 1
        opened = _queue(run, sums)
        found = sums.noted - noted
        # Items that an interrupted drain has queued wait, too.
        if opened or any(run.session.through_outages(lambda: run.session.queue.open_items())):
            _embed(run, sums)
        if found <= HANDFUL or (before is not None and found > before / 2):
            return
        before = found


def _queue(run: Run, sums: _Sums, sweeps: bool = False) -> int:
    """Move the noted rows into the queue, in one transaction with the removal of the notes; return the items."""
    session = run.session

    def act() -> tuple[int, int, int, int]:
        found = besides(session, is_added=True)
        with run.transaction(lock_timeout_s=LOCK_TIMEOUT_S, is_long=True):
            rows = RowDrain(session.connection)
            noted = swept = 0
            for one in found:
                noted += rows.take(one.row, one.target, one.facts)
            if sweeps:
                swept = sum(rows.sweep(one.row, one.target, one.facts) for one in found)
            opened = rows.queue(phase=len(session.playbook.gates()) + 1)
        return noted, swept, opened, rows.cleared

    noted, swept, opened, cleared = session.through_outages(act)
    sums.noted, sums.swept, sums.cleared = sums.noted + noted, sums.swept + swept, sums.cleared + cleared
    return opened


def _embed(run: Run, sums: _Sums) -> None:
    result = embed_open(run)
    sums.embedded, sums.failed = sums.embedded + result.completed, sums.failed + result.failed
