"""What the threads of a fleet share: how it is asked to stop, and what it has done."""

from __future__ import annotations

import threading
import uuid
from dataclasses import dataclass, field


@dataclass
class Stop:
    """How a run is asked to end: after the batch at hand, or at once."""

    requested: threading.Event = field(default_factory=threading.Event)
    aborted: threading.Event = field(default_factory=threading.Event)
    signal_number: int = 2
    is_graceful: bool = False
    """A fleet runs: the first signal lets it finish the batch at hand."""


class Tally:
    """What the workers have done so far; safe to use from all threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._claims: dict[str, uuid.UUID] = {}
        self._in_hand: dict[str, int] = {}
        self.completed = self.failed = self.chunks = self.tokens = self.dropped = 0
        self.notices: list[str] = []
        self._said: set[str] = set()

    def add(self, *, completed: int, failed: int, chunks: int, tokens: int) -> None:
        with self._lock:
            self.completed += completed
            self.failed += failed
            self.chunks += chunks
            self.tokens += tokens

    def drop(self, items: int) -> None:
        with self._lock:
            self.dropped += items

    def hold(self, worker: str, claim: uuid.UUID | None) -> None:
        with self._lock:
            self._in_hand.pop(worker, None)
            if claim is None:
                self._claims.pop(worker, None)
            else:
                self._claims[worker] = claim

    def advance(self, worker: str, documents: int) -> None:
        """Say how many documents of its claim a worker has embedded and not yet stored."""
        with self._lock:
            self._in_hand[worker] = documents

    @property
    def seen(self) -> int:
        """Documents that are stored, failed, or embedded and about to be stored."""
        with self._lock:
            return self.completed + self.failed + sum(self._in_hand.values())

    def held_claims(self) -> list[uuid.UUID]:
        with self._lock:
            return list(self._claims.values())

    def say(self, notice: str) -> None:
        with self._lock:
            self.notices.append(notice)

    def say_once(self, notice: str) -> None:
        """Say what every worker of the fleet would say."""
        with self._lock:
            if notice not in self._said:
                self._said.add(notice)
                self.notices.append(notice)

    def take_notices(self) -> list[str]:
        with self._lock:
            notices, self.notices = self.notices, []
        return notices
