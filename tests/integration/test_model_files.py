"""Models in several files, and files that hold one model in several quantisations: real llama.cpp."""

from __future__ import annotations

import copy
import ctypes
import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playbook_factory import playbook
from tiny_gguf import write_tiny_bert, write_tiny_decoder

from ragops.builds.standalone import sha256_of
from ragops.embedder.child_files import model_bytes, shards_of
from ragops.embedder.client import Embedder, EmbedderConfig
from ragops.embedder.config import checked_sha256
from ragops.embedder.model_files import model_sha256
from ragops.errors import ModelUnusable
from ragops.fingerprint.compare import Comparison, compare_fingerprints
from ragops.fingerprint.document import Fingerprint, capture
from ragops.quality.spaces import SpaceLimits

LIMITS = SpaceLimits()
# enum llama_ftype: https://github.com/ggml-org/llama.cpp/blob/master/include/llama.h
QUANTISATIONS = {"F16": 1, "Q4_0": 2, "Q8_0": 7, "Q4_K_M": 15}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    return write_tiny_decoder(tmp_path / "big.gguf", pooling="last", shards_of=5)


@pytest.fixture(scope="module")
def whole(folder: Path) -> Path:
    # Q4_K stores weights in blocks of 256.
    return write_tiny_bert(folder / "whole.gguf", dimensions=256)


@pytest.fixture(scope="module")
def captured(whole: Path) -> Fingerprint:
    return take(whole)


def take(path: Path, *, pooling: str = "auto") -> Fingerprint:
    with Embedder(EmbedderConfig(path, pooling=pooling, tokens_per_batch=1)) as embedder:
        return capture(embedder, document_prefix="", query_prefix="")


def quantised(path: Path, name: str) -> Path:
    import llama_cpp

    target = path.with_name(f"{path.stem}.{name}.gguf")
    if not target.exists():
        parameters = llama_cpp.llama_model_quantize_default_params()
        parameters.ftype, parameters.nthread = QUANTISATIONS[name], 1
        done = llama_cpp.llama_model_quantize(str(path).encode(), str(target).encode(), ctypes.byref(parameters))
        assert done == 0
    return target


def causes(comparison: Comparison) -> list[str]:
    return [finding.id for finding in comparison.findings]


def test_all_shards_are_one_model(sharded: Path, tmp_path: Path) -> None:
    single = write_tiny_decoder(tmp_path / "single.gguf", pooling="last")
    shards = shards_of(sharded)
    assert len(shards) == 3
    digests = [hashlib.sha256(shard.read_bytes()).hexdigest() for shard in shards]
    # As the documentation has it: sha256sum … | cut -c1-64 | sha256sum
    expected = hashlib.sha256("".join(f"{digest}\n" for digest in digests).encode()).hexdigest()
    assert model_sha256(sharded) == expected
    assert model_bytes(sharded) == sum(shard.stat().st_size for shard in shards)
    parted, one = take(sharded), take(single)
    assert np.array_equal(parted.vectors, one.vectors)
    assert parted.document["model"]["sha256"] == expected
    assert parted.document["model"]["file_bytes"] == model_bytes(sharded)
    assert one.document["model"]["sha256"] == sha256_of(single)
    assert compare_fingerprints(parted, one, limits=LIMITS).verdict == "identical"


def test_another_second_shard_is_another_model(sharded: Path) -> None:
    pinned = checked_sha256(playbook(f"model: {{file: '{sharded.as_posix()}'}}"))
    second = shards_of(sharded)[1]
    data = bytearray(second.read_bytes())
    data[-5] ^= 1
    second.write_bytes(data)
    with pytest.raises(ModelUnusable, match="not the pinned one"):
        checked_sha256(playbook(f"model: {{file: '{sharded.as_posix()}', sha256: {pinned}}}"))


def test_missing_shards_are_named(sharded: Path) -> None:
    second = shards_of(sharded)[1]
    second.unlink()
    with pytest.raises(ModelUnusable, match="shards of the model are missing") as caught:
        Embedder(EmbedderConfig(sharded))
    assert second.name in str(caught.value.actual)


