"""Vectors that may be written, and why others may not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragops.quality.vectors import VectorFault, check_vectors, mean_vector, normalize


def test_normalize_scales_to_one_in_float32() -> None:
    found = normalize(np.array([[3.0, 4.0], [0.0, -2.0]]))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [[0.6, 0.8], [0.0, -1.0]], rtol=1e-6)


def test_normalize_survives_large_and_bad_rows() -> None:
    rows = np.array([[3e38, 3e38], [0, 0], [np.nan, 1], [np.inf, 1]], dtype=np.float32)
    found = normalize(rows)
    np.testing.assert_allclose(found[0], [0.5**0.5] * 2, rtol=1e-6)
    assert (found[1] == 0).all() and np.isnan(found[2:]).all()
    assert [fault.index for fault in check_vectors(found, dimensions=2)] == [1, 2, 3]


def test_normalize_leaves_its_argument_alone() -> None:
    rows = np.array([[3.0, 4.0], [np.nan, 1.0]])
    normalize(rows)
    assert rows[0, 0] == 3.0 and rows[1, 1] == 1.0
    assert normalize(np.empty((0, 4))).shape == (0, 4)


def test_each_fault_has_row_and_reason() -> None:
    rows = np.array([[1, 2, 3], [0, np.nan, 1], [0, 0, 0], [np.inf, np.nan, 1], [0, 0, 1e-13]])
    assert check_vectors(rows, dimensions=3) == [
        VectorFault(1, "NaN at position 1"),
        VectorFault(2, "zero vector (norm 0)"),
        VectorFault(3, "Inf at position 0 and 1 more not finite"),
        VectorFault(4, "zero vector (norm 1e-13)"),
    ]


def test_a_wrong_dimension_is_every_rows_fault() -> None:
    faults = check_vectors(np.ones((2, 3), dtype=np.float32), dimensions=4)
    assert faults == [VectorFault(0, "3 dimensions, expected 4"), VectorFault(1, "3 dimensions, expected 4")]
    assert check_vectors(np.ones((2, 3)), dimensions=3) == []
    assert check_vectors(np.empty((0, 3)), dimensions=3) == []


@pytest.mark.parametrize("shape", [(3,), (1, 2, 3)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected"):
        check_vectors(np.ones(shape), dimensions=3)
    with pytest.raises(ValueError, match="expected"):
        normalize(np.ones(shape))


@settings(deadline=None)  # a busy machine is no failure
@given(
    st.lists(st.lists(st.floats(-1e3, 1e3).filter(lambda x: abs(x) > 1e-3), min_size=3, max_size=3), min_size=1)
)
def test_mean_is_of_length_one_or_zero(rows: list[list[float]]) -> None:
    mean = mean_vector(np.array(rows))
    assert mean.shape == (3,) and mean.dtype == np.float32
    length = float(np.linalg.norm(mean))
    assert length == pytest.approx(1, abs=1e-5) or length == 0


def test_mean_weighs_directions_not_lengths() -> None:
    np.testing.assert_allclose(mean_vector(np.array([[100.0, 0], [0, 1]])), [0.5**0.5] * 2, rtol=1e-6)
    assert (mean_vector(np.array([[1.0, 0], [-3, 0]])) == 0).all()
    assert np.isnan(mean_vector(np.array([[1.0, 0], [np.nan, 0]]))).all()
    with pytest.raises(ValueError, match="no vectors"):
        mean_vector(np.empty((0, 3)))
