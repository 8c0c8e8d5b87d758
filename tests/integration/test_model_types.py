"""Campaigns with an encoder and a decoder in three types each, quantised by llama.cpp: all pass their validation.

The weights are random; `benchmarks/models.py` does the same with published ones.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path

import llama_cpp
import pytest
from campaigns import execute, make_playbook, open_session, single
from tiny_gguf import write_tiny_bert, write_tiny_decoder

from ragops.campaign import run as campaign
from ragops.campaign.steps.validate import validate
from ragops.embedder.config import probe_model
from ragops.indexes.plan import VECTOR_TABLES
from ragops.playbook.model import Source
from ragops.playbook.steps import Embed, EmptyTables, ReseedQueue, Validate, VerifyBuild

pytestmark = pytest.mark.slow
TYPES = {"F16": 1, "Q8_0": 7, "Q4_K_M": 15}  # enum llama_ftype
# K-quants need rows of 256 values.
WIDTH = 256
STEPS = (
    VerifyBuild(step="verify_build"),
    EmptyTables(step="empty_tables"),
    ReseedQueue(step="reseed_queue"),
    Embed(step="embed"),
    Validate(step="validate"),
)
MAKERS: dict[str, Callable[[Path], Path]] = {
    "bert-cls": lambda path: write_tiny_bert(path, dimensions=WIDTH, layers=2, pooling="cls"),
    "decoder": lambda path: write_tiny_decoder(path, dimensions=WIDTH, layers=2),
}


def quantised(source: Path, kind: str) -> Path:
    target = source.with_name(f"{source.stem}-{kind}.gguf")
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype, params.nthread = TYPES[kind], 1
    status = llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(params))
    assert status == 0
    return target


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("maker", MAKERS)
def test_a_campaign_passes_its_validation(maker: str, kind: str, dsn18: str, tmp_path: Path) -> None:
    model = quantised(MAKERS[maker](tmp_path / "model.gguf"), kind)
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for number in range(40):
        text = "tree river house four" if number % 2 else "the council builds a road by the river " * 2
        (corpus / f"{number:02}.txt").write_text(f"{number} {text}", encoding="utf-8")
    playbook = make_playbook(
        model=model, source=Source(folder=corpus), steps=STEPS, workers={"batch_size": 100}, indexes=()
    ).with_changes(validation={"sample": 40})
    execute(dsn18, *(f"ALTER TABLE {t} ALTER COLUMN embedding TYPE vector({WIDTH})" for t in VECTOR_TABLES))
    with open_session(dsn18, playbook) as session:
        result = campaign.start(session, campaign.plan_campaign(session, model=probe_model(playbook)))
        found = validate(single(session))
    assert [step.verb for step in result.steps] == [step.step for step in STEPS]
    effects = {step.verb: step.effect or {} for step in result.steps}
    # What the fleet chose is what was decided before anything was emptied.
    chosen, decided = effects["embed"]["batches"], effects["verify_build"]["batches"]
    assert isinstance(chosen, dict) and isinstance(decided, dict)
    assert [chosen[key] for key in ("short_tokens", "short_batch")] == [
        decided[key] for key in ("short_tokens", "short_batch")
    ]
    assert found.verdict == "pass", (found.agreement, chosen)
