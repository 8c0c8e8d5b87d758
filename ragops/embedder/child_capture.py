"""The child's fingerprint: everything about the loaded build and model, and the canary vectors.

Part of the program `child.py` and of the single file that `ragops fingerprint script` prints; like
them it stands on the standard library and numpy alone and keeps to Python 3.9.
"""

from __future__ import annotations

import base64
import ctypes
import hashlib
import json
import os
import platform
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

FORMAT = "ragops-fingerprint/1"
LONGEST_VALUE = 200


def capture(
    lib: Any, held: Any, build: dict[str, Any], *, canary: dict[str, Any], prefix: str, query_prefix: str
) -> dict[str, Any]:
    """The fingerprint as one JSON document. Texts that are too long for the model are left out."""
    counts = [len(held.tokenise(prefix + text)) for text in canary["texts"]]
    kept = [index for index, count in enumerate(counts) if 0 < count <= held.max_tokens]
    vectors, norms = _vectors(held, [prefix + canary["texts"][index] for index in kept])
    return {
        "format": FORMAT,
        "captured_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),  # noqa: UP017 (Python 3.9)
        "canary": {"version": canary["version"], "sha256": canary_hash(canary)},
        "build": {**build, **ggml_facts(lib), "libraries": libraries(lib), "cmake_args": recorded_cmake_args()},
        "model": {**held.facts(), "sha256": file_hash(held.config["model"]), "metadata": metadata(lib, held)},
        "prefixes": {"document": prefix, "query": query_prefix},
        "normalisation": "l2",
        "host": {"name": platform.node(), "system": platform.platform(), "cpu": cpu_name()},
        "tokens": counts,
        "rows": kept,
        "pooled_norm": {"min": min(norms), "max": max(norms)} if norms else None,
        "dimensions": held.dimensions,
        "vectors": base64.b64encode(vectors).decode("ascii"),
    }


def canary_hash(canary: dict[str, Any]) -> str:
    """SHA-256 of the texts: two fingerprints with another one cannot be compared."""
    body = json.dumps(canary["texts"], ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(body.encode("ascii")).hexdigest()


def _vectors(held: Any, texts: list[str]) -> tuple[bytes, list[float]]:
    """Unit vectors (n x d, float32 little-endian), each text in a batch of its own, and their norms before."""
    import numpy as np

    rows, norms = [], []
    for text in texts:
        _, raw = held.embed([text])
        vector = np.frombuffer(raw, dtype="<f4").astype(np.float64)
        norm = float(np.sqrt((vector * vector).sum()))
        norms.append(norm)
        rows.append(vector / norm if norm > 0 and np.isfinite(norm) else vector)
    return np.asarray(rows, dtype="<f4").tobytes(), norms


def libraries(lib: Any) -> list[dict[str, Any]]:
    """The shared libraries beside the package, with size and SHA-256."""
    package = getattr(lib, "__file__", None)
    if not package:
        return []
    folder = Path(package).parent
    found = [p for p in sorted(folder.rglob("*")) if p.suffix in (".so", ".dll", ".dylib") and p.is_file()]
    return [{"name": p.name, "bytes": p.stat().st_size, "sha256": file_hash(str(p))} for p in found]


def ggml_facts(lib: Any) -> dict[str, Any]:
    """Version and commit of ggml, llama.cpp's library of tensors, where it exports them."""
    found: dict[str, Any] = {"ggml_version": None, "ggml_commit": None}
    folder = Path(getattr(lib, "__file__", None) or ".").parent
    for path in sorted(folder.rglob("*ggml-base*")):
        try:
            ggml = ctypes.CDLL(str(path))  # loaded already: the same handle
            for name in found:
                function = getattr(ggml, name)
                function.restype = ctypes.c_char_p
                found[name] = function().decode("ascii", "replace")
            break
        except (OSError, AttributeError):
            continue
    return found


def file_hash(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:  # noqa: PTH123 (a path as the library takes it)
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def recorded_cmake_args() -> str | None:
    """CMAKE_ARGS as the build's own record or the environment has them; pip records none."""
    for folder in (Path(sys.prefix), Path(sys.prefix).parent):
        record = folder / "build.json"
        if record.is_file():
            args = json.loads(record.read_text(encoding="utf-8")).get("cmake_args")
            return " ".join(args) if isinstance(args, list) else args
    return os.environ.get("CMAKE_ARGS")


def metadata(lib: Any, held: Any) -> dict[str, str]:
    """The GGUF's scalar metadata; long values are cut."""
    values: dict[str, str] = {}
    buffer = ctypes.create_string_buffer(4096)
    for index in range(lib.llama_model_meta_count(held.model)):
        if lib.llama_model_meta_key_by_index(held.model, index, buffer, len(buffer)) < 0:
            continue
        key = buffer.value.decode("utf-8", "replace")
        if key.startswith("tokenizer.ggml.") and key.endswith(("tokens", "scores", "token_type", "merges")):
            continue
        if lib.llama_model_meta_val_str_by_index(held.model, index, buffer, len(buffer)) >= 0:
            values[key] = buffer.value.decode("utf-8", "replace")[:LONGEST_VALUE]
    return values


def cpu_name() -> str:
    """The processor's name as far as the standard library and /proc tell."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.lower().startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
