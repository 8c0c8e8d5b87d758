"""Size a fleet: how many workers, with how many threads and tokens per batch."""

from __future__ import annotations

import os
from dataclasses import dataclass

from ragops.embedder.child_files import model_bytes
from ragops.embedder.config import TOKENS_PER_BATCH, Shape
from ragops.facts import HostLimits
from ragops.host import read_limits
from ragops.playbook.model import Playbook
from ragops.workers.tuned import Tuned, tuned_for

# Memory of a child beside its model's file: interpreter, libraries, buffers. `benchmarks/memory.py` measures
# 126 MB and fails above 200.
CHILD_BYTES = 200 << 20
# What the playbook calls a value that is chosen here; `planned` is the older spelling.
AUTO = ("auto", "planned")


@dataclass(frozen=True, slots=True)
class Sizing:
    """Workers, threads per worker, tokens per batch; `note` warns, `why` explains."""

    workers: int
    threads: int
    tokens_per_batch: int = TOKENS_PER_BATCH
    repack: bool | None = None
    """Whether weights are repacked for the CPU; None leaves it to the child."""
    note: str | None = None
    why: str = ""

    def __str__(self) -> str:
        workers = f"{self.workers} worker{'s' if self.workers != 1 else ''}"
        threads = f"{self.threads} thread{'s' if self.threads != 1 else ''}"
        why = f" ({self.why})" if self.why else ""
        repacked = ", repacked weights" if self.repack else ""
        return f"{workers} × {threads}, {self.tokens_per_batch} tokens per batch{repacked}{why}"


def plan_fleet(
    playbook: Playbook, limits: HostLimits, *, model_bytes: int = 0, tuned: Tuned | None = None
) -> Sizing:
    """Return workers × threads ≤ cores with as many workers as fit into memory, unless the playbook sets them.

    Explicit values are used as given, with a warning if they oversubscribe. `auto` means the tuned value if
    there is one, else the value computed here.
    """
    # llama.cpp's threads spin at barriers: 3 × 2 threads on 2 cores are 3 to 5 times slower than 2 × 1, and a
    # worker of one thread has no barriers at all.
    workers = _explicit(playbook.workers.count)
    # The runbook sets `n_threads: cpu_count`.
    threads = _explicit(playbook.workers.threads or playbook.model.parameters.n_threads)
    tokens = _explicit(playbook.workers.tokens_per_batch)
    repack = playbook.workers.repack_weights
    how = "as given" if workers and threads else "auto"
    if tuned is not None and workers is None and threads is None:
        workers, threads, how = tuned.workers, tuned.threads, "tuned"
    cores, fitting = max(1, limits.cores), max(1, limits.memory_bytes // (model_bytes + CHILD_BYTES))
    if workers is None:
        workers = max(1, min(cores // min(threads or 1, cores), fitting))
    if threads is None:
        threads = max(1, cores // workers)
    if tokens is None:
        tokens = tuned.tokens_per_batch if tuned else TOKENS_PER_BATCH
    return Sizing(
        workers,
        threads,
        tokens,
        repack=tuned.repack if tuned and repack is None else repack,
        note=_warning(workers, threads, limits, fitting=fitting, model_bytes=model_bytes),
        why=f"{how}: {_cores(cores)}, {limits.memory_bytes / 2**30:.1f} GiB of memory free",
    )


def _explicit(value: int | str | None) -> int | None:
    """Return an explicit number of the playbook, None for one that is chosen here."""
    if value is None or value in AUTO:
        return None
    return os.cpu_count() if value == "cpu_count" else int(value)


def _warning(workers: int, threads: int, limits: HostLimits, *, fitting: int, model_bytes: int) -> str | None:
    """Return what is wrong with an explicit size: too few cores, else too little memory."""
    cores = max(1, limits.cores)
    if workers * threads > cores:
        fits = f"{cores} × 1" if threads > cores or workers > cores else f"{cores // threads} × {threads}"
        word = "thread" if threads == 1 else "threads"
        return f"{workers} workers × {threads} {word} oversubscribe {_cores(cores)}; {fits} fits"
    if workers > fitting:
        needed, free = workers * (model_bytes + CHILD_BYTES) / 2**30, limits.memory_bytes / 2**30
        return (
            f"{workers} workers may need {needed:.1f} GiB of memory, {free:.1f} GiB are free; "
            f"{fitting} fit{'s' if fitting == 1 else ''}"
        )
    return None


def _cores(cores: int) -> str:
    return f"{cores} core{'s' if cores != 1 else ''}"


def shape_of(sizing: Sizing) -> Shape:
    """Return what moves vectors in the children of such a fleet."""
    return Shape(sizing.threads, sizing.tokens_per_batch, sizing.repack)


def size_fleet(playbook: Playbook) -> Sizing:
    """Size a fleet that starts on this machine now."""
    file = playbook.model.file
    size = model_bytes(file) if file is not None and file.is_file() else 0
    return plan_fleet(playbook, read_limits(), model_bytes=size, tuned=tuned_for(playbook))
