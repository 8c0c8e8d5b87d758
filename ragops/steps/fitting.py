"""Stored texts against what the model can embed whole: other tools may have stored longer ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ragops.llama.embedder import Embedder
from ragops.steps.context import StepContext

REQUEST_TEXTS = 32


def embed_all(context: StepContext, embedder: Embedder, texts: Sequence[str]) -> NDArray[np.float32]:
    """Raw vectors of the texts, shape (n, d); NaN for a text that the model cannot embed whole."""
    vectors = np.full((len(texts), embedder.model.dimensions), np.nan, dtype=np.float32)
    for start in range(0, len(texts), REQUEST_TEXTS):
        context.voice.progress("embedding again", start, len(texts))
        part = texts[start : start + REQUEST_TEXTS]
        lengths = embedder.count_tokens(part)
        fitting = [place for place, tokens in enumerate(lengths) if tokens <= embedder.model.max_tokens]
        if fitting:
            found = embedder.embed([part[place] for place in fitting]).vectors
            vectors[[start + place for place in fitting]] = found
    return vectors


def say_unfitting(context: StepContext, embedder: Embedder, vectors: NDArray[np.float32]) -> None:
    """Say how many texts were too long; their rows cannot agree with anything."""
    count = int(np.isnan(vectors).any(axis=1).sum())
    if count:
        context.voice.end_progress()
        context.voice.say(
            f"{count} of {len(vectors)} stored texts are longer than the {embedder.model.max_tokens} tokens that "
            "this model embeds whole: they count as disagreeing"
        )


def shortened(embedder: Embedder, text: str, *, prefix: str) -> str:
    """The text, cut until the model can embed it whole: without spaces a few words may be a whole page."""
    while text and embedder.count_tokens([prefix + text])[0] > embedder.model.max_tokens:
        text = text[: len(text) // 2]
    return text
