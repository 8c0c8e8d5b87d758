"""A real llama.cpp in the child, with tiny models of random weights."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import pytest
from numpy.typing import NDArray
from tiny_gguf import write_tiny_bert, write_tiny_decoder

from ragops.embedder.client import CHILD_PROGRAM, Embedder, EmbedderConfig
from ragops.embedder.errors import TextTooLong
from ragops.embedder.protocol import encode_frame, read_frame
from ragops.errors import EmbedderDied, EmbedderError, ModelUnusable

TEXTS = [
    "drop the index",
    "the council voted the budget for the school roof",
    "water",
    "",
    "the quick brown fox jumps over the lazy dog, twice",
    "a b c d e f g h i j k l m n o p q r s t u v w x y z",
    "Zürich \u65e5\u672c \U0001f6a7 \ud800",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def bert(folder: Path) -> Path:
    return write_tiny_bert(folder / "bert.gguf")


@pytest.fixture(scope="module")
def decoder(folder: Path) -> Path:
    return write_tiny_decoder(folder / "decoder.gguf")


def distances(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float64]:
    """Cosine distance row by row."""
    a, b = left.astype(np.float64), right.astype(np.float64)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.asarray(1.0 - (a * b).sum(axis=1) / norms)


def test_facts_of_build_and_model(bert: Path) -> None:
    with Embedder(EmbedderConfig(bert)) as embedder:
        build, model = embedder.build, embedder.model
    assert build.python == sys.executable
    assert "=" in build.system_info
    assert build.features
    assert (model.architecture, model.dimensions, model.n_ctx_train) == ("bert", 32, 128)
    assert (model.pooling, model.is_decoder) == ("mean", False)
    assert model.file_bytes == bert.stat().st_size
    assert (model.requested["n_ctx"], model.effective["n_ctx"]) == (512, 128)
    assert model.max_tokens == 128
    assert model.requested["pooling"] == "auto"
    assert model.effective["pooling"] == "mean"


@pytest.mark.parametrize("kind", ["bert", "decoder"])
def test_a_batch_gives_what_single_texts_give_in_their_order(kind: str, request: pytest.FixtureRequest) -> None:
    path: Path = request.getfixturevalue(kind)
    with Embedder(EmbedderConfig(path, tokens_per_batch=40)) as embedder:
        together = embedder.embed(TEXTS)
        single = [embedder.embed([text]) for text in TEXTS]
        counts = embedder.count_tokens(TEXTS)
    alone = np.vstack([one.vectors for one in single])
    assert together.vectors.shape == (len(TEXTS), 32)
    assert together.vectors.dtype == np.float32
    assert distances(together.vectors, alone).max() <= 1e-3
    assert list(together.tokens) == counts == [one.tokens[0] for one in single]
    apart = distances(alone[:1].repeat(len(TEXTS) - 1, axis=0), alone[1:])
    assert apart.min() > 1e-2


def test_tokens_are_counted_with_separators(bert: Path) -> None:
    with Embedder(EmbedderConfig(bert)) as embedder:
        counts = embedder.count_tokens(["", "water", "Water!", "boiling water", "[CLS]"])
    assert counts == [2, 3, 4, 5, 2 + len(["[", "c", "##l", "##s", "]"])]


def test_shared_words_bring_texts_nearer(bert: Path) -> None:
    with Embedder(EmbedderConfig(bert)) as embedder:
        vectors = embedder.embed(
            ["build the vector index", "drop the vector index", "a lazy dog by a river"]
        ).vectors
    near, far = distances(vectors[:1].repeat(2, axis=0), vectors[1:])
    assert near < far


def test_many_short_texts_need_several_batches(bert: Path) -> None:
    texts = [f"row {number}" for number in range(200)]
    with Embedder(EmbedderConfig(bert)) as embedder:
        vectors = embedder.embed(texts).vectors
        again = embedder.embed(texts[::-1]).vectors[::-1]
    assert distances(vectors, again).max() <= 1e-3


def test_a_long_text_is_refused_and_never_cut(bert: Path) -> None:
    with Embedder(EmbedderConfig(bert, n_ctx=16)) as embedder:
        assert embedder.model.max_tokens == 16
        fits = " ".join(["water"] * 14)
        with pytest.raises(TextTooLong) as caught:
            embedder.embed(["fire", f"{fits} fire"])
        assert (caught.value.index, caught.value.tokens, caught.value.allowed) == (1, 17, 16)
        assert embedder.embed([fits]).tokens == (16,)
        assert embedder.count_tokens([fits * 9]) > [16]


@pytest.mark.parametrize(("n_ctx", "n_batch", "expected"), [(0, 2048, 128), (64, 32, 32), (4096, 0, 128)])
def test_the_longest_text_follows_the_parameters(bert: Path, n_ctx: int, n_batch: int, expected: int) -> None:
    with Embedder(EmbedderConfig(bert, n_ctx=n_ctx, n_batch=n_batch)) as embedder:
        assert embedder.model.max_tokens == expected
        assert embedder.embed([" ".join(["water"] * (expected - 2))]).tokens == (expected,)


def test_pooling_changes_the_space(bert: Path) -> None:
    with Embedder(EmbedderConfig(bert)) as mean, Embedder(EmbedderConfig(bert, pooling="cls")) as cls:
        assert cls.model.pooling == "cls"
        assert distances(mean.embed(TEXTS[:2]).vectors, cls.embed(TEXTS[:2]).vectors).min() > 1e-2


def test_a_decoder_that_declares_no_pooling_uses_the_last_token(decoder: Path) -> None:
    with Embedder(EmbedderConfig(decoder)) as auto, Embedder(EmbedderConfig(decoder, f16_kv=False)) as f32:
        assert (auto.model.pooling, auto.model.is_decoder) == ("last", True)
        assert auto.count_tokens([""]) == [1]
        assert distances(auto.embed(TEXTS).vectors, f32.embed(TEXTS).vectors).max() <= 1e-3


def test_a_model_that_declares_no_pooling_is_refused(folder: Path) -> None:
    path = write_tiny_bert(folder / "none.gguf", pooling="none")
    with pytest.raises(ModelUnusable, match="no vector") as caught:
        Embedder(EmbedderConfig(path))
    assert caught.value.actual == "pooling none"
    with Embedder(EmbedderConfig(path, pooling="mean")) as embedder:
        assert embedder.model.pooling == "mean"


def test_the_vocabulary_alone_counts_and_does_not_embed(bert: Path) -> None:
    with Embedder(EmbedderConfig(bert)) as whole, Embedder(EmbedderConfig(bert, vocab_only=True)) as words:
        assert words.count_tokens(TEXTS) == whole.count_tokens(TEXTS)
        assert words.model.dimensions == 32
        assert words.model.max_tokens == 128
        with pytest.raises(EmbedderError, match="count tokens"):
            words.embed(["water"])


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_damaged_file_is_named(bert: Path, tmp_path: Path, share: float) -> None:
    whole = bert.read_bytes()
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ModelUnusable, match="cannot load") as caught:
        Embedder(EmbedderConfig(damaged))
    assert caught.value.where == str(damaged)
    assert caught.value.actual


def test_it_can_be_killed_while_it_computes(bert: Path) -> None:
    embedder = Embedder(EmbedderConfig(bert))
    timer = threading.Timer(0.2, embedder.kill)
    timer.start()
    with pytest.raises(EmbedderDied, match="stopped"):
        while True:
            embedder.embed(TEXTS * 200)
    timer.join()
    embedder.close()
    assert not embedder.is_alive


def test_an_interpreter_without_the_library_gets_a_command_to_install_it(bert: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")], check=True)
    python = tmp_path / "bare" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    with pytest.raises(EmbedderError, match="has no llama-cpp-python") as caught:
        Embedder(EmbedderConfig(bert, python=str(python)))
    assert caught.value.hint == f"{python} -m pip install llama-cpp-python"


def test_the_child_ends_quietly_when_its_input_ends(bert: Path) -> None:
    config = EmbedderConfig(bert).for_child()
    with subprocess.Popen(
        [sys.executable, str(CHILD_PROGRAM)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as child:
        assert child.stdin and child.stdout and child.stderr
        child.stdin.write(encode_frame(config))
        child.stdin.flush()
        hello = read_frame(cast(BinaryIO, child.stdout))
        assert hello is not None and hello.header["hello"] == 1
        begun = time.monotonic()
        child.stdin.close()
        assert child.wait(10) == 0
        assert time.monotonic() - begun < 5
        assert b"Traceback" not in child.stderr.read()


def test_the_log_is_silent_unless_verbose(bert: Path) -> None:
    def log(*, verbose: bool) -> bytes:
        config = encode_frame(EmbedderConfig(bert, verbose=verbose).for_child())
        done = subprocess.run([sys.executable, str(CHILD_PROGRAM)], input=config, capture_output=True, timeout=60)
        assert done.returncode == 0
        return done.stderr

    assert log(verbose=False) == b""
    assert b"llama" in log(verbose=True)


def test_a_huge_batch_is_clamped_and_not_a_crash(bert: Path) -> None:
    with Embedder(EmbedderConfig(bert, n_batch=100_000, tokens_per_batch=100_000)) as embedder:
        assert embedder.model.effective["tokens_per_batch"] == 8192
        assert len(embedder.embed(["water", "fire"] * 100).vectors) == 200
