"""State that all threads of a fleet share: a requested stop, and statistics with notices."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

from ragops.documents.errors import Stopped

# Hundreds of documents that crash their embedder cost thousands of restarts: one line each would hide the rest.
SHOWN_PER_MINUTE, MINUTE_S = 3, 60.0


@dataclass
class Stop:
    """A requested stop: after the requests in flight, or at once."""

    requested: threading.Event = field(default_factory=threading.Event)
    aborted: threading.Event = field(default_factory=threading.Event)
    # SIGINT; the exit code of a stopped command is 128 + this.
    signal_number: int = 2
    is_graceful: bool = False
    """A fleet runs: the first signal lets it finish the requests in flight."""

    def check(self) -> None:
        """Raise Stopped if a stop was requested: for what would go on for long, and whose result nobody stores."""
        if self.requested.is_set() or self.aborted.is_set():
            raise Stopped


class Stats:
    """Counters and pending notices of a fleet; safe to use from all threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.completed = self.failed = self.chunks = self.tokens = 0
        self.embedded = self.reused = 0
        """Distinct texts that a child embedded; chunks whose vector was known already."""
        self.notices: list[str] = []
        self._reported: set[str] = set()
        # By kind: since when, how many were added since, and how many were left out.
        self._kinds: dict[str, tuple[float, int, int]] = {}

    def add(self, *, completed: int, failed: int, chunks: int, tokens: int) -> None:
        """Count what one transaction has stored."""
        with self._lock:
            self.completed += completed
            self.failed += failed
            self.chunks += chunks
            self.tokens += tokens

    def count(self, *, embedded: int = 0, reused: int = 0) -> None:
        """Count vectors by where they came from."""
        with self._lock:
            self.embedded += embedded
            self.reused += reused

    def info(self, notice: str) -> None:
        """Add a notice, which the controller's thread passes on: a reporter may be slow, a worker must not be."""
        with self._lock:
            self.notices.append(notice)

    def info_once(self, notice: str) -> None:
        """Add a notice unless it was added before, by this thread or another one."""
        with self._lock:
            if notice not in self._reported:
                self._reported.add(notice)
                self.notices.append(notice)

    def info_rarely(self, kind: str, notice: str) -> None:
        """Add a notice; of the same kind a few per minute, of which the first then says how many were left out."""
        now = time.monotonic()
        with self._lock:
            since, shown, left_out = self._kinds.get(kind, (now, 0, 0))
            if now - since >= MINUTE_S:
                if left_out:
                    notice += f" (and {left_out:,} more like it since the last of these)"
                since, shown, left_out = now, 0, 0
            if shown < SHOWN_PER_MINUTE:
                self.notices.append(notice)
                shown += 1
            else:
                left_out += 1
            self._kinds[kind] = (since, shown, left_out)

    def take_notices(self) -> list[str]:
        """Return the notices that were added since the last call."""
        with self._lock:
            notices, self.notices = self.notices, []
        return notices
