"""Judge whether documents were deleted, or the whole source has disappeared: then none of them is at fault."""

from __future__ import annotations

import time
from collections import deque

from ragops.documents.errors import Missing
from ragops.errors import RagopsError
from ragops.playbook.tables import Tables
from ragops.postgres.connection import Connection
from ragops.postgres.queue import Queue
from ragops.workers.buffer import Pipeline
from ragops.workers.database import Database
from ragops.workers.inflight import InFlight
from ragops.workers.sources import Documents

# Missing documents in a row after which the source must be shown to be there, or the run ends.
LIMIT = 50
# Before that they are looked at this often, so that few deleted documents do not wait for the end of the queue.
PATIENCE_S = 1.0
# Documents of this run that are looked for again: several, as some of them may be deleted, too.
REMEMBERED = 20
# Other locations of the queue to look for. If half of a corpus were deleted, all of them are missing once in 2^50.
SAMPLE = 50


class MissingDocuments:
    """Documents that do not exist, in flight until it is known why. The fetcher's thread alone uses it.

    They fail, each alone, if the source is demonstrably there: if one of the documents that were read last can be
    opened, or one of a sample of the queue's locations. Otherwise the run ends, and they go back to the queue.
    """

    def __init__(self, pipeline: Pipeline, database: Database, tables: Tables, documents: Documents) -> None:
        self._pipeline = pipeline
        self._database = database
        self._tables = tables
        self._documents = documents
        self._waiting: list[tuple[InFlight, Missing]] = []
        self._last_read: deque[str] = deque(maxlen=REMEMBERED)
        self._due_at = 0.0

    def __bool__(self) -> bool:
        """Whether documents wait for their judgement."""
        return bool(self._waiting)

    def saw(self, location: str) -> None:
        """Remember a document that was read: that it can be opened again proves that its source is there."""
        self._last_read.appendleft(location)

    def add(self, document: InFlight, reason: Missing) -> None:
        """Let a missing document wait. Raises as `judge`."""
        self._pipeline.set_aside(document)
        self.add_aside(document, reason)

    def add_aside(self, document: InFlight, reason: Missing) -> None:
        """Let a missing document wait that was set aside already. Raises as `judge`."""
        if not self._waiting:
            self._due_at = time.monotonic() + PATIENCE_S
        self._waiting.append((document, reason))
        self.judge()

    def judge(self, *, is_last: bool = False) -> None:
        """Fail what waits if its source is there; `is_last`: nothing more will be read that could prove it.

        Raises RagopsError if the source is gone.
        """
        must_end = is_last or len(self._waiting) >= LIMIT
        if not self._waiting or not (must_end or time.monotonic() >= self._due_at):
            return
        if self._database.run(lambda connection: self._is_source_there(connection, samples=must_end)):
            waiting, self._waiting = self._waiting, []
            for document, reason in waiting:
                self._pipeline.refuse_set_aside(document, reason.reason)
        elif must_end:
            raise self._gone()
        else:
            self._due_at = time.monotonic() + PATIENCE_S

    def _is_source_there(self, connection: Connection, *, samples: bool) -> bool:
        if self._documents.first_existing(connection, list(self._last_read)) is not None:
            return True
        # A sample proves less while documents of this run are gone: a folder may be on its way out file by file.
        if self._last_read and not samples:
            return False
        sample = Queue(connection, self._tables).sample_locations(SAMPLE)
        return self._documents.first_existing(connection, sample) is not None

    def _gone(self) -> RagopsError:
        number, (first, reason) = len(self._waiting), self._waiting[0]
        gone = f"{number:,} in a row do not exist" if number > 1 else f"{first.item.location} does not exist"
        last = next(iter(self._last_read), None)
        others = f"nor does {last}, which was read before" if last else "nor does any in a sample of the queue"
        cure = "restore its rows" if self._documents.are_rows else "mount or restore the folder"
        return RagopsError(
            f"the documents of {self._documents.name} are gone: {gone}, {others}",
            where=self._documents.name,
            actual=f"{reason.reason}: {first.item.location}; no document was failed for it",
            expected="the source that the queue was filled from",
            hint=f"{cure}, then: ragops embed   or, in a campaign: ragops reset --resume   If they were deleted "
            "on purpose, fill the queue from what is there: ragops tables empty files_queue   ragops queue reseed",
        )
