"""How long `ragops status --json` takes on a large corpus in the middle of a campaign.

    python benchmarks/status.py --rows 1100000

Fills an embedded PostgreSQL in a temporary folder with so many documents, queue items and parsed files, all made
by the server, and lets it ANALYZE them. Times whole processes: the median is compared with the target. The
folder takes about 4 GiB for 1.1 million rows of 768 dimensions. Exit 3 when the target is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ragops.playbook.tables import Tables
from ragops.postgres.connection import Connection, Target, connect
from ragops.postgres.embedded import EmbeddedServer
from ragops.postgres.setup import ensure_ragops_schema, initialise, plan_setup

TARGET_S = 1.0
DISTINCT_VECTORS = 1000

# Empty tables that are truncated in the transaction that fills them need no WAL.
FILL = (
    "TRUNCATE documents, document_chunks, parsed_files, files_queue",
    "CREATE TEMPORARY TABLE made ON COMMIT DROP AS SELECT v AS number, ("
    " SELECT array_agg(random() - 0.5 + 0 * (d + v))::vector FROM generate_series(1, {dimensions}) d) AS embedding"
    " FROM generate_series(0, {distinct} - 1) v",
    "ALTER TABLE made ADD PRIMARY KEY (number)",
    "INSERT INTO documents (file_id, file_path, content, embedding)"
    " SELECT i, 'corpus/' || i || '.txt', repeat('words of document ' || i || ' ', 10),"
    " CASE WHEN i % 100 > 0 THEN embedding END"
    " FROM generate_series(1, {rows}) i JOIN made ON number = i % {distinct}",
    "INSERT INTO parsed_files (file_id, content_hash, characters, chunks)"
    " SELECT i, md5(i::text), 250, 1 FROM generate_series(1, {rows}) i",
    "INSERT INTO files_queue (file_path) SELECT 'corpus/' || i || '.txt' FROM generate_series(1, {rows}) i",
    # What a campaign leaves: most items were updated, and the table holds their old versions.
    "UPDATE files_queue SET status = CASE WHEN id % 1000 = 0 THEN 'failed' ELSE 'completed' END"
    " WHERE id <= {rows} * 6 / 10",
    "UPDATE files_queue SET status = 'processing', lease_until = now() WHERE id > {rows} - 96",
)


@contextmanager
def running_server(folder: Path) -> Iterator[Target]:
    """An embedded server without protection against power loss; stopped at the end."""
    server = EmbeddedServer(folder / "postgres")
    try:
        with connect(server.start(), with_vector=False) as admin:
            for setting, value in {"fsync": "off", "wal_level": "minimal", "max_wal_senders": "0"}.items():
                admin.execute(f"ALTER SYSTEM SET {setting} = {value}")
        server.stop()
        yield server.start()
    finally:
        server.stop()


def fill(connection: Connection, *, rows: int, dimensions: int) -> None:
    with connection.transaction():
        for text in FILL:
            query = text.format(rows=rows, dimensions=dimensions, distinct=DISTINCT_VECTORS)
            connection.execute(query.encode())
    connection.execute("ANALYZE")


def run_status(target: Target, folder: Path) -> tuple[float, dict[str, Any]]:
    """Return the seconds and the output of one `ragops status --json`. Raises SystemExit if it fails."""
    environment = {**os.environ, "RAGOPS_DSN": target.conninfo, "RAGOPS_DATA_DIR": str(folder)}
    started = time.perf_counter()
    command = [sys.executable, "-m", "ragops", "status", "--json"]
    done = subprocess.run(command, check=False, env=environment, capture_output=True, text=True)
    seconds = time.perf_counter() - started
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}\n{done.stdout}{done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout)
    return seconds, result


def describe(status: dict[str, Any]) -> Iterator[str]:
    """Yield one line per section: its counts, and whether they were counted."""
    sections = {name: status[name] for name in ("documents", "queue", "parsed_files")}
    for name, section in sections.items():
        is_estimated = section.get("estimated", status["queue_estimated"])
        counts = ", ".join(f"{key} {value:,}" for key, value in section.items() if key != "estimated")
        yield f"| {name} | {'estimated' if is_estimated else 'counted'} | {counts} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_100_000, help="documents (default: %(default)s)")
    parser.add_argument("--dimensions", type=int, default=768, help="of a vector (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=7, help="timed commands (default: %(default)s)")
    given = parser.parse_args()
    out = sys.stdout
    with tempfile.TemporaryDirectory(prefix="ragops-benchmark-") as name, running_server(Path(name)) as target:
        with connect(target, with_vector=False) as connection:
            initialise(connection, target, plan_setup(connection, Tables(), dimensions=lambda: given.dimensions))
            ensure_ragops_schema(connection)
            started = time.perf_counter()
            fill(connection, rows=given.rows, dimensions=given.dimensions)
            out.write(f"{given.rows:,} rows made in {time.perf_counter() - started:.0f} s\n\n")
        first, _ = run_status(target, Path(name))
        timed = [run_status(target, Path(name)) for _ in range(given.runs)]
    seconds = [one for one, _ in timed]
    median = statistics.median(seconds)
    out.write("| section | how | what |\n|---|---|---|\n" + "\n".join(describe(timed[-1][1])) + "\n\n")
    out.write(f"first run {first:.2f} s; then {min(seconds):.2f} to {max(seconds):.2f} s\n")
    is_met = median <= TARGET_S
    out.write(f"median {median:.2f} s, target {TARGET_S:.1f} s or less: {'met' if is_met else 'missed'}\n")
    return 0 if is_met else 3


if __name__ == "__main__":
    sys.exit(main())
