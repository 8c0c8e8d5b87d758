"""Batching keeps the vector space: texts that share a batch get nearly the vectors that they get alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from ragops.demo.corpus import write_stdlib_corpus
from ragops.demo.model import minilm_gguf
from ragops.embedder.client import Embedder, EmbedderConfig
from ragops.paths import cache_folder
from ragops.quality.drift import cosine_distances

pytestmark = pytest.mark.slow  # the real model is fetched and converted
# No more than an AVX2 and an SSE build lie apart.
LIMIT = 4e-4
CHARACTERS = (30, 120, 500, 1500)


@pytest.fixture(scope="module")
def model() -> Path:
    return minilm_gguf(cache_folder())


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory, model: Path) -> list[str]:
    """Docstrings cut to several lengths, up to the model's context."""
    folder = tmp_path_factory.mktemp("corpus")
    write_stdlib_corpus(folder, documents=120)
    found = sorted(folder.rglob("*.txt"))
    cut = [f.read_text(encoding="utf-8")[: CHARACTERS[i % len(CHARACTERS)]] for i, f in enumerate(found)]
    with Embedder(EmbedderConfig(model, vocab_only=True)) as counting:
        fitting = zip(cut, counting.count_tokens(cut), strict=True)
        texts = [text for text, tokens in fitting if tokens <= counting.model.max_tokens]
    assert len(texts) > 100
    return texts


@pytest.mark.parametrize(("threads", "tokens_per_batch"), [(1, 256), (1, 512), (2, 256)])
def test_batches_move_no_vector(model: Path, texts: list[str], threads: int, tokens_per_batch: int) -> None:
    with Embedder(EmbedderConfig(model, tokens_per_batch=1)) as alone:
        single = alone.embed(texts)
    with Embedder(EmbedderConfig(model, n_threads=threads, tokens_per_batch=tokens_per_batch)) as packing:
        packed = packing.embed_tokens(packing.tokenise(texts))
    assert packed.tokens == single.tokens
    assert max(single.tokens) > 256
    distances = cosine_distances(single.vectors, packed.vectors)
    assert distances.max() < LIMIT
