"""An embedder child without llama.cpp: 32 dimensions, a text's vector is that of its words.

A word of the text makes it fail: POISON dies by abort, KILLED by SIGKILL, EXITS with code 3, HANG sleeps, NAN, INF
and ZERO return such a vector, WIDE one of another dimension, REFUSED an error. An argument makes it fail on every
text: `all` dies on each, `all-but-ok` on each except the health check's, `illegal` on each by an illegal
instruction. Other arguments concern children that embed: `dead` dies while it starts, `gate=FILE` is ready once
the file exists, `gate-but-one=FILE` the same for all but the first child, `hold=FILE` embeds for a fleet once it
exists. `cut=FILE` cuts a text with the word SLOW once the file exists. `killed=FOLDER` is killed (SIGKILL) when it
starts if FOLDER has a file, which it takes away; `chance=FOLDER` the same when it meets the word CHANCE.
`requests=FOLDER` notes every request of every child as a file, numbered from 1, and is killed by the one whose
number the file `kills` names. `version=X` is another build, and `drift=X` adds that to one component of every
vector.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import struct
import sys
import time
import zlib
from array import array
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

DIMENSIONS = 32
HEALTH_CHECK = "ok"
BROKEN = {"NAN": float("nan"), "INF": float("inf")}
FAILING = {*BROKEN, "ZERO", "POISON", "KILLED", "EXITS", "CHANCE", "HANG", "WIDE", "REFUSED"}
# Bits that keep words apart from start and end; a token id has 31 bits.
START, END, LEAST, MOST = 1, 2, 1 << 8, (1 << 31) - 1


def stub_command(*arguments: str) -> tuple[str, ...]:
    """What starts this program."""
    return (sys.executable, str(Path(__file__)), *arguments)


def number_of(word: str) -> int:
    return zlib.crc32(word.encode("utf-8", "replace")) & MOST | LEAST


NUMBERS = {word: number_of(word) for word in FAILING}


def _value(name: str, default: str) -> str:
    found = (argument.partition("=")[2] for argument in sys.argv[1:] if argument.startswith(f"{name}="))
    return next(found, default)


def ids_of(text: str) -> list[int]:
    """A number for each word between those of a start and an end; words that make it fail keep theirs."""
    words = [word if word in FAILING else word.lower() for word in text.split()]
    return [START, *map(number_of, words), END]


def vector_of(ids: Sequence[int]) -> list[float]:
    """The sum of its words' vectors, which are made from their numbers."""
    vector = [0.0] * DIMENSIONS
    vector[0] = float(_value("drift", "0"))
    if NUMBERS["ZERO"] in ids:
        return [0.0] * DIMENSIONS
    for number in ids[1:-1]:
        digest = hashlib.sha256(str(number).encode()).digest()
        vector = [sum_ + byte - 127.5 for sum_, byte in zip(vector, digest, strict=True)]
    for word, value in BROKEN.items():
        if NUMBERS[word] in ids:
            vector[3] = value
    return [*vector, 1.0] if NUMBERS["WIDE"] in ids else vector


def _read() -> tuple[dict[str, Any], list[int]]:
    """A header and its payload, which are token ids where there is one."""
    size = sys.stdin.buffer.read(4)
    if len(size) < 4:
        sys.exit(0)
    header: dict[str, Any] = json.loads(sys.stdin.buffer.read(int.from_bytes(size, "big")))
    return header, list(array("I", sys.stdin.buffer.read(header.get("payload", 0))))


def _write(header: Mapping[str, Any], payload: bytes = b"") -> None:
    full = {**header, "payload": len(payload)} if payload else dict(header)
    body = json.dumps(full).encode()
    sys.stdout.buffer.write(len(body).to_bytes(4, "big") + body + payload)
    sys.stdout.buffer.flush()


