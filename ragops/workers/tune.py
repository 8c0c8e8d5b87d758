"""Measures a few shapes of a fleet on texts of the corpus: how fast they are, and how far they move vectors."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle

import numpy as np
from numpy.typing import NDArray

from ragops.facts import HostLimits
from ragops.fleet_plan import CHILD_BYTES
from ragops.llama.embedder import Embedder, TokenIds
from ragops.quality.drift import cosine_distances

BATCHES = (128, 256, 512)
"""Tokens a batch that are tried; every token of a batch attends to every other, so more is not better."""
DRIFT_TEXTS = 64
REQUEST_TOKENS = 1024

StartEmbedder = Callable[[int, int], Embedder]
"""(threads, tokens a batch) → a running child."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One shape as measured."""

    workers: int
    threads: int
    tokens_per_batch: int
    tokens_per_s: float
    texts_per_s: float
    drift: float
    """Largest cosine distance from the same texts embedded one by one."""
    is_refused: bool
    """It moves vectors by more than the limit."""


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

    `limit` is the largest drift that is accepted. Raises as Embedder does.
    """
    candidates = [(shape, tokens) for shape in shapes for tokens in BATCHES]
    ends_at = time.monotonic() + seconds
    sample = list(texts[:DRIFT_TEXTS])
    with start(shapes[0][1], 1) as alone:
        single = alone.embed_tokens(sample).vectors
    trials = []
    for number, ((workers, threads), tokens) in enumerate(candidates):
        show(number, len(candidates))
        share = max(0.5, (ends_at - time.monotonic()) / (len(candidates) - number))
        trials.append(_try(start, texts, single, (workers, threads, tokens), limit=limit, seconds=share))
    show(len(candidates), len(candidates))
    return sorted(trials, key=lambda trial: -trial.tokens_per_s)


def best_of(trials: Sequence[Trial]) -> Trial | None:
    """The fastest that is not refused."""
    accepted = [trial for trial in trials if not trial.is_refused]
    return max(accepted, key=lambda trial: trial.tokens_per_s, default=None)


def _try(
    start: StartEmbedder,
    texts: Sequence[TokenIds],
    single: NDArray[np.float32],
    shape: tuple[int, int, int],
    *,
    limit: float,
    seconds: float,
) -> Trial:
    workers, threads, tokens_per_batch = shape
    began = time.monotonic()
    children: list[Embedder] = []
    try:
        children += (start(threads, tokens_per_batch) for _ in range(workers))
        packed = children[0].embed_tokens(list(texts[: len(single)])).vectors
        drift = float(cosine_distances(single, packed).max())
        # Starting and comparing have taken of the time already; half a second is the least that says anything.
        tokens, count, took = _race(children, texts, seconds=max(0.5, seconds - (time.monotonic() - began)))
    finally:
        for child in children:
            child.close()
    # Not `drift > limit`: a NaN is refused, too.
    return Trial(*shape, tokens / took, count / took, drift, is_refused=not drift <= limit)


def _race(children: Sequence[Embedder], texts: Sequence[TokenIds], *, seconds: float) -> tuple[int, int, float]:
    """All children at once over the same texts; (tokens, texts, seconds)."""
    requests, lock = cycle(list(_requests(texts))), threading.Lock()
    done: list[tuple[int, int]] = []
    errors: list[BaseException] = []
    began = time.monotonic()

    def work(child: Embedder) -> None:
        try:
            while time.monotonic() - began < seconds and not errors:
                with lock:
                    request = next(requests)
                tokens = child.embed_tokens(request).tokens
                done.append((sum(tokens), len(tokens)))
        except BaseException as error:  # noqa: BLE001 (raised in the caller's thread)
            errors.append(error)

    threads = [threading.Thread(target=work, args=(child,)) for child in children]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return sum(t for t, _ in done), sum(n for _, n in done), time.monotonic() - began


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
