"""An embedder child that costs next to nothing: all that is left to measure is everything but the model.

Two token ids say which text it is, and its vector is made of them. It reads and answers frames like the
real child; see ragops/embedder/child.py. With a second argument a text has a token for as many of its characters,
so that long texts are cut.
"""

from __future__ import annotations

import hashlib
import json
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

START, END = 101, 102
TABLE = 1024


def read_exactly(size: int) -> bytes:
    data = sys.stdin.buffer.read(size)
    if len(data) < size:
        sys.exit(0)
    return data


def read() -> tuple[dict[str, Any], bytes]:
    header: dict[str, Any] = json.loads(read_exactly(int.from_bytes(read_exactly(4), "big")))
    return header, read_exactly(header.get("payload", 0))


def write(header: dict[str, Any], payload: bytes = b"") -> None:
    body = json.dumps({**header, "payload": len(payload)} if payload else header).encode()
    sys.stdout.buffer.write(len(body).to_bytes(4, "big") + body + payload)
    sys.stdout.buffer.flush()


def hello(config: dict[str, Any], dimensions: int) -> dict[str, Any]:
    build = {"python": sys.executable, "python_version": "3", "package_version": "0", "system_info": "stub"}
    model = {
        **{"path": config["model"], "file_bytes": 4, "architecture": "stub", "name": "stub"},
        **{"description": "stub", "dimensions": dimensions, "n_ctx_train": 512, "n_vocab": 1, "n_params": 1},
        **{"pooling": "mean", "is_decoder": False, "max_tokens": 512, "requested": {}, "effective": {}},
    }
    return {"hello": 1, "build": {**build, "features": {}, "platform": "stub"}, "model": model}


def ids_of(texts: list[str]) -> NDArray[np.int32]:
    """Return four token ids per text, shape (n, 4)."""
    raw = b"".join(hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts)
    ids = np.empty((len(texts), 4), "<i4")
    ids[:, 0], ids[:, 3] = START, END
    ids[:, 1:3] = np.frombuffer(raw, "<i4").reshape(-1, 2) & 0x7FFFFFFF
    return ids


def long_ids_of(text: str, characters: int) -> NDArray[np.int32]:
    """Return the four token ids of a text, and as many more as its length demands."""
    ids = np.zeros(4 + len(text) // characters, "<i4")
    ids[:3], ids[-1] = ids_of([text])[0, :3], END
    return ids


def main(dimensions: int, characters: int) -> None:
    table = np.random.default_rng(0).standard_normal((TABLE, dimensions), dtype=np.float32)
    write(hello(read()[0], dimensions))
    while True:
        request, payload = read()
        name = request["request"]
        if name == "embed_tokens":
            every, counts = np.frombuffer(payload, "<i4"), np.array(request["tokens"])
            starts = np.cumsum(counts) - counts
            ids = every.reshape(-1, 4) if not characters else every[starts[:, None] + np.arange(4)]
            vectors = table[ids[:, 1] % TABLE] + table[ids[:, 2] % TABLE]
            write({"tokens": request["tokens"], "rows": len(ids), "dimensions": dimensions}, vectors.tobytes())
        else:
            texts = request["texts"]
            if characters:
                found = [long_ids_of(text, characters) for text in texts]
                payload = b"".join(ids.tobytes() for ids in found) if name == "tokenise" else b""
                write({"tokens": [len(ids) for ids in found]}, payload)
                continue
            write({"tokens": [4] * len(texts)}, ids_of(texts).tobytes() if name == "tokenise" else b"")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
