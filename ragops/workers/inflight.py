"""What is on its way through a fleet: documents in hand, their distinct texts, and how fast they go."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ragops.embedder.client import TokenIds
from ragops.postgres.queue import Claim, Item
from ragops.workers.sources import Prepared

UnitVector = NDArray[np.float32]
"""A vector of length 1, shape (dimensions,)."""

FIRST_PACE_S, PACE_S = 0.05, 2.0


@dataclass(eq=False, slots=True)
class InFlight:
    """A claimed document on its way: what it waits for, what it has, or why it failed."""

    item: Item
    claim: Claim
    prepared: Prepared | None = None
    vectors: list[UnitVector | None] = field(default_factory=list)
    missing: int = 0
    failure: str | None = None
    is_finished: bool = False
    worker: str = ""
    """Who embedded its last text; empty when all of them were known."""
    milliseconds: float = 0.0

    @property
    def tokens(self) -> int:
        return self.prepared.tokens if self.prepared else 0


@dataclass(eq=False, slots=True)
class UniqueText:
    """A distinct text, with everything in hand that wants its vector: (document, number of the chunk)."""

    key: bytes
    ids: TokenIds
    wanted_by: list[tuple[InFlight, int]]
    reason: str | None = None
    """Why it has no vector."""
    names_chunk: bool = False
    """The reason holds for a chunk, not for the whole document."""

    @property
    def is_wanted(self) -> bool:
        """False when every document that has this text has failed by another."""
        return any(document.failure is None for document, _ in self.wanted_by)

    @property
    def owner(self) -> object:
        """The item that is blamed for this text."""
        return self.wanted_by[0][0].item.id

    def fail(self, reason: str, *, names_chunk: bool = False) -> None:
        """Make it the fault of every document that has this text."""
        self.reason, self.names_chunk = reason, names_chunk
        self.blame()

    def blame(self) -> None:
        """The same for documents that came to want it later."""
        for document, number in self.wanted_by:
            if document.failure is None and self.reason is not None:
                document.failure = f"chunk {number}: {self.reason}" if self.names_chunk else self.reason


class Throughput:
    """Documents a second of late; 0 until it is known. Time is passed in."""

    def __init__(self) -> None:
        self.docs_per_s = 0.0
        self._since: float | None = None
        self._documents = 0

    def add(self, documents: int, *, now: float) -> None:
        if self._since is None:
            self._since = now
            return
        self._documents += documents
        if now - self._since >= (PACE_S if self.docs_per_s else FIRST_PACE_S):
            self.docs_per_s = self._documents / (now - self._since)
            self._since, self._documents = now, 0
