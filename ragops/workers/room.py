"""Room for the bytes of documents in flight, so that memory does not grow with the size of documents."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from ragops.documents.chunking import Chunk
from ragops.embedder.client import TokenIds
from ragops.workers.inflight import InFlight

MIB = 1024 * 1024
# Long documents have their own room: one that is cut for minutes leaves the others theirs.
ORDINARY_BYTES, LONG_BYTES = 128 * MIB, 192 * MIB
# Of a chunk, beside its text, its token ids and its vector: measured 380 bytes.
_CHUNK_BYTES = 400


class Room:
    """Bytes that documents in flight hold, ordinary and long ones apart. The pipeline's lock guards it.

    A document that is larger than all of the room gets in as soon as no other is there.
    """

    def __init__(self, *, ordinary: int = ORDINARY_BYTES, long: int = LONG_BYTES) -> None:
        self._limits = {False: ordinary, True: long}
        self._held = {False: 0, True: 0}

    @property
    def is_full(self) -> bool:
        """Whether ordinary documents take all of their room."""
        return self._held[False] >= self._limits[False]

    @property
    def held(self) -> int:
        """Bytes of all documents."""
        return sum(self._held.values())

    def take(self, document: InFlight, weight: int) -> bool:
        """Let a document have `weight` bytes; False if there is no room for them now."""
        others = self._held[document.is_long] - document.weight
        if weight > document.weight and others > 0 and others + weight > self._limits[document.is_long]:
            return False
        self.weigh(document, weight)
        return True

    def weigh(self, document: InFlight, weight: int) -> None:
        """Note what a document takes now, whether there is room for it or not."""
        self._held[document.is_long] += weight - document.weight
        document.weight = weight


def weight_of(text: str, chunks: Sequence[Chunk], ids: Sequence[TokenIds], *, dimensions: int) -> int:
    """Return the bytes that a document takes from its cutting until it is stored."""
    texts = sys.getsizeof(text) + sum(sys.getsizeof(chunk.text) for chunk in chunks)
    return texts + sum(one.nbytes for one in ids) + len(chunks) * (_CHUNK_BYTES + 4 * dimensions)
