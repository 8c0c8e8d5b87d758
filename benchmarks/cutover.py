"""What an application notices of a cutover and of a rollback, while it reads and writes 100 times a second each.

    python benchmarks/cutover.py
    python benchmarks/cutover.py --rows 1100000 --dimensions 384

Starts an embedded PostgreSQL of its own, with a table of texts and vectors. The second column is added and its
trigger created as a campaign does it; the vectors of both columns are made by the server, so that millions of
rows take minutes. Then the real program cuts over and rolls back, each beside two threads that read (a search
through the index) and write (an UPDATE of a text, an INSERT) on a fixed schedule. An operation that comes late
counts from the moment that it was due. The same threads alone come first, for what the machine itself makes
them wait. Also printed: writes a second with and without the trigger, the memory of the program, and rows whose
vector is not of their text at the end. Exit code 1 when a target is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from support import info, judge, machine, server

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from tiny_gguf import write_tiny_bert

from ragops.campaign.cutover.beside import besides
from ragops.campaign.steps.add_column import AddColumnStep
from ragops.campaign.steps.base import SingleCommand
from ragops.campaign.steps.capture_writes import CaptureWritesStep
from ragops.campaign.steps.select_rows import SelectRowsStep
from ragops.playbook import parse_playbook
from ragops.playbook.steps import AddColumn, CaptureWrites, SelectRows
from ragops.postgres.connection import Target, connect
from ragops.postgres.cutovers import set_state
from ragops.postgres.setup import ensure_pgvector, ensure_ragops_schema
from ragops.session import Session

LONGEST_MS, ROLLBACK_MS = 100.0, 1000.0
PER_S = 100
PLAYBOOK = """
version: 1
name: benchmark
model: {{file: {model}, dimensions: {dimensions}}}
workers: {{count: 1, threads: 1, cache_mib: 0}}
targets: [{{table: notes, text: "{{body}}", write: beside}}]
steps: [{{step: add_column}}, {{step: capture_writes}}, {{step: select_rows}}, {{step: embed}}, {{step: cut_over}}]
"""
MADE = (
    "CREATE TABLE made AS SELECT n, (SELECT array_agg(random() - 0.5 + 0 * (d + n))::vector"
    " FROM generate_series(1, {dimensions}) d) AS v FROM generate_series(0, 999) n"
)
SCHEMA = "CREATE TABLE notes (id bigint PRIMARY KEY, body text, embedding vector({dimensions}) NOT NULL)"
FILL = (
    "INSERT INTO notes SELECT i, 'note ' || i || repeat(' index vector query table row page', 14), v.v"
    " FROM generate_series(1, {rows}) AS g (i) JOIN made v ON v.n = i % 1000"
)
FILL_SECOND = (
    "SELECT set_config('ragops.writes', 'on', false)",
    "UPDATE notes SET embedding_new = v.v FROM made v WHERE v.n = (notes.id + 7) % 1000",
    "INSERT INTO ragops.row_state (target_id, key, text_hash, fingerprint)"
    " SELECT {target}, jsonb_build_array(id::text)::text, sha256(convert_to(body, 'UTF8')), 'made' FROM notes",
    "SELECT set_config('ragops.writes', 'off', false)",
    "VACUUM ANALYZE notes",
)
INDEX = "CREATE INDEX notes_{0} ON notes USING hnsw ({0} vector_cosine_ops) WITH (m = 4, ef_construction = 16)"
# Rows whose vector is not of their present text.
WRONG = """
SELECT count(*) FROM notes n LEFT JOIN ragops.row_state s
    ON s.target_id = {target} AND s.key = jsonb_build_array(n.id::text)::text
 WHERE n.embedding IS NULL OR s.text_hash IS DISTINCT FROM sha256(convert_to(n.body, 'UTF8'))
