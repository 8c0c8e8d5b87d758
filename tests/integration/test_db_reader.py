"""The reader on a real server, against the same figures computed by numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from campaigns import execute, random_vector
from numpy.typing import NDArray

from ragops.playbook.tables import DocumentsColumns, DocumentsTable, Tables
from ragops.postgres.connection import Connection
from ragops.postgres.reader import DistanceStats, Reader, VectorCounts

COUNT = 20
ZERO, MISSING = COUNT + 1, COUNT + 2
QUERY = random_vector(7)


def literal(vector: NDArray[np.float32]) -> str:
    return "[" + ",".join(map(repr, vector.tolist())) + "]"


@pytest.fixture
def reader(connection: Connection) -> Reader:
    """20 documents with a vector, one with a zero vector, one without any."""
    vectors: list[str | None] = [literal(random_vector(n)) for n in range(1, COUNT + 1)]
    vectors += [literal(np.zeros(32, np.float32)), None]
    rows = [(f"{n}.txt", f"text {n}", vector) for n, vector in enumerate(vectors, 1)]
    with connection.cursor() as cursor:
        cursor.executemany("INSERT INTO documents (file_path, content, embedding) VALUES (%s, %s, %s)", rows)
    return Reader(connection, Tables())


def cosine_distances() -> NDArray[np.float64]:
    return np.array([1 - float(random_vector(n) @ QUERY) for n in range(1, COUNT + 1)])


def test_counts(reader: Reader) -> None:
    assert reader.counts() == VectorCounts(total=22, with_embedding=21, zero=1, dimensions=(32,), missing=1)
    assert reader.counts("document_chunks") == VectorCounts(total=0, with_embedding=0, zero=0, dimensions=())


@pytest.mark.parametrize("thresholds", [(), (0.9,), (1.1, 0.5, 0.9, 0.9)])
def test_distances_under_any_number_of_thresholds(reader: Reader, thresholds: tuple[float, ...]) -> None:
    """The zero vector's distance is NaN and the missing one's NULL: both count as rows and as nothing else."""
    distances = cosine_distances()
    stats = reader.distance_stats(QUERY, thresholds=thresholds)
    assert (stats.total, stats.finite) == (22, 20)
    figures = [stats.minimum, stats.maximum, stats.mean]
    np.testing.assert_allclose(
        np.array(figures, float), [distances.min(), distances.max(), distances.mean()], atol=1e-6
    )
    assert stats.under == tuple(int((distances < threshold).sum()) for threshold in thresholds)


def test_distances_in_an_empty_table(connection: Connection) -> None:
    stats = Reader(connection, Tables()).distance_stats(QUERY, thresholds=(0.5,))
    assert stats == DistanceStats(0, 0, 0, None, None, None, (0,))


def test_a_rank_needs_a_finite_distance(reader: Reader) -> None:
    order = np.argsort(cosine_distances())
    assert reader.rank_of(QUERY, int(order[0]) + 1) == 1
    assert reader.rank_of(QUERY, int(order[5]) + 1) == 6
    assert reader.rank_of_location(QUERY, f"{order[5] + 1}.txt") == 6
    assert [reader.rank_of(QUERY, id) for id in (ZERO, MISSING, 999)] == [None] * 3
    assert reader.rank_of_location(QUERY, "absent.txt") is None


def test_a_sample_is_repeatable_and_holds_rows_with_a_vector_only(reader: Reader) -> None:
    every = reader.sample(size=100, seed=0.5)
    assert [row.id for row in every] == list(range(1, ZERO + 1))
    np.testing.assert_allclose(every[2].vector, random_vector(3), atol=1e-6)
    assert (every[2].text, every[2].group) == ("text 3", None)
    drawn = [row.id for row in reader.sample(size=5, seed=0.25)]
    assert len(drawn) == 5 and drawn == sorted(drawn)
    assert drawn == [row.id for row in reader.sample(size=5, seed=0.25)]
    assert drawn != [row.id for row in reader.sample(size=5, seed=-0.25)]


def test_chunks_come_by_document_and_index(reader: Reader, dsn: str) -> None:
    values = ", ".join(
        f"({document}, {index}, 'c{index}', '{literal(random_vector(index))}')"
        for document, index in ((2, 1), (1, 0), (2, 0), (3, 0))
    )
    execute(
        dsn,
        f"INSERT INTO document_chunks (document_id, chunk_index, content, embedding) VALUES {values}",
        "INSERT INTO document_chunks (document_id, chunk_index, content) VALUES (1, 1, 'no vector')",
    )
    chunks = reader.chunks_of([2, 1])
    assert [(chunk.group, chunk.id, chunk.text) for chunk in chunks] == [(1, 0, "c0"), (2, 0, "c0"), (2, 1, "c1")]
    np.testing.assert_allclose(chunks[2].vector, random_vector(1), atol=1e-6)


@pytest.mark.parametrize("through_index", [False, True])
@pytest.mark.parametrize(
    ("metric", "distance"),
    [
        ("cosine", lambda v: 1 - float(v @ QUERY)),
        ("l2", lambda v: float(np.linalg.norm(v - QUERY))),
        ("ip", lambda v: -float(v @ QUERY)),
    ],
)
def test_nearest_by_each_metric(reader: Reader, dsn: str, metric: str, distance: Any, through_index: bool) -> None:
    index = f"CREATE INDEX ON documents USING hnsw (embedding vector_{metric}_ops)"
    execute(dsn, f"DELETE FROM documents WHERE id = {ZERO}", index)
    expected = sorted((distance(random_vector(n)), n) for n in range(1, COUNT + 1))[:3]
    nearest = reader.nearest(QUERY, limit=3, through_index=through_index, metric=metric)
    assert [neighbour.id for neighbour in nearest] == [n for _, n in expected]
    np.testing.assert_allclose([n.distance for n in nearest], [d for d, _ in expected], atol=1e-6)
    assert nearest[0].text == f"text {nearest[0].id}"


def test_names_that_need_quotes(connection: Connection, dsn: str) -> None:
    execute(
        dsn,
        'CREATE TABLE "Do %s cs" ("I d" int, "pa{th}" text, "te""xt" text, "ve%c" vector(32))',
        f"""INSERT INTO "Do %s cs" VALUES (5, 'a', 'text', '{literal(QUERY)}')""",
    )
    columns = DocumentsColumns(id="I d", file_path="pa{th}", content='te"xt', embedding="ve%c")
    reader = Reader(connection, Tables(documents=DocumentsTable(table='"Do %s cs"', columns=columns)))
    assert reader.counts().total == 1
    assert [row.id for row in reader.sample(size=1, seed=0)] == [5]
    assert reader.distance_stats(QUERY, thresholds=(0.5,)).under == (1,)
    assert reader.rank_of_location(QUERY, "a") == 1
    assert [neighbour.id for neighbour in reader.nearest(QUERY, limit=1, through_index=False)] == [5]
