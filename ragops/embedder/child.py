"""The embedder child: a program that holds llama.cpp and one model and answers over a pipe.

Standalone on purpose: it uses the standard library, numpy, llama_cpp, its sibling files
`child_engine.py` and `child_capture.py`, and `standalone.py` of the builds. So it runs under every
interpreter (3.9 and later) that has llama-cpp-python 0.3.16 or newer, also without ragops. It is started
as `INTERPRETER child.py` and exchanges frames on stdin and stdout: a big-endian length of 4 bytes, a
JSON header, and `payload` raw bytes if the header has that key.

First frame in: the configuration. Answer: `hello` or `error`. Then requests until stdin ends:
`tokens` (texts -> number of tokens of each), `tokenise` (texts -> those numbers and the ids, int32
little-endian, one text after the other), `embed` (texts -> float32 little-endian, n x d, as pooled),
`embed_tokens` (numbers and ids as `tokenise` returns them -> the same) and `capture` (canary texts ->
fingerprint). A header of `embed` and `embed_tokens` may have `tokens_per_batch`, for smaller batches than the
configured ones.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib.util
import json
import os
import platform
import signal
import sys
from array import array
from pathlib import Path
from typing import Any, BinaryIO

# Of llama.cpp's API in 0.3.16, the oldest supported release; older ones lack some of these.
NEEDED = ("llama_init_from_model", "llama_model_n_embd", "llama_get_memory", "llama_memory_clear")


def load_file(path: Path) -> Any:
    """Load a Python file as a module of its bare name."""
    if path.stem in sys.modules:  # put there by the single file of `ragops fingerprint script`
        return sys.modules[path.stem]
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


HERE = Path(__file__).resolve().parent
# Python puts a program's folder first in the search path, where `config.py` and `errors.py` would shadow
# modules of the same name that llama_cpp imports.
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != HERE]
engine = load_file(HERE / "child_engine.py")
files = load_file(HERE / "child_files.py")
vocabulary = load_file(HERE / "child_vocabulary.py")
capturing = load_file(HERE / "child_capture.py")
standalone = load_file(HERE.parent / "builds" / "standalone.py")


def read_frame(source: BinaryIO) -> tuple[dict[str, Any], bytes] | None:
    """Return the next header and its payload, or None at the end of the stream."""
    size = source.read(4)
    if len(size) < 4:
        return None
    body = source.read(int.from_bytes(size, "big"))
    if len(body) < int.from_bytes(size, "big"):
        return None
    header: dict[str, Any] = json.loads(body)
    payload = source.read(header.get("payload", 0))
    return (header, payload) if len(payload) == header.get("payload", 0) else None


def write_frame(sink: BinaryIO, header: dict[str, object], payload: bytes = b"") -> None:
    """Write a header and its payload at once, and flush."""
    if payload:
        header = {**header, "payload": len(payload)}
    body = json.dumps(header).encode("ascii")
    sink.write(len(body).to_bytes(4, "big") + body + payload)
    sink.flush()


def private_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Return stdin and a private copy of stdout; descriptor 1 becomes stderr, so no print breaks a frame."""
    if sys.platform == "win32":
        import msvcrt

        for descriptor in (0, 1):  # text mode would turn every byte 10 into 13 10
            msvcrt.setmode(descriptor, os.O_BINARY)
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return sys.stdin.buffer, sink


def import_library() -> Any:
    """Import llama_cpp. Raises Refusal if it is missing, broken or too old."""
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


def build_facts(lib: Any) -> dict[str, object]:
    """Return what the loaded build is; the parent reads the features out of `system_info`."""
    return {
        "python": sys.executable,
        "python_version": platform.python_version(),
        "package_version": str(getattr(lib, "__version__", "unknown")),
        "system_info": lib.llama_print_system_info().decode("utf-8", "replace"),
        "platform": " ".join(filter(None, (platform.system(), platform.machine(), *platform.libc_ver()))),
    }


