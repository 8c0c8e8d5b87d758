"""Campaigns on a virtual clock, with kills, outages, zombies and takeovers: every promise is kept."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from conftest import Server

from simulator.oracle import Oracle
from simulator.schedule import SECOND_US, Step
from simulator.simulation import Result, shrink, simulate
from simulator.world import Violation

# Enough for the hours below; the seeds of the mutants' control are among them.
SEEDS = range(1, 16)
HOURS = 1000.0
STEPS = 300
SLOW_SEEDS, SLOW_STEPS, SLOW_HOURS = range(1001, 1061), 600, 10_000.0


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Campaigns note in the user's data folder whom they trust."""
    monkeypatch.setenv("RAGOPS_DATA_DIR", str(tmp_path / "data"))


def run_seeds(server: Server, folder: Path, seeds: range, *, steps: int) -> list[Result]:
    """Simulate the seeds; the first that breaks a promise is shrunk and fails the test."""
    results = []
    for seed in seeds:
        result = simulate(server.target.conninfo, folder, seed=seed, steps=steps)
        if result.violation is not None:
            pytest.fail(shrink(server.target.conninfo, folder, result).describe())
        results.append(result)
    return results


def report(results: list[Result], *, seconds: float) -> float:
    """Print what was simulated; return the campaign-hours."""
    hours = sum(result.campaign_hours for result in results)
    commits, steps = sum(r.commits for r in results), sum(len(r.steps) for r in results)
    print(  # noqa: T201 (the figures of the promise)
        f"\nsimulated {hours:,.0f} campaign-hours, {len(results)} seeds from {results[0].seed}, {steps:,} steps, "
        f"{commits:,} commits judged, in {seconds:.0f} s"
    )
    return hours


def test_a_thousand_campaign_hours_keep_every_promise(pg18: Server, tmp_path: Path) -> None:
    began = time.monotonic()
    results = run_seeds(pg18, tmp_path, SEEDS, steps=STEPS)
    assert report(results, seconds=time.monotonic() - began) >= HOURS
    # A simulation that sees nothing finds nothing.
    assert sum(result.commits for result in results) > 100 * len(SEEDS)
    ended = " ".join(outcome for result in results for outcome in result.outcomes)
    for sign in (
        ": done",
        "undone",
        "FenceLost",
        "CampaignHeld",
        "NegativeVerdict",
        "filled again",
        "Interrupted",
    ):
        assert sign in ended, f"no process ended with {sign}"


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("version", [16, 18])
def test_ten_thousand_campaign_hours(version: int, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    server, began = request.getfixturevalue(f"pg{version}"), time.monotonic()
    results = run_seeds(server, tmp_path, SLOW_SEEDS, steps=SLOW_STEPS)
    assert report(results, seconds=time.monotonic() - began) >= SLOW_HOURS


def test_a_seed_is_always_the_same_run(pg18: Server, tmp_path: Path) -> None:
    one, other = (simulate(pg18.target.conninfo, tmp_path, seed=3, steps=120) for _ in range(2))
    assert (one.steps, one.commits) == (other.steps, other.commits)
    assert one.commits > 50
    again = simulate(pg18.target.conninfo, tmp_path, seed=3, steps=0, replay=one.steps)
    assert (again.commits, again.outcomes) == (one.commits, one.outcomes)


def test_how_long_this_machine_takes_decides_nothing(pg18: Server, tmp_path: Path) -> None:
    """A controller that waits goes on some seconds after an outage: seconds of the virtual clock."""
    go = ("go", "p2/main", 100)
    steps: list[Step] = [
        ("spawn", "p1", "reset", 0, 100, "red", "mean"),
        ("go", "p1/main", 100),
        ("spawn", "p2", "wait", 2, 101, "red", "mean"),
        ("go", "p2/main", 30),
        ("outage",),
        *[("go", "p2/main", 5)] * 2,
        ("restore",),
        ("kill", "p1"),
        *[go] * 2,
        ("tick", 400 * SECOND_US),
        *[go] * 3,
    ]
    waits = simulate(pg18.target.conninfo, tmp_path, seed=1, steps=0, replay=steps)
    assert waits.outcomes[-1].endswith(": None")
    goes_on = [*steps, ("tick", 30 * SECOND_US), *[go] * 20]
    assert simulate(pg18.target.conninfo, tmp_path, seed=1, steps=0, replay=goes_on).commits > waits.commits + 5


def test_a_broken_promise_shrinks(pg18: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def judge(self: Oracle, *_: object) -> None:
        if len(self.last.with_status("completed")) >= 2:
            raise Violation("nobody stores two documents", "two")

    monkeypatch.setattr(Oracle, "_judge_rows", judge)
    found = simulate(pg18.target.conninfo, tmp_path, seed=3, steps=300)
    assert found.violation is not None
    shrunk = shrink(pg18.target.conninfo, tmp_path, found, within_s=20)
    assert shrunk.violation is not None and shrunk.violation.promise == "nobody stores two documents"
    # How far it comes in that time is the machine's affair.
    assert len(shrunk.steps) < len(found.steps)
    assert "seed 3" in shrunk.describe() and "('spawn'," in shrunk.describe()
