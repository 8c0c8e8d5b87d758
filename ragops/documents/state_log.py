"""Note the states of files while they are queued, as rows of a COPY."""

from __future__ import annotations

import os
import tempfile
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ragops.documents.states import key_of

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


class StateLog:
    """States of the files that are being queued, kept on disk until the queue has taken all of them.

    24 bytes a file would be little in memory, but a corpus has no limit.
    """

    def __init__(self, root: Path, *, seeding: int, follow_links: bool = False) -> None:
        self._root = root
        self.seeding = seeding
        self._follow_links = follow_links
        self._file: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `close`)
        self._values = array("q")

    def noting(self, locations: Iterable[str]) -> Iterator[str]:
        """Yield locations again, and note the state that each file has now."""
        above = f"{self._root}{os.sep}"
        for location in locations:
            try:
                found = os.stat(above + location, follow_symlinks=self._follow_links)  # noqa: PTH116 (half the time)
            except (OSError, ValueError):
                pass  # a manifest may name what does not exist yet; its item says so
            else:
                self._values.extend((key_of(location), found.st_size, found.st_mtime_ns))
                if len(self._values) == 3 * _ROWS_PER_BLOCK:
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
        values = np.frombuffer(self._values, np.int64).reshape(-1, 3)
        rows = np.zeros(len(values), _ROW)
        if len(rows):
            rows["fields"] = 4
            rows["seeding"] = self.seeding
            for name in ("seeding", "key", "bytes", "modified_ns"):
                rows[f"{name}_length"] = 8
            for place, name in enumerate(("key", "bytes", "modified_ns")):
                rows[name] = values[:, place]
            self._file.write(rows.tobytes())
        self._values = array("q")
