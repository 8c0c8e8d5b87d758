"""Every sabotaged variant of the program is noticed, and the unchanged copy passes under the same seeds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from conftest import Server
from simulator.world import make_template

from mutants.apply import Mutant, apply, copy_package, hunt, simulated
from mutants.mutants import MUTANTS

STEPS = 300
# In the normal suite one of 14, in the full check one of 6; all of them with the long proofs.
ONE_OF = 14
ONE_OF_SLOW = 6


@pytest.fixture(scope="module")
def dsn(pg18: Server) -> str:
    """A server that has the simulator's template, made by the unchanged program."""
    with psycopg.connect(pg18.target.conninfo, autocommit=True) as admin:
        make_template(admin, pg18.target.conninfo)
    return pg18.target.conninfo


@pytest.fixture
def copy(tmp_path: Path) -> Iterator[Path]:
    yield copy_package(tmp_path)


def check(mutant: Mutant, copy: Path, dsn: str) -> None:
    apply(mutant, copy)
    caught = hunt(mutant, copy, dsn=dsn, steps=STEPS)
    assert caught is not None, f"nobody noticed: {mutant.name} ({mutant.file})"
    print(f"\nmutant: {mutant.name}: caught by {caught.by}: {caught.what}")  # noqa: T201 (the list is printed)


@pytest.mark.parametrize("mutant", MUTANTS[::ONE_OF], ids=lambda mutant: mutant.name.replace(" ", "-"))
def test_a_mutant_is_caught(mutant: Mutant, copy: Path, dsn: str) -> None:
    check(mutant, copy, dsn)


@pytest.mark.slow
@pytest.mark.parametrize(
    "mutant",
    [
        mutant if place % ONE_OF_SLOW == 2 else pytest.param(mutant, marks=pytest.mark.long)
        for place, mutant in enumerate(MUTANTS)
        if place % ONE_OF
    ],
    ids=lambda mutant: mutant.name.replace(" ", "-"),
)
def test_every_other_mutant_is_caught(mutant: Mutant, copy: Path, dsn: str) -> None:
    check(mutant, copy, dsn)


@pytest.mark.slow
@pytest.mark.long
def test_the_unchanged_program_passes_where_mutants_are_caught(copy: Path, dsn: str) -> None:
    seeds = tuple(sorted({seed for mutant in MUTANTS[::ONE_OF] for seed in mutant.seeds}))
    # Two dozen seeds, which take 14 s each on a busy machine.
    lines = simulated(copy, dsn=dsn, seeds=seeds, steps=STEPS, timeout_s=900)
    assert [line for line in lines if line["violation"]] == []
    assert [line["seed"] for line in lines] == list(seeds)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name.replace(" ", "-"))
def test_a_mutant_can_be_applied(mutant: Mutant, copy: Path) -> None:
    apply(mutant, copy)
    assert mutant.seeds or mutant.tests
