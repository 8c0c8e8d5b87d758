"""Distances between spaces: exact where they agree, NaN where there is nothing to compare."""

from __future__ import annotations

import numpy as np
import pytest

from ragops.quality.drift import cosine_distances

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


def test_unlike_shapes_are_refused() -> None:
    for b in (np.ones((2, 4)), np.ones((3, 3)), np.ones(3)):
        with pytest.raises(ValueError, match="expected"):
            cosine_distances(np.ones((2, 3)), b)