def test_only_the_first_shard_is_named(sharded: Path) -> None:
    with pytest.raises(ModelUnusable, match="not the first") as caught:
        Embedder(EmbedderConfig(shards_of(sharded)[2]))
    assert caught.value.actual == "shard 3 of 3"
    assert str(sharded) in str(caught.value.hint)


def test_a_whole_model_may_be_named_like_a_shard(tmp_path: Path) -> None:
    path = write_tiny_bert(tmp_path / "merged-00001-of-00003.gguf")
    assert shards_of(path) == [path]
    with Embedder(EmbedderConfig(path)) as embedder:
        assert embedder.model.dimensions == 32


def test_a_fingerprint_of_the_first_shard_alone_stays_comparable(sharded: Path) -> None:
    own = take(sharded)
    earlier: Any = copy.deepcopy(own.document)
    earlier["model"]["sha256"] = earlier["model"].pop("shards")[0]
    rolled = np.roll(own.vectors, 1, axis=0)
    old = dataclasses.replace(own, document=earlier, vectors=rolled)
    assert causes(compare_fingerprints(own, old, limits=LIMITS)) == ["unknown-cause"]


def test_a_folder_is_no_model_and_its_models_are_named(tmp_path: Path) -> None:
    write_tiny_bert(tmp_path / "inside.gguf")
    with pytest.raises(ModelUnusable, match="is a folder") as caught:
        checked_sha256(playbook(f"model: {{file: '{tmp_path.as_posix()}'}}"))
    assert str(tmp_path / "inside.gguf") in str(caught.value.hint)


def test_a_vocabulary_is_no_model(tmp_path: Path) -> None:
    import gguf

    path = tmp_path / "ggml-vocab.gguf"
    writer = gguf.GGUFWriter(path, "bert")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ModelUnusable, match="a vocabulary and no weights"):
        Embedder(EmbedderConfig(path))


@pytest.mark.parametrize(
    ("name", "pooling"), [*((name, "auto") for name in QUANTISATIONS), ("Q4_0", "cls"), ("Q8_0", "cls")]
)
def test_another_quantisation_is_the_same_model(
    whole: Path, captured: Fingerprint, name: str, pooling: str
) -> None:
    comparison = compare_fingerprints(
        take(quantised(whole, name), pooling=pooling), captured, limits=SpaceLimits(max_drift=1e-9)
    )
    expected = ["quantisation"] if pooling == "auto" else ["pooling", "quantisation"]
    assert (comparison.verdict, causes(comparison)) == ("divergent", expected)
    assert "another quantisation of the same model" in comparison.findings[-1].message


def test_another_model_of_the_same_name_is_another_model(captured: Fingerprint, tmp_path: Path) -> None:
    other = take(quantised(write_tiny_bert(tmp_path / "whole.gguf", dimensions=256, seed=5), "Q4_0"))
    renamed: Any = copy.deepcopy(other.document)
    renamed["model"]["name"] = captured.document["model"]["name"]
    comparison = compare_fingerprints(dataclasses.replace(other, document=renamed), captured, limits=LIMITS)
    assert causes(comparison) == ["another-model"]
    assert "of the same name but with other weights" in comparison.findings[0].message


def test_models_whose_norms_say_nothing_are_told_apart_by_their_vectors(tmp_path: Path) -> None:
    one, other = (take(write_tiny_decoder(tmp_path / f"{seed}.gguf", seed=seed)) for seed in (1, 2))
    assert one.document["model"]["weights"] is None
    assert causes(compare_fingerprints(one, other, limits=LIMITS)) == ["another-model"]


def test_what_cannot_be_told_is_not_claimed(tmp_path: Path) -> None:
    """Fingerprints of older versions say nothing of norms; another pooling moves vectors like another model."""
    path = write_tiny_bert(tmp_path / "a.gguf")
    mine = take(path, pooling="cls")
    earlier: Any = copy.deepcopy(take(write_tiny_bert(tmp_path / "b.gguf", quantise=True)).document)
    del earlier["model"]["weights"]
    theirs = Fingerprint.parse(earlier, where="test")
    assert causes(compare_fingerprints(mine, theirs, limits=LIMITS)) == ["pooling", "another-file"]
