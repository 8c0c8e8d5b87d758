"""An embedder without a process: it dies, or returns broken vectors, by what a text says."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from facts_factory import model as model_facts
from numpy.typing import NDArray

from ragops.embedder.client import Embedder, EmbedderConfig, Embeddings, TokenIds
from ragops.errors import EmbedderDied
from ragops.postgres.queue import Claim, Item
from ragops.workers.inflight import InFlight, UniqueText
from ragops.workers.state import Stats, Stop
from ragops.workers.supervisor import ConsecutiveFailures, Supervisor

DIMENSIONS = 4
VECTORS: dict[str, tuple[float, ...]] = {
    "nan": (1.0, float("nan"), 0.0, 0.0),
    "inf": (float("-inf"), 0.0, 0.0, 0.0),
    "zero": (0.0, 0.0, 0.0, 0.0),
    "left": (-2.0, 0.0, 0.0, 0.0),
    "right": (3.0, 0.0, 0.0, 0.0),
}


@dataclass
class Nursery:
    """Start fake children and record the requests of each."""

    is_deadly: Callable[[str], bool] = lambda text: "poison" in text
    dies_at_start: Callable[[int], bool] = lambda number: False
    returncode: int | None = None
    """How they die: `ended by SIGKILL` for -9; None says nothing about it."""
    word: str = ""
    """What every vector is made of, whatever the text."""
    spreads: bool = False
    """A NaN is in every vector of its batch, unless texts are embedded alone."""
    goes_bad: Callable[[int], bool] = lambda number: False
    """Whether the child of this number (from 1) makes NaN of everything."""
    children: list[FakeEmbedder] = field(default_factory=list)
    starts: int = 0
    stop: Stop = field(default_factory=Stop)
    stats: Stats = field(default_factory=Stats)
    failures: ConsecutiveFailures = field(default_factory=ConsecutiveFailures)

    def start(self) -> Embedder:
        self.starts += 1
        if self.dies_at_start(self.starts):
            raise self.death("the embedder child was killed by SIGILL", "while it started")
        child = FakeEmbedder(self)
        self.children.append(child)
        return child

    def death(self, what: str, actual: str) -> EmbedderDied:
        died = EmbedderDied(what, where="fake", actual=actual)
        died.returncode = self.returncode
        return died

    def supervisor(self) -> Supervisor:
        return Supervisor(self.start, stop=self.stop, stats=self.stats, failures=self.failures)

    @property
    def requests(self) -> list[tuple[str, ...]]:
        """All requests for vectors of all children, in the order of the children."""
        return [request for child in self.children for request in child.requests]

    @property
    def open_children(self) -> int:
        return sum(not child.is_closed for child in self.children)


class FakeEmbedder(Embedder):
    """The part of an embedder that its supervisor uses."""

    def __init__(self, nursery: Nursery, *, vocab_only: bool = False) -> None:
        self.config = EmbedderConfig(Path("fake.gguf"), vocab_only=vocab_only)
        self.model = model_facts(dimensions=DIMENSIONS)
        self.requests: list[tuple[str, ...]] = []
        self.is_closed = False
        self._nursery = nursery
        self._is_dead = False

    def embed(self, texts: Sequence[str], *, suffix: str = "", tokens_per_batch: int | None = None) -> Embeddings:
        self.requests.append(tuple(texts))
        self._die_of(texts)
        vectors = np.array([_vector(self._nursery.word or text) for text in texts], np.float32)
        spreads = self._nursery.spreads and tokens_per_batch != 1
        if self._nursery.goes_bad(self._nursery.children.index(self) + 1) or (spreads and np.isnan(vectors).any()):
            vectors[:] = np.nan
        return Embeddings(vectors, tuple(1 for _ in texts))

    def embed_tokens(self, tokens: Sequence[TokenIds], *, tokens_per_batch: int | None = None) -> Embeddings:
        return self.embed([text_of(ids) for ids in tokens], tokens_per_batch=tokens_per_batch)

    def count_tokens(self, texts: Sequence[str], *, suffix: str = "") -> list[int]:
        self._die_of(texts)
        return [len(text.split()) for text in texts]

    def kill(self) -> None:
        self._is_dead = True

    def close(self, *, timeout_s: float = 5.0) -> None:
        self.is_closed = self._is_dead = True

    def _die_of(self, texts: Sequence[str]) -> None:
        if self._is_dead or any(map(self._nursery.is_deadly, texts)):
            self._is_dead = True
            raise self._nursery.death("the embedder child was killed by SIGABRT", "during a request")


def _vector(text: str) -> NDArray[np.float64]:
    word = text.split()[-1]
    if word in VECTORS:
        return np.array(VECTORS[word])
    return np.array([2.0, float(len(text)), 0.0, 1.0])


def ids_of(text: str) -> TokenIds:
    """A token for each character."""
    return np.array([ord(character) for character in text], np.int32)


def text_of(ids: TokenIds) -> str:
    return "".join(map(chr, ids))


def document(id: int) -> InFlight:
    item = Item(id, f"{id}.txt")
    return InFlight(item, Claim(uuid.uuid4(), (item,)))


def unique_texts(id: int, *texts: str) -> list[UniqueText]:
    """The texts of one document, which no other document has."""
    owner = document(id)
    return [UniqueText(text.encode(), ids_of(text), [(owner, number)]) for number, text in enumerate(texts)]
