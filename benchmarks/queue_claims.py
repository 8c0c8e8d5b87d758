"""Claiming and completing 100 items: a short queue against a long one, also while dead rows pile up.

    python benchmarks/queue_claims.py
    python benchmarks/queue_claims.py --rows 200000 --claims 200

Starts an embedded PostgreSQL of its own in a temporary folder and removes it at the end. Two databases hold
the queue that `ragops db init` makes, with 10,000 and with 1,100,000 rows. Claims go to them in turns, so that
whatever else runs on the machine meets both. Then a REPEATABLE READ transaction is held open on the long
queue, so that nothing dead can be removed, some hundred thousand items are completed, and claims go in turns
again. Each claim starts behind the cursor of the one before. Exit code 1 when the p99 of the long queue is more
than 1.5 times that of the short one.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from psycopg.conninfo import make_conninfo

from ragops.playbook.tables import Tables
from ragops.postgres.connection import Connection, Target, connect, transaction
from ragops.postgres.embedded import EmbeddedServer
from ragops.postgres.queue import Cursor, Queue, seed_statement
from ragops.postgres.setup import initialise, plan_setup
from ragops.workers.maintenance import Reaper

TARGET_RATIO = 1.5
SIZE = 100
GATES = (1000,)
WARM_UP = 20


class Lane:
    """One queue with its own connection: each claim starts behind the last one, as a fetcher's do."""

    def __init__(self, connection: Connection, rows: int) -> None:
        self.connection = connection
        self.queue = Queue(connection, Tables())
        self.rows = rows
        self.cursor: Cursor | None = None

    def fill(self) -> None:
        """Empty and refill the queue, as a reseeding does."""
        self.connection.execute("TRUNCATE files_queue RESTART IDENTITY")
        with self.connection.transaction():
            locations = (f"part/document-{n:08}.txt" for n in range(self.rows))
            self.queue.seed(seed_statement(Tables(), relation=None, gates=GATES), locations, gates=GATES)
        self.queue.analyze()
        self.cursor = None

    def round(self, size: int = SIZE) -> float:
        """Claim and complete once, behind the cursor; refill a queue that is used up. Return seconds."""
        started = time.perf_counter()
        claim = self.queue.claim(size=size, worker="benchmark", lease_s=60, after=self.cursor)
        if claim is None:
            self.fill()
            return self.round(size)
        self.queue.complete(claim, [item.id for item in claim.items])
        self.cursor = claim.cursor
        return time.perf_counter() - started


@contextmanager
def lanes(folder: Path, sizes: Sequence[int]) -> Iterator[tuple[list[Lane], Target]]:
    """Open one lane per size, each in its own database; yield them with the target of the last one."""
    server = EmbeddedServer(folder / "server")
    opened: list[Lane] = []
    try:
        target = server.start()
        for rows in sizes:
            with connect(target, with_vector=False) as admin:
                admin.execute(f"CREATE DATABASE queue_{rows}".encode())
            own = Target(make_conninfo(target.conninfo, dbname=f"queue_{rows}"), f"queue_{rows}")
            opened.append(Lane(connect(own, with_vector=False), rows))
            initialise(
                opened[-1].connection, own, plan_setup(opened[-1].connection, Tables(), dimensions=lambda: 8)
            )
        yield opened, own
    finally:
        for lane in opened:
            lane.connection.close()
        server.stop()


def take_turns(pair: Sequence[Lane], claims: int) -> list[NDArray[np.float64]]:
    """Return the milliseconds of each claim with its completion, by lane."""
    taken: list[list[float]] = [[] for _ in pair]
    for number in range(WARM_UP + claims):
        for lane, times in zip(pair, taken, strict=True):
            seconds = lane.round()
            if number >= WARM_UP:
                times.append(seconds * 1000)
    return [np.array(times) for times in taken]


@contextmanager
def held_back(lane: Lane, target: Target, completions: int) -> Iterator[None]:
    """Hold a transaction open that sees the queue of now, while `completions` items are completed."""
    with connect(target, with_vector=False) as other, transaction(other):
        other.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        other.execute("SELECT 1 FROM files_queue LIMIT 1")
        for _ in range(completions // 1000):
            lane.round(1000)
        yield


def milliseconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1000


def row(name: str, short: NDArray[np.float64], long: NDArray[np.float64]) -> bool:
    """Print one line; return whether the p99 of the long queue meets the target."""
    (short50, short99), (long50, long99) = np.percentile(short, [50, 99]), np.percentile(long, [50, 99])
    meets = bool(long99 <= TARGET_RATIO * short99)
    cells = [name, f"{short50:.2f} / {short99:.2f}", f"{long50:.2f} / {long99:.2f}"]
    cells += [f"{long50 / short50:.2f} / {long99 / short99:.2f}"]
    cells += ["pass" if meets else f"above {TARGET_RATIO}"]
    sys.stdout.write(f"| {' | '.join(cells)} |\n")
    sys.stdout.flush()
    return meets


def compare(pair: Sequence[Lane], target: Target, given: argparse.Namespace) -> bool:
    short, long = pair
    sys.stdout.write(
        f"| claim + complete of {SIZE}, p50 / p99 | {short.rows:,} rows, ms | {long.rows:,} rows, ms "
    )
    sys.stdout.write("| ratio | verdict |\n|---|---|---|---|---|\n")
    meets = row("vacuum as it comes", *take_turns(pair, given.claims))
    completions = long.rows // 3
    with held_back(long, target, completions):
        name = f"{completions:,} items completed under an open REPEATABLE READ transaction"
        meets = row(name, *take_turns(pair, given.claims)) and meets
        long.cursor = None
        front = milliseconds(long.round)
        reaper = Reaper(Tables())
        first, later = (milliseconds(lambda: reaper.reap(long.connection)) for _ in range(2))
    sys.stdout.write(f"there, a process's first claim, which has no cursor: {front:.0f} ms; ")
    sys.stdout.write(f"reaping expired leases: {first:.0f} ms once a minute, else {later:.0f} ms\n")
    return meets


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_100_000, help="of the long queue")
    parser.add_argument("--short-rows", type=int, default=10_000)
    parser.add_argument("--claims", type=int, default=1_500, help="of each queue and state")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="ragops-claims-"))
    try:
        with lanes(folder, (given.short_rows, given.rows)) as (pair, target):
            for lane in pair:
                lane.fill()
            meets = compare(pair, target, given)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0 if meets else 1


if __name__ == "__main__":
    sys.exit(main())
