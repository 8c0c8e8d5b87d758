"""Corpora: thousands of small files, some of several chunks, some alike, and a few that need a parser."""

from __future__ import annotations

import random
from pathlib import Path

TEXT = """
index vector query table row page lock plan cost scan join sort hash heap tuple vacuum lease fence epoch gate
claim batch chunk token model build drift space order commit abort answer cut stall pause crash wake
"""
WORDS = TEXT.split()
LONG_EVERY, PARSED_EVERY, TWIN_EVERY = 40, 200, 50


def write_corpus(folder: Path, documents: int, *, seed: int, name: str) -> Path:
    """Write a corpus; another `name` gives other texts under the same paths."""
    rng = random.Random(f"{seed} {name}")
    twin = f"corpus {name}: the same words in several files"
    for number in range(documents):
        place = folder / f"part{number % 16:02}"
        place.mkdir(parents=True, exist_ok=True)
        words = rng.choices(WORDS, k=rng.randint(6, 18))
        text = f"{name} note {number} {' '.join(words)}"
        if number % PARSED_EVERY == 7:
            body = f"<html><body><h1>{name} page {number}</h1><p>{' '.join(words)}</p></body></html>"
            (place / f"doc{number:05}.html").write_text(body, encoding="utf-8")
            continue
        if number % LONG_EVERY == 3:
            sentences = (" ".join(rng.choices(WORDS, k=12)).capitalize() for _ in range(rng.randint(10, 30)))
            text = f"{text}\n\n" + ". ".join(sentences) + "."
        if number % TWIN_EVERY == 5:
            text = twin
        (place / f"doc{number:05}.txt").write_text(text, encoding="utf-8")
    return folder
