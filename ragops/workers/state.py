"""What the threads of a fleet share: how it is asked to stop, and what it has done."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field


@dataclass
class Stop:
    """How a run is asked to end: after the requests at hand, or at once."""

    requested: threading.Event = field(default_factory=threading.Event)
    aborted: threading.Event = field(default_factory=threading.Event)
    signal_number: int = 2
    is_graceful: bool = False
    """A fleet runs: the first signal lets it finish the requests at hand."""


class Stats:
    """What has been done so far, and what is to be said of it; safe to use from all threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.completed = self.failed = self.chunks = self.tokens = self.dropped = 0
        self.embedded = self.reused = 0
        """Distinct texts that a child embedded; chunks that needed none, because their text was known."""
        self.notices: list[str] = []
        self._reported: set[str] = set()

    def add(self, *, completed: int, failed: int, chunks: int, tokens: int) -> None:
        with self._lock:
            self.completed += completed
            self.failed += failed
            self.chunks += chunks
            self.tokens += tokens

    def count(self, *, embedded: int = 0, reused: int = 0) -> None:
        with self._lock:
            self.embedded += embedded
            self.reused += reused

    def drop(self, items: int) -> None:
        with self._lock:
            self.dropped += items

    def info(self, notice: str) -> None:
        with self._lock:
            self.notices.append(notice)

    def info_once(self, notice: str) -> None:
        """Say what several threads, or one of them again and again, would say."""
        with self._lock:
            if notice not in self._reported:
                self._reported.add(notice)
                self.notices.append(notice)

    def take_notices(self) -> list[str]:
        with self._lock:
            notices, self.notices = self.notices, []
        return notices