def _hello(config: Mapping[str, Any]) -> dict[str, Any]:
    build = {
        "python": sys.executable,
        "python_version": "3",
        "package_version": _value("version", "0"),
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


def _embed(texts: Sequence[Sequence[int]], arguments: Sequence[str]) -> None:
    numbers = {number for ids in texts for number in ids}
    if NUMBERS["POISON"] in numbers:
        os.abort()
    if NUMBERS["KILLED"] in numbers:
        os.kill(os.getpid(), signal.SIGKILL)
    if NUMBERS["EXITS"] in numbers:
        os._exit(3)
    if NUMBERS["CHANCE"] in numbers:
        _be_killed("chance", arguments)
    if NUMBERS["HANG"] in numbers:
        time.sleep(600)
    if NUMBERS["REFUSED"] in numbers:
        _write({"error": {"kind": "compute", "message": "llama_encode returned -3"}})
        return
    payload = b"".join(struct.pack(f"<{len(v)}f", *v) for v in map(vector_of, texts))
    _write({"tokens": [len(ids) for ids in texts], "rows": len(texts), "dimensions": DIMENSIONS}, payload)


def _cut(ids: list[int], counts: Sequence[int]) -> list[list[int]]:
    ends = list(accumulate(counts))
    return [ids[end - count : end] for end, count in zip(ends, counts, strict=True)]


def _start(arguments: Sequence[str]) -> None:
    if "dead" in arguments:
        os.abort()
    _wait_for("gate", arguments)
    _wait_for("gate-but-one", arguments)


def _wait_for(asked: str, arguments: Sequence[str]) -> None:
    """Wait for the file that an argument names; without that argument for nothing."""
    for argument in arguments:
        name, _, gate = argument.partition("=")
        if name != asked or (name == "gate-but-one" and _is_first(gate)):
            continue
        parent = os.getppid()
        while not Path(gate).exists():
            if os.getppid() != parent:  # nobody waits for it any more
                sys.exit(1)
            time.sleep(0.02)


def _be_killed(name: str, arguments: Sequence[str]) -> None:
    """As by the system's out-of-memory killer, once for each file in the argument's folder."""
    folder = next((Path(a.partition("=")[2]) for a in arguments if a.startswith(f"{name}=")), None)
    for file in folder.iterdir() if folder else ():
        try:
            file.unlink()
        except FileNotFoundError:  # another child took it
            continue
        os.kill(os.getpid(), signal.SIGKILL)


def _note(header: Mapping[str, Any], arguments: Sequence[str]) -> None:
    """Number a request, over all children that share the folder, and be killed before one is answered."""
    folder = next((Path(a.partition("=")[2]) for a in arguments if a.startswith("requests=")), None)
    if folder is None:
        return
    number = len(list(folder.iterdir()))
    while True:
        try:
            (folder / str(number)).touch(exist_ok=False)
            break
        except FileExistsError:  # another child was faster
            number += 1
    (folder / str(number)).write_text(f"{header['request']} of {len(header.get('texts') or header['tokens'])}")
    if (folder / "kills").read_text() == str(number):
        os.kill(os.getpid(), signal.SIGKILL)


def _is_first(gate: str) -> bool:
    try:
        Path(f"{gate}.first").touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def main(arguments: list[str]) -> None:
    config = _read()[0]
    _be_killed("killed", arguments)
    if not config["vocab_only"]:
        _start(arguments)
    _write(_hello(config))
    while True:
        request, payload = _read()
        name = request["request"]
        _note(request, arguments)
        texts = _cut(payload, request["tokens"]) if name == "embed_tokens" else list(map(ids_of, request["texts"]))
        if name in ("tokens", "tokenise"):
            if any("SLOW" in text for text in request["texts"]):
                _wait_for("cut", arguments)
            ids = array("I", [number for text in texts for number in text]).tobytes()
            _write({"tokens": [len(text) for text in texts]}, ids if name == "tokenise" else b"")
            continue
        is_health_check = texts == [ids_of(HEALTH_CHECK)]
        if "all" in arguments or ("all-but-ok" in arguments and not is_health_check):
            os.abort()
        if "illegal" in arguments:
            os.kill(os.getpid(), signal.SIGILL)
        # A fleet's work: its checks are requests for texts, and what it measures first names its batches.
        if name == "embed_tokens" and "tokens_per_batch" not in request:
            _wait_for("hold", arguments)
        _embed(texts, arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
