"""Makes every Python that a test's program starts write down its arguments and its environment."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

# Python imports sitecustomize from PYTHONPATH before it runs anything, also with -P.
_PROGRAM = """\
import json, os, pathlib, sys, time
seen = {{"command": sys.orig_argv, "environment": dict(os.environ)}}
file = pathlib.Path({folder!r}, f"{{os.getpid()}}-{{time.time_ns()}}")
file.with_suffix(".part").write_text(json.dumps(seen))
file.with_suffix(".part").rename(file.with_suffix(".json"))
"""


@dataclass(frozen=True, slots=True)
class Seen:
    """One Python process."""

    command: str
    environment: dict[str, str]


@dataclass(frozen=True, slots=True)
class ChildSpy:
    """Writes down all processes that are started with its `variables`."""

    folder: Path

    @classmethod
    def at(cls, folder: Path) -> ChildSpy:
        (folder / "seen").mkdir(parents=True)
        program = _PROGRAM.format(folder=str(folder / "seen"))
        (folder / "sitecustomize.py").write_text(program, encoding="utf-8")
        return cls(folder)

    @property
    def variables(self) -> dict[str, str]:
        given = os.environ.get("PYTHONPATH")
        return {"PYTHONPATH": os.pathsep.join([str(self.folder), *([given] if given else [])])}

    def seen(self, word: str = "") -> list[Seen]:
        """The processes whose command line contains `word`."""
        files = sorted((self.folder / "seen").glob("*.json"))
        found = [json.loads(file.read_text(encoding="utf-8")) for file in files]
        every = [Seen(" ".join(one["command"]), one["environment"]) for one in found]
        return [one for one in every if word in one.command]
