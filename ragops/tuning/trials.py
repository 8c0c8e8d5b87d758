"""Measure fleets of several sizes on texts of the corpus: their speed, and how far they move vectors."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import cycle

from ragops.embedder.client import Embedder, TokenIds
from ragops.errors import EmbedderDied
from ragops.facts import HostLimits
from ragops.fingerprint.batches import Batches
from ragops.quality.drift import cosine_distances
from ragops.workers.packing import pack
from ragops.workers.sizing import CHILD_BYTES
from ragops.workers.tuned import Tuned

# Tokens per batch to try. More is not better: attention cost grows with every token in the batch, and on 2 cores
# 512 were slower than 256 for every size (docs/performance.md).
BATCHES = (128, 256, 512)
# The texts that are embedded one by one as well, for the drift.
DRIFT_TEXTS = 64
# Smaller than the fleet's own requests: a trial is a second or two, and must end in time.
REQUEST_TOKENS = 1024
# The least that a trial measures, however little time is left: a shorter one is mostly noise.
SHORTEST_S = 0.5

StartEmbedder = Callable[[Tuned], Embedder]
# Measures the batches that a fleet with so many tokens per batch would embed in.
ChooseBatches = Callable[[Embedder, int], Batches]


@dataclass(frozen=True, slots=True)
class Trial:
    """One measured size."""

    workers: int
    threads: int
    tokens_per_batch: int
    repack: bool | None
    """Whether weights were repacked for the CPU; None if that was left to the child."""
    tokens_per_s: float
    drift: float
    """Largest cosine distance from the same texts embedded one by one; NaN if the child died."""
    refused: str | None = None
    """Why it is not chosen: it moves vectors by more than the limit, or crashes the child."""


def shapes_to_try(limits: HostLimits, *, model_bytes: int) -> list[tuple[int, int]]:
    """Return (workers, threads) with workers × threads = cores, for as many children as fit into memory."""
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
    choose: ChooseBatches = lambda _, tokens: Batches(tokens),
) -> list[Trial]:
    """Try every (workers, threads) with every batch size, within about `seconds` in total; the fastest first.

    If the child does not repack weights (in builds with AMX, some of which crash on repacked ones), the first
    size is tried with repacked weights too. `limit` is the largest drift that is accepted; `show` gets the
    number of trials that are done and of all. `choose` is asked once: what it finds holds for all sizes, as
    llama.cpp has one kernel for all of them. Raises as Embedder does and as `choose`, except for a child that dies
    of repacked weights.
    """
    ends_at = time.monotonic() + seconds
    sample = list(texts[:DRIFT_TEXTS])
    with start(Tuned(1, shapes[0][1], 1)) as alone:
        single = alone.embed_tokens(sample).vectors
        is_plain = alone.model.effective.get("use_extra_bufts") is False
    candidates = [Tuned(*shape, tokens) for shape in shapes for tokens in BATCHES]
    candidates += [Tuned(*shapes[0], tokens, repack=True) for tokens in BATCHES if is_plain]
    trials: list[Trial] = []
    batches: Batches | None = None
    for number, candidate in enumerate(candidates):
        show(number, len(candidates))
        share = max(SHORTEST_S, (ends_at - time.monotonic()) / (len(candidates) - number))
        try:
            with ExitStack() as open_children:
                began = time.monotonic()
                children = [open_children.enter_context(start(candidate)) for _ in range(candidate.workers)]
                if batches is None:
                    batches = choose(children[0], candidate.tokens_per_batch)
                batches = replace(batches, tokens_per_batch=candidate.tokens_per_batch)
                drift = float(cosine_distances(single, batches.vectors(children[0], sample)).max())
                # Starting and comparing have taken a part of the time already.
                left = share - (time.monotonic() - began)
                speed = _race(children, texts, batches, seconds=max(SHORTEST_S, left))
            # Not `drift > limit`: a NaN is refused, too.
            refused = None if drift <= limit else f"over {limit:.1e}"
        except EmbedderDied as death:
            if not candidate.repack:
                raise
            trials.append(_trial(candidate, 0.0, math.nan, death.what))
            break  # the candidates that are left are repacked too
        trials.append(_trial(candidate, speed, drift, refused))
    show(len(candidates), len(candidates))
    return sorted(trials, key=lambda trial: -trial.tokens_per_s)


def best_of(trials: Sequence[Trial]) -> Tuned | None:
    """Return the fastest that is not refused."""
    accepted = [trial for trial in trials if trial.refused is None]
    best = max(accepted, key=lambda trial: trial.tokens_per_s, default=None)
    return Tuned(best.workers, best.threads, best.tokens_per_batch, best.repack) if best else None


def _trial(size: Tuned, tokens_per_s: float, drift: float, refused: str | None) -> Trial:
    return Trial(size.workers, size.threads, size.tokens_per_batch, size.repack, tokens_per_s, drift, refused)


def _race(children: Sequence[Embedder], texts: Sequence[TokenIds], batches: Batches, *, seconds: float) -> float:
    """Return tokens per second of all children together over the same texts."""
    requests, lock = cycle(list(pack(texts, tokens_of=len, limit=REQUEST_TOKENS))), threading.Lock()
    done: list[int] = []
    errors: list[BaseException] = []
    began = time.monotonic()

    def work(child: Embedder) -> None:
        try:
            while time.monotonic() - began < seconds and not errors:
                with lock:
                    request = next(requests)
                batches.vectors(child, request)
                done.append(sum(map(len, request)))
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
