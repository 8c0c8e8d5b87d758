"""Distances between spaces: exact where they agree, NaN where there is nothing to compare."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ragops.quality.drift import Drift, cosine_distances, measure_drift, neighbour_overlap

RANDOM = np.random.default_rng(7)


def test_known_distances() -> None:
    a = np.array([[1, 0], [1, 0], [1, 0], [2, 0]], dtype=np.float32)
    b = np.array([[5, 0], [0, 1], [-1, 0], [1, 1]], dtype=np.float32)
    found = cosine_distances(a, b)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, [0, 1, 2, 1 - 0.5**0.5], atol=1e-15)


def test_equal_rows_are_exactly_zero_apart_and_tiny_drift_is_seen() -> None:
    a = RANDOM.normal(size=(50, 384)).astype(np.float32)
    assert (cosine_distances(a, a.copy()) == 0).all()
    one, other = np.array([[1.0, 0.0]]), np.array([[1.0, 1e-9]])
    assert cosine_distances(one, other)[0] == pytest.approx(5e-19, rel=1e-6)


def test_agrees_with_the_definition() -> None:
    a, b = RANDOM.normal(size=(2, 40, 16))
    dots = (a * b).sum(axis=1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
    np.testing.assert_allclose(cosine_distances(a, b), 1 - dots, atol=1e-12)


def test_rows_without_a_direction_have_no_distance() -> None:
    a = np.array([[1.0, 0], [0, 0], [np.nan, 1], [1, 0], [1, 0]])
    b = np.array([[1.0, 0], [1, 0], [1, 0], [np.inf, 0], [0, 1]])
    assert np.isnan(cosine_distances(a, b)).tolist() == [False, True, True, True, False]
    drift = measure_drift(a, b)
    assert (drift.count, drift.nan_count, drift.max, drift.mean, drift.median) == (5, 3, 1.0, 0.5, 0.5)


def test_drift_sums_up() -> None:
    a, b = np.tile([1.0, 0.0], (100, 1)), np.tile([1.0, 0.0], (100, 1))
    b[:10] = [0.0, 1.0]
    assert measure_drift(a, b) == Drift(max=1.0, mean=0.1, median=0.0, p95=1.0, count=100, nan_count=0)


def test_drift_of_nothing_is_nan() -> None:
    for rows in (np.empty((0, 4)), np.zeros((3, 4))):
        drift = measure_drift(rows, rows)
        assert math.isnan(drift.max) and math.isnan(drift.p95)
        assert (drift.count, drift.nan_count) == (len(rows), len(rows))


def test_unlike_shapes_are_refused() -> None:
    for b in (np.ones((2, 4)), np.ones((3, 3)), np.ones(3)):
        with pytest.raises(ValueError, match="needed"):
            cosine_distances(np.ones((2, 3)), b)


def test_overlap_of_a_space_with_its_rotation_is_whole() -> None:
    a = RANDOM.normal(size=(1500, 24))
    rotation, _ = np.linalg.qr(RANDOM.normal(size=(24, 24)))
    assert neighbour_overlap(a, a) == 1.0
    assert neighbour_overlap(a, (a @ rotation) * 3) == 1.0
    assert neighbour_overlap(a, RANDOM.normal(size=(1500, 8))) < 0.05


def test_overlap_by_hand() -> None:
    def at(*degrees: float) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
        angles = np.radians(degrees)
        return np.stack([np.cos(angles), np.sin(angles)], axis=1)

    # The nearest of 0, 10, 50, 65 degrees are 1, 0, 3, 2; with 31 for the second they are 1, 2, 3, 2.
    assert neighbour_overlap(at(0, 10, 50, 65), at(0, 31, 50, 65), k=1) == 0.75
    assert neighbour_overlap(at(0, 10, 50, 65), at(65, 0, 10, 50), k=99) == 1.0


def test_copies_tie_the_same_way_in_both_spaces() -> None:
    a = np.repeat(RANDOM.normal(size=(5, 33)), 40, axis=0)
    rotation, _ = np.linalg.qr(RANDOM.normal(size=(33, 33)))
    assert neighbour_overlap(a, a @ rotation, k=10) == 1.0


def test_overlap_leaves_out_what_has_no_direction() -> None:
    a = RANDOM.normal(size=(20, 6))
    b = a.copy()
    b[3], a[5] = 0, np.nan
    assert neighbour_overlap(a, b, k=5) == 1.0
    assert math.isnan(neighbour_overlap(a[:1], b[:1]))
    with pytest.raises(ValueError):
        neighbour_overlap(a, b, k=0)
    with pytest.raises(ValueError):
        neighbour_overlap(a, b[:3])
