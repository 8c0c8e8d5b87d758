"""Vectors that were computed before, on disk: a campaign that is repeated or resumed embeds nothing twice.

One SQLite file a machine. A key stands for a text in a vector space (the fingerprint is part of it), so a
changed build, model, pooling or prefix finds nothing here. What the file holds is bounded; the oldest go first.
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

from ragops.paths import cache_file

SCHEMA = (
    "CREATE TABLE IF NOT EXISTS vectors (id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, vector BLOB NOT NULL)"
)
KEYS_PER_QUERY = 500
EVICTED_AT_ONCE = 2000
BUSY_S = 2.0

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class CacheFacts:
    """What the cache's file holds."""

    file: Path
    vectors: int
    bytes: int


class VectorCache:
    """Vectors by key. One object a thread; several programs may share the file.

    A cache can always be done without: what SQLite refuses (locked, full, damaged) counts as not known or is
    not kept, and `fault` says why.
    """

    def __init__(self, file: Path, *, limit_bytes: int) -> None:
        self._file = file
        self._limit = limit_bytes
        self.fault: str | None = None
        self._database: sqlite3.Connection | None = None

    @classmethod
    def at_home(cls, *, limit_mib: int) -> Self | None:
        """The cache of this user on this machine; None where the limit is 0."""
        return cls(cache_file(), limit_bytes=limit_mib << 20) if limit_mib > 0 else None

    def sibling(self) -> VectorCache:
        """The same cache for another thread."""
        return VectorCache(self._file, limit_bytes=self._limit)

    def get(self, keys: Sequence[bytes]) -> dict[bytes, NDArray[np.float32]]:
        """The vectors that are known, shape (dimensions,) each, by key."""

        def ask(database: sqlite3.Connection) -> dict[bytes, NDArray[np.float32]]:
            found: dict[bytes, NDArray[np.float32]] = {}
            for start in range(0, len(keys), KEYS_PER_QUERY):
                part = keys[start : start + KEYS_PER_QUERY]
                query = f"SELECT key, vector FROM vectors WHERE key IN ({','.join('?' * len(part))})"
                found.update((key, np.frombuffer(raw, "<f4")) for key, raw in database.execute(query, part))
            return found

        return self._try(ask, {})

    def put(self, vectors: Sequence[tuple[bytes, NDArray[np.float32]]]) -> None:
        """Keep these, all of the same length, and drop the oldest beyond the limit."""
        if not vectors:
            return
        raw = np.stack([vector for _, vector in vectors]).astype("<f4").tobytes()
        size = len(raw) // len(vectors)
        rows = [(key, raw[at * size : (at + 1) * size]) for at, (key, _) in enumerate(vectors)]

        def keep(database: sqlite3.Connection) -> None:
            with database:
                # One statement for many rows: between two statements other threads take the interpreter's lock.
                for start in range(0, len(rows), KEYS_PER_QUERY):
                    part = rows[start : start + KEYS_PER_QUERY]
                    places = ",".join(["(?, ?)"] * len(part))
                    insert = f"INSERT OR IGNORE INTO vectors (key, vector) VALUES {places}"
                    database.execute(insert, list(chain.from_iterable(part)))
                self._evict(database)

        self._try(keep, None)

    def facts(self) -> CacheFacts:
        """How much there is; zeros without a file."""

        def count(database: sqlite3.Connection) -> int:
            return int(database.execute("SELECT count(*) FROM vectors").fetchone()[0])

        vectors = self._try(count, 0) if self._file.is_file() else 0
        return CacheFacts(self._file, vectors, sum(part.stat().st_size for part in self._parts()))

    def clear(self) -> None:
        """Delete the file. Raises OSError where another program holds it open (on Windows)."""
        self.close()
        for part in self._parts():
            part.unlink(missing_ok=True)

    def close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None

    def _parts(self) -> list[Path]:
        """The file and what SQLite keeps beside it."""
        names = (self._file.name, f"{self._file.name}-wal", f"{self._file.name}-shm")
        return [part for name in names if (part := self._file.with_name(name)).is_file()]

    def _try(self, work: Callable[[sqlite3.Connection], Result], default: Result) -> Result:
        try:
            return work(self._open())
        except sqlite3.OperationalError as error:  # locked for long, disk full, folder closed to this user
            self.fault = str(error)
        except sqlite3.ProgrammingError:  # a fault of ours, never the file's
            raise
        except sqlite3.DatabaseError as error:  # not a database any more: nothing in it is worth keeping
            self.fault = f"{error}; started anew"
            with contextlib.suppress(OSError):
                self.clear()
        return default

    def _open(self) -> sqlite3.Connection:
        if self._database is None:
            try:
                self._file.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise sqlite3.OperationalError(f"{self._file.parent}: {error.strerror}") from error
            self._database = self._connect()
        return self._database

    def _connect(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._file, timeout=BUSY_S)
        try:
            # A power loss may cost the last vectors, never the file.
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = NORMAL")
            database.execute(SCHEMA)
        except sqlite3.Error:  # tried again from the start: half a set-up would look like a whole one
            database.close()
            raise
        return database

    def _evict(self, database: sqlite3.Connection) -> None:
        oldest = "DELETE FROM vectors WHERE id IN (SELECT id FROM vectors ORDER BY id LIMIT ?)"
        # As often as it takes: documents of many chunks bring more at once than go at once.
        while self._bytes(database) > self._limit:
            if database.execute(oldest, [EVICTED_AT_ONCE]).rowcount == 0:
                return

    @staticmethod
    def _bytes(database: sqlite3.Connection) -> int:
        """What is in use of the file."""
        (pages,) = database.execute("PRAGMA page_count").fetchone()
        (free,) = database.execute("PRAGMA freelist_count").fetchone()
        (size,) = database.execute("PRAGMA page_size").fetchone()
        return int((pages - free) * size)
