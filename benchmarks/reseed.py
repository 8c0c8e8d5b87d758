"""Filling the queue from a manifest, a query and a folder, against a bare COPY of the same rows.

`states` is the folder with size and time of every file, as a campaign keeps them.

    python benchmarks/reseed.py
    python benchmarks/reseed.py --rows 200000 --sources manifest query

Starts an embedded PostgreSQL of its own in a temporary folder and removes it at the end. Both ways fill the
table that `ragops db init` makes, from empty, in turns; the reseeding is the whole step, with its transaction
and its ANALYZE. The bare COPY sends rows that were encoded beforehand. Per source the best of the rounds
counts. Memory is the growth of this process's resident size while it reseeds, for a tenth of the rows and for
all of them. Exit code 1 when a ratio is below the target.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from ragops.campaign.steps.base import SingleCommand
from ragops.campaign.steps.reseed_queue import ReseedQueueStep
from ragops.playbook import Playbook
from ragops.playbook.model import Source
from ragops.playbook.steps import Embed, ReseedQueue
from ragops.playbook.tables import Tables
from ragops.postgres.connection import Connection, Target, connect
from ragops.postgres.embedded import EmbeddedServer
from ragops.postgres.queue_seed import queue_blocks
from ragops.postgres.setup import initialise, plan_setup
from ragops.session import Session

TARGET_RATIO = 0.70
# With size and time of every file, which take a `stat` and a second COPY into a table with an index.
TARGET_WITH_STATES = 0.35
GATES = (1_000, 100_000)
RESEED = ReseedQueueStep(ReseedQueue(step="reseed_queue"))
FILES_PER_FOLDER = 1_000
CHUNK_BYTES = 1 << 20
COPY = "COPY files_queue (file_path, status, attempts, phase) FROM STDIN"


class PeakMemory:
    """Resident bytes above those at the start, sampled by a thread."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._ended = threading.Event()
        self.growth = 0

    def __enter__(self) -> Self:
        self._before: int = self._process.memory_info().rss
        self._thread = threading.Thread(target=self._sample)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._ended.wait(0.02):
            self.growth = max(self.growth, self._process.memory_info().rss - self._before)


@dataclass
class Measured:
    """Figures of one way: seconds for the full size, growth in bytes by number of rows."""

    seconds: list[float] = field(default_factory=list)
    growth: dict[int, int] = field(default_factory=dict)


def location(number: int) -> str:
    return f"part{number // FILES_PER_FOLDER:05}/document-{number:08}.txt"


def prepare(folder: Path, connection: Connection, rows: int, sources: list[str]) -> dict[str, Source]:
    """Write the same locations as a manifest, a table and files."""
    manifest = folder / f"manifest-{rows}.txt"
    with manifest.open("w", encoding="utf-8") as file:
        file.writelines(f"{location(n)}\n" for n in range(rows))
    found = {"manifest": Source(manifest=manifest, changed="ignore")}
    if "query" in sources:
        table = f"posts_{rows}"
        connection.execute(f'CREATE TABLE {table} (id text COLLATE "C" PRIMARY KEY, body text)'.encode())
        query = f"COPY {table} (id) FROM STDIN".encode()
        with manifest.open("rb") as lines, connection.cursor() as cursor, cursor.copy(query) as copy:
            while chunk := lines.read(CHUNK_BYTES):
                copy.write(chunk)
        connection.execute(f"VACUUM ANALYZE {table}".encode())
        found["query"] = Source(query=f"SELECT id, body FROM {table}")
    if {"folder", "states"} & set(sources):
        files = Source(folder=folder / f"files-{rows}", include=("**/*.txt",))
        found |= {"states": files, "folder": files.model_copy(update={"changed": "ignore"})}
        write_files(folder / f"files-{rows}", rows)
    return {name: found[name] for name in sources}


def write_files(root: Path, rows: int) -> None:
    for start in range(0, rows, FILES_PER_FOLDER):
        (root / location(start)).parent.mkdir(parents=True)
        for number in range(start, min(start + FILES_PER_FOLDER, rows)):
            (root / location(number)).touch()


def encode(file: Path, rows: int) -> None:
    with file.open("wb") as out:
        for block in queue_blocks(map(location, range(rows)), status="pending", gates=GATES):
            out.write(block.data)


