"""Everything but the model, for rows that stay: vectors a second, in place without an index and beside.

    python benchmarks/in_place.py
    python benchmarks/in_place.py --vecshift PROGRAM     in turns with the nearest peer

Rows of 500 characters with vectors of 384 dimensions lie in a table of an embedded server. Selecting, claiming,
reading, cutting, checking, archiving the old vector and writing the new one are ragops' own; the stub child makes
vectors out of nothing. The yardstick is plain SQL, which has nothing to find out and nothing to keep: one COPY
into a temporary table and one UPDATE from it. PROGRAM is the command of vecshift; its `apply --no-index` with the
offline model `hash/384` fills a second column of the same table, by its own clock.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psycopg
from pipeline import DIMENSIONS, PEER_JOB, STUB
from support import corpus, fresh_cache, info, judge, machine, open_session, run_sql, server

from ragops.campaign.steps.add_column import AddColumnStep
from ragops.campaign.steps.base import SingleCommand
from ragops.campaign.steps.capture_writes import CaptureWritesStep
from ragops.campaign.steps.embed import drain
from ragops.campaign.steps.select_rows import SelectRowsStep
from ragops.playbook import Playbook
from ragops.playbook.steps import AddColumn, CaptureWrites, SelectRows
from ragops.postgres.connection import Target, connect
from ragops.postgres.copy_binary import HEADER, TRAILER, encode_rows, int8_fields, vector_fields
from ragops.postgres.setup import ensure_pgvector, ensure_ragops_schema

TARGET_ROWS_PER_S, TARGET_RATIO = 8000, 4.0
CHARACTERS = 500
FEW_TEXTS = 1000
STEPS = ("select_rows", "embed")
BESIDE_STEPS = ("add_column", "capture_writes", *STEPS)


def fill_rows(target: Target, rows: int) -> None:
    """The table `texts (id, body, embedding)`, each row with a vector of another model."""
    with tempfile.TemporaryDirectory() as folder, psycopg.connect(target.conninfo) as connection:
        files = corpus(Path(folder, "corpus"), documents=FEW_TEXTS, characters=CHARACTERS).rglob("*.txt")
        texts = [file.read_text(encoding="utf-8") for file in sorted(files)]
        connection.execute(
            f"CREATE TABLE texts (id bigint PRIMARY KEY, body text NOT NULL, embedding vector({DIMENSIONS}))"
        )
        with connection.cursor() as cursor, cursor.copy("COPY texts (id, body) FROM STDIN") as copy:
            for number in range(rows):
                body = " ".join([str(number), *(texts[(number + more) % FEW_TEXTS] for more in range(3))])
                copy.write_row((number, body[:CHARACTERS].ljust(CHARACTERS, "x")))
    plain_sql(target, rows)


def clean(target: Target) -> None:
    """The table as it was: one vector column, no dead rows."""
    run_sql(
        target,
        "DROP TRIGGER IF EXISTS vecshift_sync_embedding_v2 ON texts",
        "DROP FUNCTION IF EXISTS vecshift_sync_texts_embedding_v2()",
        "DROP SCHEMA IF EXISTS ragops CASCADE",
        "ALTER TABLE texts DROP COLUMN IF EXISTS embedding_v2, DROP COLUMN IF EXISTS embedding_new",
        "VACUUM FULL ANALYZE texts",
        "CHECKPOINT",
    )


def plain_sql(target: Target, rows: int) -> float:
    """Rows a second of one COPY into a temporary table and one UPDATE from it."""
    vectors = np.random.default_rng(1).standard_normal((rows, DIMENSIONS), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    run_sql(target, "VACUUM FULL ANALYZE texts", "CHECKPOINT")
    with psycopg.connect(target.conninfo) as connection:
        began = time.perf_counter()
        connection.execute(f"CREATE TEMP TABLE i (id bigint, embedding vector({DIMENSIONS})) ON COMMIT DROP")
        with connection.cursor() as cursor, cursor.copy("COPY i FROM STDIN (FORMAT BINARY)") as copy:
            for start in range(0, rows, 1000):
                part = range(start, min(start + 1000, rows))
                columns = [int8_fields(list(part)), vector_fields(vectors[part.start : part.stop])]
                copy.write((HEADER if not start else b"") + encode_rows(columns))
            copy.write(TRAILER)
        connection.execute("UPDATE texts t SET embedding = i.embedding FROM i WHERE t.id = i.id")
        connection.commit()
        return rows / (time.perf_counter() - began)


def playbook(model: Path, *, write: str, workers: int) -> Playbook:
    steps = BESIDE_STEPS if write == "beside" else STEPS
    return Playbook.model_validate(
        {
            "version": 1,
            "name": "benchmark",
            "model": {"file": model, "dimensions": DIMENSIONS},
            "targets": ({"table": "texts", "text": "{body}", "write": write},),
            "workers": {"count": workers, "threads": 1},
            "steps": tuple({"step": step} for step in steps),
        }
    )


def ours(target: Target, book: Playbook, rows: int) -> float:
    """Rows a second of one `embed` over all rows, the start of the children included."""
    clean(target)
    command: Sequence[str] = (sys.executable, str(STUB), str(DIMENSIONS))
    with fresh_cache(), open_session(target, book, command) as session:
        ensure_ragops_schema(session.connection)
        run = SingleCommand(session)
        if book.targets[0].write == "beside":
            AddColumnStep(AddColumn(step="add_column")).run(run)
            CaptureWritesStep(CaptureWrites(step="capture_writes")).run(run)
        SelectRowsStep(SelectRows(step="select_rows")).run(run)
        run_sql(target, "CHECKPOINT")
        began = time.perf_counter()
        result = drain(run)
        seconds = time.perf_counter() - began
    assert result.completed == rows, f"{result.completed} of {rows} rows: {result.queue}"
    return rows / seconds


def theirs(target: Target, program: str) -> float:
    """Rows a second of the peer by its own clock; its vectors go into a second column."""
    clean(target)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "vecshift.yaml").write_text(PEER_JOB, encoding="utf-8")
        done = subprocess.run(
            [program, "--no-env-file", "apply", "--yes", "--no-index", "--json"],
            env={**os.environ, "VECSHIFT_DSN": target.conninfo},
            cwd=folder,
            capture_output=True,
            text=True,
        )
    if done.returncode != 0:
        raise SystemExit(f"vecshift ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    ((stored,),) = run_sql(target, "SELECT count(embedding_v2) FROM texts")
    return float(stored / json.loads(done.stdout.splitlines()[-1])["seconds"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=1, help="stub children (default: 1)")
    parser.add_argument("--vecshift", metavar="PROGRAM")
    given = parser.parse_args()
    rates: dict[str, list[float]] = {"plain SQL": [], "in place": [], "beside": [], "vecshift": []}
    with tempfile.TemporaryDirectory() as folder, server() as target:
        model = Path(folder, "stub.gguf")
        model.write_bytes(b"GGUF")
        with connect(target, with_vector=False) as first:
            ensure_pgvector(first, target)
        fill_rows(target, given.rows)
        for _ in range(given.rounds):
            for name, write in (("in place", "in_place"), ("beside", "beside")):
                book = playbook(model, write=write, workers=given.workers)
                rates[name].append(ours(target, book, given.rows))
            if given.vecshift:
                rates["vecshift"].append(theirs(target, given.vecshift))
            clean(target)
            rates["plain SQL"].append(plain_sql(target, given.rows))
    return report(rates)


def report(rates: dict[str, list[Any]]) -> int:
    info(machine())
    for name, found in rates.items():
        if found:
            info(f"{name}: {', '.join(f'{rate:,.0f}' for rate in found)} rows/s")
    missed = 0
    for name in ("in place", "beside"):
        own = median(rates[name])
        missed |= judge(f"{name}, thousand rows/s", own / 1000, TARGET_ROWS_PER_S / 1000)
        info(f"{name} against plain SQL: {own / median(rates['plain SQL']):.2f}")
        if rates["vecshift"]:
            missed |= judge(f"{name} against vecshift", own / median(rates["vecshift"]), TARGET_RATIO)
    return missed


if __name__ == "__main__":
    sys.exit(main())
