"""Capture the child's fingerprint: the loaded model, and the vectors of the canary texts.

Part of the program `child.py` and of the single file that `ragops fingerprint script` prints; like them
it uses the standard library and numpy only and keeps to Python 3.9.
"""

from __future__ import annotations

import base64
import ctypes
import hashlib
import json
import platform
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

FORMAT = "ragops-fingerprint/1"
# Of a metadata value: chat templates and licences have thousands of characters.
LONGEST_VALUE = 200
# As in quality.vectors and quality.soundness, which are not here under another interpreter.
SMALLEST_NORM, LEAST_SPREAD = 1e-12, 5e-3
# Metadata that is the vocabulary itself: a megabyte of it, and n_vocab and the canary's tokens show a difference.
VOCABULARY = ("tokens", "scores", "token_type", "merges")


def capture(
    lib: Any,
    session: Any,
    build: dict[str, object],
    *,
    model_files: dict[str, object],
    canary: dict[str, Any],
    prefix: str,
    query_prefix: str,
    suffix: str = "",
    query_suffix: str = "",
) -> dict[str, object]:
    """Return the fingerprint as one JSON document. Texts that are too long for the model are left out.

    Raises ValueError for a model whose vectors are not finite, zero or all the same: they identify nothing.
    """
    counts = [len(session.tokenise(prefix + text, suffix)) for text in canary["texts"]]
    rows = [index for index, count in enumerate(counts) if 0 < count <= session.max_tokens]
    vectors, norms = unit_vectors(session, [prefix + canary["texts"][index] for index in rows], suffix)
    check_vectors(vectors, norms)
    return {
        "format": FORMAT,
        "captured_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),  # noqa: UP017 (Python 3.9)
        "canary": {"version": canary["version"], "sha256": canary_hash(canary)},
        "build": build,
        "model": {**session.facts(), **model_files, "metadata": metadata(lib, session)},
        "prefixes": {"document": prefix, "query": query_prefix},
        "suffixes": {"document": suffix, "query": query_suffix},
        "normalisation": "l2",
        "host": {"name": platform.node(), "system": platform.platform(), "cpu": cpu_name()},
        "tokens": counts,
        "rows": rows,
        "pooled_norm": {"min": min(norms), "max": max(norms)} if norms else None,
        "dimensions": session.dimensions,
        "vectors": base64.b64encode(vectors).decode("ascii"),
    }


def canary_hash(canary: dict[str, Any]) -> str:
    """Return the SHA-256 of the texts; fingerprints of different texts cannot be compared."""
    body = json.dumps(canary["texts"], ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(body.encode("ascii")).hexdigest()


def unit_vectors(session: Any, texts: list[str], suffix: str = "") -> tuple[bytes, list[float]]:
    """Return unit vectors (n x d, float32 little-endian) and the norms that they were divided by."""
    import numpy as np

    rows, norms = [], []
    # One text per batch: batching alone moves a vector by up to 5e-4 (MiniLM Q8_0), more than another build.
    for text in texts:
        _, raw = session.embed([text], suffix=suffix)
        vector = np.frombuffer(raw, dtype="<f4").astype(np.float64)
        norm = float(np.sqrt((vector * vector).sum()))
        norms.append(norm)
        # A zero or broken vector stays as it is: the check after it reports it.
        rows.append(vector / norm if norm > 0 and np.isfinite(norm) else vector)
    return np.asarray(rows, dtype="<f4").tobytes(), norms


def check_vectors(vectors: bytes, norms: list[float]) -> None:
    """Raise ValueError for vectors that no text can be found by; as `quality.soundness` does, for one file."""
    import numpy as np

    broken = [norm for norm in norms if not (np.isfinite(norm) and norm >= SMALLEST_NORM)]
    if broken:
        raise ValueError(f"{len(broken)} of {len(norms)} canary texts have a vector that is not finite, or zero")
    if len(norms) > 1:
        rows = np.frombuffer(vectors, dtype="<f4").reshape(len(norms), -1).astype(np.float64)
        spread = float(np.median(1 - rows[1:] @ rows[0]))
        if spread <= LEAST_SPREAD:
            raise ValueError(f"{len(norms)} canary texts have the same vector (median distance {spread:.1g})")


def ggml_facts(lib: Any) -> dict[str, object]:
    """Return version and commit of ggml, llama.cpp's tensor library; None where it does not export them."""
    facts: dict[str, object] = {"ggml_version": None, "ggml_commit": None}
    folder = Path(getattr(lib, "__file__", None) or ".").parent
    for path in sorted(folder.rglob("*ggml-base*")):
        try:
            ggml = ctypes.CDLL(str(path))  # loaded already: the same handle
            for name in facts:
                function = getattr(ggml, name)
                function.restype = ctypes.c_char_p
                facts[name] = function().decode("ascii", "replace")
            break
        except (OSError, AttributeError):  # not a library, or one that does not export them
            continue
    return facts


def metadata(lib: Any, session: Any) -> dict[str, str]:
    """Return the GGUF's scalar metadata; long values are cut."""
    values: dict[str, str] = {}
    buffer = ctypes.create_string_buffer(4096)
    for index in range(lib.llama_model_meta_count(session.model)):
        if lib.llama_model_meta_key_by_index(session.model, index, buffer, len(buffer)) < 0:
            continue
        key = buffer.value.decode("utf-8", "replace")
        if key.startswith("tokenizer.ggml.") and key.endswith(VOCABULARY):
            continue
        if lib.llama_model_meta_val_str_by_index(session.model, index, buffer, len(buffer)) >= 0:
            values[key] = buffer.value.decode("utf-8", "replace")[:LONGEST_VALUE]
    return values


def cpu_name() -> str:
    """Return the processor's name as /proc or the standard library has it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.lower().startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
