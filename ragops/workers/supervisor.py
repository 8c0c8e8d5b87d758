"""One worker's hold on an embedder child: restarts after deaths, bisects requests down to the poison text."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ragops.documents.errors import Unreadable
from ragops.embedder.client import Embedder
from ragops.errors import EmbedderDied, EmbedderError
from ragops.quality.vectors import check_vectors, normalize
from ragops.workers.inflight import UniqueText, UnitVector

MAX_DEATHS = 3
_HEALTH_CHECK = "ok"
Result = TypeVar("Result")


@dataclass(slots=True)
class Outcome:
    """What became of a request; a text in neither list was not reached."""

    done: list[tuple[UniqueText, UnitVector]] = field(default_factory=list)
    failed: list[UniqueText] = field(default_factory=list)
    fatal: EmbedderError | None = None
    """Why the request was not finished: store what there is, give the rest back, then raise this."""


class ConsecutiveFailures:
    """Documents in a row that the children of a fleet failed on; safe to use from all threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owners: list[object] = []

    def add(self, owner: object) -> int:
        """Count a document once, however many of its texts fail; returns how many it are in a row."""
        with self._lock:
            if owner not in self._owners:
                self._owners.append(owner)
            return len(self._owners)

    def forget(self) -> None:
        with self._lock:
            self._owners.clear()


class Supervisor:
    """Holds one child and replaces it when it dies.

    A death is no document's fault until one of its texts is alone with it. Three documents in a row, over all
    workers that share `strikes`, say that the child itself is broken: then nothing more is failed.
    """

    def __init__(
        self,
        start: Callable[[], Embedder],
        *,
        is_aborted: Callable[[], bool],
        info: Callable[[str], None] = lambda _: None,
        failures_in_a_row: ConsecutiveFailures | None = None,
        check: Callable[[Embedder], object] = lambda embedder: embedder.embed([_HEALTH_CHECK]),
    ) -> None:
        """`check` is run on every new child that replaces one."""
        self._start = start
        self._is_aborted = is_aborted
        self._info = info
        self._failures_in_a_row = failures_in_a_row or ConsecutiveFailures()
        self._check = check
        self.embedder = start()

    def close(self) -> None:
        self.embedder.close()

    def kill(self) -> None:
        """End the child at once, from any thread."""
        self.embedder.kill()

    def embed(self, pieces: Sequence[UniqueText]) -> Outcome:
        """Embed a request; texts that kill the child or get a broken vector come back as failed.

        The outcome is `fatal`, and unfinished, when the child fails whatever it is given. Raises
        EmbedderDied only when the run was aborted.
        """
        outcome = Outcome()
        try:
            self._embed_group(pieces, outcome)
        except EmbedderError as error:
            if self._is_aborted():
                raise
            outcome.fatal = error
        return outcome

    def guard(self, owner: object, work: Callable[[Embedder], Result]) -> Result:
        """Ask the child about one document; a refusal, or a second death, makes it that document's fault.

        Raises Unreadable then, EmbedderError when the child fails whatever it is asked.
        """
        try:
            return work(self.embedder)
        except EmbedderDied as death:
            self._replace(death)
        except EmbedderError as refusal:
            raise self._blamed(owner, refusal) from refusal
        try:
            return work(self.embedder)
        except EmbedderError as error:
            if isinstance(error, EmbedderDied):
                self._replace(error)
            raise self._blamed(owner, error) from error

    def _blamed(self, owner: object, error: EmbedderError) -> Unreadable | EmbedderError:
        if self._failures_in_a_row.add(owner) > MAX_DEATHS:
            return self._give_up(error)
        return Unreadable(_blame(error))

    def _embed_group(self, pieces: Sequence[UniqueText], outcome: Outcome) -> None:
        # Bisecting may have failed a document that has more texts here.
        group = [piece for piece in pieces if piece.is_wanted]
        outcome.failed += [piece for piece in pieces if not piece.is_wanted]
        if not group:
            return
        try:
            vectors = self.embedder.embed_tokens([piece.ids for piece in group]).vectors
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

    def _sort_out(self, group: Sequence[UniqueText], vectors: NDArray[np.float32], outcome: Outcome) -> None:
        """Keep good vectors, fail texts with a broken one, and replace a child that made one."""
        found = check_vectors(vectors, dimensions=self.embedder.model.dimensions)
        faults = {fault.index: fault.reason for fault in found}
        units = normalize(vectors)
        if not faults:
            self._failures_in_a_row.forget()
            outcome.done += zip(group, units, strict=True)
            return
        for index, piece in enumerate(group):
            if index in faults:
                error = EmbedderError("broken vectors", actual=faults[index])
                self._fail(piece, faults[index], outcome, error, names_chunk=True)
            else:
                self._failures_in_a_row.forget()
                outcome.done.append((piece, units[index]))
        # A child that makes broken vectors may go on doing so.
        self._info("an embedder child returned a broken vector and is replaced")
        self.embedder.close()
        self.embedder = self._start()

    def _fail(
        self, piece: UniqueText, reason: str, outcome: Outcome, error: EmbedderError, *, names_chunk: bool = False
    ) -> None:
        failures_in_a_row = self._failures_in_a_row.add(piece.owner)
        if failures_in_a_row <= MAX_DEATHS:
            piece.fail(reason, names_chunk=names_chunk)
            outcome.failed.append(piece)
        if failures_in_a_row >= MAX_DEATHS:
            raise self._give_up(error) from error

    def _replace(self, death: EmbedderDied) -> None:
        """Start a new child and see that it lives; raises EmbedderDied when three in a row do not."""
        if self._is_aborted():
            raise death
        self._info(f"an embedder child died ({_cause(death)}); starting another")
        last = death
        for _ in range(MAX_DEATHS):
            self.embedder.close(timeout_s=0)
            try:
                self.embedder = self._start()
                self._check(self.embedder)
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
            actual=error.actual or error.what,
            hint=error.hint or "ragops verify   then, for the failed items: ragops queue retry",
        )


def _blame(error: EmbedderError) -> str:
    how = "died on" if isinstance(error, EmbedderDied) else "refused"
    return f"the embedder child {how} this document: {_cause(error)}"


def _cause(error: EmbedderError) -> str:
    return (error.actual or error.what).splitlines()[0][:200]
