"""Read what a llama.cpp library is from a child process, which loading it may kill."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ragops.builds.standalone import parse_system_info
from ragops.errors import EmbedderDied, EmbedderError
from ragops.subprocesses import Purpose, child_environment, is_from_outside, signal_name

PROBE_PROGRAM = Path(__file__).with_name("library_child.py")
# Loading takes about a second; a network file system or a scanner of new files may take a minute.
PROBE_DEADLINE_S = 120.0


@dataclass(frozen=True, slots=True)
class Library:
    """One library file of a build."""

    path: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Probe:
    """What an interpreter's llama.cpp is; `system_info` and `features` are empty if it could not be loaded."""

    interpreter: Path
    package_version: str
    python_version: str
    platform: str
    libraries: tuple[Library, ...]
    system_info: str = ""
    features: Mapping[str, str] = field(default_factory=dict)


class LibraryDied(EmbedderDied):
    """Loading the library killed the probe; `probe` holds what was read before, `signal` the cause."""

    def __init__(self, probe: Probe, *, cause: str, tail: str) -> None:
        super().__init__(
            f"loading the llama.cpp library killed the probe: {cause}",
            where=str(probe.interpreter),
            actual=tail or f"llama-cpp-python {probe.package_version}; no output on stderr",
            expected="a library that loads on this machine",
            hint="the build uses instructions that this CPU lacks: rebuild it here with ragops build install"
            if cause == "SIGILL"
            else "compare the libraries' SHA-256 with their source, or install the build again",
        )
        self.probe = probe
        self.signal = cause


def run_probe(interpreter: Path) -> Probe:
    """Return version, files and effective features of an interpreter's library.

    Raises LibraryDied if loading it kills the child; EmbedderError if there is no library, it cannot be
    loaded, or the child does not answer.
    """
    # Once may be chance: the system's out-of-memory killer takes the process that it likes.
    done = _run_child(interpreter)
    if is_from_outside(done.returncode):
        done = _run_child(interpreter)
    answer: dict[str, Any] = {}
    for line in done.stdout.splitlines():
        # A library may print lines of its own between those of the child.
        with contextlib.suppress(ValueError):
            values = json.loads(line)
            answer |= values if isinstance(values, dict) else {}
    tail = done.stderr.decode("utf-8", "replace").strip()[-500:]
    if "error" in answer:
        raise _no_answer(interpreter, actual=str(answer["error"]))
    if "found" not in answer:
        raise _no_answer(interpreter, actual=tail or f"exit status {done.returncode} without an answer")
    info = str(answer.get("system_info", ""))
    probe = Probe(
        interpreter=interpreter,
        package_version=str(answer["package_version"]),
        python_version=str(answer["python_version"]),
        platform=str(answer["platform"]),
        libraries=tuple(Library(item["path"], item["sha256"]) for item in answer["libraries"]),
        system_info=info,
        features=parse_system_info(info),
    )
    if "loaded" not in answer:
        raise LibraryDied(probe, cause=signal_name(done.returncode) or f"exit status {done.returncode}", tail=tail)
    return probe


def _run_child(interpreter: Path) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(
            [str(interpreter), str(PROBE_PROGRAM)],
            env=child_environment(os.environ, Purpose.EMBEDDER, own_interpreter=False),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PROBE_DEADLINE_S,
        )
    except OSError as error:
        raise _no_answer(interpreter, actual=error.strerror or str(error)) from error
    except subprocess.TimeoutExpired as error:
        raise _no_answer(interpreter, actual=f"no answer within {PROBE_DEADLINE_S:g} s") from error


def _no_answer(interpreter: Path, *, actual: str) -> EmbedderError:
    return EmbedderError(
        "cannot read the interpreter's llama.cpp library",
        where=str(interpreter),
        actual=actual,
        expected="an interpreter with llama-cpp-python",
        hint="ragops build install   compiles one",
    )
