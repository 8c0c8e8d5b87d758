"""How a file was when it was queued, to notice that it is another one when it is embedded."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True, slots=True)
class FileState:
    """Size and time of the last modification. No hash: it would read every file once more."""

    bytes: int
    modified_ns: int

    @classmethod
    def of(cls, found: os.stat_result) -> FileState:
        return cls(found.st_size, found.st_mtime_ns)

    def __str__(self) -> str:
        try:
            when = f"{datetime.fromtimestamp(self.modified_ns / 1e9, UTC):%Y-%m-%d %H:%M:%S} UTC"
        except (OverflowError, ValueError, OSError):
            when = f"{self.modified_ns} ns"
        return f"{self.bytes:,} bytes of {when}"


@dataclass(frozen=True, slots=True)
class FileChange:
    """A file that is not as it was when it was queued."""

    now: FileState
    before: FileState | None
    """None: not known, as for an item that was put back into the queue by `ragops queue retry`."""

    def __str__(self) -> str:
        return f"changed since it was queued ({self.before}; now {self.now})"


def key_of(location: str) -> int:
    """Return the number by which a file's state is kept: the first 8 bytes of the SHA-256 of its location.

    PostgreSQL can compute it, too. Of a million locations two have the same number once in 30 million times; one
    of them would then count as changed.
    """
    digest = hashlib.sha256(location.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big", signed=True)
