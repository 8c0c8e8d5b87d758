"""One HNSW index, built as the documented procedure does and as ragops does, on the same rows and server.

    python benchmarks/index_build.py [--rows 100000]

A new PostgreSQL 18 with its default settings, 768 dimensions. The vectors are clustered and of low
intrinsic dimension, as embeddings are: among independent random ones no index finds neighbours. Both
indexes answer the same queries, so that the time is not bought with recall. Only the ratio says anything
beyond this machine. 100,000 rows take some minutes.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from dataclasses import dataclass, replace

import numpy as np
import psycopg
from numpy.typing import NDArray
from pgvector.psycopg import register_vector
from support import create_tables, info, judge, machine, open_session, playbook, run_sql, server

from ragops.campaign.steps.base import SingleCommand
from ragops.campaign.steps.rebuild_indexes import rebuild
from ragops.indexes.resources import amount
from ragops.playbook import Playbook
from ragops.playbook.steps import RebuildIndexes
from ragops.postgres.connection import Target
from ragops.postgres.setup import ensure_ragops_schema
from ragops.reporter import NullReporter
from ragops.session import Session

DIMENSIONS, LATENT, CLUSTERS = 768, 24, 500
NEIGHBOURS = 10
EF_SEARCH = (40, 100)
TARGET, POINTS = 1.7, 0.5
NAME = "idx_documents_embedding_hnsw"
PROCEDURE = (
    f"CREATE INDEX {NAME} ON documents USING hnsw (embedding vector_cosine_ops)"
    " WITH (m='16', ef_construction='64')"
)

Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Built:
    """One way's time, what the server said, and recall by ef_search."""

    seconds: float
    remarks: list[str]
    recall: dict[int, float]


def make_vectors(count: int, *, seed: int) -> Vectors:
    """Unit vectors around the same centres in the same subspace, whatever the seed."""
    space = np.random.default_rng(0)
    # Clusters that overlap: a query whose cluster stands apart would lose all of its neighbours or none.
    centres = 0.7 * space.normal(size=(CLUSTERS, LATENT))
    spread = space.normal(size=(LATENT, DIMENSIONS))
    draw = np.random.default_rng(seed)
    points = centres[draw.integers(CLUSTERS, size=count)] + draw.normal(size=(count, LATENT))
    vectors = points @ spread + 0.1 * draw.normal(size=(count, DIMENSIONS))
    unit: Vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return unit


def fill(target: Target, vectors: Vectors) -> None:
    """Documents whose id is the vector's row number plus one."""
    text = "a passage of some length " * 10
    with psycopg.connect(target.conninfo) as connection:
        register_vector(connection)
        copy = "COPY documents (id, content, embedding) FROM STDIN (FORMAT BINARY)"
        with connection.cursor().copy(copy) as rows:
            rows.set_types(["int8", "text", "vector"])
            for number, vector in enumerate(vectors, start=1):
                rows.write_row((number, text, vector))
    run_sql(target, "VACUUM ANALYZE documents")


def exact_neighbours(vectors: Vectors, queries: Vectors) -> list[set[int]]:
    """Ids of the nearest rows of each query."""
    found: list[set[int]] = []
    for start in range(0, len(queries), 100):
        nearness = queries[start : start + 100] @ vectors.T
        nearest = np.argpartition(-nearness, NEIGHBOURS, axis=1)[:, :NEIGHBOURS] + 1
        found += [set(row.tolist()) for row in nearest]
    return found


def measure_recall(target: Target, queries: Vectors, exact: list[set[int]], *, ef_search: int) -> float:
    """Share of the exact neighbours that the index finds."""
    found = 0
    with psycopg.connect(target.conninfo) as connection:
        register_vector(connection)
        connection.execute(f"SET hnsw.ef_search = {ef_search}")
        connection.execute("SET enable_seqscan = off")
        query = f"SELECT id FROM documents ORDER BY embedding <=> %s LIMIT {NEIGHBOURS}"
        for vector, ids in zip(queries, exact, strict=True):
            rows = connection.execute(query.encode(), [vector]).fetchall()
            found += len(ids & {row[0] for row in rows})
    return found / (NEIGHBOURS * len(queries))


