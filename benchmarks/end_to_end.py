"""`ragops embed` end to end against a bare loop of llama.cpp over the very same token batches.

    python benchmarks/end_to_end.py

End to end is all that a document goes through: claim, read, cut, tokenise, embed, check, COPY, complete; its
time holds the start of the children. The bare loop has as many processes with as many threads, which take the
recorded requests as token ids from memory and call llama.cpp; its time begins when their models are loaded.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from support import (
    corpus,
    create_tables,
    info,
    judge,
    machine,
    playbook,
    recorded_requests,
    server,
    timed_embed,
)

from ragops.demo.model import minilm_gguf
from ragops.embedder.client import TokenIds
from ragops.embedder.config import probe_model
from ragops.host import read_limits
from ragops.paths import cache_folder
from ragops.workers.sizing import Sizing, plan_fleet

CHARACTERS = 400  # about 60 tokens
TARGET = 0.95


def bare_worker(config: dict[str, Any], requests: Sequence[list[TokenIds]], taken: Any, ready: Any) -> None:
    """Take requests one after the other until none is left."""
    import llama_cpp

    from ragops.embedder.child_engine import Engine
    from ragops.embedder.child_vocabulary import Vocabulary

    engine = Engine(llama_cpp, config, Vocabulary)
    engine.embed_tokens(requests[0][:1])
    ready.wait()
    while True:
        with taken.get_lock():
            number = taken.value
            taken.value += 1
        if number >= len(requests):
            return
        engine.embed_tokens(requests[number])


def bare(requests: Sequence[list[TokenIds]], model: Path, sizing: Sizing) -> float:
    """Seconds of the bare loop over all requests."""
    context = multiprocessing.get_context("spawn")
    taken, ready = context.Value("q", 0), context.Barrier(sizing.workers + 1)
    config = {
        "model": str(model),
        "n_ctx": 512,
        "n_batch": 2048,
        "n_threads": sizing.threads,
        "tokens_per_batch": sizing.tokens_per_batch,
    }
    workers = [
        context.Process(target=bare_worker, args=(config, requests, taken, ready)) for _ in range(sizing.workers)
    ]
    for worker in workers:
        worker.start()
    ready.wait()
    began = time.perf_counter()
    for worker in workers:
        worker.join()
    assert all(worker.exitcode == 0 for worker in workers), "a process of the bare loop failed"
    return time.perf_counter() - began


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--model", type=Path, help="GGUF (default: all-MiniLM-L6-v2, Q8_0)")
    given = parser.parse_args()
    model = given.model or minilm_gguf(cache_folder())
    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as scratch, server() as target:
        folder = corpus(Path(scratch, "corpus"), documents=given.documents, characters=CHARACTERS)
        book = playbook(source={"folder": folder}, model=model, workers={})
        sizing = plan_fleet(book, read_limits(), model_bytes=model.stat().st_size)
        create_tables(target, book, dimensions=probe_model(book).dimensions)
        for _ in range(given.rounds):
            with recorded_requests() as requests:
                seconds, count = timed_embed(target, book)
            assert count == given.documents, f"{count} of {given.documents} documents were stored"
            ours.append(seconds)
            theirs.append(bare(requests, model, sizing))
    tokens = int(np.sum([len(ids) for request in requests for ids in request]))
    info(machine())
    info(f"{given.documents} documents, {tokens:,} tokens in {len(requests)} requests; {sizing}")
    for name, times in (("bare loop", theirs), ("ragops embed", ours)):
        best = min(times)
        each = ", ".join(f"{s:.1f}" for s in times)
        info(f"{name}: {each} s; best {tokens / best:,.0f} tokens/s, {given.documents / best:.1f} documents/s")
    return judge("end to end against the bare loop", min(theirs) / min(ours), TARGET)


if __name__ == "__main__":
    sys.exit(main())
