"""Everything but the model: documents a second from a table into `documents`, with a stub for the embedder.

    python benchmarks/pipeline.py
    python benchmarks/pipeline.py --vecshift INTERPRETER     in turns with the nearest peer

The texts lie in a table of an embedded server; claiming, reading, cutting, checking and storing are ragops'
own. The stub child makes vectors of 384 dimensions out of nothing. INTERPRETER is a Python that has vecshift;
its `apply --no-index` with the offline model `hash/384` does the same work on the same texts.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from support import create_tables, judge, machine, open_context, playbook, run_sql, say, server

from ragops.playbook import Playbook
from ragops.postgres.connection import Target
from ragops.settings import cache_file
from ragops.steps import embed, reseed_queue
from ragops.workers.cache import VectorCache

DIMENSIONS = 384
STUB = Path(__file__).with_name("stub_embedder.py")
TARGET_DOCS_PER_S, TARGET_RATIO = 8000, 4.0
# A page of words, about 250 characters, no two alike.
TEXTS = """
CREATE TABLE texts AS
SELECT i AS id, 'text ' || i || ' ' || repeat(md5(i::text) || ' ', 7) AS body FROM generate_series(1, {rows}) i;
ALTER TABLE texts ADD PRIMARY KEY (id);
ANALYZE texts
"""
OPTIONAL = ("document_chunks", "parsed_files", "ingestion_metrics")


def ours(target: Target, book: Playbook) -> float:
    """Documents a second of one run over the whole queue, the start of the children included."""
    VectorCache(cache_file(), limit_bytes=0).clear()
    run_sql(target, "TRUNCATE documents", "TRUNCATE files_queue")
    with open_context(target, book, (sys.executable, str(STUB), str(DIMENSIONS))) as context:
        reseed_queue.run(context)
        run_sql(target, "CHECKPOINT")
        began = time.perf_counter()
        effect = embed.run(context)
        took = time.perf_counter() - began
    return float(effect["completed"] / took)


def theirs(target: Target, python: str, rows: int) -> float:
    """Rows a second of the peer over the same texts."""
    run_sql(target, "DROP SCHEMA IF EXISTS _vecshift CASCADE", "CHECKPOINT")
    raise NotImplementedError


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=1, help="stub children (default: 1)")
    parser.add_argument("--vecshift", metavar="INTERPRETER")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, server() as target:
        os.environ["RAGOPS_CACHE_DIR"] = folder
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
        run_sql(target, *TEXTS.format(rows=given.rows).split(";"))
        rates = [ours(target, book) for _ in range(given.rounds)]
        say(machine())
        say(f"ragops embed: {', '.join(f'{rate:,.0f}' for rate in rates)} documents/s")
        return judge("thousand documents/s", median(rates) / 1000, TARGET_DOCS_PER_S / 1000)


if __name__ == "__main__":
    sys.exit(main())
