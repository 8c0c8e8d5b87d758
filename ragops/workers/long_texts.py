"""Texts longer than the model's context that are not cut into chunks: the beginning alone is embedded."""

from __future__ import annotations

import numpy as np

from ragops.embedder.client import Embedder, TokenIds

# No text of this many characters per token has fewer tokens than fit: a word of 100 letters that the vocabulary
# cannot spell is one token, and so is a run of spaces.
CHARACTERS_PER_TOKEN = 1000


def tail_length(embedder: Embedder, *, suffix: str) -> int:
    """Return how many tokens follow every text: those of the suffix, and the end that the tokenizer adds."""
    with_suffix, without = (len(embedder.tokenise([""], suffix=one)[0]) for one in (suffix, ""))
    return with_suffix - without + (1 if embedder.model.ends_with else 0)


def beginning(text: str, *, limit: int) -> str:
    """Return as much of a text as its first `limit` tokens can come from."""
    return text[: limit * CHARACTERS_PER_TOKEN]


def truncated(ids: TokenIds, *, limit: int, tail: int) -> TokenIds:
    """Return a text's ids cut to `limit`: its beginning and the `tail` that follows every text.

    So do the tokenizers of Hugging Face with `truncation=True`.
    """
    if len(ids) <= limit:
        return ids
    return np.concatenate([ids[: limit - tail], ids[len(ids) - tail :]])
