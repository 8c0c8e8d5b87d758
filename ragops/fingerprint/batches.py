"""Find batches in which a vector stays that of its text alone, as far as `validation.max_distance` asks for it.

llama.cpp computes a batch of many tokens with other kernels than one of a few. Its attention, for one, has a
kernel for 64 and more tokens (GGML_FA_TILE_Q): MiniLM Q8_0 moves texts of a few tokens by up to 1e-3 in such a
batch, and by 1e-15 in a smaller one. A Gemma 3 270M in Q4_K_M moves them by up to 2e-2.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ragops.embedder.client import Embedder, TokenIds
from ragops.embedder.errors import unusable_vectors
from ragops.errors import ModelUnusable, UsageError
from ragops.findings import Finding
from ragops.fingerprint.document import Canary
from ragops.playbook.model import Model, Playbook
from ragops.quality.drift import cosine_distances
from ragops.quality.noise import SMALLEST_LIMIT, drifts_by_length, longest_over, proposed_limit
from ragops.quality.soundness import unsound

# Tokens per batch to try where whole batches move vectors too far; the last one is every text alone.
SMALLER = (63, 16, 1)
# How many test texts of how many words: short ones move most, and cost least.
_WORDS = {1: 48, 2: 32, 4: 24, 8: 16, 16: 12, 32: 8, 64: 6}
_ROUNDS = 8
# The texts are embedded for this long at most, by a model of some billion weights; a smaller one takes a second.
BUDGET_S = 10.0
# A slower fleet is worth a line.
_WORTH_SAYING = 1.2


@dataclass(frozen=True, slots=True)
class Batches:
    """How many tokens share a batch. Without a measurement it is what was asked for."""

    tokens_per_batch: int
    short_tokens: int = 0
    """Texts of up to this many tokens share smaller batches; 0: none does."""
    short_batch: int = 1
    """Tokens of these; 1: each such text alone."""
    texts: int = 0
    """Test texts that were measured."""
    drift: float | None = None
    """Largest cosine distance in whole batches from the same text alone."""
    needed: float | None = None
    """The limit that whole batches need, for more texts than were measured."""
    kept: float | None = None
    """The same in the batches that are used."""
    limit: float | None = None
    """`validation.max_distance`."""
    slower: float | None = None
    """How many times as long the test texts take as in whole batches; None where these are used."""

    def vectors(self, embedder: Embedder, tokens: Sequence[TokenIds]) -> NDArray[np.float32]:
        """Return the raw vectors (n, d) of texts in the order of the texts. Raises as `Embedder.embed_tokens`."""
        short = [place for place, ids in enumerate(tokens) if len(ids) <= self.short_tokens]
        if not short:
            return embedder.embed_tokens(tokens).vectors
        chosen = set(short)
        long = [place for place in range(len(tokens)) if place not in chosen]
        vectors = np.empty((len(tokens), embedder.model.dimensions), dtype=np.float32)
        vectors[short] = embedder.embed_tokens(
            [tokens[place] for place in short], tokens_per_batch=self.short_batch
        ).vectors
        if long:
            vectors[long] = embedder.embed_tokens([tokens[place] for place in long]).vectors
        return vectors

    def space_of(self, tokens: int) -> str:
        """Return what tells a vector of a text of so many tokens from one that was computed in larger batches.

        Empty for whole batches. A vector that is kept for another day belongs to it.
        """
        return f"/{self.short_batch}" if tokens <= self.short_tokens else ""

    def __str__(self) -> str:
        if not self.short_tokens:
            return f"{self.tokens_per_batch} tokens per batch"
        how = "one by one" if self.short_batch == 1 else f"in batches of {self.short_batch} tokens"
        return f"{self.tokens_per_batch} tokens per batch, texts of up to {self.short_tokens} tokens {how}"

    def finding(self) -> Finding | None:
        """Return what an operator should know; None where whole batches are used."""
        if not self.short_tokens or self.drift is None or self.limit is None:
            return None
        how = "one by one" if self.short_batch == 1 else f"in batches of {self.short_batch} tokens"
        # An exact figure: it is what validation.max_distance is compared with.
        message = (
            f"batches of {self.tokens_per_batch} tokens move vectors by up to {self.drift:.1e}, and "
            f"validation.max_distance is {self.limit:g}: texts of up to {self.short_tokens} tokens are embedded "
            f"{how} ({self.kept or 0.0:.1e})"
        )
        if self.slower is None or self.slower < _WORTH_SAYING:
            return Finding("batches", "info", message)
        proposed = proposed_limit(self.needed or self.drift)
        hint = f"for whole batches set validation.max_distance: {proposed:g}" + (
            "   (still far below another pooling's 0.5)" if proposed <= 0.05 else ""
        )
        message = f"{message}; the test texts take {self.slower:.1f} times as long"
        return Finding("batches", "warning", message, hint)

    def to_json(self) -> dict[str, object]:
        return asdict(self)


def measure_batches(
    embedder: Embedder,
    playbook: Playbook,
    *,
    tokens_per_batch: int,
    is_stopped: Callable[[], bool] = lambda: False,
) -> Batches:
    """Embed test texts alone and in batches of `tokens_per_batch`, and choose batches within the limit.

    The child must be configured for batches as large. Raises ModelUnusable for a model whose vectors are not
    finite, zero or all the same, UsageError for a limit below any model's noise, and as `Embedder.embed`.
    """
    limit = playbook.validation.max_distance
    longest = min(embedder.model.max_tokens, playbook.chunking.max_tokens or embedder.model.max_tokens)
    asked = Batches(tokens_per_batch, limit=limit)
    texts, ids, alone = _alone(embedder, playbook.model, longest, is_stopped)
    if not texts:
        return asked
    if (fault := unsound(alone, texts)) is not None:
        raise unusable_model(embedder, fault)
    if limit < SMALLEST_LIMIT:
        raise UsageError(
            "validation.max_distance lies below the noise of any model",
            where="validation.max_distance",
            actual=f"{limit:g}",
            expected=f"at least {SMALLEST_LIMIT:g}",
            hint=f"set validation.max_distance: {SMALLEST_LIMIT:g}",
        )
    if tokens_per_batch == 1 or is_stopped():
        return replace(asked, texts=len(texts), drift=0.0, kept=0.0)
    began = time.monotonic()
    whole = cosine_distances(alone, embedder.embed_tokens(ids, tokens_per_batch=tokens_per_batch).vectors)
    whole_s = time.monotonic() - began
    lengths = [len(text) for text in ids]
    drifts = drifts_by_length(lengths, whole)
    short_tokens, drift = longest_over(drifts, limit=limit), float(whole.max())
    needed = max(drift.bound for drift in drifts)
    measured = replace(asked, texts=len(texts), drift=drift, needed=needed, kept=drift)
    if not short_tokens:
        return measured
    if short_tokens >= max(lengths):
        # No class of texts is known to be within the limit.
        short_tokens = longest
    for size in SMALLER:
        if size >= tokens_per_batch or is_stopped():
            continue
        chosen = replace(measured, short_tokens=short_tokens, short_batch=size)
        began = time.monotonic()
        found = cosine_distances(alone, chosen.vectors(embedder, ids))
        slower = (time.monotonic() - began) / max(whole_s, 1e-6)
        if longest_over(drifts_by_length(lengths, found), limit=limit) == 0:
            return replace(chosen, kept=float(found.max()), slower=slower)
    return replace(measured, short_tokens=short_tokens, short_batch=1, kept=0.0)


def unusable_model(embedder: Embedder, fault: str) -> ModelUnusable:
    """Return the error for a model whose vectors must not be stored."""
    return unusable_vectors(str(embedder.config.model), fault, pooling=embedder.model.pooling)


def _alone(
    embedder: Embedder, settings: Model, longest: int, is_stopped: Callable[[], bool]
) -> tuple[list[str], list[TokenIds], NDArray[np.float32]]:
    """Return test texts with the prefix, their ids and their vectors embedded alone; fewer of a slow model."""
    texts: list[str] = []
    ids: list[TokenIds] = []
    found: list[NDArray[np.float32]] = []
    ends_at = time.monotonic() + BUDGET_S
    for part in _rounds():
        prefixed = [settings.document_prefix + text for text in part]
        tokenised = embedder.tokenise(prefixed, suffix=settings.document_suffix)
        fitting = [
            (text, tokens) for text, tokens in zip(prefixed, tokenised, strict=True) if 0 < len(tokens) <= longest
        ]
        if fitting:
            texts += [text for text, _ in fitting]
            ids += [tokens for _, tokens in fitting]
            found.append(embedder.embed_tokens([tokens for _, tokens in fitting], tokens_per_batch=1).vectors)
        if is_stopped() or time.monotonic() >= ends_at:
            break
    return texts, ids, np.concatenate(found) if found else np.empty((0, embedder.model.dimensions), np.float32)


def _rounds() -> Iterator[list[str]]:
    """Yield test texts of the words of the canary texts, in rounds of every length; the same in every run."""
    words = list(dict.fromkeys(word for text in Canary.load().texts for word in text.split()))
    draw = random.Random(0)
    texts = {count: [" ".join(draw.sample(words, count)) for _ in range(many)] for count, many in _WORDS.items()}
    for number in range(_ROUNDS):
        yield [text for drawn in texts.values() for text in dict.fromkeys(drawn[number::_ROUNDS])]
