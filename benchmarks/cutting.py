"""Time that cutting takes for texts without boundaries: in proportion to their size, whatever they consist of.

    python benchmarks/cutting.py
    python benchmarks/cutting.py --scale 0.1

Each text is cut twice, at a quarter of its size and whole, by the splitter with the real tokenizer of a model
(vocabulary only), in chunks of 512 tokens as `ragops embed` does. Printed are the CPU seconds of this process and
of the child that tokenises, and their ratio: four times the text must take less than five times the time. Then the
same texts are tokenised as one word, each up to the length that the splitter ever asks for.
"""

from __future__ import annotations

import argparse
import base64
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
from support import info, judge, machine

from ragops.demo.model import minilm_gguf
from ragops.documents.chunking import Chunker
from ragops.embedder.client import Embedder, EmbedderConfig
from ragops.paths import cache_folder

MAX_TOKENS = 512
RATIO = 5.0
# What takes less is not judged: clocks of processes are coarse.
LEAST_S = 0.1
MB = 1_000_000
# The first counts include what a process does once.
WARM_UP = "A few words to begin with. " * 5000


def texts(scale: float) -> Iterator[tuple[str, str]]:
    """Names and texts; sizes in bytes of UTF-8."""
    random.seed(0)
    words = ["".join(random.choices("abcdefghijklmnopqrstuvwxyz", k=random.randint(2, 11))) for _ in range(5000)]

    def repeated(unit: str, size: int) -> str:
        return unit * max(1, int(size * scale / len(unit.encode("utf-8"))))

    yield "JSON on one line", repeated('{"id": 1, "t": "a sentence."}, ', 30 * MB)
    yield "one word", repeated("x", 4 * MB)
    yield "base64 on one line", base64.b64encode(random.randbytes(int(48 * MB * scale))).decode()
    yield "base64 in lines", base64.encodebytes(random.randbytes(int(48 * MB * scale))).decode()
    yield "words on one line", " ".join(random.choices(words, k=int(4 * MB * scale)))
    yield "lines of words", "\n".join(" ".join(random.choices(words, k=10)) for _ in range(int(700_000 * scale)))
    yield (
        "CJK without a space",
        "".join(random.choices("\u6f22\u5b57\u4eee\u540d\u65e5\u672c", k=int(5 * MB * scale))),
    )
    yield "blanks between words", repeated("a" + " " * 100_000, 30 * MB)


def seconds(embedder: Embedder, text: str, *, markdown: bool) -> tuple[float, int]:
    """CPU seconds of this process and the child for cutting a text, and its chunks."""
    chunker = Chunker(count_tokens=embedder.count_tokens, max_tokens=MAX_TOKENS, markdown=markdown)
    child = psutil.Process(embedder.pid)
    began, began_child = time.process_time(), sum(child.cpu_times()[:2])
    chunks = chunker.chunk(text)
    assert sum(len(chunk.text.replace(" ", "").replace("\n", "")) for chunk in chunks) == sum(
        len(part) for part in text.split()
    )
    return time.process_time() - began + sum(child.cpu_times()[:2]) - began_child, len(chunks)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the sizes (default: 1)")
    parser.add_argument("--model", type=Path, help="GGUF (default: all-MiniLM-L6-v2, Q8_0)")
    given = parser.parse_args()
    info(machine())
    worst = 0.0
    config = EmbedderConfig(given.model or minilm_gguf(cache_folder()), vocab_only=True)
    with Embedder(config) as embedder:
        seconds(embedder, WARM_UP, markdown=False)
        for name, text in texts(given.scale):
            quarter, _ = seconds(embedder, text[: len(text) // 4], markdown=False)
            whole, chunks = seconds(embedder, text, markdown=False)
            marked, _ = seconds(embedder, text, markdown=True)
            size = len(text.encode("utf-8")) / MB
            info(
                f"{name:21} {size:6.1f} MB {chunks:7,} chunks  a quarter {quarter:7.2f} s, whole {whole:7.2f} s, "
                f"as Markdown {marked:7.2f} s, ratio {whole / quarter:.2f}"
            )
            if whole > LEAST_S:
                worst = max(worst, whole / quarter)
        for name, text in texts(min(given.scale, 0.01)):
            word = "".join(text.split())
            times = []
            for length in (64 * MAX_TOKENS // 4, 64 * MAX_TOKENS):
                began = time.perf_counter()
                embedder.count_tokens([word[:length]] * 20)
                times.append((time.perf_counter() - began) / 20 * 1000)
            info(f"tokenised as one word: {name:21} {times[0]:6.2f} ms, four times as long {times[1]:6.2f} ms")
    return judge("seconds of four times the text, largest ratio", worst, RATIO, at_most=True)


if __name__ == "__main__":
    sys.exit(main())
