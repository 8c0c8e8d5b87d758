"""The documents that every layout stores, and the vectors that are right for them."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from tiny_gguf import WORDS

if TYPE_CHECKING:
    from llama_cpp import Llama

Vector = list[float]
Metadata = Mapping[str, str | int]


@dataclass(frozen=True, slots=True)
class Document:
    """One document, with what a user would want to get back with it."""

    number: int
    title: str
    body: str
    topic: str

    @property
    def metadata(self) -> dict[str, str | int]:
        return {"number": self.number, "topic": self.topic}


def documents(count: int = 40, *, seed: int = 5) -> tuple[Document, ...]:
    """Documents of different words, so that the texts are far from each other."""
    rng = random.Random(seed)
    words = WORDS.split()
    made = []
    for number in range(count):
        chosen = rng.sample(words, 12)
        made.append(Document(number, " ".join(chosen[:2]), " ".join(chosen[2:]), chosen[-1]))
    return tuple(made)


class Embedder:
    """The tiny model in this process, through llama-cpp-python alone: nothing of ragops."""

    def __init__(self, model: Path) -> None:
        from llama_cpp import Llama

        self._model: Llama = Llama(str(model), embedding=True, n_ctx=128, verbose=False)
        self._known: dict[str, Vector] = {}

    def __call__(self, text: str) -> Vector:
        if text not in self._known:
            self._known[text] = [float(value) for value in self._model.embed(text, normalize=True)]
        return self._known[text]


class Shifted:
    """An embedder that gives each known text the vector of the next one: plausible vectors, all of them wrong."""

    def __init__(self, embed: Callable[[str], Vector], texts: Sequence[str]) -> None:
        self._embed = embed
        self._next = {text: texts[(i + 1) % len(texts)] for i, text in enumerate(texts)}
        self.is_wrong = True

    def stored(self, text: str) -> Vector:
        """Return the vector that is stored with a text."""
        return self._embed(self._next.get(text, text) if self.is_wrong else text)

    def query(self, text: str) -> Vector:
        """Return the vector of a query: queries are right, that is the incident."""
        return self._embed(text)


def nearest(query: Vector, vectors: Mapping[int, Vector], *, limit: int, metric: str = "cosine") -> list[int]:
    """Return the numbers of the nearest documents, exactly; fails where two of them are as near."""
    numbers = list(vectors)
    matrix = np.asarray([vectors[number] for number in numbers], dtype=np.float64)
    distances = _distances(np.asarray(query, dtype=np.float64), matrix, metric)
    order = np.argsort(distances)
    gaps = np.diff(distances[order][: limit + 1])
    assert (gaps > 1e-4).all(), f"documents that are equally near decide nothing: {distances[order][: limit + 1]}"
    return [numbers[place] for place in order[:limit]]


def _distances(query: NDArray[np.float64], matrix: NDArray[np.float64], metric: str) -> NDArray[np.float64]:
    if metric == "l2":
        return np.asarray(np.linalg.norm(matrix - query, axis=1))
    return np.asarray(1 - matrix @ query / (np.linalg.norm(matrix, axis=1) * np.linalg.norm(query)))
