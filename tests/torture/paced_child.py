"""A child as slow as a file says (seconds for each text), whose process is named after what it does.

The stub; or with another argument, the path of ragops' own child, llama.cpp.
"""

from __future__ import annotations

import contextlib
import importlib.util
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import stub_child

EMBEDDER, TOKENIZER = "stub-embedder", "stub-tokenizer"


def rename(name: str) -> None:
    """Let the faults tell an embedder from a tokenizer; only Linux shows such a name."""
    with contextlib.suppress(OSError):
        Path("/proc/self/comm").write_text(name)


def wait(pace: Path, texts: int) -> None:
    with contextlib.suppress(OSError, ValueError):
        time.sleep(float(pace.read_text()) * texts)


def is_measuring(request: Mapping[str, Any]) -> bool:
    """Whether batches are measured, which takes a second with such a model.

    280 texts at the pace of documents take so long that faults kill it more often than ragops asks again.
    """
    return request.get("request") == "embed_tokens" and "tokens_per_batch" in request


def run_stub(pace: Path) -> None:
    embed, read = stub_child._embed, stub_child._read
    request: dict[str, Any] = {}

    def noted() -> tuple[dict[str, Any], list[int]]:
        nonlocal request
        request, payload = read()
        return request, payload

    def paced(texts: Sequence[Sequence[int]], arguments: Sequence[str]) -> None:
        if not is_measuring(request):
            wait(pace, len(texts))
        embed(texts, arguments)

    rename(TOKENIZER)
    stub_child._read = noted
    stub_child._embed = paced
    stub_child._start = lambda arguments: rename(EMBEDDER)
    stub_child.main([])


def run_real(pace: Path, program: Path) -> None:
    spec = importlib.util.spec_from_file_location("child", program)
    assert spec is not None and spec.loader is not None
    child: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(child)
    answer, start = child.answer, child.engine.Engine

    def paced(lib: Any, session: Any, request: dict[str, Any], ids: bytes) -> Any:
        if request.get("request") == "embed_tokens" and not is_measuring(request):
            wait(pace, len(request["tokens"]))
        return answer(lib, session, request, ids)

    def started(lib: Any, config: dict[str, Any]) -> Any:
        rename(TOKENIZER if config["vocab_only"] else EMBEDDER)
        return start(lib, config)

    child.answer, child.engine.Engine = paced, started
    child.main()


if __name__ == "__main__":
    if len(sys.argv) > 2:
        run_real(Path(sys.argv[1]), Path(sys.argv[2]))
    else:
        run_stub(Path(sys.argv[1]))
