"""Whether two sets of vectors are one space: on real vectors of four builds, and on made ones."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from ragops.quality.spaces import SpaceLimits, measure_spaces, space_verdict, tolerant_overlap

BUILDS = Path(__file__).parents[1] / "data" / "builds"
NAMES = ("avx2", "native-0.3.36", "origin-flags", "sse-only")
LIMITS = SpaceLimits()


def vectors(name: str) -> np.ndarray:
    """26 texts embedded by one real build of llama.cpp, shape (26, 384)."""
    loaded: np.ndarray = np.load(BUILDS / f"{name}.npy")
    return loaded


@pytest.mark.parametrize(("a", "b"), list(itertools.combinations(NAMES, 2)))
def test_every_pair_of_real_builds_is_equivalent(a: str, b: str) -> None:
    drift = measure_spaces(vectors(a), vectors(b), tie_tolerance=LIMITS.max_drift)
    assert drift.max is not None and 0 < drift.max <= 3.4e-4
    assert drift.top10_overlap is not None and drift.top10_overlap >= 0.99
    assert space_verdict(drift, LIMITS) == "equivalent"


@pytest.mark.parametrize("name", NAMES)
def test_a_build_is_identical_to_itself(name: str) -> None:
    assert space_verdict(measure_spaces(vectors(name), vectors(name), tie_tolerance=0), LIMITS) == "identical"


def test_one_text_beyond_the_limit_is_divergent() -> None:
    a, b = vectors("avx2"), vectors("avx2").copy()
    b[5] = b[6]
    assert space_verdict(measure_spaces(a, b, tie_tolerance=1e-3), LIMITS) == "divergent"


def test_a_zero_vector_is_divergent_and_counted() -> None:
    a, b = vectors("avx2"), vectors("sse-only").copy()
    b[3] = 0
    drift = measure_spaces(a, b, tie_tolerance=1e-3)
    assert drift.not_a_number == 1
    assert drift.max is not None and drift.max < 1e-3
    assert space_verdict(drift, LIMITS) == "divergent"


def test_nothing_but_zero_vectors_has_no_figures() -> None:
    zeros = np.zeros((4, 8), dtype=np.float32)
    drift = measure_spaces(zeros, zeros, tie_tolerance=1e-3)
    assert (drift.max, drift.top10_overlap, drift.not_a_number) == (None, None, 4)
    assert space_verdict(drift, LIMITS) == "divergent"


def test_a_rotation_keeps_neighbours_and_still_diverges() -> None:
    a = vectors("avx2")
    rotated = np.roll(a, 1, axis=1)
    drift = measure_spaces(a, rotated, tie_tolerance=1e-3)
    assert drift.top10_overlap == 1.0
    assert space_verdict(drift, LIMITS) == "divergent"


def test_lost_neighbours_diverge_even_below_the_drift_limit() -> None:
    drift = measure_spaces(vectors("avx2"), vectors("sse-only"), tie_tolerance=0)
    assert drift.top10_overlap is not None
    assert space_verdict(drift, SpaceLimits(max_drift=1e-3, min_overlap=drift.top10_overlap + 1e-6)) == "divergent"


def test_a_tie_may_fall_either_way() -> None:
    # Two neighbours at almost the same distance swap places; the third is far away.
    a = np.array([[1, 0], [0.9, 0.1], [0.9, -0.1001], [-1, 0]], dtype=np.float32)
    b = np.array([[1, 0], [0.9, 0.1001], [0.9, -0.1], [-1, 0]], dtype=np.float32)
    assert tolerant_overlap(a, b, k=1, tolerance=0) == pytest.approx(0.5)
    assert tolerant_overlap(a, b, k=1, tolerance=1e-3) == 1.0


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="one shape"):
        measure_spaces(np.ones((2, 3), np.float32), np.ones((3, 3), np.float32), tie_tolerance=0)