def captured_build(lib: Any) -> dict[str, object]:
    """Return the section `build` of a fingerprint."""
    facts = build_facts(lib)
    package = getattr(lib, "__file__", None)
    return {
        **facts,
        "features": standalone.parse_system_info(facts["system_info"]),
        **capturing.ggml_facts(lib),
        "libraries": standalone.library_files(Path(package).parent) if package else [],
        "cmake_args": standalone.recorded_cmake_args(Path(sys.prefix)),
    }


def capture(lib: Any, session: Any, **request: Any) -> dict[str, object]:
    """Return the fingerprint of the loaded build and model as one JSON document. Raises Refusal."""
    model = Path(session.config["model"])
    digests = [standalone.sha256_of(shard) for shard in files.shards_of(model)]
    facts: dict[str, Any] = {
        "sha256": files.combined_sha256(digests),
        "shards": digests,
        "weights": files.weights_id(model),
    }
    facts.update(size_of(session.config))
    try:
        return dict(capturing.capture(lib, session, captured_build(lib), model_files=facts, **request))
    except ValueError as error:
        raise engine.Refusal("vectors", str(error)) from None


def size_of(config: dict[str, Any]) -> dict[str, int]:
    """Return the model's size, of all shards together."""
    return {"file_bytes": files.model_bytes(Path(config["model"]))}


def answer(lib: Any, session: Any, request: dict[str, Any], ids: bytes) -> tuple[dict[str, Any], bytes]:
    """Return the header and payload that answer a request. Raises Refusal."""
    kind, suffix = request.get("request"), request.get("suffix", "")
    if kind == "tokens":
        return {"tokens": [len(session.tokenise(text, suffix)) for text in request["texts"]]}, b""
    if kind == "tokenise":
        tokens = [session.tokenise(text, suffix) for text in request["texts"]]
        return {"tokens": [len(ids) for ids in tokens]}, b"".join(array("i", ids).tobytes() for ids in tokens)
    if kind == "embed_tokens":
        counts = request["tokens"]
        vectors = session.embed_tokens(texts_of(ids, counts), request.get("tokens_per_batch"))
        return {"tokens": counts}, vectors
    if kind == "embed":
        counts, vectors = session.embed(request["texts"], request.get("tokens_per_batch"), suffix=suffix)
        return {"tokens": counts}, vectors
    if kind == "capture":
        names = ("canary", "prefix", "query_prefix", "suffix", "query_suffix")
        arguments = {key: request[key] for key in names}
        return {"fingerprint": capture(lib, session, **arguments)}, b""
    raise engine.Refusal("request", f"unknown request {kind!r}")


def texts_of(ids: bytes, counts: list[int]) -> list[Any]:
    """Return the ids of each text, out of all ids in a row."""
    import numpy as np

    whole, at, texts = np.frombuffer(ids, "<i4"), 0, []
    for count in counts:
        texts.append(whole[at : at + count])
        at += count
    return texts


def serve(source: BinaryIO, sink: BinaryIO) -> int:
    """Load the model of the first frame and answer requests until `source` ends; return the exit status."""
    first = read_frame(source)
    if first is None:
        return 0
    config = first[0]
    try:
        lib = import_library()
        session = engine.Engine(lib, config, vocabulary.Vocabulary)
    except engine.Refusal as refusal:
        write_frame(sink, refusal.frame)
        return 1
    write_frame(sink, {"hello": 1, "build": build_facts(lib), "model": {**session.facts(), **size_of(config)}})
    while True:
        request = read_frame(source)
        if request is None:
            return 0
        try:
            header, payload = answer(lib, session, *request)
        except engine.Refusal as refusal:
            header, payload = refusal.frame, b""
        write_frame(sink, header, payload)


def main() -> None:
    """Serve on stdin and stdout, and exit."""
    # Where gdb is installed, ggml prints pages of a debugger's after the check that failed, which hides it.
    os.environ.setdefault("GGML_NO_BACKTRACE", "1")
    faulthandler.enable()  # a crash in native code prints the Python line that called it
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    code = 0
    with contextlib.suppress(BrokenPipeError):  # the parent is gone: there is no one to report to
        code = serve(*private_pipes())
    os._exit(code)  # skips native destructors, some of which log into a dying interpreter


if __name__ == "__main__":
    main()
