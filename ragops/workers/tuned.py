"""Choices of `ragops tune`, stored per host, interpreter and model; stale ones are not used."""

from __future__ import annotations

import contextlib
import json
import socket
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from ragops.builds.library import run_probe
from ragops.embedder.config import checked_sha256, worker_python
from ragops.errors import EmbedderError
from ragops.host import read_limits
from ragops.paths import read_private, replace_private, tuning_file
from ragops.playbook.model import Playbook


@dataclass(frozen=True, slots=True)
class Tuned:
    """The best sizes that `ragops tune` measured for this host, build and model."""

    workers: int
    threads: int
    tokens_per_batch: int
    repack: bool | None = None


def tuned_for(playbook: Playbook) -> Tuned | None:
    """Return the choice for this host, build and model; None if there is none or build or cores have changed."""
    choices = _read()
    # Most machines have no choice: without it neither is the model hashed nor the build loaded.
    if not choices or playbook.model.file is None or not playbook.model.file.is_file():
        return None
    choice = choices.get(key_of(playbook))
    if not isinstance(choice, dict):
        return None
    build, cores = choice.pop("build", None), choice.pop("cores", None)
    try:
        tuned = Tuned(**choice)
    except TypeError:  # written by another version of ragops, or damaged
        return None
    return tuned if cores == read_limits().cores and build == effective_build(playbook) else None


def save_choice(playbook: Playbook, tuned: Tuned) -> Path:
    """Store a choice and return its file. Raises OSError if the file cannot be written."""
    choice = {**asdict(tuned), "build": effective_build(playbook), "cores": read_limits().cores}
    file = tuning_file()
    replace_private(file, json.dumps({**_read(), key_of(playbook): choice}, indent=1))
    return file


def key_of(playbook: Playbook) -> str:
    """Return host, interpreter and model, as the file spells them."""
    return " ".join((socket.gethostname(), _interpreter(playbook), checked_sha256(playbook)))


def effective_build(playbook: Playbook) -> str:
    """Return the description that the workers' build gives of itself; empty if it cannot be loaded."""
    # The fleet's own children will report what is wrong with it.
    with contextlib.suppress(EmbedderError):
        probe = run_probe(Path(_interpreter(playbook)))
        return f"{probe.package_version} {probe.system_info}"
    return ""


def _interpreter(playbook: Playbook) -> str:
    return worker_python(playbook) or sys.executable


def _read() -> dict[str, object]:
    """Return all choices by key; a missing, damaged or other user's file counts as empty: tuning is optional."""
    try:
        choices = json.loads(read_private(tuning_file()))
    except (OSError, ValueError):
        return {}
    return choices if isinstance(choices, dict) else {}
