"""Read, cut and admit claimed documents, as many at once as there is room for their bytes."""

from __future__ import annotations

import hashlib
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from ragops.documents.errors import Missing, Stopped, Unreadable
from ragops.documents.extraction import MAX_BYTES, Extracted
from ragops.embedder.client import TokenIds
from ragops.fingerprint.batches import Batches
from ragops.postgres.row_source import Row
from ragops.workers.buffer import Pipeline
from ragops.workers.cache import VectorCache
from ragops.workers.database import Database
from ragops.workers.inflight import InFlight, UniqueText
from ragops.workers.packing import pack
from ragops.workers.queues import REQUEST_TOKENS
from ragops.workers.room import weight_of
from ragops.workers.sources import Documents
from ragops.workers.tokenizer import Tokenizer

# A request of fewer tokens costs more in its round trip to a child than it gains by keeping one more busy.
SMALLEST_REQUEST = 512
# While a file is read: its bytes, and its text twice, in which one emoji makes every character take 4 bytes.
READING = 9
# While a text is cut: itself, its chunks, and their token ids or what is measured of them.
HELD = 3
# Characters that are cut before they are admitted: documents of a large claim do not wait for its last one.
GROUP = 1024 * 1024

# A document with the size of its source in bytes.
Sized = tuple[InFlight, int]


