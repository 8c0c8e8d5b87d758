"""Supervise one embedder child: restart it after a crash, and bisect a failing request down to the culprit."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ragops.documents.errors import Unreadable
from ragops.embedder.client import Embedder, TokenIds
from ragops.embedder.starting import STARTS_AGAIN, start_child
from ragops.errors import EmbedderDied, EmbedderError, EmbedderTimeout
from ragops.fingerprint.batches import Batches
from ragops.quality.vectors import check_vectors, normalize
from ragops.subprocesses import ending_of, is_from_outside
from ragops.workers.inflight import UniqueText, UnitVector
from ragops.workers.state import Stats, Stop

# After this many documents in a row that fail, the child must embed the canary: if it cannot, then the build or
# the model is broken, not a document, and going on would mark the whole queue as failed. As many new children in a
# row that die end the run as well.
MAX_FAILURES = 3
# Documents in a row after which the run ends although the child embeds the canary: it embeds nothing else.
HOPELESS = 1000
CANARY = "The quick brown fox jumps over the lazy dog."
_HEALTH_CHECK = ["ok"]
# Of a child's log, as much as fits into a notice or into an item's last error.
_LONGEST_CAUSE = 200
Result = TypeVar("Result")


@dataclass(slots=True)
class Outcome:
    """Result of a request; a text in neither list was not reached."""

    done: list[tuple[UniqueText, UnitVector]] = field(default_factory=list)
    failed: list[UniqueText] = field(default_factory=list)
    fatal: EmbedderError | None = None
    """Why the request was not finished: store what there is, give the rest back, then raise this."""


class ConsecutiveFailures:
    """Documents in a row that the children of a fleet failed on; safe to use from all threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owners: list[object] = []
        self._excused = 0

    def add(self, owner: object) -> int:
        """Count a document once, however many of its texts fail; return the number of documents in a row."""
        with self._lock:
            if owner not in self._owners:
                self._owners.append(owner)
            return len(self._owners)

    def excuse(self) -> bool:
        """Start from zero after a child has embedded the canary; False after `HOPELESS` documents in a row."""
        with self._lock:
            self._excused += len(self._owners)
            self._owners.clear()
            return self._excused < HOPELESS

    def reset(self) -> None:
        """Start from zero after a success."""
        with self._lock:
            self._owners.clear()
            self._excused = 0


@dataclass(slots=True)
class Batching:
    """The batches of a fleet's requests; `chosen` is set once, before the first request."""

    chosen: Batches | None = None
    """None: as the children are configured."""

    def vectors(self, embedder: Embedder, tokens: Sequence[TokenIds]) -> NDArray[np.float32]:
        """Return the raw vectors (n, d) of texts. Raises as `Embedder.embed_tokens`."""
        if self.chosen is None:
            return embedder.embed_tokens(tokens).vectors
        return self.chosen.vectors(embedder, tokens)


