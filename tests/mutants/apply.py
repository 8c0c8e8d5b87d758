"""Make a copy of the package with a mutant in it, and look whether the simulator or a test notices."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import ragops

PACKAGE = Path(ragops.__file__).parent
TESTS = Path(__file__).parents[1]
# The unchanged program passes all of them.
SEEDS = range(1, 25)


@dataclass(frozen=True)
class Mutant:
    """One sabotage: in `file`, `old` becomes `new`."""

    name: str
    file: str
    old: str
    new: str
    also: tuple[tuple[str, str, str], ...] = ()
    """More such changes (file, old, new), where a second line of defence keeps the rule."""
    first: int = 1
    """The seed of the simulator that is tried first; then come the other ones of SEEDS."""
    tests: tuple[str, ...] = ()
    """Tests of which one must fail, where only the program shows the fault."""

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of which one must notice, in the order in which they are tried."""
        return () if self.tests else (self.first, *(seed for seed in SEEDS if seed != self.first))


@dataclass(frozen=True)
class Caught:
    """Who noticed a mutant, and what."""

    by: str
    what: str


def copy_package(folder: Path) -> Path:
    """Copy the package into a folder, for PYTHONPATH; return the folder."""
    # With the compiled files, which fit as long as a source keeps its time.
    shutil.copytree(PACKAGE, folder / "ragops")
    playbooks = PACKAGE.parent / "playbooks"
    if playbooks.is_dir():
        shutil.copytree(playbooks, folder / "playbooks")
    return folder


def apply(mutant: Mutant, folder: Path) -> None:
    """Change the copy. Raises ValueError unless the old text is there exactly once: no mutant may fade away."""
    for name, old, new in ((mutant.file, mutant.old, mutant.new), *mutant.also):
        file = folder / "ragops" / name
        text = file.read_text(encoding="utf-8")
        count = text.count(old)
        if count != 1:
            raise ValueError(f"mutant {mutant.name}: its text occurs {count} times in {name}, expected once")
        file.write_text(text.replace(old, new), encoding="utf-8")


def environment_of(folder: Path) -> dict[str, str]:
    """Return an environment in which `import ragops` finds the copy."""
    path = os.pathsep.join([str(folder), str(TESTS)])
    # Without the safe path `python -m` would look into its working folder first, where the unchanged package is.
    return {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONSAFEPATH": "1"}


def hunt(mutant: Mutant, folder: Path, *, dsn: str, steps: int, timeout_s: float = 240) -> Caught | None:
    """Return who notices the mutant in a copy of the package; None if nobody does."""
    environment = environment_of(folder)
    for line in simulated(folder, dsn=dsn, seeds=mutant.seeds, steps=steps, timeout_s=timeout_s):
        if line["violation"]:
            return Caught(f"simulator, seed {line['seed']}", str(line["violation"]))
    for test in mutant.tests:
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-n",
            "0",
            "-x",
            "-p",
            "no:cacheprovider",
            str(TESTS / test),
        ]
        done = subprocess.run(
            command, env=environment, cwd=TESTS.parent, capture_output=True, text=True, timeout=timeout_s
        )
        if done.returncode == 1:
            lines = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
            return Caught(test, lines[0].partition(" - ")[2] if lines else "failed")
        if done.returncode != 0:
            raise RuntimeError(f"{test} did not run:\n{done.stdout}\n{done.stderr}")
    return None


def simulated(
    folder: Path, *, dsn: str, seeds: tuple[int, ...], steps: int, timeout_s: float = 240
) -> list[dict[str, object]]:
    """Run the simulator over a copy of the package until a seed shows a violation; return what each seed said."""
    if not seeds:
        return []
    command = [sys.executable, "-m", "simulator.simulation", "--dsn", dsn, "--steps", str(steps), "--seeds"]
    done = subprocess.run(
        [*command, *map(str, seeds)],
        env=environment_of(folder),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )
    if done.returncode not in (0, 1) or not done.stdout:
        raise RuntimeError(f"the simulator did not run:\n{done.stdout}\n{done.stderr}")
    return [json.loads(line) for line in done.stdout.splitlines()]
