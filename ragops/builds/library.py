"""The parent's side of `library_child.py`: what a library is, asked in a child that may die of it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ragops.builds.features import parse_system_info
from ragops.errors import EmbedderDied, EmbedderError
from ragops.subprocesses import child_environment, signal_name

PROBE_PROGRAM = Path(__file__).with_name("library_child.py")
PROBE_DEADLINE_S = 120.0


@dataclass(frozen=True, slots=True)
class Library:
    """One library file of a build."""

    path: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Probe:
    """What an interpreter's llama.cpp is; `system_info` and `features` are empty when it could not be loaded."""

    interpreter: Path
    package_version: str
    python_version: str
    platform: str
    libraries: tuple[Library, ...]
    system_info: str = ""
    features: Mapping[str, str] = field(default_factory=dict)


class LibraryDied(EmbedderDied):
    """Loading the library killed the probe; `probe` holds what was known before, `signal` the cause."""

    def __init__(self, probe: Probe, *, cause: str, tail: str) -> None:
        super().__init__(
            f"loading the llama.cpp library killed the probe: {cause}",
            where=str(probe.interpreter),
            actual=tail or f"llama-cpp-python {probe.package_version}; it said nothing",
            expected="a library that loads on this machine",
            hint="the build uses instructions that this CPU lacks: rebuild it here with ragops build install"
            if cause == "SIGILL"
            else "compare the libraries' SHA-256 with their source, or install the build again",
        )
        self.probe = probe
        self.signal = cause


def run_probe(interpreter: Path, *, timeout_s: float = PROBE_DEADLINE_S) -> Probe:
    """Ask an interpreter's library for its version, files and effective features.

    Raises LibraryDied when loading it kills the child, EmbedderError when there is none, it cannot be
    loaded, or no answer comes.
    """
    try:
        done = subprocess.run(
            [str(interpreter), str(PROBE_PROGRAM)],
            env=child_environment(os.environ, own_interpreter=False),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
        )
    except OSError as error:
        raise _no_answer(interpreter, actual=error.strerror or str(error)) from error
    except subprocess.TimeoutExpired as error:
        raise _no_answer(interpreter, actual=f"nothing within {timeout_s:g} s") from error
    return _read(interpreter, done)


def _read(interpreter: Path, done: subprocess.CompletedProcess[bytes]) -> Probe:
    answers = [answer for line in done.stdout.splitlines() if (answer := _decoded(line))]
    merged: dict[str, Any] = {key: value for answer in answers for key, value in answer.items()}
    tail = done.stderr.decode("utf-8", "replace").strip()[-500:]
    if "error" in merged:
        raise _no_answer(interpreter, actual=str(merged["error"]))
    if "found" not in merged:
        raise _no_answer(interpreter, actual=tail or f"exit status {done.returncode} and no answer")
    probe = _probe(interpreter, merged)
    if "loaded" not in merged:
        raise LibraryDied(probe, cause=signal_name(done.returncode) or f"exit status {done.returncode}", tail=tail)
    return probe


def _probe(interpreter: Path, answer: Mapping[str, Any]) -> Probe:
    info = str(answer.get("system_info", ""))
    return Probe(
        interpreter=interpreter,
        package_version=str(answer["package_version"]),
        python_version=str(answer["python_version"]),
        platform=str(answer["platform"]),
        libraries=tuple(Library(item["path"], item["sha256"]) for item in answer["libraries"]),
        system_info=info,
        features=parse_system_info(info),
    )


def _decoded(line: bytes) -> dict[str, Any] | None:
    try:
        answer = json.loads(line)
    except ValueError:  # a library that prints on its own
        return None
    return answer if isinstance(answer, dict) else None


def _no_answer(interpreter: Path, *, actual: str) -> EmbedderError:
    return EmbedderError(
        "the interpreter has no llama.cpp library that can be asked",
        where=str(interpreter),
        actual=actual,
        expected="an interpreter with llama-cpp-python",
        hint="ragops build install   makes one",
    )