class Supervisor:
    """One child that is replaced when it crashes. `kill` and `close` work from any thread.

    A crash is blamed on a document only if one of its texts was alone in the request, twice. After `MAX_FAILURES`
    documents in a row, over all supervisors that share `failures`, the child must embed a canary: if it cannot, it
    is considered broken.
    """

    def __init__(
        self,
        start: Callable[[], Embedder],
        *,
        stop: Stop,
        stats: Stats,
        failures: ConsecutiveFailures,
        batching: Batching | None = None,
    ) -> None:
        """Start the child. Raises as `start_child` does: a first child that crashes by itself is not restarted."""
        self._start = start
        self._stop = stop
        self._stats = stats
        self.failures = failures
        self.batching = batching or Batching()
        self.embedder = self._start_child()

    def close(self) -> None:
        self.embedder.close()

    def kill(self) -> None:
        """End the child at once."""
        self.embedder.kill()

    def embed(self, texts: Sequence[UniqueText]) -> Outcome:
        """Embed a request; texts that crash the child or get an invalid vector come back as failed.

        The outcome is `fatal`, and unfinished, if the child fails whatever it is given. Raises EmbedderDied
        only if the run was aborted.
        """
        outcome = Outcome()
        try:
            bisect(self, texts, outcome)
        except EmbedderError as error:
            if self._stop.aborted.is_set():
                raise
            outcome.fatal = error
        return outcome

    def ask(self, work: Callable[[Embedder], Result]) -> Result:
        """Run `work`, which concerns no document; from its beginning with a new child if somebody killed this one.

        Raises as `work`, also for a child that was killed `STARTS_AGAIN` times before, and as `restart`.
        """
        for _ in range(STARTS_AGAIN):
            try:
                return work(self.embedder)
            except EmbedderDied as death:
                if not is_from_outside(death.returncode):
                    raise
                self.restart(death)
        return work(self.embedder)

    def restart(self, death: EmbedderDied) -> None:
        """Start a new child after a crash and check that it works.

        Raises EmbedderDied if `MAX_FAILURES` new children in a row die, or at once if the run was aborted.
        """
        if self._stop.aborted.is_set():
            raise death
        self._stats.info_rarely("crash", f"embedder child crashed ({_cause(death)}); restarting it")
        last = death
        for _ in range(MAX_FAILURES):
            self.embedder.close(timeout_s=0)
            try:
                self.embedder = self._start()
                if self.embedder.config.vocab_only:  # such a child refuses to embed
                    self.embedder.count_tokens(_HEALTH_CHECK)
                else:
                    self.embedder.embed(_HEALTH_CHECK)
                return
            except EmbedderDied as again:
                if self._stop.aborted.is_set():
                    raise
                last = again
        raise last

    def _start_child(self) -> Embedder:
        def report(death: EmbedderDied) -> None:
            if self._stop.aborted.is_set():
                raise death
            self._stats.info(f"embedder child did not start ({_cause(death)}); starting it again")

        return start_child(self._start, on_death=report)

    def is_broken(self) -> bool:
        """Return whether the child fails on the canary too. Raises EmbedderDied if the run was aborted."""
        try:
            if self.embedder.config.vocab_only:
                self.ask(lambda embedder: embedder.count_tokens([CANARY]))
                return False
            vectors = self.ask(lambda embedder: embedder.embed([CANARY])).vectors
        except EmbedderError:
            if self._stop.aborted.is_set():
                raise
            return True
        return bool(check_vectors(vectors, dimensions=self.embedder.model.dimensions))

    def replace(self) -> None:
        """Start a new child in place of one that made an invalid vector: it may go on making them."""
        self._stats.info_rarely("vector", "embedder child returned an invalid vector; restarting it")
        self.embedder.close()
        self.embedder = self._start_child()


def bisect(
    supervisor: Supervisor, texts: Sequence[UniqueText], outcome: Outcome, *, is_second_try: bool = False
) -> None:
    """Embed texts; if the child fails on them, embed each half, down to the single text that is to blame.

    A single text that the child crashes on is tried once more, as another process may have killed the child; one
    that it hangs on is not, as that costs the whole deadline each time.
    Raises EmbedderError if the child fails whatever it is given; `outcome` then holds what was reached.
    """
    # A half that was embedded before may have failed documents that have texts here too.
    wanted = [text for text in texts if text.is_wanted]
    outcome.failed += [text for text in texts if not text.is_wanted]
    if not wanted:
        return
    try:
        vectors = _vectors(supervisor, wanted)
    except EmbedderError as error:
        if isinstance(error, EmbedderDied):
            supervisor.restart(error)
        crashed = isinstance(error, EmbedderDied) and not isinstance(error, EmbedderTimeout)
        if len(wanted) == 1 and crashed and not is_second_try:
            bisect(supervisor, wanted, outcome, is_second_try=True)
        elif len(wanted) == 1:
            _fail(wanted[0], supervisor, outcome, error=error, reason=_blame(error))
        else:
            middle = len(wanted) // 2
            bisect(supervisor, wanted[:middle], outcome)
            bisect(supervisor, wanted[middle:], outcome)
        return
    _accept(supervisor, wanted, vectors, outcome)


