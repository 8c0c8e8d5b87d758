"""Campaigns under hundreds of faults lose nothing, double nothing, mix nothing up, and need nobody."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator

import pytest
from pooler import PROGRAM

from torture.corpus import write_corpus
from torture.report import Report
from torture.torture import Size, torture
from torture.world import Corpus, Machine, running_machine

# One in the normal suite; the others are slow.
SEEDS = (
    11,
    pytest.param(12, marks=pytest.mark.slow),
    pytest.param(13, marks=[pytest.mark.slow, pytest.mark.long]),
)
DOCUMENTS = 840
SMALL = Size(campaigns=2, faults=67, mean_gap_s=0.3, deadline_s=400)
# `.ci/run` gives the slow ones so many seconds together; the long ones take as long as they need.
SECONDS = float(os.environ.get("RAGOPS_TORTURE_SECONDS", 480))
LARGE = Size(campaigns=5, faults=500, mean_gap_s=0.5, deadline_s=900, fail_gate_every=3)
LARGE_DOCUMENTS = 2_500
WORLDS = [(18, False), (18, True), (16, False), (16, True)]
Study = Callable[[Machine, int], tuple[Corpus, ...]]


def study(machine: Machine, documents: int) -> tuple[Corpus, ...]:
    """Two corpora with the same paths and other texts, and what undisturbed runs make of them."""
    folders = [machine.folder / f"{name}{documents}" for name in "ab"]
    for folder in folders:
        write_corpus(folder, documents, seed=documents, name=folder.name)
    return tuple(machine.study(folder, documents) for folder in folders)


def check(report: Report, *, faults: int, items: int) -> None:
    print(report)  # noqa: T201
    assert report.is_clean
    assert report.faults >= faults
    assert report.items >= items


@pytest.fixture(scope="module")
def corpora(machine: Machine) -> Iterator[tuple[Corpus, ...]]:
    yield study(machine, DOCUMENTS)


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_lost(machine: Machine, corpora: tuple[Corpus, ...], seed: int) -> None:
    check(torture(machine, corpora, seed, SMALL), faults=67, items=2 * DOCUMENTS)


@pytest.fixture(params=WORLDS, ids=lambda world: f"pg{world[0]}-{'pooled' if world[1] else 'direct'}")
def world(request: pytest.FixtureRequest) -> Iterator[Machine]:
    """Each supported PostgreSQL, direct and through a pooler; without one llama.cpp itself embeds."""
    version, is_pooled = request.param
    if is_pooled and PROGRAM is None:
        pytest.skip("pgbouncer is not installed on this machine")
    with running_machine(version, pooled=is_pooled, is_stub=is_pooled) as machine:
        yield machine


@pytest.mark.slow
@pytest.mark.long
def test_nothing_is_lost_in_a_bounded_time(world: Machine) -> None:
    """As many seeds as there is time for."""
    corpora = study(world, DOCUMENTS)
    until, seed, total = time.monotonic() + SECONDS / len(WORLDS), 100, Report()
    while seed == 100 or time.monotonic() < until:
        seed += 1
        size = Size(campaigns=2, faults=40, mean_gap_s=0.4, deadline_s=400, fail_gate_every=2)
        total.add(torture(world, corpora, seed, size))
        if not total.is_clean:
            break
    check(total, faults=40, items=2 * DOCUMENTS)


@pytest.mark.slow
@pytest.mark.long
def test_nothing_is_lost_in_a_long_time(world: Machine) -> None:
    """2,000 faults over 50,000 items, with all four worlds."""
    check(torture(world, study(world, LARGE_DOCUMENTS), 1000, LARGE), faults=500, items=12_500)
