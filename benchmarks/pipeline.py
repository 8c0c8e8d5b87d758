"""Everything but the model: documents a second from a table into `documents`, with a stub for the embedder.

    python benchmarks/pipeline.py
    python benchmarks/pipeline.py --vecshift PROGRAM     in turns with the nearest peer

The texts lie in a table of an embedded server; claiming, reading, cutting, checking and storing are ragops'
own. The stub child makes vectors of 384 dimensions out of nothing. PROGRAM is vecshift's command; its
`apply --no-index` with the offline model `hash/384` does the same work on the same texts, by its own clock.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import psycopg
from support import (
    corpus,
    create_tables,
    info,
    judge,
    machine,
    playbook,
    run_sql,
    server,
    timed_embed,
)

from ragops.playbook import Playbook
from ragops.postgres.connection import Target

DIMENSIONS = 384
STUB = Path(__file__).with_name("stub_embedder.py")
TARGET_DOCS_PER_S, TARGET_RATIO = 8000, 4.0
CHARACTERS = 400  # of a docstring, about 60 tokens
FEW_TEXTS = 4000
PEER_JOB = f"""
version: 1
name: peer
source: {{type: pgvector, table: public.texts, vector_column: embedding, text_column: body}}
target: {{type: pgvector, column: embedding_v2, index: hnsw}}
model: hash/{DIMENSIONS}
"""
OPTIONAL = ("document_chunks", "parsed_files", "ingestion_metrics")


def fill_texts(target: Target, rows: int) -> None:
    """The table `texts (id, body)`: docstrings of the standard library, numbered so that no two are alike."""
    with tempfile.TemporaryDirectory() as folder, psycopg.connect(target.conninfo) as connection:
        few = min(rows, FEW_TEXTS)
        files = sorted(corpus(Path(folder, "corpus"), documents=few, characters=CHARACTERS).rglob("*.txt"))
        texts = [file.read_text(encoding="utf-8") for file in files]
        connection.execute("CREATE TABLE texts (id bigint PRIMARY KEY, body text NOT NULL)")
        with connection.cursor() as cursor, cursor.copy("COPY texts (id, body) FROM STDIN") as copy:
            for number in range(rows):
                copy.write_row((number, f"{number} {texts[number % few]}"))
    run_sql(target, "VACUUM ANALYZE texts")


def ours(target: Target, book: Playbook) -> float:
    """Documents a second of one run over the whole queue, the start of the children included."""
    seconds, documents = timed_embed(target, book, (sys.executable, str(STUB), str(DIMENSIONS)))
    return documents / seconds


def theirs(target: Target, program: str) -> float:
    """Rows a second of the peer by its own clock; its vectors go into a second column of the texts' table."""
    run_sql(
        target,
        "DROP TRIGGER IF EXISTS vecshift_sync_embedding_v2 ON texts",
        "DROP FUNCTION IF EXISTS vecshift_sync_texts_embedding_v2()",
        "ALTER TABLE texts DROP COLUMN IF EXISTS embedding_v2",
        f"ALTER TABLE texts ADD COLUMN IF NOT EXISTS embedding vector({DIMENSIONS})",
        "VACUUM FULL ANALYZE texts",
        "CHECKPOINT",
    )
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
    with tempfile.TemporaryDirectory() as folder, server() as target:
        model = Path(folder, "stub.gguf")
        model.write_bytes(b"GGUF")
        book = playbook(
            source={"table": "texts", "id_column": "id", "text_column": "body"},
            model=model,
            workers={"count": given.workers, "threads": 1},
            tables=dict.fromkeys(OPTIONAL),
            indexes=(),
        )
        create_tables(target, book, dimensions=DIMENSIONS)
        fill_texts(target, given.rows)
        rates, peers = [], []
        for _ in range(given.rounds):
            rates.append(ours(target, book))
            if given.vecshift:
                peers.append(theirs(target, given.vecshift))
    info(machine())
    info(f"ragops embed: {', '.join(f'{rate:,.0f}' for rate in rates)} documents/s")
    missed = judge("thousand documents/s", median(rates) / 1000, TARGET_DOCS_PER_S / 1000)
    if peers:
        info(f"vecshift apply --no-index: {', '.join(f'{rate:,.0f}' for rate in peers)} rows/s")
        missed |= judge("ragops against vecshift", median(rates) / median(peers), TARGET_RATIO)
    return missed


if __name__ == "__main__":
    sys.exit(main())