def build_as_procedure(target: Target) -> tuple[float, list[str]]:
    notices: list[str] = []
    with psycopg.connect(target.conninfo, autocommit=True) as connection:
        connection.add_notice_handler(lambda notice: notices.append(notice.message_primary or ""))
        started = time.perf_counter()
        connection.execute(PROCEDURE.encode())
        return time.perf_counter() - started, notices


class Remarks(NullReporter):
    """A reporter that keeps the notices."""

    def __init__(self) -> None:
        self.notices: list[str] = []

    def info(self, message: str, **fields: object) -> None:
        self.notices.append(message)

    def warning(self, message: str, **fields: object) -> None:
        self.notices.append(message)

    def info_once(self, message: str, *, about: str | None = None) -> None:
        self.notices.append(message)


def build_as_ragops(session: Session) -> tuple[float, list[str]]:
    """The step with all that belongs to it: looking at the server, the record, ANALYZE."""
    reporter = Remarks()
    session.connection.add_notice_handler(lambda notice: reporter.info(notice.message_primary or ""))
    run = SingleCommand(replace(session, reporter=reporter))
    started = time.perf_counter()
    result = rebuild(run, RebuildIndexes(step="rebuild_indexes"), names=[NAME])
    seconds = time.perf_counter() - started
    (built,) = result.indexes
    settings = ", ".join(f"{given.name} = {given.value}" for given in built.build.resources.parameters)
    return seconds, [*reporter.notices, settings]


def compare(target: Target, book: Playbook, *, rows: int, queries: int) -> int:
    vectors, asked = make_vectors(rows, seed=1), make_vectors(queries, seed=2)
    fill(target, vectors)
    exact = exact_neighbours(vectors, asked)
    del vectors
    built: dict[str, Built] = {}
    with open_session(target, book) as session:
        ensure_ragops_schema(session.connection)
        for way in ("procedure", "ragops"):
            run_sql(target, f"DROP INDEX IF EXISTS {NAME}", "CHECKPOINT")
            seconds, remarks = build_as_procedure(target) if way == "procedure" else build_as_ragops(session)
            recall = {ef: measure_recall(target, asked, exact, ef_search=ef) for ef in EF_SEARCH}
            built[way] = Built(seconds, remarks, recall)
    return report(built, rows)


def report(built: dict[str, Built], rows: int) -> int:
    procedure, ragops = built["procedure"], built["ragops"]
    efs = [f"recall@{NEIGHBOURS}, ef_search {ef}" for ef in EF_SEARCH]
    info(f"| way | seconds | rows/s | {' | '.join(efs)} |")
    info("|---|---|---|" + "---|" * len(efs))
    for way, one in built.items():
        shares = [f"{share:.2%}" for share in one.recall.values()]
        info(f"| {way} | {one.seconds:.1f} | {rows / one.seconds:,.0f} | {' | '.join(shares)} |")
    for way, one in built.items():
        info(f"{way}: {'; '.join(one.remarks)}")
    full_after = [int(found[1]) for line in procedure.remarks if (found := re.search(r"after (\d+) tuples", line))]
    if full_after and full_after[0] < rows:
        inside = ragops.seconds / rows
        outside = (procedure.seconds - full_after[0] * inside) / (rows - full_after[0])
        info(f"once the graph is full, a row takes {outside / inside:.1f} times as long")
    lost = max((procedure.recall[ef] - ragops.recall[ef]) * 100 for ef in EF_SEARCH)
    missed = judge("procedure's time / ragops' time", procedure.seconds / ragops.seconds, TARGET)
    return missed | judge("percentage points of recall lost", lost, POINTS, at_most=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=1000)
    given = parser.parse_args()
    book = playbook(
        source={"table": "documents"},
        model=None,
        workers={},
        indexes=({"name": NAME, "table": "documents"},),
    )
    with server() as target:
        info(f"{machine()}; {given.rows:,} rows of {DIMENSIONS} dimensions")
        create_tables(target, book, dimensions=DIMENSIONS)
        ((memory,),) = run_sql(target, "SELECT pg_size_bytes(current_setting('maintenance_work_mem'))")
        info(f"server defaults: maintenance_work_mem {amount(memory)}")
        return compare(target, book, rows=given.rows, queries=given.queries)


if __name__ == "__main__":
    sys.exit(main())
