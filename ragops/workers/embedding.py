"""One worker's hold on an embedder child: restarts after deaths, bisects batches down to the poison item."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ragops.documents.failures import Unreadable
from ragops.errors import EmbedderDied, EmbedderError
from ragops.llama.embedder import Embedder
from ragops.quality.vectors import check_vectors, mean_vector, normalize
from ragops.workers.prepare import Prepared

# A request stays well below the deadline even in a build that makes 200 tokens a second, and progress
# and a stop that comes at once never wait long for one.
MAX_TOKENS_PER_REQUEST = 4096
MAX_DEATHS = 3
_HEALTH_CHECK = "ok"


@dataclass(frozen=True, slots=True)
class EmbeddedDocument:
    """A prepared document with its chunks' unit vectors, shape (chunks, d), and their mean, shape (d,)."""

    prepared: Prepared
    chunk_vectors: NDArray[np.float32]
    vector: NDArray[np.float32]


@dataclass(slots=True)
class Outcome:
    documents: list[EmbeddedDocument]
    failures: list[tuple[Any, str]]
    fatal: EmbedderError | None = None
    """Why the batch was not finished: store what there is, give the rest back, then raise this."""


class Strikes:
    """Documents in a row that the children of a fleet failed on; safe to use from all threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0

    def add(self) -> int:
        with self._lock:
            self._count += 1
            return self._count

    def forget(self) -> None:
        with self._lock:
            self._count = 0


class EmbedderHolder:
    """Holds one child and replaces it when it dies.

    A death is no document's fault until the document is alone with it. Three documents in a row, over all
    workers that share `strikes`, say that the child itself is broken: then nothing more is failed.
    """

    def __init__(
        self,
        start: Callable[[], Embedder],
        *,
        document_prefix: str,
        is_aborted: Callable[[], bool],
        say: Callable[[str], None] = lambda _: None,
        strikes: Strikes | None = None,
    ) -> None:
        self._start = start
        self._prefix = document_prefix
        self._is_aborted = is_aborted
        self._say = say
        self._strikes = strikes or Strikes()
        self.embedder = start()

    def close(self) -> None:
        self.embedder.close()

    def kill(self) -> None:
        """End the child at once, from any thread."""
        self.embedder.kill()

    def count_tokens(self, texts: list[str]) -> list[int]:
        return self.embedder.count_tokens(texts)

    def embed(self, documents: Sequence[Prepared], *, progress: Callable[[int], None] = lambda _: None) -> Outcome:
        """Embed a batch; documents that kill the child or get a broken vector come back as failures.

        `progress` is told how many documents are done after every request. The outcome is `fatal`, and
        unfinished, when the child fails whatever it is given. Raises EmbedderDied only when the run was
        aborted.
        """
        outcome = Outcome([], [])
        try:
            for group in _groups(documents):
                self._embed_group(group, outcome)
                progress(len(outcome.documents) + len(outcome.failures))
        except EmbedderError as error:
            if self._is_aborted():
                raise
            outcome.fatal = error
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
            if self._strikes.add() > MAX_DEATHS:
                raise self._give_up(death) from death
            raise Unreadable(_blame(death)) from death

    def _embed_group(self, group: Sequence[Prepared], outcome: Outcome) -> None:
        try:
            vectors = self.embedder.embed([self._prefix + c.text for p in group for c in p.chunks]).vectors
        except EmbedderError as error:
            if isinstance(error, EmbedderDied):
                self._replace(error)
            if len(group) == 1:
                self._fail(group[0], _blame(error), outcome, error)
                return
            middle = len(group) // 2
            self._embed_group(group[:middle], outcome)
            self._embed_group(group[middle:], outcome)
            return
        self._sort_out(group, vectors, outcome)

    def _sort_out(self, group: Sequence[Prepared], vectors: NDArray[np.float32], outcome: Outcome) -> None:
        """Keep good documents, fail those with a broken vector, and replace a child that made one."""
        faults = {f.index: f.reason for f in check_vectors(vectors, dimensions=self.embedder.model.dimensions)}
        start = 0
        for prepared in group:
            rows = range(start, start + len(prepared.chunks))
            start = rows.stop
            reason = next((f"chunk {row - rows.start}: {faults[row]}" for row in rows if row in faults), None)
            if reason is None:
                self._keep(prepared, normalize(vectors[rows.start : rows.stop]), outcome)
            else:
                self._fail(prepared, reason, outcome, EmbedderError("broken vectors", found=reason))
        if faults:
            # A child that makes broken vectors may go on doing so.
            self._say("an embedder child returned a broken vector and is replaced")
            self.embedder.close()
            self.embedder = self._start()

    def _keep(self, prepared: Prepared, units: NDArray[np.float32], outcome: Outcome) -> None:
        """Add a document with its chunks' unit vectors (chunks, d)."""
        self._strikes.forget()
        mean = mean_vector(units)
        if check_vectors(mean[None, :], dimensions=mean.size):
            outcome.failures.append((prepared.item.id, "its chunks' vectors cancel out: the mean is zero"))
            return
        outcome.documents.append(EmbeddedDocument(prepared, units, mean))

    def _fail(self, prepared: Prepared, reason: str, outcome: Outcome, error: EmbedderError) -> None:
        strikes = self._strikes.add()
        if strikes <= MAX_DEATHS:
            outcome.failures.append((prepared.item.id, reason))
        if strikes >= MAX_DEATHS:
            raise self._give_up(error) from error

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

    def _give_up(self, error: EmbedderError) -> EmbedderError:
        return EmbedderError(
            f"the embedder failed on {MAX_DEATHS} documents in a row; stopped before it fails the queue",
            where=error.where,
            found=error.found or error.what,
            hint=error.hint or "ragops verify   then, for the failed items: ragops queue retry",
        )


def _blame(error: EmbedderError) -> str:
    how = "died on" if isinstance(error, EmbedderDied) else "refused"
    return f"the embedder child {how} this document: {_cause(error)}"


def _cause(error: EmbedderError) -> str:
    return (error.found or error.what).splitlines()[0][:200]


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