class Preparation:
    """From claimed documents to requests for the workers. Belongs to one thread, `close` included."""

    def __init__(
        self,
        pipeline: Pipeline,
        database: Database,
        documents: Documents,
        tokenizer: Tokenizer,
        *,
        fingerprint: str,
        batches: Batches | None,
        dimensions: int,
        workers: int,
        on_missing: Callable[[InFlight, Missing], None],
        on_read: Callable[[InFlight], None] = lambda _: None,
        on_long: Callable[[InFlight], bool] = lambda _: False,
        cache: VectorCache | None = None,
    ) -> None:
        """`fingerprint` names the vector space: a text has another key, and another vector, in each of them, which
        has `dimensions`, and in smaller `batches`.

        `on_missing` takes a document that does not exist, `on_read` sees one that was read, and `on_long` may take
        one that has been read from here: it returns whether it did.
        """
        self._pipeline = pipeline
        self._database = database
        self._documents = documents
        self._tokenizer = tokenizer
        self._fingerprint, self._batches = fingerprint, batches
        self._dimensions = dimensions
        self._workers = workers
        self._on_missing, self._on_read, self._on_long = on_missing, on_read, on_long
        self._cache = cache
        # Files are read in more threads: a parser in its child process must not hold up the next file.
        self._pool = ThreadPoolExecutor(workers + 1, thread_name_prefix="extract")

    def close(self) -> None:
        """End the tokenizer and what is still read."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._tokenizer.close()
        if self._cache is not None:
            self._cache.close()

    def sizes(self, documents: Sequence[InFlight], rows: Mapping[str, Row]) -> list[int]:
        """Return the sizes of the documents' sources in bytes; 0 for one that is not there."""
        if self._documents.are_rows:
            found = [rows.get(document.item.location) for document in documents]
            return [row.size if row else 0 for row in found]
        locations = [document.item.location for document in documents]
        return list(self._pool.map(self._documents.file_size, locations))

    def take_in(self, documents: Sequence[Sized], rows: Mapping[str, Row]) -> None:
        """Read, cut and admit documents, those among `rows` from there.

        Raises Stopped, and what ends the fleet.
        """
        waiting = deque((document, _while_reading(document, size)) for document, size in documents)
        while waiting:
            # What was read is cut and admitted before the next wait: it makes room when it is stored.
            count = self._pipeline.reserve(waiting)
            if count == 0:
                raise Stopped
            self._cut(deque(self._begin(waiting.popleft()[0], rows) for _ in range(count)))

    def _begin(
        self, document: InFlight, rows: Mapping[str, Row]
    ) -> tuple[InFlight, Future[Extracted | Unreadable] | Extracted | Unreadable]:
        """Start reading a document; rows need no parser, which is what the threads are for."""
        if document.extracted is not None:
            return document, document.extracted
        item = document.item
        if not self._documents.are_rows:
            return document, self._pool.submit(self._read_file, document)
        row = rows.get(item.location)
        is_left_out = document.is_long if row is None else row.text is None and row.size > 0
        if is_left_out:
            fetched = self._database.run(lambda c: self._documents.fetch(c, [item], most_bytes=MAX_BYTES))
            return document, self._documents.extract(item, fetched)
        return document, self._documents.extract(item, rows)

    def _read_file(self, document: InFlight) -> Extracted | Unreadable:
        """Read a file, and note at once that its text is large: a compressed one says little by its size."""
        extracted = self._documents.extract(document.item, {}, document.states)
        if isinstance(extracted, Extracted):
            held = HELD * sys.getsizeof(extracted.text)
            if held > max(GROUP, document.weight):
                self._pipeline.weigh(document, held)
        return extracted

    def _cut(
        self, reading: deque[tuple[InFlight, Future[Extracted | Unreadable] | Extracted | Unreadable]]
    ) -> None:
        """Wait for what is read, and cut it in groups; `reading` is emptied, as it holds the texts."""
        group: list[tuple[InFlight, Extracted]] = []
        characters = 0
        while reading:
            document, read = reading.popleft()
            extracted = read.result() if isinstance(read, Future) else read
            if isinstance(extracted, Missing):
                self._on_missing(document, extracted)
                continue
            if isinstance(extracted, Unreadable):
                self._pipeline.refuse(document, extracted.reason)
                continue
            self._on_read(document)
            if len(extracted.text) > GROUP:
                self._admit(group)
                group, characters = [], 0
                document.extracted = extracted
                if self._on_long(document):
                    continue
            group.append((document, extracted))
            characters += len(extracted.text)
            if characters > GROUP:
                self._admit(group)
                group, characters = [], 0
        self._admit(group)

    def _admit(self, group: Sequence[tuple[InFlight, Extracted]]) -> None:
        """Cut documents, and hand their texts to the workers."""
        prepared = self._tokenizer.prepare([(document.item.id, extracted) for document, extracted in group])
        admitted = []
        for (document, extracted), cut in zip(group, prepared, strict=True):
            if isinstance(cut, Unreadable):
                self._pipeline.refuse(document, cut.reason)
                continue
            keys = [self._key_of(ids) for ids in cut.ids]
            document.extracted, document.chunks, document.unknown = extracted, cut.chunks, cut.unknown
            weight = weight_of(extracted.text, cut.chunks, cut.ids, dimensions=self._dimensions)
            admitted.append((document, list(zip(keys, cut.ids, strict=True)), weight))
        long = any(document.is_long for document, *_ in admitted)
        texts = self._without_known(self._pipeline.admit(admitted))
        self._pipeline.enqueue(requests_of(texts, workers=self._workers), is_long=long)

    def _key_of(self, ids: TokenIds) -> bytes:
        """Return the key of a text: the same ids in the same vector space have the same vector.

        The cache may have one that was computed in whole batches, when `validation.max_distance` was wider.
        """
        space = self._fingerprint + (self._batches.space_of(len(ids)) if self._batches else "")
        # 16 bytes: for 2^32 texts the probability of a collision is 2^-65.
        return hashlib.blake2b(ids.tobytes(), digest_size=16, key=space.encode()).digest()

    def _without_known(self, texts: list[UniqueText]) -> list[UniqueText]:
        """Return the texts that must be embedded; the others get their vector from the cache at once."""
        if self._cache is None or not texts:
            return texts
        known = self._cache.get([text.key for text in texts], dimensions=self._dimensions)
        if known:
            self._pipeline.deliver([(text, known[text.key]) for text in texts if text.key in known], [])
        return [text for text in texts if text.key not in known]


def _while_reading(document: InFlight, size: int) -> int:
    """Return the bytes to reserve for a document that is to be read, or has been read by another thread."""
    if document.extracted is not None:
        return HELD * sys.getsizeof(document.extracted.text)
    return READING * min(size, MAX_BYTES)


def requests_of(texts: Sequence[UniqueText], *, workers: int) -> Iterator[list[UniqueText]]:
    """Pack texts into requests for the workers; a short claim is spread over all of them."""
    share = -(-sum(len(text.ids) for text in texts) // workers)
    limit = min(REQUEST_TOKENS, max(SMALLEST_REQUEST, share))
    return pack(texts, tokens_of=lambda text: len(text.ids), limit=limit)
