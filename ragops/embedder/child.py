"""The embedder child: a program that holds llama.cpp and one model and answers over a pipe.

Standalone on purpose: it uses the standard library, numpy, llama_cpp and its sibling
files `child_engine.py` and `child_capture.py` only, so that it runs under any interpreter (3.9 and later) that has
llama-cpp-python 0.3.16 or newer, also one that has no ragops. It is started as
`INTERPRETER child.py` and speaks frames on stdin and stdout: a big-endian length of 4 bytes, a
JSON header, and `payload` raw bytes where the header says so.

First frame in: the configuration. Answer: `hello` or `error`. Then requests until stdin ends:
`tokens` (texts -> number of tokens of each), `tokenise` (texts -> those numbers and the ids, int32
little-endian, one text after the other), `embed` (texts -> float32 little-endian, n x d, as pooled),
`embed_tokens` (numbers and ids as `tokenise` answers them -> the same) and `capture` (canary texts ->
fingerprint).
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import json
import os
import platform
import signal
import sys
from array import array
from pathlib import Path
from typing import Any, BinaryIO

NEEDED = ("llama_init_from_model", "llama_model_n_embd", "llama_get_memory", "llama_memory_clear")


def load_siblings() -> Any:
    """The sibling modules, after which this folder leaves the path: its names must shadow nothing."""
    here = str(Path(__file__).resolve().parent)
    sys.path.insert(0, here)
    siblings = [importlib.import_module(name) for name in ("child_engine", "child_capture")]
    sys.path[:] = [entry for entry in sys.path if str(Path(entry or ".").resolve()) != here]
    return siblings


engine, capturing = load_siblings()


def read_frame(source: BinaryIO) -> tuple[dict[str, Any], bytes] | None:
    """The next header and its payload, or None at the end of the stream."""
    size = source.read(4)
    if len(size) < 4:
        return None
    body = source.read(int.from_bytes(size, "big"))
    if len(body) < int.from_bytes(size, "big"):
        return None
    header: dict[str, Any] = json.loads(body)
    payload = source.read(header.get("payload", 0))
    return (header, payload) if len(payload) == header.get("payload", 0) else None


def write_frame(sink: BinaryIO, header: dict[str, Any], payload: bytes = b"") -> None:
    if payload:
        header = {**header, "payload": len(payload)}
    body = json.dumps(header).encode("ascii")
    sink.write(len(body).to_bytes(4, "big") + body + payload)
    sink.flush()


def private_pipes() -> tuple[BinaryIO, BinaryIO]:
    """stdin and a private copy of stdout; descriptor 1 becomes stderr, so no print breaks a frame."""
    if sys.platform == "win32":
        import msvcrt

        for descriptor in (0, 1):
            msvcrt.setmode(descriptor, os.O_BINARY)
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return sys.stdin.buffer, sink


def import_library() -> Any:
    try:
        import llama_cpp
        import numpy  # noqa: F401
    except (ImportError, OSError, RuntimeError) as error:
        missing = isinstance(error, ModuleNotFoundError)
        kind = "no_llama_cpp" if missing else "broken_llama_cpp"
        raise engine.Refusal(kind, f"{sys.executable} cannot import llama_cpp: {error}") from None
    missing_names = [name for name in NEEDED if not hasattr(llama_cpp, name)]
    if missing_names:
        version = getattr(llama_cpp, "__version__", "unknown")
        raise engine.Refusal("old_llama_cpp", f"llama-cpp-python {version} has no {missing_names[0]}")
    return llama_cpp


def build_facts(lib: Any) -> dict[str, Any]:
    info = lib.llama_print_system_info().decode("utf-8", "replace")
    features = {}
    for part in info.split("|"):
        name, equals, value = part.partition("=")
        backend, colon, bare = name.rpartition(":")
        if equals:
            prefix = f"{backend.strip()}." if colon and backend.strip() != "CPU" else ""
            features[prefix + bare.strip()] = value.strip()
    return {
        "python": sys.executable,
        "python_version": platform.python_version(),
        "package_version": str(getattr(lib, "__version__", "unknown")),
        "system_info": info,
        "features": features,
        "platform": " ".join(filter(None, (platform.system(), platform.machine(), *platform.libc_ver()))),
    }


def answer(lib: Any, held: Any, request: dict[str, Any], ids: bytes) -> tuple[dict[str, Any], bytes]:
    asked = request.get("request")
    if asked == "tokens":
        return {"tokens": [len(held.tokenise(text)) for text in request["texts"]]}, b""
    if asked == "tokenise":
        found = [held.tokenise(text) for text in request["texts"]]
        return {"tokens": [len(one) for one in found]}, b"".join(array("i", one).tobytes() for one in found)
    if asked == "embed_tokens":
        vectors = held.embed_tokens(texts_of(ids, request["tokens"]))
        counts = request["tokens"]
        return {"tokens": counts, "rows": len(counts), "dimensions": held.dimensions}, vectors
    if asked == "embed":
        counts, vectors = held.embed(request["texts"])
        return {"tokens": counts, "rows": len(counts), "dimensions": held.dimensions}, vectors
    if asked == "capture":
        asked_for = {key: request[key] for key in ("canary", "prefix", "query_prefix")}
        return {"fingerprint": capturing.capture(lib, held, build_facts(lib), **asked_for)}, b""
    raise engine.Refusal("request", f"unknown request {asked!r}")


def texts_of(ids: bytes, counts: list[int]) -> list[Any]:
    """The ids of each text, out of all ids in a row."""
    import numpy as np

    whole, at, texts = np.frombuffer(ids, "<i4"), 0, []
    for count in counts:
        texts.append(whole[at : at + count])
        at += count
    return texts


def serve(source: BinaryIO, sink: BinaryIO) -> int:
    first = read_frame(source)
    if first is None:
        return 0
    config = first[0]
    try:
        lib = import_library()
        held = engine.Engine(lib, config)
    except engine.Refusal as refusal:
        write_frame(sink, refusal.frame)
        return 1
    write_frame(sink, {"hello": 1, "build": build_facts(lib), "model": held.facts()})
    while True:
        request = read_frame(source)
        if request is None:
            return 0
        try:
            header, payload = answer(lib, held, *request)
        except engine.Refusal as refusal:
            header, payload = refusal.frame, b""
        write_frame(sink, header, payload)


def main() -> None:
    faulthandler.enable()  # a crash in native code names the Python line that called it
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    code = 0
    with contextlib.suppress(BrokenPipeError):  # the parent is gone: nobody to tell
        code = serve(*private_pipes())
    os._exit(code)  # skips native destructors, some of which log into a dying interpreter


if __name__ == "__main__":
    main()
