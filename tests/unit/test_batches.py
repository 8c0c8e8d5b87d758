"""Batches that keep a vector within the limit of its text alone, and vectors that no model should make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from facts_factory import model as model_facts
from playbook_factory import playbook as make_playbook

from ragops.embedder.client import Embedder, EmbedderConfig, Embeddings, TokenIds
from ragops.errors import ModelUnusable, UsageError
from ragops.fingerprint.batches import Batches, measure_batches
from ragops.quality.noise import drifts_by_length, longest_over, proposed_limit
from ragops.quality.soundness import unsound

LIMIT = 1e-3


class Noisy(Embedder):
    """A token is a word; a text of up to `up_to` tokens is turned by `angle` in a batch of more than `quiet`."""

    def __init__(
        self, *, up_to: int = 0, angle: float = 0.0, quiet: int = 63, vector: Sequence[float] = ()
    ) -> None:
        self.config = EmbedderConfig(Path("fake.gguf"))
        self.model = model_facts(dimensions=4)
        self.requests: list[tuple[int, int | None]] = []
        self._up_to, self._angle, self._quiet, self._vector = up_to, angle, quiet, vector

    def tokenise(self, texts: Sequence[str], *, suffix: str = "") -> list[TokenIds]:
        return [np.array([sum(map(ord, word)) for word in text.split()], np.int32) for text in texts]

    def embed_tokens(self, tokens: Sequence[TokenIds], *, tokens_per_batch: int | None = None) -> Embeddings:
        self.requests.append((len(tokens), tokens_per_batch))
        is_noisy = (tokens_per_batch or 256) > self._quiet
        rows = []
        for ids in tokens:
            angle = ids.sum() % 7 + (self._angle if is_noisy and len(ids) <= self._up_to else 0.0)
            rows.append(self._vector or [np.cos(angle), np.sin(angle), 0.0, 0.0])
        return Embeddings(np.array(rows, np.float32), tuple(map(len, tokens)))


def test_batches_that_move_nothing_are_used_whole() -> None:
    found = measure_batches(Noisy(), make_playbook(), tokens_per_batch=256)
    assert (found.short_tokens, found.slower, found.finding()) == (0, None, None)
    assert found.texts > 100
    assert str(found) == "256 tokens per batch"


def test_short_texts_that_move_share_smaller_batches() -> None:
    # 1 - cos(0.1) = 0.005
    found = measure_batches(Noisy(up_to=4, angle=0.1), make_playbook(), tokens_per_batch=256)
    assert (found.short_tokens, found.short_batch) == (4, 63)
    assert found.drift == pytest.approx(0.005, rel=0.01)
    assert found.kept == pytest.approx(0.0, abs=1e-6)
    finding = found.finding()
    assert finding is not None
    assert "up to 5.0e-03, and validation.max_distance is 0.001: texts of up to 4 tokens" in finding.message


def test_texts_that_move_in_every_batch_are_embedded_alone() -> None:
    found = measure_batches(Noisy(up_to=4, angle=0.1, quiet=1), make_playbook(), tokens_per_batch=256)
    assert (found.short_tokens, found.short_batch, found.kept) == (4, 1, 0.0)
    assert "one by one" in str(found)


def test_where_the_longest_test_texts_move_too_all_texts_do() -> None:
    found = measure_batches(Noisy(up_to=500, angle=0.1), make_playbook(), tokens_per_batch=256)
    assert found.short_tokens == 512


def test_a_wider_limit_keeps_whole_batches() -> None:
    wide = make_playbook().with_changes(validation={"max_distance": 0.03})
    assert measure_batches(Noisy(up_to=4, angle=0.1), wide, tokens_per_batch=256).short_tokens == 0


def test_the_proposed_limit_lets_whole_batches_pass() -> None:
    found = measure_batches(Noisy(up_to=500, angle=0.1), make_playbook(), tokens_per_batch=256)
    slow = replace(found, slower=3.0).finding()
    assert slow is not None
    assert slow.severity == "warning"
    assert "for whole batches set validation.max_distance: 0.05" in slow.hint
    wide = make_playbook().with_changes(validation={"max_distance": 0.05})
    assert measure_batches(Noisy(up_to=500, angle=0.1), wide, tokens_per_batch=256).short_tokens == 0


@pytest.mark.parametrize("limit", [1e-9, 9e-7])
def test_a_limit_below_any_noise_is_refused_with_the_one_to_set(limit: float) -> None:
    tight = make_playbook().with_changes(validation={"max_distance": limit})
    with pytest.raises(UsageError) as refused:
        measure_batches(Noisy(), tight, tokens_per_batch=256)
    assert refused.value.hint == "set validation.max_distance: 1e-06"


@pytest.mark.parametrize(
    ("vector", "said"),
    [
        ([np.nan, 1, 0, 0], "NaN at position 0"),
        ([0, np.inf, 0, 0], "Inf at position 1"),
        ([0, 0, 0, 0], "zero vector"),
        ([1, 2, 3, 4], "different test texts have the same vector"),
    ],
)
def test_a_model_without_usable_vectors_is_refused(vector: list[float], said: str) -> None:
    with pytest.raises(ModelUnusable, match="no usable vectors") as refused:
        measure_batches(Noisy(vector=vector), make_playbook(), tokens_per_batch=1)
    assert said in (refused.value.actual or "")


def test_vectors_come_back_in_the_order_of_the_texts() -> None:
    embedder = Noisy()
    batches = Batches(256, short_tokens=2, short_batch=63)
    ids = [np.arange(length, dtype=np.int32) + 5 for length in (3, 1, 4, 2)]
    found = batches.vectors(embedder, ids)
    assert np.array_equal(found, embedder.embed_tokens(ids).vectors)
    assert embedder.requests == [(2, 63), (2, None), (4, None)]


def test_a_vector_of_whole_batches_is_not_taken_for_one_of_smaller_ones() -> None:
    batches = Batches(256, short_tokens=4, short_batch=63)
    assert [batches.space_of(tokens) for tokens in (3, 4, 5)] == ["/63", "/63", ""]
    # What an earlier version has cached stays known.
    assert Batches(256).space_of(1) == ""


def test_one_text_alone_has_no_other_to_differ_from() -> None:
    assert unsound(np.ones((1, 4)), ["one"]) is None
    assert unsound(np.ones((2, 4)), ["one", "one"]) is None
    assert unsound(np.ones((2, 4)), ["one", "two"]) is not None
    assert "'bad'" in (unsound(np.full((1, 4), np.nan), ["bad"]) or "")


def test_the_drift_of_a_class_is_bounded_by_its_maximum_and_its_median() -> None:
    drifts = drifts_by_length([3, 4, 9, 200], np.array([1e-4, 3e-4, 4e-4, 1e-5]))
    assert [(drift.tokens, drift.texts) for drift in drifts] == [(4, 2), (16, 1), (200, 1)]
    # Twice the largest, and more as only one or two texts show it.
    assert [drift.bound for drift in drifts] == pytest.approx([1.8e-3, 4e-3, 1e-4])
    assert longest_over(drifts, limit=2e-3) == 16
    assert longest_over(drifts, limit=5e-3) == 0
    many = drifts_by_length([3] * 100, np.array([1e-4] * 99 + [1.5e-4]))
    assert many[0].bound == pytest.approx(5e-4)  # five times the median
    assert longest_over(drifts_by_length([3], np.array([np.nan])), limit=1.0) == 4


@pytest.mark.parametrize(
    ("drift", "limit"), [(0.0, 1e-6), (2.9e-3, 5e-3), (5.1e-3, 1e-2), (1e-3, 1e-3), (1.97e-2, 2e-2)]
)
def test_the_proposed_limit_is_a_round_number_above(drift: float, limit: float) -> None:
    assert proposed_limit(drift) == pytest.approx(limit)
