"""Fingerprints made with real llama.cpp: one space, and a divergent one for each cause."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_gguf import write_tiny_bert

from ragops.builds.standalone import parse_system_info, sha256_of
from ragops.embedder.client import Embedder, EmbedderConfig
from ragops.errors import UsageError
from ragops.fingerprint.compare import Comparison, compare_fingerprints
from ragops.fingerprint.document import Canary, Fingerprint, capture, capture_script
from ragops.quality.spaces import SpaceLimits

LIMITS = SpaceLimits()
STRICT = SpaceLimits(max_drift=1e-7)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fingerprints")


@pytest.fixture(scope="module")
def model(folder: Path) -> Path:
    return write_tiny_bert(folder / "tiny.gguf")


Take = Callable[..., Fingerprint]


def take(model: Path, *, pooling: str = "auto", n_ctx: int = 512, prefix: str = "") -> Fingerprint:
    config = EmbedderConfig(model=model, pooling=pooling, n_ctx=n_ctx, tokens_per_batch=1)
    with Embedder(config) as embedder:
        return capture(embedder, document_prefix=prefix, query_prefix="")


@pytest.fixture(scope="module")
def own(model: Path) -> Fingerprint:
    return take(model)


def causes(comparison: Comparison) -> list[str]:
    return [finding.id for finding in comparison.findings if finding.severity == "error"]


def test_it_holds_what_identifies_a_space(own: Fingerprint, model: Path) -> None:
    document = own.document
    assert document["build"]["features"]
    assert all(len(library["sha256"]) == 64 for library in document["build"]["libraries"])
    assert document["model"]["metadata"]["general.architecture"] == "bert"
    model_section = document["model"]
    assert int(model_section["effective"]["n_batch"]) <= int(model_section["requested"]["n_batch"])
    assert model_section["sha256"] == sha256_of(model)
    assert document["build"]["features"] == parse_system_info(document["build"]["system_info"])
    assert document["canary"]["sha256"] == Canary.load().sha256
    assert np.allclose(np.linalg.norm(own.vectors, axis=1), 1, atol=1e-5)


def test_texts_beyond_the_context_are_left_out(own: Fingerprint) -> None:
    limit = own.document["model"]["max_tokens"]
    assert own.rows == tuple(i for i, count in enumerate(own.document["tokens"]) if count <= limit)
    assert 0 < len(own.rows) < len(own.document["tokens"])


def test_the_same_build_and_model_are_identical(own: Fingerprint, model: Path) -> None:
    comparison = compare_fingerprints(take(model), own, limits=LIMITS)
    assert (comparison.verdict, comparison.findings) == ("identical", ())


def test_a_file_survives_the_round_trip(own: Fingerprint, folder: Path) -> None:
    own.save(folder / "own.json")
    loaded = Fingerprint.load(folder / "own.json")
    assert compare_fingerprints(loaded, own, limits=LIMITS).verdict == "identical"


def test_a_file_of_an_earlier_version_shows_no_difference(own: Fingerprint) -> None:
    earlier: Any = copy.deepcopy(own.document)
    earlier["model"]["requested"] |= {"use_mmap": True, "n_gpu_layers": 0}
    comparison = compare_fingerprints(own, dataclasses.replace(own, document=earlier), limits=LIMITS)
    assert (comparison.verdict, comparison.differences) == ("identical", ())


def test_the_single_file_gives_the_same_vectors(own: Fingerprint, model: Path, folder: Path) -> None:
    script = folder / "capture.py"
    script.write_text(capture_script(), encoding="utf-8")
    # Isolated from this checkout: the file has to stand on llama_cpp and numpy alone.
    done = subprocess.run(
        [sys.executable, "-I", str(script), str(model), "-o", str(folder / "copied.json")],
        cwd=folder,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    copied = Fingerprint.load(folder / "copied.json")
    assert compare_fingerprints(copied, own, limits=LIMITS).verdict == "identical"
    assert copied.document["build"] == own.document["build"]
    assert copied.document["model"]["sha256"] == own.document["model"]["sha256"]
    assert copied.document.keys() == own.document.keys()
    assert "import ragops" not in script.read_text(encoding="utf-8")


def test_pooling(own: Fingerprint, model: Path) -> None:
    comparison = compare_fingerprints(take(model, pooling="cls"), own, limits=LIMITS)
    assert (comparison.verdict, causes(comparison)[0]) == ("divergent", "pooling")


def test_prefix(own: Fingerprint, model: Path) -> None:
    comparison = compare_fingerprints(take(model, prefix="passage: "), own, limits=LIMITS)
    assert (comparison.verdict, causes(comparison)[0]) == ("divergent", "prefix")


def test_normalisation_breaks_inner_product_and_is_a_warning_for_cosine(own: Fingerprint) -> None:
    lengths = np.linspace(0.5, 3, len(own.rows), dtype=np.float32)[:, None]
    raw = dataclasses.replace(own, vectors=own.vectors * lengths)
    by_angle = compare_fingerprints(raw, own, limits=LIMITS)
    assert (by_angle.verdict, by_angle.findings[0].id) == ("equivalent", "normalisation")
    assert by_angle.findings[0].severity == "warning"
    by_product = compare_fingerprints(raw, own, limits=LIMITS, metric="ip")
    assert (by_product.verdict, causes(by_product)) == ("divergent", ["normalisation"])


def test_quantisation(own: Fingerprint, folder: Path) -> None:
    quantised = take(write_tiny_bert(folder / "q8.gguf", quantise=True))
    comparison = compare_fingerprints(quantised, own, limits=STRICT)
    assert (comparison.verdict, causes(comparison)) == ("divergent", ["quantisation"])


def test_truncation(own: Fingerprint, model: Path) -> None:
    texts, tokens = Canary.load().texts, own.document["tokens"]
    vectors = own.vectors.copy()
    with Embedder(EmbedderConfig(model=model, tokens_per_batch=1)) as embedder:
        for place, row in enumerate(own.rows):
            if tokens[row] > 40:
                cut = texts[row][: len(texts[row]) // 3]
                raw = embedder.embed([cut]).vectors[0]
                vectors[place] = raw / np.linalg.norm(raw)
    comparison = compare_fingerprints(dataclasses.replace(own, vectors=vectors), own, limits=LIMITS)
    assert (comparison.verdict, causes(comparison)) == ("divergent", ["truncation"])


def test_zero_vectors(own: Fingerprint) -> None:
    vectors = own.vectors.copy()
    vectors[4] = 0
    comparison = compare_fingerprints(dataclasses.replace(own, vectors=vectors), own, limits=LIMITS)
    assert (comparison.verdict, causes(comparison)[0]) == ("divergent", "zero-vectors")
    assert comparison.drift is not None and comparison.drift.not_a_number == 1


def test_another_model(own: Fingerprint, folder: Path) -> None:
    other = take(write_tiny_bert(folder / "other.gguf", seed=7))
    comparison = compare_fingerprints(other, own, limits=LIMITS)
    assert (comparison.verdict, causes(comparison)[0]) == ("divergent", "another-model")


def test_another_dimension(own: Fingerprint, folder: Path) -> None:
    wider = take(write_tiny_bert(folder / "wide.gguf", dimensions=64))
    comparison = compare_fingerprints(wider, own, limits=LIMITS)
    assert (comparison.verdict, causes(comparison), comparison.drift) == ("divergent", ["dimension"], None)


def test_other_tokens_for_some_texts(own: Fingerprint) -> None:
    changed = own.rows[2]
    tokens = [count + (1 if row == changed else 0) for row, count in enumerate(own.document["tokens"])]
    vectors = own.vectors.copy()
    vectors[2] = vectors[9]
    other = Fingerprint({**own.document, "tokens": tokens}, own.rows, vectors)
    comparison = compare_fingerprints(other, own, limits=LIMITS)
    assert (comparison.verdict, causes(comparison)[0]) == ("divergent", "tokenisation")
    assert "1 of" in comparison.findings[0].message


def test_an_unexplained_divergence(own: Fingerprint) -> None:
    rolled = dataclasses.replace(own, vectors=np.roll(own.vectors, 1, axis=0))
    comparison = compare_fingerprints(rolled, own, limits=LIMITS)
    assert (comparison.verdict, causes(comparison)) == ("divergent", ["unknown-cause"])


def test_other_canary_texts_cannot_be_compared(own: Fingerprint) -> None:
    other = Fingerprint({**own.document, "canary": {"version": 0, "sha256": "0"}}, own.rows, own.vectors)
    with pytest.raises(UsageError, match="different canary texts"):
        compare_fingerprints(other, own, limits=LIMITS)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", "not a fingerprint in a format"),
        ("[1]", "not a fingerprint"),
        ("no json", "cannot read the fingerprint"),
        (json.dumps({"format": "ragops-fingerprint/1"}), "damaged"),
        (json.dumps({"format": "ragops-fingerprint/1", "rows": [0], "dimensions": 3, "vectors": "AA"}), "damaged"),
        ("[" * 100_000, "cannot read the fingerprint"),
    ],
)
def test_damaged_files_are_refused(folder: Path, content: str, message: str) -> None:
    file = folder / "damaged.json"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(UsageError, match=message):
        Fingerprint.load(file)


@pytest.mark.parametrize("value", [None, 5, "text", [], {}])
@pytest.mark.parametrize("part", ["canary", "build", "model", "prefixes", "vectors", "rows"])
def test_parts_of_another_type_are_refused(own: Fingerprint, part: str, value: object) -> None:
    if value == {} and part in ("build", "model", "prefixes"):
        pytest.skip("an endpoint's fingerprint has none of these")
    with pytest.raises(UsageError, match="damaged"):
        Fingerprint.parse({**own.document, part: value}, where="here")
