"""How many workers with how many threads: a pure decision from playbook, machine, model and what was tuned."""

from __future__ import annotations

import os
from dataclasses import dataclass

from ragops.embedder.config import TOKENS_PER_BATCH
from ragops.facts import HostLimits
from ragops.host import read_limits
from ragops.playbook.model import Playbook
from ragops.workers.tuned import Tuned, tuned_for

CHILD_BYTES = 200 << 20
"""What a child takes beside the model: interpreter, libraries, buffers."""


@dataclass(frozen=True, slots=True)
class Sizing:
    """Workers, threads a worker, tokens a batch; `note` warns, `why` explains."""

    workers: int
    threads: int
    tokens_per_batch: int = TOKENS_PER_BATCH
    repack: bool | None = None
    """Whether weights are repacked for the CPU; None is the child's own choice."""
    note: str | None = None
    why: str = ""

    def __str__(self) -> str:
        workers = f"{self.workers} worker{'s' if self.workers != 1 else ''}"
        threads = f"{self.threads} thread{'s' if self.threads != 1 else ''}"
        why = f" ({self.why})" if self.why else ""
        repacked = ", repacked weights" if self.repack else ""
        return f"{workers} × {threads}, {self.tokens_per_batch} tokens a batch{repacked}{why}"


def plan_fleet(
    playbook: Playbook, limits: HostLimits, *, model_bytes: int = 0, tuned: Tuned | None = None
) -> Sizing:
    """Workers × threads ≤ cores, and as many workers as the memory holds, unless the playbook says otherwise.

    llama.cpp's threads spin at barriers, so oversubscribed threads cost more than they bring, and workers of one
    thread each have no barriers at all. What the playbook or the command line names is taken as it is, with a
    warning; what is `auto` is what was tuned, else planned here.
    """
    workers, threads = _asked(playbook)
    tokens = playbook.workers.tokens_per_batch
    how = "as given" if workers and threads else "planned"
    if tuned is not None and workers is None and threads is None:
        workers, threads, how = tuned.workers, tuned.threads, "tuned"
    cores, fitting = max(1, limits.cores), max(1, limits.memory_bytes // (model_bytes + CHILD_BYTES))
    if workers is None:
        workers = max(1, min(cores // min(threads or 1, cores), fitting))
    if threads is None:
        threads = max(1, cores // workers)
    if tokens == "auto":
        tokens = tuned.tokens_per_batch if tuned else TOKENS_PER_BATCH
    return Sizing(
        workers,
        threads,
        tokens,
        repack=_repack(playbook, tuned),
        note=_warning(workers, threads, cores) or _memory_warning(workers, fitting, limits, model_bytes),
        why=f"{how}: {_cores(cores)}, {limits.memory_bytes / 2**30:.1f} GiB of memory free",
    )


def _asked(playbook: Playbook) -> tuple[int | None, int | None]:
    """Workers and threads as playbook or command line name them; None is planned."""
    workers = None if playbook.workers.count == "auto" else playbook.workers.count
    threads: int | str | None = playbook.workers.threads or playbook.model.parameters.n_threads
    if threads == "cpu_count":  # the procedure's setting
        threads = os.cpu_count()
    return workers, None if threads in (None, "auto") else int(threads)


def _repack(playbook: Playbook, tuned: Tuned | None) -> bool | None:
    asked = playbook.workers.repack_weights
    return asked if asked is not None else tuned.repack if tuned else None


def _warning(workers: int, threads: int, cores: int) -> str | None:
    if workers * threads <= cores:
        return None
    fits = f"{cores} × 1" if threads > cores or workers > cores else f"{cores // threads} × {threads}"
    word = "thread" if threads == 1 else "threads"
    return f"{workers} workers × {threads} {word} on {_cores(cores)} oversubscribe them; {fits} fits"


def _memory_warning(workers: int, fitting: int, limits: HostLimits, model_bytes: int) -> str | None:
    if workers <= fitting:
        return None
    needed = workers * (model_bytes + CHILD_BYTES) / 2**30
    return (
        f"{workers} workers may need {needed:.1f} GiB of memory, {limits.memory_bytes / 2**30:.1f} GiB are free; "
        f"{fitting} fit{'s' if fitting == 1 else ''}"
    )


def _cores(cores: int) -> str:
    return f"{cores} core{'s' if cores != 1 else ''}"


def size_fleet(playbook: Playbook) -> Sizing:
    """Workers, threads and tokens a batch for a fleet that starts here and now."""
    file = playbook.model.file
    size = file.stat().st_size if file is not None and file.is_file() else 0
    return plan_fleet(playbook, read_limits(), model_bytes=size, tuned=tuned_for(playbook))
