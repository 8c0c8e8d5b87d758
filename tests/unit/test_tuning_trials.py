"""Trials of tune: the fastest size that leaves vectors where they are is chosen."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from fake_embedder import FakeEmbedder, Nursery, ids_of

from ragops.embedder.client import Embedder, Embeddings, TokenIds
from ragops.errors import EmbedderDied, EmbedderError
from ragops.facts import HostLimits
from ragops.fingerprint.batches import Batches
from ragops.tuning import trials as module
from ragops.tuning.trials import BATCHES, DRIFT_TEXTS, Trial, best_of, measure, shapes_to_try
from ragops.workers.sizing import CHILD_BYTES
from ragops.workers.tuned import Tuned

LIMIT = 1e-3
GIB = 1 << 30


@pytest.mark.parametrize(
    ("cores", "memory_gib", "shapes"),
    [
        (1, 64, [(1, 1)]),
        (2, 64, [(2, 1), (1, 2)]),
        (3, 64, [(3, 1), (1, 3)]),
        (8, 64, [(8, 1), (4, 2), (1, 8)]),
        (8, 2, [(4, 2), (1, 8)]),  # half a gibibyte each: four fit
        (8, 0, [(1, 8)]),  # one has to, whatever is free
    ],
)
def test_shapes_to_try(cores: int, memory_gib: int, shapes: list[tuple[int, int]]) -> None:
    limits = HostLimits(cores=cores, memory_bytes=memory_gib * GIB)
    assert shapes_to_try(limits, model_bytes=GIB // 2 - CHILD_BYTES) == shapes


class Bench(Nursery):
    """Children whose speed and drift follow their settings, on a clock that only they move."""

    def __init__(
        self,
        *,
        seconds_per_token: Callable[[int, int], float] = lambda threads, tokens: 0.001,
        drift: Callable[[int, int], float] = lambda threads, tokens: 0.0,
    ) -> None:
        super().__init__()
        self.now = 0.0
        self.lock = threading.Lock()
        self.seconds_per_token, self.drift = seconds_per_token, drift
        self.started: list[Tuned] = []
        self.leaves_weights = False
        self.crashes_on_repacked = False

    def start_shape(self, shape: Tuned) -> Embedder:
        self.starts += 1
        self.started.append(shape)
        if self.dies_at_start(self.starts):
            raise EmbedderDied("the embedder child was killed by SIGILL", where="fake", actual="while it started")
        child = Timed(self, shape)
        self.children.append(child)
        return child

    def measure(self, shapes: Sequence[tuple[int, int]], *, seconds: float = 9.0) -> list[Trial]:
        return measure(self.start_shape, TEXTS, shapes, limit=LIMIT, seconds=seconds)


class Timed(FakeEmbedder):
    def __init__(self, bench: Bench, shape: Tuned) -> None:
        super().__init__(bench)
        self._bench, self._shape = bench, (shape.threads, shape.tokens_per_batch)
        self._is_repacked = shape.repack is True
        effective = {"use_extra_bufts": self._is_repacked or not bench.leaves_weights}
        self.model = replace(self.model, effective=effective)

    def embed_tokens(self, tokens: Sequence[TokenIds], *, tokens_per_batch: int | None = None) -> Embeddings:
        if self._is_repacked and self._bench.crashes_on_repacked:
            raise EmbedderDied("the embedder child was killed by SIGSEGV", where="fake", actual="at work")
        embedded = super().embed_tokens(tokens)
        counts = tuple(len(ids) for ids in tokens)
        shape = (self._shape[0], tokens_per_batch or self._shape[1])
        with self._bench.lock:
            speed_up = 2 if self._is_repacked else 1
            self._bench.now += sum(counts) * self._bench.seconds_per_token(*shape) / speed_up
        return Embeddings(embedded.vectors + self._turned(*shape), counts)

    def _turned(self, threads: int, tokens: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
        """A component that no text has: its share of the vector is the drift."""
        drift = self._bench.drift(threads, tokens)
        # Vectors of `TEXTS` are about as long as a text has characters.
        return np.array([0, 0, drift * 100, 0], np.float32)


TEXTS = [ids_of("t" * length) for length in (20, 40, 60, 80, 100)]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[Bench], None]:
    def take(bench: Bench) -> None:
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: bench.now))

    return take


Clock = Callable[[Bench], None]


def test_every_shape_is_tried_with_every_batch_and_the_fastest_is_chosen(clock: Clock) -> None:
    bench = Bench(seconds_per_token=lambda threads, tokens: {256: 1, 512: 2}.get(tokens, 3) * threads / 1000)
    clock(bench)
    trials = bench.measure([(2, 1), (1, 2)])
    assert sorted((t.workers, t.threads, t.tokens_per_batch) for t in trials) == [
        (workers, threads, tokens) for workers, threads in ((1, 2), (2, 1)) for tokens in BATCHES
    ]
    assert [t.tokens_per_s for t in trials] == sorted((t.tokens_per_s for t in trials), reverse=True)
    best = best_of(trials)
    assert best is not None
    assert (best.workers, best.threads, best.tokens_per_batch) == (2, 1, 256)
    assert trials[0].tokens_per_s == pytest.approx(1000)
    assert not any(trial.refused for trial in trials)
    assert bench.open_children == 0
    assert bench.starts == 1 + len(BATCHES) * (2 + 1)


def test_batches_are_measured_as_the_fleet_embeds(clock: Clock) -> None:
    """Whole batches move every text too far: the smaller ones of the fleet are what is measured."""
    bench = Bench(
        seconds_per_token=lambda threads, tokens: 0.002 if tokens == 63 else 0.001,
        drift=lambda threads, tokens: 0.0 if tokens < 64 else 0.5,
    )
    clock(bench)
    asked: list[int] = []

    def choose(child: Embedder, tokens: int) -> Batches:
        asked.append(tokens)
        return Batches(tokens, short_tokens=80, short_batch=63)

    assert all(trial.refused for trial in bench.measure([(1, 1)]))
    short = TEXTS[:4]
    trials = measure(bench.start_shape, short, [(1, 1)], limit=LIMIT, seconds=9.0, choose=choose)
    assert asked == [BATCHES[0]]
    assert not any(trial.refused for trial in trials)
    assert trials[0].tokens_per_s == pytest.approx(500)


def test_the_reference_is_one_text_at_a_time(clock: Clock) -> None:
    bench = Bench()
    clock(bench)
    bench.measure([(1, 2)])
    assert bench.started[0] == Tuned(1, 2, 1)


def test_it_ends_in_about_the_time_that_it_was_given(clock: Clock) -> None:
    bench = Bench()
    clock(bench)
    bench.measure([(2, 1), (1, 2)], seconds=12)
    assert 11 < bench.now < 15


@pytest.mark.parametrize(("drift", "is_refused"), [(0.5, True), (float("nan"), True), (1e-4, False)])
def test_a_setting_that_moves_vectors_is_refused(clock: Clock, drift: float, is_refused: bool) -> None:
    """The largest batch is the fastest by far."""
    bench = Bench(
        seconds_per_token=lambda threads, tokens: 0.1 / tokens,
        drift=lambda threads, tokens: drift if tokens == 512 else 0.0,
    )
    clock(bench)
    trials = bench.measure([(1, 1)])
    best = best_of(trials)
    assert best is not None
    assert best.tokens_per_batch == (256 if is_refused else 512)
    refused = {t.tokens_per_batch: t.refused is not None for t in trials}
    assert refused == {128: False, 256: False, 512: is_refused}


def test_nothing_is_chosen_where_every_setting_is_refused(clock: Clock) -> None:
    bench = Bench(drift=lambda threads, tokens: 0.0 if tokens == 1 else 1.0)
    clock(bench)
    trials = bench.measure([(1, 1)])
    assert all(trial.drift > LIMIT for trial in trials)
    assert best_of(trials) is None
    assert best_of([]) is None


@pytest.mark.parametrize("crashes", [False, True])
def test_repacked_weights_are_tried_where_the_child_leaves_them(clock: Clock, crashes: bool) -> None:
    bench = Bench()
    bench.leaves_weights, bench.crashes_on_repacked = True, crashes
    clock(bench)
    trials = bench.measure([(2, 1), (1, 2)])
    repacked = [trial for trial in trials if trial.repack]
    best = best_of(trials)
    assert best is not None
    assert all((trial.workers, trial.threads) == (2, 1) for trial in repacked)
    if crashes:
        # Once is enough.
        assert [trial.refused for trial in repacked] == ["the embedder child was killed by SIGSEGV"]
        assert best.repack is None
    else:
        assert (len(repacked), best.repack) == (len(BATCHES), True)
    assert bench.open_children == 0


def test_weights_that_the_child_repacks_are_tried_as_they_are(clock: Clock) -> None:
    bench = Bench()
    clock(bench)
    assert all(trial.repack is None for trial in bench.measure([(2, 1)]))


@pytest.mark.parametrize("dying", [1, 2, 3, 4])
def test_children_are_closed_when_one_does_not_start(dying: int) -> None:
    bench = Bench()
    bench.dies_at_start = lambda number: number == dying
    with pytest.raises(EmbedderDied, match="SIGILL"):
        bench.measure([(3, 1)])
    assert (bench.starts, len(bench.children), bench.open_children) == (dying, dying - 1, 0)


def test_children_are_closed_when_one_dies_at_work(clock: Clock) -> None:
    bench = Bench()
    clock(bench)
    # The last text is not among those whose drift is measured.
    bench.is_deadly = lambda text: text.endswith("poison")
    texts = [*TEXTS * (DRIFT_TEXTS // len(TEXTS) + 1), ids_of("poison")]
    with pytest.raises(EmbedderError, match="SIGABRT"):
        measure(bench.start_shape, texts, [(2, 1)], limit=LIMIT, seconds=600)
    assert (len(bench.children), bench.open_children) == (3, 0)


def test_the_progress_is_shown(clock: Clock) -> None:
    bench = Bench()
    clock(bench)
    shown: list[tuple[int, int]] = []
    measure(
        bench.start_shape,
        TEXTS,
        [(1, 1)],
        limit=LIMIT,
        seconds=1,
        show=lambda done, total: shown.append((done, total)),
    )
    assert shown == [(n, len(BATCHES)) for n in range(len(BATCHES) + 1)]
