"""Texts cut and turned into token ids by a child of its own, which holds the model's vocabulary only.

It answers at once, whatever the embedders are at: cutting a long document asks it several times a chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ragops.documents.chunking import Chunk
from ragops.documents.errors import Unreadable
from ragops.documents.extraction import Extracted
from ragops.embedder.client import Embedder, TokenIds
from ragops.errors import EmbedderError
from ragops.playbook.model import Playbook
from ragops.postgres.queue import Item
from ragops.workers.sources import Prepared, Preparer
from ragops.workers.supervisor import ConsecutiveFailures, Supervisor

TEXTS_PER_REQUEST = 256
_HEALTH_CHECK = "ok"


class Tokenizer:
    """Cuts documents to what the model takes; a document that kills the child fails alone."""

    def __init__(
        self,
        start: Callable[[], Embedder],
        playbook: Playbook,
        *,
        is_aborted: Callable[[], bool],
        info: Callable[[str], None],
        failures_in_a_row: ConsecutiveFailures,
    ) -> None:
        """Raises as Embedder does, UsageError when prefix and overlap leave no room for text."""
        self._holder = Supervisor(
            start,
            is_aborted=is_aborted,
            info=info,
            failures_in_a_row=failures_in_a_row,
            check=lambda embedder: embedder.count_tokens([_HEALTH_CHECK]),
        )
        self._preparer = Preparer(
            playbook,
            max_tokens=self._holder.embedder.model.max_tokens,
            count_tokens=lambda texts: self._holder.embedder.count_tokens(texts),
        )

    def kill(self) -> None:
        """End the child at once, from any thread."""
        self._holder.kill()

    def close(self) -> None:
        self._holder.close()

    def prepare(self, documents: Sequence[tuple[Item, Extracted]]) -> list[Prepared | Unreadable]:
        """Each document cut, in their order, or why it cannot be.

        Raises EmbedderError when the child fails whatever it is asked.
        """
        prepared: list[Prepared | Unreadable] = []
        for start in range(0, len(documents), TEXTS_PER_REQUEST):
            group = documents[start : start + TEXTS_PER_REQUEST]
            known = self._tokenise(group)
            prepared += [self._prepare(item, read, known.get(item.id)) for item, read in group]
        return prepared

    def _tokenise(self, group: Sequence[tuple[Item, Extracted]]) -> dict[object, tuple[str, TokenIds]]:
        """Text and ids of documents that may fit whole, in one request; none where the child refuses or dies."""
        stripped = [(item.id, read.text.strip()) for item, read in group]
        short = [(id, text) for id, text in stripped if self._preparer.may_fit(text)]
        try:
            found = self._holder.embedder.tokenise([self._preparer.prefix + text for _, text in short])
        except EmbedderError:
            return {}  # asked again one by one, the culprit is found and the others are not blamed
        return {id: (text, ids) for (id, text), ids in zip(short, found, strict=True)}

    def _prepare(self, item: Item, read: Extracted, known: tuple[str, TokenIds] | None) -> Prepared | Unreadable:
        if known is not None and len(known[1]) <= self._preparer.max_tokens:
            text, ids = known
            return Prepared(item, read, (Chunk(0, text, len(ids)),), (ids,))
        try:
            return self._holder.guard(item.id, lambda embedder: self._cut(embedder, item, read))
        except Unreadable as failure:
            return failure

    def _cut(self, embedder: Embedder, item: Item, read: Extracted) -> Prepared:
        chunks = self._preparer.chunk(read.text, markdown=read.media_type == "text/markdown")
        ids = embedder.tokenise([self._preparer.prefix + chunk.text for chunk in chunks])
        return Prepared(item, read, chunks, tuple(ids))
