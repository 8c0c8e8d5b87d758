"""How a file was when it was queued, to notice that it is another one when it is embedded."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import numpy as np

# Rows of a COPY in binary format: number of fields, then each field's length and value.
_ROW = np.dtype(
    [
        ("fields", ">i2"),
        *(
            part
            for name in ("seeding", "key", "bytes", "modified_ns")
            for part in ((f"{name}_length", ">i4"), (name, ">i8"))
        ),
    ]
)
_ROWS_PER_BLOCK = 4096


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


class StateLog:
    """States of the files that are being queued, kept on disk until the queue has taken all of them.

    24 bytes a file would be little in memory, but a corpus has no limit.
    """

    def __init__(self, root: Path, *, seeding: int, follow_links: bool = False) -> None:
        self._root = root
        self.seeding = seeding
        self._follow_links = follow_links
        self._file: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `close`)
        self._rows: list[tuple[int, int, int]] = []
        self.count = 0

    def noting(self, locations: Iterable[str]) -> Iterator[str]:
        """Yield locations again, and note the state that each file has now."""
        above = f"{self._root}{os.sep}"
        for location in locations:
            try:
                found = os.stat(above + location, follow_symlinks=self._follow_links)  # noqa: PTH116 (half the time)
            except (OSError, ValueError):
                pass  # a manifest may name what does not exist yet; its item says so
            else:
                self._rows.append((key_of(location), found.st_size, found.st_mtime_ns))
                if len(self._rows) == _ROWS_PER_BLOCK:
                    self._flush()
            yield location

    def blocks(self) -> Iterator[bytes]:
        """Yield what was noted, as rows (seeding, key, bytes, modified_ns) of a COPY in binary format."""
        self._flush()
        self._file.seek(0)
        while block := self._file.read(1 << 20):
            yield block

    def close(self) -> None:
        self._file.close()

    def _flush(self) -> None:
        rows = np.zeros(len(self._rows), _ROW)
        if len(rows):
            rows["fields"] = 4
            rows["seeding"] = self.seeding
            for name in ("seeding", "key", "bytes", "modified_ns"):
                rows[f"{name}_length"] = 8
            values = np.array(self._rows, np.int64)
            for place, name in enumerate(("key", "bytes", "modified_ns")):
                rows[name] = values[:, place]
            self._file.write(rows.tobytes())
        self.count += len(self._rows)
        self._rows.clear()
