"""An embedder child without llama.cpp: 32 dimensions, a text's vector is that of its words.

A word of the text makes it fail: POISON dies by abort, HANG sleeps, NAN, INF and ZERO return such a
vector, WIDE one of another dimension, REFUSED an error. An argument makes it fail on every text:
`all` dies on each, `all-but-ok` on each except the health check's.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

DIMENSIONS = 32
HEALTH_CHECK = "ok"
BROKEN = {"NAN": float("nan"), "INF": float("inf")}


def stub_command(*arguments: str) -> tuple[str, ...]:
    """What starts this program."""
    return (sys.executable, str(Path(__file__)), *arguments)


def vector_of(text: str) -> list[float]:
    """The sum of its words' vectors, which are made from a hash."""
    found = [0.0] * DIMENSIONS
    if "ZERO" in text.split():
        return found
    for word in text.lower().split():
        digest = hashlib.sha256(word.encode("utf-8", "replace")).digest()
        found = [sum_ + byte - 127.5 for sum_, byte in zip(found, digest, strict=True)]
    for word, value in BROKEN.items():
        if word in text.split():
            found[3] = value
    return [*found, 1.0] if "WIDE" in text.split() else found


def _read() -> dict[str, Any]:
    size = sys.stdin.buffer.read(4)
    if len(size) < 4:
        sys.exit(0)
    header: dict[str, Any] = json.loads(sys.stdin.buffer.read(int.from_bytes(size, "big")))
    return header


def _write(header: Mapping[str, Any], payload: bytes = b"") -> None:
    full = {**header, "payload": len(payload)} if payload else dict(header)
    body = json.dumps(full).encode()
    sys.stdout.buffer.write(len(body).to_bytes(4, "big") + body + payload)
    sys.stdout.buffer.flush()


def _hello(config: Mapping[str, Any]) -> dict[str, Any]:
    build = {
        "python": sys.executable,
        "python_version": "3",
        "package_version": "0",
        "system_info": "stub",
        "features": {},
        "platform": "stub",
    }
    model = {
        "path": config["model"],
        "file_bytes": 4,
        "architecture": "stub",
        "name": "stub",
        "description": "stub",
        "dimensions": DIMENSIONS,
        "n_ctx_train": 512,
        "n_vocab": 1,
        "n_params": 1,
        "pooling": "mean",
        "is_decoder": False,
        "max_tokens": 512,
        "requested": {},
        "effective": {},
    }
    return {"hello": 1, "build": build, "model": model}


def _embed(texts: list[str], counts: list[int]) -> None:
    words = {word for text in texts for word in text.split()}
    if "POISON" in words:
        os.abort()
    if "HANG" in words:
        time.sleep(600)
    if "REFUSED" in words:
        _write({"error": {"kind": "compute", "message": "llama_encode returned -3"}})
        return
    payload = b"".join(struct.pack(f"<{len(v)}f", *v) for v in map(vector_of, texts))
    _write({"tokens": counts, "rows": len(texts), "dimensions": DIMENSIONS}, payload)


def main(arguments: list[str]) -> None:
    _write(_hello(_read()))
    while True:
        request = _read()
        texts: list[str] = request["texts"]
        is_health_check = texts == [HEALTH_CHECK]
        counts = [len(text.split()) + 2 for text in texts]
        if request["request"] == "tokens":
            _write({"tokens": counts})
            continue
        if "all" in arguments or ("all-but-ok" in arguments and not is_health_check):
            os.abort()
        _embed(texts, counts)


if __name__ == "__main__":
    main(sys.argv[1:])
