"""Run the simulation of a seed, and shrink one that broke a promise to the fewest steps that still do."""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from simulator.processes import simulated_machines
from simulator.schedule import Schedule, Step
from simulator.stand_ins import simulated_program
from simulator.world import Violation, World, close_world, open_world

SECONDS_TO_SHRINK = 40.0


@dataclass
class Result:
    """What the simulation of one seed has shown."""

    seed: int
    steps: list[Step]
    campaign_hours: float
    commits: int
    violation: Violation | None = None
    outcomes: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)

    def describe(self) -> str:
        """Return a violation with its seed and the steps that show it."""
        listed = "\n".join(f"    {step!r}," for step in self.steps)
        return f"seed {self.seed}: {self.violation}\nsteps = [\n{listed}\n]\n" + "\n".join(self.log)


def simulate(
    admin_dsn: str,
    folder: Path,
    *,
    seed: int,
    steps: int,
    replay: Sequence[Step] | None = None,
) -> Result:
    """Run `steps` chosen steps, or those of `replay`, then let healthy processes finish."""
    done: list[Step] = []
    # The program draws the lengths of its pauses.
    random.seed(seed)
    with simulated_world(admin_dsn, folder) as world, simulated_machines(world), simulated_program():
        schedule = Schedule(world, seed)

        def act(step: Step) -> bool:
            done.append(step)
            schedule.execute(step)
            return world.violation is None

        try:
            if replay is not None:
                all(act(step) for step in replay)
            elif all(act(schedule.choose()) for _ in range(steps)):
                all(act(step) for step in schedule.finish())
        except Violation as violation:
            world.violation = world.violation or violation
        outcomes = [f"{process}: {process.outcome}" for process in world.processes.values()]
        hours = world.campaign_us / 3.6e9
    return Result(seed, done, hours, world.observations, world.violation, outcomes, world.log)


@contextmanager
def simulated_world(admin_dsn: str, folder: Path) -> Iterator[World]:
    """Open a fresh world, and end it with all of its processes."""
    world = open_world(admin_dsn, f"sim_{uuid.uuid4().hex[:12]}", folder)
    try:
        yield world
    finally:
        with simulated_machines(world):
            close_world(world, admin_dsn)


def shrink(admin_dsn: str, folder: Path, found: Result, *, within_s: float = SECONDS_TO_SHRINK) -> Result:
    """Leave steps out as long as the same promise is broken; return the shortest run found in time."""
    assert found.violation is not None
    promise, until, best = found.violation.promise, time.monotonic() + within_s, found

    def shows(kept: list[Step]) -> bool:
        nonlocal best
        if len(kept) == len(best.steps) or time.monotonic() > until:
            return False
        result = simulate(admin_dsn, folder, seed=found.seed, steps=0, replay=kept)
        if result.violation is None or result.violation.promise != promise:
            return False
        best = result
        return True

    # Whole processes first, then runs of steps, each half as long as those before.
    for id in [step[1] for step in found.steps if step[0] == "spawn"]:
        shows([step for step in best.steps if len(step) < 2 or str(step[1]).split("/")[0] != id])
    size = max(1, len(best.steps) // 2)
    while size and time.monotonic() < until:
        start = 0
        while start < len(best.steps) and time.monotonic() < until:
            if not shows(best.steps[:start] + best.steps[start + size :]):
                start += size
        size //= 2
    return best


def main() -> None:
    """Simulate seeds against a server, and print what was found as JSON, one line a seed."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--dsn", required=True, help="a server's database in which others may be created")
    parser.add_argument("--seeds", type=int, nargs="+", required=True)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--shrink", action="store_true")
    parser.add_argument("--verbose", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["RAGOPS_DATA_DIR"] = str(folder / "data")
        for seed in given.seeds:
            began = time.monotonic()
            result = simulate(given.dsn, folder, seed=seed, steps=given.steps)
            if result.violation is not None and given.shrink:
                result = shrink(given.dsn, folder, result)
            line = {
                "seed": seed,
                "violation": None if result.violation is None else result.violation.promise,
                "detail": None if result.violation is None else result.violation.detail,
                "campaign_hours": round(result.campaign_hours, 1),
                "commits": result.commits,
                "steps": len(result.steps),
                "seconds": round(time.monotonic() - began, 2),
            }
            sys.stdout.write(json.dumps(line) + "\n")
            sys.stdout.flush()
            if given.verbose:
                sys.stdout.write(
                    "\n".join(result.outcomes) + "\n" + (result.describe() if result.violation else "")
                )
            if result.violation is not None:
                sys.exit(1)


if __name__ == "__main__":
    main()
