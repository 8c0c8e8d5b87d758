"""Exact neighbours in blocks, recall with ties, overlap, nDCG."""

from __future__ import annotations

import numpy as np
import pytest

from ragops.quality.retrieval import ExactSearch, Found, Ranks, distances, ndcg, overlap, percentile, recall

METRICS = ("cosine", "l2", "ip", "l1")


@pytest.mark.parametrize("metric", METRICS)
def test_blocks_make_no_difference(metric: str) -> None:
    drawn = np.random.default_rng(1)
    rows = drawn.normal(size=(500, 12)).astype(np.float32)
    queries = drawn.normal(size=(7, 12)).astype(np.float32)
    keys = [f'["{n}"]' for n in range(500)]
    search, ranks = ExactSearch(queries, metric=metric, k=10), Ranks(queries, rows[:7], metric=metric)
    for start in (0, 3, 100, 499):
        stop = {0: 3, 3: 100, 100: 499, 499: 500}[start]
        search.add(keys[start:stop], rows[start:stop])
        ranks.add(rows[start:stop])
    expected = distances(queries, rows, metric=metric)
    for query, found in enumerate(search.found()):
        order = np.argsort(expected[query])[:10]
        assert list(found.keys) == [keys[n] for n in order]
        assert found.distances == pytest.approx(expected[query][order])
        assert ranks.ranks()[query] == 1 + int((expected[query] < expected[query][query] - 1e-5).sum())


def test_a_drawn_row_does_not_find_itself() -> None:
    rows = np.eye(4, dtype=np.float32)
    search = ExactSearch(rows[:2], metric="l2", k=3, sources=["a", None])
    search.add(["a", "b", "c", "d"], rows)
    first, second = search.found()
    assert sorted(first.keys) == ["b", "c", "d"] and second.keys[0] == "b"


def test_fewer_rows_than_neighbours_and_zero_vectors() -> None:
    rows = np.array([[1, 0], [0, 0]], dtype=np.float32)
    search = ExactSearch(rows[:1], metric="cosine", k=5)
    search.add(["a", "zero"], rows)
    # pgvector's cosine index leaves a zero vector out.
    assert search.found() == [Found(("a",), (0.0,))]
    assert recall(search.found()[0], Found(("a",), (0.0,)), k=5) == 1.0
    assert recall(Found((), ()), Found((), ()), k=5) is None


def test_of_equal_rows_any_is_right() -> None:
    exact = Found(("a", "b", "c"), (0.1, 0.2, 0.2))
    assert recall(exact, Found(("a", "x", "y"), (0.1, 0.2, 0.2)), k=3) == 1.0
    assert recall(exact, Found(("a", "x"), (0.1, 0.3)), k=3) == pytest.approx(1 / 3)
    assert recall(exact, Found((), ()), k=3) == 0.0


def test_overlap_and_ndcg() -> None:
    assert overlap(Found(("a", "b"), (0, 1)), Found(("b", "c"), (0, 1)), k=10) == 0.5
    assert ndcg(["a", "b"], {"a": 1}, k=10) == 1.0
    assert ndcg(["b", "a"], {"a": 1}, k=10) == pytest.approx(0.6309, abs=1e-4)
    assert ndcg(["b", "a"], {"a": 1}, k=1) == 0.0
    # Two of three relevant rows, the better one second.
    assert ndcg(["b", "a"], {"a": 2, "b": 1, "c": 1}, k=2) == pytest.approx(
        (1 + 2 * 0.6309) / (2 + 0.6309), abs=1e-3
    )


def test_percentiles() -> None:
    assert (percentile([3, 1, 2], 0.5), percentile(list(range(1, 101)), 0.99), percentile([], 0.5)) == (
        2,
        99,
        None,
    )