def _vectors(supervisor: Supervisor, texts: Sequence[UniqueText]) -> NDArray[np.float32]:
    """Return the raw vectors (n, d) of texts; one that must not be stored is that of its text alone.

    A NaN spreads to every text that shares its batch, so that the batch does not tell whose it is. A child that
    made such a vector of one text alone is replaced.
    """
    tokens = [text.ids for text in texts]
    vectors = supervisor.batching.vectors(supervisor.embedder, tokens)

    def broken() -> list[int]:
        faults = check_vectors(vectors, dimensions=supervisor.embedder.model.dimensions)
        return [fault.index for fault in faults]

    def embed_alone(places: list[int]) -> None:
        again = supervisor.embedder.embed_tokens([tokens[place] for place in places], tokens_per_batch=1)
        vectors[places] = again.vectors

    if (places := broken()) and len(texts) > 1:
        embed_alone(places)
        places = broken()
    if places:
        # It may go on making them; and the new one is the one that the canary is for, before a document is blamed.
        supervisor.replace()
        if len(places) > 1:
            embed_alone(places)
    return vectors


def _accept(
    supervisor: Supervisor, texts: Sequence[UniqueText], vectors: NDArray[np.float32], outcome: Outcome
) -> None:
    """Keep valid vectors, fail texts with an invalid one."""
    faults = check_vectors(vectors, dimensions=supervisor.embedder.model.dimensions)
    reasons = {fault.index: fault.reason for fault in faults}
    units = normalize(vectors)
    if not reasons:
        supervisor.failures.reset()
        outcome.done += zip(texts, units, strict=True)
        return
    for index, text in enumerate(texts):
        if index in reasons:
            error = EmbedderError("the embedder child returned invalid vectors", actual=reasons[index])
            _fail(text, supervisor, outcome, error=error, reason=reasons[index], names_chunk=True)
        else:
            supervisor.failures.reset()
            outcome.done.append((text, units[index]))


def _fail(
    text: UniqueText,
    supervisor: Supervisor,
    outcome: Outcome,
    *,
    error: EmbedderError,
    reason: str,
    names_chunk: bool = False,
) -> None:
    in_a_row = supervisor.failures.add(text.owner)
    is_broken = in_a_row >= MAX_FAILURES and (supervisor.is_broken() or not supervisor.failures.excuse())
    # The last of MAX_FAILURES is failed as well, so that the next run does not start with the same document;
    # another worker may be past that number already.
    if not is_broken or in_a_row <= MAX_FAILURES:
        text.fail(reason, names_chunk=names_chunk)
        outcome.failed.append(text)
    if is_broken:
        raise _broken(error) from error


def try_twice(supervisor: Supervisor, owner: object, work: Callable[[Embedder], Result]) -> Result:
    """Run `work`, which sends the child requests about one document only; once more if the child crashes.

    Raises Unreadable for a document that the child refuses or crashes on twice, EmbedderError if the child
    fails whatever it is given.
    """
    try:
        return work(supervisor.embedder)
    except EmbedderDied as death:
        # Once may be chance, such as the system's out-of-memory killer.
        supervisor.restart(death)
    except EmbedderError as refusal:
        raise _blamed(supervisor, owner, refusal) from refusal
    try:
        return work(supervisor.embedder)
    except EmbedderError as error:
        if isinstance(error, EmbedderDied):
            supervisor.restart(error)
        raise _blamed(supervisor, owner, error) from error


def _blamed(supervisor: Supervisor, owner: object, error: EmbedderError) -> Unreadable | EmbedderError:
    failures = supervisor.failures
    # One more than in `_fail`: the caller fails a document by the Unreadable that it gets, so the document
    # that ends the run could not be marked as failed.
    if failures.add(owner) > MAX_FAILURES and (supervisor.is_broken() or not failures.excuse()):
        return _broken(error)
    return Unreadable(_blame(error))


def _broken(error: EmbedderError) -> EmbedderError:
    return EmbedderError(
        f"the embedder failed on {MAX_FAILURES} documents in a row and on a simple sentence; stopped before it "
        "fails the whole queue",
        where=error.where,
        actual=error.actual or error.what,
        hint=error.hint or "ragops verify   then, for the failed items: ragops queue retry",
    )


def _blame(error: EmbedderError) -> str:
    how = "crashed on" if isinstance(error, EmbedderDied) else "refused"
    return f"the embedder child {how} this document: {_cause(error)}"


def _cause(error: EmbedderError) -> str:
    cause = (error.actual or error.what).splitlines()[0]
    if isinstance(error, EmbedderDied) and error.returncode is not None:
        cause = f"{ending_of(error.returncode)} {cause}"
    return cause[:_LONGEST_CAUSE]