"""


@dataclass
class Application:
    """One thread that does something `PER_S` times a second; late ones count from when they were due."""

    dsn: str
    act: Callable[[psycopg.Connection[tuple[object, ...]], int], None]
    waits: list[float] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)
    """When each of them ended, by the clock of the machine."""
    errors: list[str] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            due, number = time.perf_counter(), 0
            while not self.stop.is_set():
                number += 1
                due += 1 / PER_S
                time.sleep(max(0.0, due - time.perf_counter()))
                try:
                    self.act(connection, number)
                except psycopg.Error as error:
                    self.errors.append(str(error))
                self.waits.append(1000 * (time.perf_counter() - due))
                self.ends.append(time.time())

    def end(self) -> None:
        self.stop.set()
        self._thread.join()


def applications(dsn: str, rows: int, dimensions: int) -> tuple[Application, Application]:
    vector = f"[{','.join(['0.1'] * dimensions)}]"

    def read(connection: psycopg.Connection[tuple[object, ...]], number: int) -> None:
        connection.execute(
            "SELECT id, body FROM notes ORDER BY embedding <=> %s::vector LIMIT 5", [vector], prepare=False
        ).fetchall()

    def write(connection: psycopg.Connection[tuple[object, ...]], number: int) -> None:
        if number % 10:
            query = "UPDATE notes SET body = %s WHERE id = %s"
            connection.execute(query, [f"edited {time.time_ns()}", number * 7919 % rows + 1])
        else:
            query = "INSERT INTO notes (id, body, embedding) VALUES (%s, %s, %s::vector)"
            connection.execute(query, [time.time_ns(), "a new note", vector])

    return Application(dsn, read), Application(dsn, write)


def beside_applications(
    dsn: str, what: str, act: Callable[[], dict[str, float]], *, rows: int, dimensions: int
) -> dict[str, float]:
    """Run `act` beside the application; return the longest wait, the errors, and what `act` returns."""
    pair = applications(dsn, rows, dimensions)
    for one in pair:
        one.start()
    time.sleep(2)
    begun = time.time()
    found = act()
    time.sleep(1)
    for one in pair:
        one.end()
    moment = found.pop("moment", None)
    pairs = [(end, wait) for one in pair for end, wait in zip(one.ends, one.waits, strict=True) if end > begun]
    waits = [wait for _, wait in pairs]
    # Around the exchange; the rest is what the machine and the fleet's load make everybody wait.
    near = [wait for end, wait in pairs if moment is None or abs(end - moment) < 1]
    found = {
        "longest_ms": max(near),
        "longest_of_all_ms": max(waits),
        "p99_ms": statistics.quantiles(waits, n=100)[98],
        "errors": sum(len(one.errors) for one in pair),
        **found,
    }
    info(
        f"{what}: {len(waits):,} operations, " + ", ".join(f"{name} {value:,.1f}" for name, value in found.items())
    )
    for error in [error for one in pair for error in one.errors][:3]:
        info(f"  {error}")
    return found


def run(target: Target, folder: Path, *command: str) -> dict[str, float]:
    """Run the program to its end; return how long it took, how long it locked the table, and its memory."""
    environment = {**os.environ, "RAGOPS_DATA_DIR": str(folder / "data"), "RAGOPS_DSN": target.conninfo}
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "ragops", *command, "--playbook", str(folder / "beside.yaml"), "--json"],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    output = process.stdout.read() if process.stdout else ""
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{command} failed: {output}")
    with connect(target) as connection:
        query = "SELECT extract(epoch FROM max(changed_at))::float8 FROM ragops.cutover"
        (moment,) = connection.execute(query).fetchone() or (0.0,)
    return {
        "moment": moment,
        "seconds": time.perf_counter() - started,
        "locked_ms": 1000 * json.loads(output)["locked_s"],
        "memory_mib": usage.ru_maxrss / 1024,
    }


def writes_per_s(connection: psycopg.Connection[tuple[object, ...]], rows: int, *, single: bool) -> float:
    """Return how many rows a second are updated: one a transaction, or all in one statement."""
    count = min(rows, 2000 if single else 20_000)
    started = time.perf_counter()
    if single:
        for number in range(count):
            connection.execute("UPDATE notes SET body = body || '.' WHERE id = %s", [number % rows + 1])
    else:
        connection.execute("UPDATE notes SET body = body || '.' WHERE id <= %s", [count])
    return count / (time.perf_counter() - started)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--dimensions", type=int, default=32)
    asked = parser.parse_args()
    rows, dimensions = asked.rows, asked.dimensions
    info(machine())
    with server() as target, tempfile.TemporaryDirectory(prefix="ragops-benchmark-") as name:
        folder = Path(name)
        text = PLAYBOOK.format(
            model=write_tiny_bert(folder / "tiny.gguf", dimensions=dimensions), dimensions=dimensions
        )
        (folder / "beside.yaml").write_text(text, encoding="utf-8")
        id, plain, noted = make_columns(target, text, rows=rows, dimensions=dimensions)

        def beside(what: str, act: Callable[[], dict[str, float]]) -> dict[str, float]:
            return beside_applications(target.conninfo, what, act, rows=rows, dimensions=dimensions)

        def rest() -> dict[str, float]:
            time.sleep(10)
            return {}

        beside("the application alone", rest)
        forward = beside("cutover run", lambda: run(target, folder, "cutover", "run"))
        back = beside("cutover rollback", lambda: run(target, folder, "cutover", "rollback"))
        again = beside("cutover run, again", lambda: run(target, folder, "cutover", "run"))
        # What was written in the last seconds, by an application that embeds with the old model.
        run(target, folder, "cutover", "run")
        with connect(target) as connection:
            (wrong,) = connection.execute(WRONG.format(target=id).encode()).fetchone() or (-1,)
    for what, before, after in zip(("one a transaction", "many in a statement"), plain, noted, strict=True):
        info(f"rows written a second, {what}: {before:,.0f}, with the trigger {after:,.0f} ({after / before:.0%})")
    longest = max(forward["longest_ms"], again["longest_ms"])
    code = judge("longest wait at a cutover, ms", longest, LONGEST_MS, at_most=True)
    code |= judge("longest wait at a rollback, ms", back["longest_ms"], ROLLBACK_MS, at_most=True)
    errors = forward["errors"] + back["errors"] + again["errors"]
    code |= judge("errors of the application", errors, 0, at_most=True)
    return code | judge("rows whose vector is not of their text", wrong, 0, at_most=True)


def make_columns(target: Target, text: str, *, rows: int, dimensions: int) -> tuple[int, list[float], list[float]]:
    """Make the table with both columns and their indexes; return the second one's number, and writes a second."""
    playbook = parse_playbook(text, file="beside.yaml", environment={})
    with connect(target, with_vector=False) as first:
        # The disk would be measured otherwise.
        first.execute("ALTER SYSTEM SET fsync = off")
        first.execute("SELECT pg_reload_conf()")
        ensure_pgvector(first, target)
        ensure_ragops_schema(first)
    with connect(target) as connection:
        connection.execute(MADE.format(dimensions=dimensions).encode())
        connection.execute(SCHEMA.format(dimensions=dimensions).encode())
        connection.execute(FILL.format(rows=rows).encode())
        plain = [writes_per_s(connection, rows, single=single) for single in (True, False)]
        session = Session.on(connection, target, playbook)
        single = SingleCommand(session)
        AddColumnStep(AddColumn(step="add_column")).run(single)
        CaptureWritesStep(CaptureWrites(step="capture_writes")).run(single)
        noted = [writes_per_s(connection, rows, single=single) for single in (True, False)]
        connection.execute("TRUNCATE ragops.captured")
        SelectRowsStep(SelectRows(step="select_rows", where="false")).run(SingleCommand(session))
        (one,) = besides(session, is_added=True)
        for query in FILL_SECOND:
            connection.execute(query.format(target=one.row.target).encode())
        for column in ("embedding", "embedding_new"):
            connection.execute(INDEX.format(column).encode())
        set_state(connection, one.row, "ready")
    return one.row.target, plain, noted


if __name__ == "__main__":
    sys.exit(main())
