"""Numbers are formatted for people."""

from __future__ import annotations

import pytest

from ragops.report.units import duration, estimate, number, percent, rate, size


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (None, "–"),
        (0, "0 B"),
        (1023, "1,023 B"),
        (1024, "1.0 KiB"),
        (-1536, "-1.5 KiB"),
        (99.94 * 2**20, "99.9 MiB"),
        (100 * 2**20, "100 MiB"),
        (1.4 * 2**30, "1.4 GiB"),
        (5 * 2**40, "5.0 TiB"),
        (4096 * 2**40, "4,096 TiB"),
    ],
)
def test_sizes_have_binary_units(count: float | None, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"),
        (0.84, "0.8 s"),
        (42, "42 s"),
        (59.7, "1 min 0 s"),
        (190, "3 min 10 s"),
        (3599.6, "1 h 0 min"),
        (14 * 3600 + 5 * 60 + 59, "14 h 5 min"),
    ],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_numbers() -> None:
    assert (number(None), number(1100000), percent(0.125)) == ("–", "1,100,000", "12.50%")
    assert estimate(None, is_estimated=True) == "unknown"
    assert (estimate(5, is_estimated=True), estimate(5, is_estimated=False)) == ("≈ 5", "5")


@pytest.mark.parametrize(
    ("documents", "seconds", "text"),
    [
        (1, 273, "13.2 documents/h"),
        (10, 100, "6.0 documents/min"),
        (60, 1, "60.0 documents/s"),
        (100_000, 10, "10,000.0 documents/s"),
        (1, 0, "– documents/s"),
    ],
)
def test_a_speed_is_a_number_that_says_something(documents: int, seconds: float, text: str) -> None:
    """A text of 50 MB in four and a half minutes is not 0.0 documents a second."""
    assert rate(documents, seconds) == text
