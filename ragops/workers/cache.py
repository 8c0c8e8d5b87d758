"""Cache of computed vectors on disk: a campaign that is repeated or resumed embeds nothing twice.

One SQLite file per user and machine. A key stands for a text in a vector space (the fingerprint is part of it),
so a changed build, model, pooling or prefix finds nothing here. The file is bounded; the oldest vectors go first.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from ragops.paths import cache_file, make_private_file, make_private_folder

SCHEMA = (
    "CREATE TABLE IF NOT EXISTS vectors (id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, vector BLOB NOT NULL)"
)
# SQLite before 3.32 allows 999 parameters per statement, and a row takes two:
# https://www.sqlite.org/limits.html#max_variable_number
KEYS_PER_QUERY = 499
EVICTED_AT_ONCE = 2000
# How long to wait for another program's lock. A cache miss costs less than a longer wait.
BUSY_S = 2.0

# How far from 1 the length of a vector may be; float32 leaves it within 1e-6.
LENGTH_TOLERANCE = 1e-3

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class CacheFacts:
    """Facts about the cache's file."""

    file: Path
    vectors: int
    bytes: int


class VectorCache:
    """Vectors by key. One object per thread; several programs may share the file.

    The cache is best effort: if SQLite fails (locked, full, corrupt), reads miss, writes are dropped, and
    `fault` holds the reason.
    """

    def __init__(self, file: Path, *, limit_bytes: int) -> None:
        self._file = file
        self._limit = limit_bytes
        self.fault: str | None = None
        self._database: sqlite3.Connection | None = None

    @classmethod
    def at_home(cls, *, limit_mib: int) -> Self | None:
        """Return the cache of this user on this machine; None if the limit is 0."""
        return cls(cache_file(), limit_bytes=limit_mib << 20) if limit_mib > 0 else None

    def sibling(self) -> VectorCache:
        """Return the same cache for another thread."""
        return VectorCache(self._file, limit_bytes=self._limit)

    def get(self, keys: Sequence[bytes], *, dimensions: int) -> dict[bytes, NDArray[np.float32]]:
        """Return the vectors that are known, shape (dimensions,) and length 1 each, by key.

        What is no such vector was damaged on disk: it is deleted, and its text is embedded again.
        """

        def read(database: sqlite3.Connection) -> dict[bytes, NDArray[np.float32]]:
            known: dict[bytes, NDArray[np.float32]] = {}
            for start in range(0, len(keys), KEYS_PER_QUERY):
                part = keys[start : start + KEYS_PER_QUERY]
                query = f"SELECT key, vector FROM vectors WHERE key IN ({','.join('?' * len(part))})"
                found = unit_vectors(database.execute(query, part).fetchall(), dimensions=dimensions)
                known.update((key, vector) for key, vector in found.items() if vector is not None)
                damaged = [(key,) for key, vector in found.items() if vector is None]
                if damaged:
                    with database:
                        database.executemany("DELETE FROM vectors WHERE key = ?", damaged)
            return known

        return self._try(read, {})

    def put(self, vectors: Sequence[tuple[bytes, NDArray[np.float32]]]) -> None:
        """Add vectors, all of the same length, and delete the oldest beyond the limit."""
        if not vectors:
            return
        raw = np.stack([vector for _, vector in vectors]).astype("<f4").tobytes()
        size = len(raw) // len(vectors)
        rows = [(key, raw[at * size : (at + 1) * size]) for at, (key, _) in enumerate(vectors)]

        def write(database: sqlite3.Connection) -> None:
            with database:
                # One statement for many rows: after each statement other threads may take the interpreter's lock.
                for start in range(0, len(rows), KEYS_PER_QUERY):
                    part = rows[start : start + KEYS_PER_QUERY]
                    places = ",".join(["(?, ?)"] * len(part))
                    insert = f"INSERT OR IGNORE INTO vectors (key, vector) VALUES {places}"
                    database.execute(insert, list(chain.from_iterable(part)))
                self._evict(database)

        self._try(write, None)

    def facts(self) -> CacheFacts:
        """Count the vectors and bytes; zeros without a file."""

        def count(database: sqlite3.Connection) -> int:
            return int(database.execute("SELECT count(*) FROM vectors").fetchone()[0])

        vectors = self._try(count, 0) if self._file.is_file() else 0
        return CacheFacts(self._file, vectors, sum(part.stat().st_size for part in self._parts()))

    def clear(self) -> None:
        """Delete the file. Raises OSError if another program has it open (on Windows)."""
        self.close()
        for part in self._parts():
            part.unlink(missing_ok=True)

    def close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None

    def _parts(self) -> list[Path]:
        """Return the file and the files of its write-ahead log that exist."""
        names = (self._file.name, f"{self._file.name}-wal", f"{self._file.name}-shm")
        return [part for name in names if (part := self._file.with_name(name)).is_file()]

    def _try(self, work: Callable[[sqlite3.Connection], Result], default: Result) -> Result:
        try:
            return work(self._open())
        except sqlite3.OperationalError as error:  # locked for long, disk full, no permission for the folder
            self.fault = str(error)
        except sqlite3.ProgrammingError:  # a bug of ragops, never a fault of the file
            raise
        except sqlite3.DatabaseError as error:
            # Corrupt: every vector can be computed again, so nothing is worth a repair.
            self.fault = f"{error}; deleted the file and started an empty one"
            with contextlib.suppress(OSError):  # open in another program, on Windows: the next attempt deletes it
                self.clear()
        return default

    def _open(self) -> sqlite3.Connection:
        if self._database is None:
            try:
                make_private_folder(self._file.parent)
                # Vectors tell much about their texts, and what another user put here would be stored as theirs.
                # SQLite gives the files of its log the mode of the file itself.
                for file in (self._file, *self._parts()):
                    make_private_file(file)
            except OSError as error:
                raise sqlite3.OperationalError(f"{error.filename or self._file}: {error.strerror}") from error
            database = sqlite3.connect(self._file, timeout=BUSY_S)
            try:
                # A power loss may cost the last vectors, never the file:
                # https://www.sqlite.org/pragma.html#pragma_synchronous
                database.execute("PRAGMA journal_mode = WAL")
                database.execute("PRAGMA synchronous = NORMAL")
                database.execute(SCHEMA)
            except sqlite3.Error:
                # Kept open, a connection without its table would fail for ever: the next attempt starts over.
                database.close()
                raise
            self._database = database
        return self._database

    def _evict(self, database: sqlite3.Connection) -> None:
        oldest = "DELETE FROM vectors WHERE id IN (SELECT id FROM vectors ORDER BY id LIMIT ?)"
        while True:
            (pages,) = database.execute("PRAGMA page_count").fetchone()
            # Deleted rows leave free pages, which are used again: the file does not shrink.
            (free,) = database.execute("PRAGMA freelist_count").fetchone()
            (size,) = database.execute("PRAGMA page_size").fetchone()
            if (pages - free) * size <= self._limit:
                return
            # Repeated: one call of `put` with documents of many chunks can add more than EVICTED_AT_ONCE.
            if database.execute(oldest, [EVICTED_AT_ONCE]).rowcount == 0:
                return


def unit_vectors(
    rows: Sequence[tuple[bytes, object]], *, dimensions: int
) -> dict[bytes, NDArray[np.float32] | None]:
    """Return vectors by key from their bytes; None for bytes that are no finite vector of length 1."""
    size = dimensions * np.dtype("<f4").itemsize
    whole = [(key, raw) for key, raw in rows if isinstance(raw, bytes) and len(raw) == size]
    found: dict[bytes, NDArray[np.float32] | None] = dict.fromkeys((key for key, _ in rows), None)
    if whole:
        vectors = np.frombuffer(b"".join(raw for _, raw in whole), "<f4").reshape(len(whole), dimensions)
        with np.errstate(over="ignore", invalid="ignore"):
            # False for NaN and infinite ones too.
            is_unit = np.abs(np.linalg.norm(vectors.astype(np.float64), axis=1) - 1) < LENGTH_TOLERANCE
        found.update((key, vectors[at]) for at, (key, _) in enumerate(whole) if is_unit[at])
    return found
