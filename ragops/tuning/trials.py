"""Measures a few shapes of a fleet on texts of the corpus: how fast they are, and how far they move vectors."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle

import numpy as np
from numpy.typing import NDArray

from ragops.embedder.client import Embedder, TokenIds
from ragops.errors import EmbedderDied
from ragops.facts import HostLimits
from ragops.quality.drift import cosine_distances
from ragops.workers.sizing import CHILD_BYTES
from ragops.workers.tuned import Tuned

BATCHES = (128, 256, 512)
"""Tokens a batch that are tried; every token of a batch attends to every other, so more is not better."""
DRIFT_TEXTS = 64
REQUEST_TOKENS = 1024

StartEmbedder = Callable[[Tuned], Embedder]
"""A shape → one running child of it."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One shape as measured."""

    workers: int
    threads: int
    tokens_per_batch: int
    repack: bool | None
    """Whether weights were repacked for the CPU; None is the child's own choice."""
    tokens_per_s: float
    drift: float
    """Largest cosine distance from the same texts embedded one by one; NaN when the child died."""
    refused: str | None = None
    """Why it may not be chosen: it moves vectors by more than the limit, or kills the child."""


def shapes_to_try(limits: HostLimits, *, model_bytes: int) -> list[tuple[int, int]]:
    """(workers, threads) with workers × threads = cores, as far as the memory holds as many children."""
    cores, fitting = limits.cores, max(1, limits.memory_bytes // (model_bytes + CHILD_BYTES))
    counts = sorted({cores, max(1, cores // 2), 1}, reverse=True)
    return [(workers, cores // workers) for workers in counts if workers <= fitting]


def measure(
    start: StartEmbedder,
    texts: Sequence[TokenIds],
    shapes: Sequence[tuple[int, int]],
    *,
    limit: float,
    seconds: float,
    show: Callable[[int, int], None] = lambda *_: None,
) -> list[Trial]:
    """Try every shape with every batch size, within about `seconds` altogether; the fastest first.

    Where the child leaves weights as they are (in builds with AMX, some of which crash on repacked ones), the
    first shape is tried with repacked weights too. `limit` is the largest drift that is accepted. Raises as
    Embedder does, but for a child that dies of repacked weights.
    """
    ends_at = time.monotonic() + seconds
    sample = list(texts[:DRIFT_TEXTS])
    with start(Tuned(1, shapes[0][1], 1)) as alone:
        single = alone.embed_tokens(sample).vectors
        is_plain = alone.model.effective.get("use_extra_bufts") is False
    candidates = [Tuned(*shape, tokens) for shape in shapes for tokens in BATCHES]
    candidates += [Tuned(*shapes[0], tokens, repack=True) for tokens in BATCHES if is_plain]
    trials = []
    for number, candidate in enumerate(candidates):
        show(number, len(candidates))
        share = max(0.5, (ends_at - time.monotonic()) / (len(candidates) - number))
        try:
            trials.append(_try(start, texts, single, candidate, limit=limit, seconds=share))
        except EmbedderDied as death:
            if not candidate.repack:
                raise
            trials.append(_trial(candidate, 0.0, math.nan, refused=death.what))
            break  # the candidates that are left are repacked too
    show(len(candidates), len(candidates))
    return sorted(trials, key=lambda trial: -trial.tokens_per_s)


def best_of(trials: Sequence[Trial]) -> Tuned | None:
    """The fastest that is not refused."""
    accepted = [trial for trial in trials if trial.refused is None]
    best = max(accepted, key=lambda trial: trial.tokens_per_s, default=None)
    return Tuned(best.workers, best.threads, best.tokens_per_batch, best.repack) if best else None


def _try(
    start: StartEmbedder,
    texts: Sequence[TokenIds],
    single: NDArray[np.float32],
    candidate: Tuned,
    *,
    limit: float,
    seconds: float,
) -> Trial:
    began = time.monotonic()
    children: list[Embedder] = []
    try:
        for _ in range(candidate.workers):
            children.append(start(candidate))
        packed = children[0].embed_tokens(list(texts[: len(single)])).vectors
        drift = float(cosine_distances(single, packed).max())
        # Starting and comparing have taken of the time already; half a second is the least that says anything.
        tokens_per_s = _race(children, texts, seconds=max(0.5, seconds - (time.monotonic() - began)))
    finally:
        for child in children:
            child.close()
    # Not `drift > limit`: a NaN is refused, too.
    refused = None if drift <= limit else f"over {limit:.1e}"
    return _trial(candidate, tokens_per_s, drift, refused=refused)


def _trial(shape: Tuned, tokens_per_s: float, drift: float, *, refused: str | None) -> Trial:
    return Trial(shape.workers, shape.threads, shape.tokens_per_batch, shape.repack, tokens_per_s, drift, refused)


def _race(children: Sequence[Embedder], texts: Sequence[TokenIds], *, seconds: float) -> float:
    """Tokens a second of all children at once over the same texts."""
    requests, lock = cycle(list(_requests(texts))), threading.Lock()
    done: list[int] = []
    errors: list[BaseException] = []
    began = time.monotonic()

    def work(child: Embedder) -> None:
        try:
            while time.monotonic() - began < seconds and not errors:
                with lock:
                    request = next(requests)
                done.append(sum(child.embed_tokens(request).tokens))
        except BaseException as error:  # noqa: BLE001 (raised in the caller's thread)
            errors.append(error)

    threads = [threading.Thread(target=work, args=(child,)) for child in children]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return sum(done) / (time.monotonic() - began)


def _requests(texts: Sequence[TokenIds]) -> Iterator[list[TokenIds]]:
    """Requests of texts of like length, as the fleet makes them."""
    request: list[TokenIds] = []
    for ids in sorted(texts, key=len):
        if request and sum(map(len, request)) + len(ids) > REQUEST_TOKENS:
            yield request
            request = []
        request.append(ids)
    if request:
        yield request
