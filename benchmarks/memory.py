"""Memory over a long campaign: what the controller grows by, and what a child takes beside its model.

    python benchmarks/memory.py
    python benchmarks/memory.py --only large

1.1 million items go through `ragops embed` with a stub for the embedder; the controller's resident memory is read
after a warm-up of 5 % and at every further 5 %. Then a real child embeds texts of all lengths up to its context,
and its resident memory, with the mapped model in it, is read at its highest. Before, 60 files of 10 MB are
embedded: words with one emoji, which makes each character take 4 bytes of memory, and blanks.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psutil
from pipeline import OPTIONAL, fill_texts
from support import RESEED, create_tables, fresh_cache, info, judge, machine, open_session, playbook, server

from ragops.campaign.steps.base import SingleCommand
from ragops.campaign.steps.embed import drain
from ragops.demo.model import minilm_gguf
from ragops.embedder.client import Embedder, EmbedderConfig
from ragops.embedder.config import TOKENS_PER_BATCH
from ragops.facts import HostLimits
from ragops.host import read_limits
from ragops.paths import cache_folder
from ragops.reporter import NullReporter

DIMENSIONS = 64
STUB = Path(__file__).with_name("stub_embedder.py")
GROWTH_MB, CHILD_MB, LARGE_MB = 20.0, 200.0, 500.0
LARGE_FILES, LARGE_BYTES = 60, 10_000_000
WARM_UP = 0.05


class Watched(NullReporter):
    """A reporter that reads this process's memory at every twentieth of the way."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._process = psutil.Process()
        self.samples: list[tuple[float, float]] = []

    def info(self, message: str, **fields: object) -> None:
        info(f"  {message}")

    def progress(self, what: str, done: float, total: float | None, note: str = "") -> None:
        share = done / self._total
        if what == "embedding" and share >= WARM_UP * (len(self.samples) + 1):
            self.samples.append((share, self._process.memory_info().rss / 1e6))


def controller_growth(rows: int) -> float:
    """MB that the controller grew by between the warm-up and the highest later sample."""
    with tempfile.TemporaryDirectory() as folder, server() as target, fresh_cache():
        model = Path(folder, "stub.gguf")
        model.write_bytes(b"GGUF")
        book = playbook(
            source={"table": "texts", "id_column": "id", "text_column": "body"},
            model=model,
            workers={"count": 1, "threads": 1},
            tables=dict.fromkeys(OPTIONAL),
            indexes=(),
        )
        create_tables(target, book, dimensions=DIMENSIONS)
        fill_texts(target, rows)
        with open_session(target, book, (sys.executable, str(STUB), str(DIMENSIONS))) as session:
            RESEED.run(SingleCommand(session))
            watched = Watched(rows)
            result = drain(SingleCommand(replace(session, reporter=watched)))
    assert result.completed == rows, result
    (_, first), *rest = watched.samples
    highest = max(size for _, size in rest)
    info(
        f"controller: {first:.0f} MB at {watched.samples[0][0]:.0%}, at most {highest:.0f} MB later, "
        f"{rows:,} items at {result.docs_per_s:,.0f} documents/s"
    )
    return highest - first


def child_beyond_model(model: Path, limits: HostLimits) -> float:
    """MB of a real child's highest resident memory beyond the size of its model's file."""
    config = EmbedderConfig(model, n_threads=limits.cores, tokens_per_batch=TOKENS_PER_BATCH)
    with Embedder(config) as embedder, highest_memory(embedder.pid) as highest:
        for words in (1, 10, 100, embedder.model.max_tokens - 2):
            embedder.embed(["word " * words] * 64)
    size = model.stat().st_size / 1e6
    info(f"child: {highest[0]:.0f} MB at most, its model has {size:.0f} MB")
    return highest[0] - size


def with_large_files(files: int, unit: str) -> float:
    """MB of this process's highest resident memory while it embeds large files of a repeated text."""
    with tempfile.TemporaryDirectory() as folder, server() as target, fresh_cache():
        model = Path(folder, "stub.gguf")
        model.write_bytes(b"GGUF")
        for number in range(files):
            text = f"{number} \U0001f600 " + unit * (LARGE_BYTES // len(unit))
            Path(folder, f"{number}.txt").write_text(text, encoding="utf-8")
        source = {"folder": Path(folder), "patterns": ("*.txt",)}
        book = playbook(source=source, model=model, workers={"count": 1, "threads": 1}, indexes=())
        create_tables(target, book, dimensions=384)
        with open_session(target, book, (sys.executable, str(STUB), "384", "4")) as session:
            RESEED.run(SingleCommand(session))
            with highest_memory(psutil.Process().pid) as highest:
                result = drain(SingleCommand(session))
    assert result.completed == files, result
    info(f"{files} files of {LARGE_BYTES / 1e6:.0f} MB of {unit!r}: {highest[0]:.0f} MB at most")
    return highest[0]


@contextmanager
def highest_memory(pid: int) -> Iterator[list[float]]:
    """The largest resident memory of a process in MB, read again and again meanwhile."""
    highest, ended, process = [0.0], threading.Event(), psutil.Process(pid)

    def watch() -> None:
        while True:
            highest[0] = max(highest[0], process.memory_info().rss / 1e6)
            if ended.wait(0.05):
                return

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield highest
    finally:
        ended.set()
        thread.join()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_100_000)
    parser.add_argument("--model", type=Path, help="GGUF (default: all-MiniLM-L6-v2, Q8_0)")
    parser.add_argument("--only", choices=("large",), help="large files only")
    parser.add_argument("--files", type=int, default=LARGE_FILES)
    given = parser.parse_args()
    info(machine())
    # First: memory that Python has had does not always go back.
    large = max(with_large_files(given.files, unit) for unit in ("some words of a text. ", " "))
    missed = judge("memory of the controller with large files in MB", large, LARGE_MB, at_most=True)
    if given.only:
        return missed
    grown = controller_growth(given.rows)
    beyond = child_beyond_model(given.model or minilm_gguf(cache_folder()), read_limits())
    missed |= judge("growth of the controller in MB", grown, GROWTH_MB, at_most=True)
    return missed | judge("memory of a child beyond its model in MB", beyond, CHILD_MB, at_most=True)


if __name__ == "__main__":
    sys.exit(main())
