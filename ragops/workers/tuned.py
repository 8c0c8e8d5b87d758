"""What `ragops tune` found best, kept for each host, interpreter and model; stale choices are not used."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ragops.builds.library import run_probe
from ragops.embedder.config import checked_sha256, worker_python
from ragops.errors import EmbedderError
from ragops.host import read_limits
from ragops.paths import tuning_file
from ragops.playbook.model import Playbook


@dataclass(frozen=True, slots=True)
class Choice:
    """A tuned shape with what it holds for: the build as effective, and the cores that could be used."""

    workers: int
    threads: int
    tokens_per_batch: int
    repack: bool | None
    build: str
    cores: int


def tuned_for(playbook: Playbook) -> Tuned | None:
    """The choice for this host, build and model; None without one, or when build or cores have changed since."""
    choices = _read()
    if not choices or playbook.model.file is None or not playbook.model.file.is_file():
        return None
    try:
        choice = Choice(**choices[key_of(playbook)])
    except (KeyError, TypeError):
        return None
    if choice.cores != read_limits().cores or choice.build != effective_build(playbook):
        return None
    return Tuned(choice.workers, choice.threads, choice.tokens_per_batch, choice.repack)


def save_choice(playbook: Playbook, tuned: Tuned) -> Path:
    """Keep a choice; returns the file. Raises OSError where it cannot be written."""
    choice = Choice(
        tuned.workers,
        tuned.threads,
        tuned.tokens_per_batch,
        tuned.repack,
        build=effective_build(playbook),
        cores=read_limits().cores,
    )
    file = tuning_file()
    file.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**_read(), key_of(playbook): asdict(choice)}, indent=1)
    # Whole or not at all: another command may read it now.
    fresh = file.with_name(f"{file.name}.{os.getpid()}")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(file)
    return file


def key_of(playbook: Playbook) -> str:
    """Host, interpreter and model, as the file spells them."""
    return " ".join((socket.gethostname(), _interpreter(playbook), checked_sha256(playbook)))


def effective_build(playbook: Playbook) -> str:
    """The workers' build as its library describes itself; empty where it cannot say."""
    with contextlib.suppress(EmbedderError):
        probe = run_probe(Path(_interpreter(playbook)))
        return f"{probe.package_version} {probe.system_info}"
    return ""  # the fleet's own children will say what is wrong with it


def _interpreter(playbook: Playbook) -> str:
    return worker_python(playbook) or sys.executable


def _read() -> dict[str, Any]:
    try:
        found = json.loads(tuning_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):  # none yet, or damaged: planned as if nothing had been tuned
        return {}
    return found if isinstance(found, dict) else {}


@dataclass(frozen=True, slots=True)
class Tuned:
    """What `ragops tune` found best for this host, build and model."""

    workers: int
    threads: int
    tokens_per_batch: int
    repack: bool | None = None
