"""Compare builds of llama.cpp with one model: effective features, documents per second, drift.

    python benchmarks/builds.py --model MODEL.gguf NAME=INTERPRETER ...

Builds come from `ragops build install`; `ragops build show NAME` prints the interpreter. Drift is the
largest cosine distance of a canary text to the first build's vector. Every build embeds the same
chunks with one process and one thread for the same time; only the ratio to the first build means
anything on other machines.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from ragops.demo.corpus import write_stdlib_corpus
from ragops.documents.walking import walk_folder
from ragops.embedder.client import Embedder, EmbedderConfig
from ragops.fingerprint.document import Fingerprint, capture
from ragops.quality.spaces import SpaceLimits, measure_spaces, space_verdict

ROUNDS = 3
LIMITS = SpaceLimits()


@dataclass(frozen=True, slots=True)
class Measured:
    """One build's figures."""

    name: str
    version: str
    features: str
    docs_per_s: float
    fingerprint: Fingerprint


def corpus_texts(folder: Path, documents: int) -> list[str]:
    """Return the first 600 characters of docstrings of the standard library."""
    write_stdlib_corpus(folder, documents=documents)
    return [(folder / name).read_text(encoding="utf-8")[:600] for name in walk_folder(folder, ["**/*.txt"])]


def measure(name: str, python: str, model: Path, texts: list[str]) -> Measured:
    """Capture a fingerprint and embed the texts under one interpreter."""
    with Embedder(EmbedderConfig(model=model, python=python, tokens_per_batch=1)) as embedder:
        fingerprint = capture(embedder, document_prefix="", query_prefix="")
    with Embedder(EmbedderConfig(model=model, python=python)) as embedder:
        embedder.embed(texts[:20])  # the first batch also faults the weights in
        best = 0.0  # the fastest round: neighbours on the machine only ever slow one down
        for _ in range(ROUNDS):
            started = time.perf_counter()
            embedder.embed(texts)
            best = max(best, len(texts) / (time.perf_counter() - started))
        build = embedder.build
    features = " ".join(key for key, value in build.features.items() if value != "0")
    return Measured(name, build.package_version, features, best, fingerprint)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("builds", nargs="+", metavar="NAME=INTERPRETER")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--documents", type=int, default=200)
    parser.add_argument("--corpus", type=Path, default=Path("benchmark-corpus"))
    given = parser.parse_args()
    texts = corpus_texts(given.corpus, given.documents)
    pairs = [build.partition("=") for build in given.builds]
    measured = [measure(name, python, given.model, texts) for name, _, python in pairs]
    first = measured[0]
    out = sys.stdout
    out.write("| build | version | effective features | docs/s | ratio | drift, max | overlap at 10 | verdict |\n")
    out.write("|---|---|---|---|---|---|---|---|\n")
    for one in measured:
        ours, reference = one.fingerprint.vectors, first.fingerprint.vectors
        drift = measure_spaces(ours, reference, tie_tolerance=LIMITS.max_drift)
        cells = [
            one.name,
            one.version,
            one.features,
            f"{one.docs_per_s:.0f}",
            f"{one.docs_per_s / first.docs_per_s:.2f}",
            f"{drift.max or 0:.1e}",
            f"{drift.top10_overlap or 0:.1%}",
            space_verdict(drift, LIMITS),
        ]
        out.write(f"| {' | '.join(cells)} |\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
