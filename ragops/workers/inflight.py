"""State of in-flight work: claimed documents and the unique texts whose vectors they wait for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ragops.documents.chunking import Chunk
from ragops.documents.extraction import Extracted
from ragops.documents.reading import UnknownTokens
from ragops.documents.states import FileState
from ragops.embedder.client import TokenIds
from ragops.postgres.queue import Claim, Item

# A vector of Euclidean length 1, shape (dimensions,).
UnitVector = NDArray[np.float32]


# eq=False here and below: equality is identity. Field by field, `==` of arrays is an array, not a bool.
@dataclass(eq=False, slots=True)
class InFlight:
    """One claimed document: its chunks, the vectors that it has, or the reason why it failed."""

    item: Item
    claim: Claim
    extracted: Extracted | None = None
    """None for a document that could not be read or cut."""
    chunks: tuple[Chunk, ...] = ()
    vectors: list[UnitVector | None] = field(default_factory=list)
    """One per chunk; None while it is missing."""
    missing: int = 0
    states: Mapping[str, FileState] | None = None
    """How the claim's files were when they were queued, by location; None if that is not known."""
    unknown: UnknownTokens | None = None
    """None: not measured."""
    failure: str | None = None
    is_finished: bool = False
    is_long: bool = False
    """It is read and cut apart from the others, and takes room apart from theirs."""
    weight: int = 0
    """Bytes of memory that it takes."""
    worker: str = ""
    """The worker that embedded its last text; empty if all of its texts were known."""
    milliseconds: float = 0.0
    """Embedding time of the texts that this document was the first to want."""

    @property
    def tokens(self) -> int:
        return sum(chunk.tokens for chunk in self.chunks)

    def drop_contents(self) -> None:
        """Let go what takes memory, of a document that is not to be stored, or is stored."""
        self.extracted = None
        # As many as before: a text of it may be on its way still.
        self.vectors = [None] * len(self.vectors)
        self.chunks = tuple(Chunk(chunk.index, "", chunk.tokens) for chunk in self.chunks)


@dataclass(eq=False, slots=True)
class UniqueText:
    """One distinct text, with every chunk in flight that has it as (document, number of the chunk)."""

    key: bytes
    ids: TokenIds
    wanted_by: list[tuple[InFlight, int]]
    reason: str | None = None
    """Why it has no vector."""
    names_chunk: bool = False
    """The reason concerns one chunk, not the whole document."""

    @property
    def is_wanted(self) -> bool:
        """False if every document that has this text has failed because of another one."""
        return any(document.failure is None for document, _ in self.wanted_by)

    @property
    def owner(self) -> object:
        """The id of the item that is blamed for this text."""
        return self.wanted_by[0][0].item.id

    def fail(self, reason: str, *, names_chunk: bool = False) -> None:
        """Fail every document that has this text."""
        self.reason, self.names_chunk = reason, names_chunk
        self.fail_documents()

    def fail_documents(self) -> None:
        """Pass the reason on to the documents, those included that came to want the text after `fail`."""
        for document, number in self.wanted_by:
            if document.failure is None and self.reason is not None:
                document.failure = f"chunk {number}: {self.reason}" if self.names_chunk else self.reason
