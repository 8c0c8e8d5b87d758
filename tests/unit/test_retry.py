"""Backoff: bounded in each delay and in the sum, never a busy loop."""

from __future__ import annotations

from itertools import cycle, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragops.retry import Backoff

TABLE: list[tuple[Backoff, float, list[float]]] = [
    (Backoff(first_s=1, factor=2, longest_s=8, total_s=30), 1.0, [1, 2, 4, 8, 8]),
    (Backoff(first_s=1, factor=2, longest_s=8, total_s=31), 1.0, [1, 2, 4, 8, 8, 8]),
    (Backoff(first_s=1, factor=2, longest_s=8, total_s=15), 0.0, [0.5, 1, 2, 4, 4]),
    (Backoff(first_s=1, factor=2, longest_s=8, total_s=6), 0.5, [0.75, 1.5, 3]),
    (Backoff(first_s=1, factor=1, longest_s=8, total_s=3), 1.0, [1, 1, 1]),
    (Backoff(first_s=2, factor=2, longest_s=8, total_s=1), 1.0, []),
    (Backoff(first_s=20, factor=2, longest_s=8, total_s=30), 1.0, [8, 8, 8]),
]


@pytest.mark.parametrize(("backoff", "jitter", "delays"), TABLE)
def test_delays(backoff: Backoff, jitter: float, delays: list[float]) -> None:
    assert list(backoff.delays(jitter=lambda: jitter)) == delays


@given(
    first_s=st.floats(0.1, 20),
    factor=st.floats(1, 5),
    longest_s=st.floats(0.1, 30),
    total_s=st.floats(0, 100),
    jitters=st.lists(st.floats(0, 1), min_size=1),
)
def test_bounds(first_s: float, factor: float, longest_s: float, total_s: float, jitters: list[float]) -> None:
    backoff = Backoff(first_s=first_s, factor=factor, longest_s=longest_s, total_s=total_s)
    drawn = cycle(jitters)
    delays = list(backoff.delays(jitter=lambda: next(drawn)))
    assert sum(delays) <= total_s + 1e-6
    assert all(min(first_s, longest_s) / 2 <= delay <= longest_s for delay in delays)


def test_delays_grow_and_two_runs_are_independent() -> None:
    backoff = Backoff()
    first = list(backoff.delays(jitter=lambda: 0.5))
    assert all(earlier <= later for earlier, later in pairwise(first))
    assert list(backoff.delays(jitter=lambda: 0.5)) == first


def test_jitter_spreads_clients_that_failed_together() -> None:
    backoff = Backoff(first_s=1, total_s=10)
    assert next(iter(backoff.delays(jitter=lambda: 0.1))) != next(iter(backoff.delays(jitter=lambda: 0.9)))
    assert len({next(iter(backoff.delays())) for _ in range(20)}) > 1
