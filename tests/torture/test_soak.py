"""An overnight campaign needs nobody: one `ragops reset` goes through every outage, and is right at its end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from torture.report import Report
from torture.soak import Soaking, soak
from torture.test_torture import study
from torture.world import Machine, running_machine

SHORT = Soaking(outages=3, longest_s=15, gap_s=20, deadline_s=600)
LONG = Soaking(outages=20, longest_s=60, gap_s=60, deadline_s=3600)


@pytest.fixture
def machine() -> Iterator[Machine]:
    """A server of its own: the outages change its settings."""
    with running_machine() as opened:
        yield opened


def _soak(machine: Machine, seed: int, size: Soaking, *, documents: int) -> Report:
    corpora = study(machine, documents)
    with machine.database() as name:
        report = soak(machine, name, corpora[0], seed, size)
    print(report)  # noqa: T201
    return report


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.long) for seed in (2, 3))])
def test_three_outages(machine: Machine, seed: int) -> None:
    report = _soak(machine, seed, SHORT, documents=300)
    assert report.is_clean
    assert report.faults == SHORT.outages


@pytest.mark.slow
@pytest.mark.long
def test_twenty_outages_in_half_an_hour(machine: Machine) -> None:
    report = _soak(machine, 4, LONG, documents=2_000)
    assert report.is_clean
    assert report.faults == LONG.outages