def bare_copy(connection: Connection, encoded: Path) -> float:
    empty(connection)
    started = time.perf_counter()
    with (
        connection.transaction(),
        encoded.open("rb") as file,
        connection.cursor() as cursor,
        cursor.copy(COPY) as copy,
    ):
        while chunk := file.read(CHUNK_BYTES):
            copy.write(chunk)
    return time.perf_counter() - started


def reseed(session: Session, source: Source) -> float:
    empty(session.connection)
    changed = session.with_playbook(session.playbook.model_copy(update={"source": source}))
    started = time.perf_counter()
    RESEED.run(SingleCommand(changed))
    return time.perf_counter() - started


def empty(connection: Connection) -> None:
    connection.execute("TRUNCATE files_queue RESTART IDENTITY")
    connection.execute("CHECKPOINT")


def check(connection: Connection, rows: int) -> None:
    """Raise AssertionError unless the queue holds these rows with these phases."""
    expected = [(1, GATES[0]), (2, GATES[1] - GATES[0]), (3, rows - GATES[1])]
    found = connection.execute("SELECT phase, count(*) FROM files_queue GROUP BY 1 ORDER BY 1").fetchall()
    assert found == [(phase, count) for phase, count in expected if count > 0], found


@contextmanager
def server(folder: Path) -> Iterator[Target]:
    running = EmbeddedServer(folder / "server")
    try:
        yield running.start()
    finally:
        running.stop()


def measure(folder: Path, target: Target, given: argparse.Namespace) -> dict[str, Measured]:
    measured = {name: Measured() for name in ("bare COPY", *given.sources)}
    playbook = Playbook(
        version=1,
        name="benchmark",
        steps=(ReseedQueue(step="reseed_queue"), *(Embed(step="embed", until=gate) for gate in GATES)),
    )
    with connect(target, with_vector=False) as connection:
        initialise(connection, target, plan_setup(connection, Tables(), dimensions=lambda: 8))
        session = Session.on(connection, target, playbook)
        small = given.rows // 10
        for name, source in prepare(folder, connection, small, given.sources).items():
            with PeakMemory() as memory:
                reseed(session, source)
            measured[name].growth[small] = memory.growth
        encoded = folder / "rows.bin"
        encode(encoded, given.rows)
        sources = prepare(folder, connection, given.rows, given.sources)
        if hasattr(os, "sync"):  # a million new files must not be written out while the queue is filled
            os.sync()
        for _ in range(given.rounds):
            measured["bare COPY"].seconds.append(bare_copy(connection, encoded))
            for name, source in sources.items():
                with PeakMemory() as memory:
                    measured[name].seconds.append(reseed(session, source))
                check(connection, given.rows)
                measured[name].growth[given.rows] = max(measured[name].growth.get(given.rows, 0), memory.growth)
    return measured


def report(measured: dict[str, Measured], rows: int) -> bool:
    """Print the table; return whether every source meets the target."""
    out = sys.stdout
    out.write(f"| {rows:,} rows from | rows/s | ratio | memory, {rows // 10:,} rows | memory, all | verdict |\n")
    out.write("|---|---|---|---|---|---|\n")
    bare = min(measured["bare COPY"].seconds)
    meets = True
    for name, one in measured.items():
        best = min(one.seconds)
        growth = [f"{one.growth[n] / 2**20:+.1f} MiB" for n in sorted(one.growth)] or ["", ""]
        verdict = ""
        if one.growth:
            target = TARGET_WITH_STATES if name == "states" else TARGET_RATIO
            verdict = "pass" if bare / best >= target else f"below {target:.2f}"
            meets = meets and bare / best >= target
        cells = [name, f"{rows / best:,.0f}", f"{bare / best:.2f}", *growth, verdict]
        out.write(f"| {' | '.join(cells)} |\n")
    return meets


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_100_000)
    parser.add_argument("--rounds", type=int, default=3)
    kinds = ["manifest", "query", "folder", "states"]
    parser.add_argument("--sources", nargs="+", choices=kinds, default=kinds)
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="ragops-reseed-"))
    try:
        with server(folder) as target:
            measured = measure(folder, target, given)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0 if report(measured, given.rows) else 1


if __name__ == "__main__":
    sys.exit(main())
