"""One worker's hold on an embedder child: restarts after deaths, bisects batches down to the poison item."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ragops.documents.failures import Unreadable
from ragops.errors import EmbedderDied
from ragops.llama.embedder import Embedder
from ragops.quality.vectors import check_vectors, mean_vector, normalize
from ragops.workers.prepare import Prepared

# A request stays well below the deadline even in a build that makes 200 tokens a second.
MAX_TOKENS_PER_REQUEST = 16_384
MAX_DEATHS = 3
_HEALTH_CHECK = "ok"


@dataclass(frozen=True, slots=True)
class EmbeddedDocument:
    """A prepared document with its chunks' unit vectors, shape (chunks, d), and their mean, shape (d,)."""

    prepared: Prepared
    chunk_vectors: NDArray[np.float32]
    vector: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Outcome:
    documents: list[EmbeddedDocument]
    failures: list[tuple[Any, str]]


class EmbedderHolder:
    """Holds one child and replaces it when it dies.

    A death is no document's fault until the document is alone with it. Three deaths in a row that no
    success interrupts say that the child itself is broken: then EmbedderDied is raised.
    """

    def __init__(
        self,
        start: Callable[[], Embedder],
        *,
        document_prefix: str,
        is_aborted: Callable[[], bool],
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._start = start
        self._prefix = document_prefix
        self._is_aborted = is_aborted
        self._say = say
        self._poisoned_in_a_row = 0
        self.embedder = start()

    def close(self) -> None:
        self.embedder.close()

    def kill(self) -> None:
        """End the child at once, from any thread."""
        self.embedder.kill()

    def count_tokens(self, texts: list[str]) -> list[int]:
        return self.embedder.count_tokens(texts)

    def embed(self, documents: Sequence[Prepared]) -> Outcome:
        """Embed a batch; documents that kill the child or get a broken vector come back as failures.

        Raises EmbedderDied when the child dies whatever it is given.
        """
        outcome = Outcome([], [])
        for group in _groups(documents):
            self._embed_group(group, outcome)
        return outcome

    def guard(self, work: Callable[[], Prepared]) -> Prepared:
        """Run something that asks the child about one document; a second death makes it that document's fault."""
        try:
            return work()
        except EmbedderDied as death:
            self._replace(death)
        try:
            return work()
        except EmbedderDied as death:
            self._replace(death)
            self._count_poison(death)
            raise Unreadable(f"the embedder child died on this document: {_cause(death)}") from death

    def _embed_group(self, group: Sequence[Prepared], outcome: Outcome) -> None:
        try:
            vectors = self.embedder.embed([self._prefix + c.text for p in group for c in p.chunks]).vectors
        except EmbedderDied as death:
            if self._is_aborted():
                raise
            self._replace(death)
            if len(group) == 1:
                self._count_poison(death)
                reason = f"the embedder child died on this document: {_cause(death)}"
                outcome.failures.append((group[0].item.id, reason))
                return
            middle = len(group) // 2
            self._embed_group(group[:middle], outcome)
            self._embed_group(group[middle:], outcome)
            return
        self._sort_out(group, vectors, outcome)

    def _sort_out(self, group: Sequence[Prepared], vectors: NDArray[np.float32], outcome: Outcome) -> None:
        faults = {f.index: f.reason for f in check_vectors(vectors, dimensions=self.embedder.model.dimensions)}
        start = 0
        for prepared in group:
            rows = range(start, start + len(prepared.chunks))
            start = rows.stop
            broken = next(((row - rows.start, faults[row]) for row in rows if row in faults), None)
            if broken:
                outcome.failures.append((prepared.item.id, f"chunk {broken[0]}: {broken[1]}"))
                continue
            units = normalize(vectors[rows.start : rows.stop])
            mean = mean_vector(units)
            if check_vectors(mean[None, :], dimensions=mean.size):
                outcome.failures.append((prepared.item.id, "its chunks' vectors cancel out: the mean is zero"))
                continue
            outcome.documents.append(EmbeddedDocument(prepared, units, mean))
            self._poisoned_in_a_row = 0
        if faults:
            # A child that makes broken vectors may go on doing so.
            self._say("an embedder child returned a broken vector and is replaced")
            self.embedder.close()
            self.embedder = self._start()

    def _replace(self, death: EmbedderDied) -> None:
        """Start a new child and see that it lives; raises EmbedderDied when three in a row do not."""
        if self._is_aborted():
            raise death
        self._say(f"an embedder child died ({_cause(death)}); starting another")
        last = death
        for _ in range(MAX_DEATHS):
            self.embedder.close(timeout_s=0)
            try:
                self.embedder = self._start()
                self.embedder.embed([_HEALTH_CHECK])
                return
            except EmbedderDied as again:
                if self._is_aborted():
                    raise
                last = again
        raise last

    def _count_poison(self, death: EmbedderDied) -> None:
        self._poisoned_in_a_row += 1
        if self._poisoned_in_a_row >= MAX_DEATHS:
            raise EmbedderDied(
                f"the embedder child died on {MAX_DEATHS} documents in a row; stopped, the queue is untouched",
                where=death.where,
                found=death.found,
                hint=death.hint or "ragops verify",
            ) from death


def _cause(death: EmbedderDied) -> str:
    return (death.found or death.what).splitlines()[0][:200]


def _groups(documents: Sequence[Prepared]) -> Iterator[list[Prepared]]:
    """Requests of bounded size, in the given order."""
    group: list[Prepared] = []
    tokens = 0
    for document in documents:
        if group and tokens + document.tokens > MAX_TOKENS_PER_REQUEST:
            yield group
            group, tokens = [], 0
        group.append(document)
        tokens += document.tokens
    if group:
        yield group
