"""The stub child, as slow as a file says (seconds for each text); its process is named after what it does."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import stub_child

EMBEDDER, TOKENIZER = "stub-embedder", "stub-tokenizer"


def rename(name: str) -> None:
    """Let the faults tell an embedder from a tokenizer; only Linux shows such a name."""
    with contextlib.suppress(OSError):
        Path("/proc/self/comm").write_text(name)


def main(pace: Path) -> None:
    embed = stub_child._embed

    def paced(texts: Sequence[Sequence[int]], arguments: Sequence[str] = ()) -> None:
        with contextlib.suppress(OSError, ValueError):
            time.sleep(float(pace.read_text()) * len(texts))
        embed(texts, arguments)

    rename(TOKENIZER)
    stub_child._embed = paced
    stub_child._start = lambda arguments: rename(EMBEDDER)
    stub_child.main([])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
