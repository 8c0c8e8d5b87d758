"""An application that reads and writes all the while: it never waits long for ragops' locks, and loses no row."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest
from conftest import wait_for, write_corpus
from workplace import open_workplace

LONGEST_WAIT_S = 2.5
# Rows of vectors that take a moment to copy.
FILL = (
    "INSERT INTO documents (content, embedding) SELECT repeat(md5(n::text), 60), array_fill(n, ARRAY[32])::vector"
    " FROM generate_series(1, 30000) n",
    "ALTER TABLE documents ADD edits int NOT NULL DEFAULT 0",
    "INSERT INTO document_chunks SELECT id, 0, content, embedding FROM documents WHERE id <= 2000",
    "CREATE TABLE notes (id bigserial PRIMARY KEY, note text)",
)
ACCEPTED = ("--accept-lost-column", "documents.edits")

# The rows are copied while readers go on, and only then the readers are shut out.
COPIED = """
SELECT 1 FROM pg_locks held JOIN pg_locks wanted USING (pid, relation)
 WHERE held.mode = 'ShareRowExclusiveLock' AND held.granted
   AND wanted.mode = 'AccessExclusiveLock' AND NOT wanted.granted
   AND EXISTS (SELECT 1 FROM pg_stat_activity a WHERE a.pid = held.pid AND a.query LIKE 'LOCK TABLE%')
"""


@dataclass
class Bystander:
    """Reads, and writes what it remembers; each in a thread with a connection of its own."""

    dsn: str
    longest_read_s: float = 0.0
    reads: int = 0
    edits: int = 0
    notes: int = 0
    errors: list[str] = field(default_factory=list)
    _ended: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def at_work(self) -> Iterator[Bystander]:
        loops = (self._read, self._edit, self._note)
        threads = [threading.Thread(target=self._loop, args=(loop,)) for loop in loops]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self._ended.set()
            for thread in threads:
                thread.join()

    def _loop(self, act: object) -> None:
        try:
            with psycopg.connect(self.dsn, autocommit=True) as connection:
                while not self._ended.is_set():
                    act(connection)  # type: ignore[operator]
                    time.sleep(0.01)
        except psycopg.Error as error:
            self.errors.append(f"{type(error).__name__}: {error}")

    def _read(self, connection: psycopg.Connection) -> None:
        started = time.monotonic()
        connection.execute("SELECT d.id FROM documents d JOIN document_chunks c ON c.document_id = d.id LIMIT 5")
        connection.execute("SELECT count(*) FROM files_queue WHERE status = 'pending'")
        self.longest_read_s = max(self.longest_read_s, time.monotonic() - started)
        self.reads += 1

    def _edit(self, connection: psycopg.Connection) -> None:
        """An edit of a row that is there; the plan says that writers wait."""
        edited = connection.execute(
            "UPDATE documents SET edits = edits + 1 WHERE id = %s", [self.edits % 2000 + 1]
        )
        self.edits += edited.rowcount

    def _note(self, connection: psycopg.Connection) -> None:
        connection.execute("INSERT INTO notes (note) VALUES ('x')")
        self.notes += 1


@pytest.mark.slow
@pytest.mark.fault(15)
def test_a_bystander_waits_for_no_lock_and_loses_no_row(dsn: str, tiny_model: Path, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", 40)
    with open_workplace(tmp_path, dsn=dsn, corpus=corpus, model=tiny_model, gate=10, index_after=20) as place:
        place.execute(*FILL)
        planned = place.ragops("reset", "--dry-run", *ACCEPTED)
        assert "readers of these tables wait 2 s at most" in planned.out
        assert "the archive needs" in planned.out and "are free in" in planned.out
        assert "writers wait while the rows are counted and copied" in planned.out
        with Bystander(dsn).at_work() as bystander:
            wait_for(lambda: bystander.edits > 10 and bystander.reads > 10, what="the application works")
            with psycopg.connect(dsn) as reader:
                # A report that reads for a while: the emptying waits for it, and lets others pass in between.
                reader.execute("SELECT 1 FROM documents LIMIT 1")
                process = place.start("reset", "--force", "--yes", "--json", *ACCEPTED)
                wait_for(lambda: bool(place.rows(COPIED)), what="the emptying waits for the report")
                seen = bystander.reads
                wait_for(lambda: bystander.reads > seen + 20, what="readers get their turn")
            out, err = process.communicate(timeout=240)
            assert process.returncode == 0, out + err
        assert bystander.errors == []
        assert bystander.longest_read_s < LONGEST_WAIT_S
        assert place.value("SELECT count(*) FROM notes") == bystander.notes
        # Every edit that was confirmed to the application is in the archive, none was made twice.
        archive = place.value("SELECT archive_table FROM ragops.archive WHERE logical = 'documents'")
        found = place.rows(f"SELECT count(*), sum(edits) FROM ragops.{archive}")
        assert found == [(30000, bystander.edits)]
