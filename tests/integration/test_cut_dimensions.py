"""`model.dimensions` below the model's (Matryoshka): vectors are cut where they come out, and that is a space."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from campaigns import make_playbook
from tiny_gguf import write_tiny_bert

from ragops.embedder.client import Embedder, EmbedderConfig
from ragops.fingerprint.against import capture_own, compare_with
from ragops.fingerprint.document import Fingerprint, capture_script, fingerprint_of
from ragops.fingerprint.verify import Verification, verify
from ragops.playbook.model import Reference
from ragops.quality.vectors import normalize

TEXTS = ["water", "the city council", "one two three four five"]


def verified(model: Path, dimensions: int | None) -> Verification:
    return verify(make_playbook(model=model).with_changes(model={"dimensions": dimensions}))


def test_vectors_are_cut_to_their_first_values(tiny_model: Path) -> None:
    with Embedder(EmbedderConfig(tiny_model)) as embedder:
        whole = embedder.embed(TEXTS).vectors
        assert embedder.model.full_dimensions is None
    with Embedder(EmbedderConfig(tiny_model, dimensions=12)) as embedder:
        cut = embedder.embed(TEXTS).vectors
        ids = embedder.tokenise(TEXTS)
        assert np.array_equal(embedder.embed_tokens(ids).vectors, cut)
        assert (embedder.model.dimensions, embedder.model.full_dimensions) == (12, 32)
    assert cut.shape == (3, 12)
    # Of whole vectors and of normalised ones the same direction is left.
    assert np.allclose(normalize(cut), normalize(normalize(whole)[:, :12]), atol=1e-6)


def test_verify_says_that_vectors_are_cut(tiny_model: Path) -> None:
    same, cut = verified(tiny_model, 32), verified(tiny_model, 16)
    assert cut.matches
    assert cut.fingerprint != same.fingerprint
    found = {finding.id: finding for finding in cut.findings}["cut-dimensions"]
    assert (found.severity, found.message) == (
        "warning",
        "vectors are cut to 16 of 32 dimensions (Matryoshka); the model must have been trained for it",
    )
    assert "cut-dimensions" not in {finding.id for finding in same.findings}


def test_more_dimensions_than_the_model_has_are_refused(tiny_model: Path) -> None:
    found = verified(tiny_model, 64)
    assert not found.matches
    errors = [finding.message for finding in found.findings if finding.severity == "error"]
    assert errors == ["the model has 32 dimensions, the playbook needs 64"]


@pytest.fixture(scope="module")
def references(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fingerprints of the model: whole, cut to 16 by the single file, and of another model."""
    folder = tmp_path_factory.mktemp("references")
    capture_own(make_playbook(model=tiny_model)).save(folder / "whole.json")
    other = write_tiny_bert(folder / "other.gguf", seed=5)
    capture_own(make_playbook(model=other)).save(folder / "other.json")
    (folder / "capture.py").write_text(capture_script(), encoding="utf-8")
    command = [sys.executable, "capture.py", str(tiny_model), "--dimensions", "16", "-o", "cut.json"]
    subprocess.run(command, cwd=folder, check=True, timeout=120, capture_output=True)
    return folder


@pytest.mark.parametrize("name, verdict", [("whole", "equivalent"), ("cut", "identical"), ("other", "divergent")])
def test_cut_vectors_are_compared_with_cut_ones(
    tiny_model: Path, references: Path, name: str, verdict: str
) -> None:
    playbook = make_playbook(model=tiny_model).with_changes(model={"dimensions": 16})
    reference = Reference(fingerprint=references / f"{name}.json")
    comparison = compare_with(playbook, reference, capture_own(playbook))
    assert comparison.verdict == verdict
    assert comparison.drift is not None
    assert Fingerprint.load(references / "cut.json").vectors.shape[1] == 16


def test_whole_vectors_and_cut_ones_are_two_spaces(tiny_model: Path, references: Path) -> None:
    playbook = make_playbook(model=tiny_model)
    comparison = compare_with(playbook, Reference(fingerprint=references / "cut.json"), capture_own(playbook))
    assert comparison.verdict == "divergent"
    assert "model.dimensions: 16" in comparison.findings[0].hint


def test_only_cut_vectors_are_another_space(tiny_model: Path) -> None:
    settings = make_playbook(model=tiny_model).model
    found = set()
    for dimensions in (None, 32, 16, 8):
        with Embedder(EmbedderConfig(tiny_model, dimensions=dimensions)) as embedder:
            found.add(fingerprint_of(embedder.build, embedder.model, settings, sha256="0").fingerprint_id)
    assert len(found) == 3
