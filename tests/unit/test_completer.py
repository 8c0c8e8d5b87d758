"""The completer: finished documents become batches, and a lost claim does not take another one with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from pipelines import Line, unit, within

from ragops.documents.chunking import Chunk
from ragops.documents.extraction import Extracted
from ragops.errors import FenceLost, Interrupted
from ragops.postgres.queue import Claim
from ragops.postgres.writer import Batch, Writer
from ragops.workers.completer import Completer, mean_of
from ragops.workers.database import Database
from ragops.workers.inflight import InFlight, UnitVector

LOST = "a batch was dropped: its lease had run out and its items were claimed anew"


class AtHand(Database):
    """Runs work at once, on no connection."""

    def __init__(self) -> None: ...

    def run(self, work: Callable[[Any], Any]) -> Any:
        return work(None)


class Notebook(Writer):
    """Keeps batches, transaction by transaction; refuses those of lost claims."""

    def __init__(self) -> None:
        self.transactions: list[tuple[Batch, ...]] = []
        self.lost: list[Claim] = []

    def write(self, connection: object, *batches: Batch) -> None:
        if any(batch.claim in self.lost for batch in batches):
            raise FenceLost(LOST)
        self.transactions.append(batches)

    @property
    def batches(self) -> list[Batch]:
        return [batch for batches in self.transactions for batch in batches]


class Store:
    """A completer with its pipeline and its notebook."""

    def __init__(self) -> None:
        self.line = Line(keeps_recent=True)
        self.notebook = Notebook()
        self.completer = Completer(
            self.line.pipe,
            AtHand(),
            self.notebook,
            fingerprint="f" * 16,
            stop=self.line.stop,
            stats=self.line.stats,
            name="host:1:cache",
        )

    def take_in(self, *documents: Sequence[str]) -> list[InFlight]:
        """Claim documents of these chunks; a text's tokens are its characters."""
        taken = self.line.take_in(*documents)
        for document, texts in zip(taken, documents, strict=True):
            whole = "\n".join(texts)
            document.extracted = Extracted(whole, f"{document.item.id:064}", len(whole), "text/plain")
            document.chunks = tuple(Chunk(number, text, len(text)) for number, text in enumerate(texts))
        return taken

    def embed(
        self, count: int, worker: str = "w", *, seconds: float = 0.0, vector: UnitVector | None = None
    ) -> None:
        for _ in range(count):
            done = [(t, unit(t.key.decode()) if vector is None else vector) for t in self.line.request()]
            self.line.pipe.deliver(done, [], worker=worker, seconds=seconds)

    def run(self) -> None:
        self.line.pipe.end()
        within(self.completer.run)

    def batch_of(self, document: InFlight) -> Batch:
        (batch,) = [
            b for b in self.notebook.batches if document.item.id in ids_of(b) and b.claim == document.claim
        ]
        return batch


def ids_of(batch: Batch) -> list[object]:
    return [row.item_id for row in batch.documents] + [id for id, _ in batch.failures]


def test_rows_are_what_was_prepared_and_embedded() -> None:
    store = Store()
    (document,) = store.take_in(["one", "two"])
    store.embed(2)
    store.run()
    (batch,) = store.notebook.batches
    assert batch.claim == document.claim
    ((row,), failures) = batch.documents, batch.failures
    assert failures == ()
    assert (row.item_id, row.location, row.text) == (0, "0.txt", "one\ntwo")
    assert (row.content_hash, row.characters) == ("0" * 64, 7)
    assert row.metadata == {"media_type": "text/plain"}
    assert [(chunk.index, chunk.text) for chunk in row.chunks] == [(0, "one"), (1, "two")]
    np.testing.assert_array_equal([chunk.vector for chunk in row.chunks], [unit("one"), unit("two")])
    mean = unit("one") + unit("two")
    np.testing.assert_allclose(row.vector, mean / np.linalg.norm(mean), rtol=1e-6)


def test_a_document_of_one_chunk_has_its_vector_bit_by_bit() -> None:
    store = Store()
    store.take_in(["one"])
    store.embed(1)
    store.run()
    np.testing.assert_array_equal(store.notebook.batches[0].documents[0].vector, unit("one"))


def test_metrics_are_those_of_a_claim_and_a_worker() -> None:
    store = Store()
    first = store.take_in(["a" * 10], ["b" * 20], ["c" * 30])
    second = store.take_in(["d" * 40, "e" * 5])
    store.embed(1, "host:1:1", seconds=0.1)
    store.embed(1, "host:1:2", seconds=0.2)
    store.embed(1, "host:1:1", seconds=0.3)
    store.embed(2, "host:1:1", seconds=0.4)
    store.run()
    assert len(store.notebook.transactions) == 1
    metrics = {
        (b.claim.id, b.metrics.worker): (len(b.documents), b.metrics.tokens, b.metrics.milliseconds)
        for b in store.notebook.batches
    }
    assert metrics == {
        (first[0].claim.id, "host:1:1"): (2, 40, 400),
        (first[0].claim.id, "host:1:2"): (1, 20, 200),
        (second[0].claim.id, "host:1:1"): (1, 45, 800),
    }
    assert {b.metrics.fingerprint for b in store.notebook.batches} == {"f" * 16}
    stats = store.line.stats
    assert (stats.completed, stats.failed, stats.chunks, stats.tokens) == (4, 0, 5, 105)


def test_documents_whose_every_text_was_known_stand_for_the_cache() -> None:
    store = Store()
    first, known = store.take_in(["a"])[0], store.take_in(["b"])[0]
    store.embed(1, "host:1:1")
    store.embed(1, "")
    store.run()
    assert store.batch_of(first).metrics.worker == "host:1:1"
    assert store.batch_of(known).metrics.worker == "host:1:cache"


def test_failed_documents_stand_beside_those_that_are_stored() -> None:
    store = Store()
    good, refused, poison = store.take_in(["a"], ["b"], ["c"])
    store.embed(2)
    (text,) = store.line.request()
    text.fail("the embedder child crashed on this document: SIGABRT")
    store.line.pipe.deliver([], [text], worker="w")
    refused.failure = "chunk 0: NaN at position 3"
    store.run()
    (batch,) = store.notebook.batches
    assert [row.item_id for row in batch.documents] == [good.item.id]
    assert dict(batch.failures) == {
        refused.item.id: "chunk 0: NaN at position 3",
        poison.item.id: "the embedder child crashed on this document: SIGABRT",
    }
    assert (store.line.stats.completed, store.line.stats.failed) == (1, 2)


def test_a_document_whose_chunks_cancel_out_fails() -> None:
    store = Store()
    up = np.array([0, 1, 0, 0], np.float32)
    (document, _) = store.take_in(["up", "down"], ["up"])
    store.embed(1, vector=up)
    store.embed(1, vector=-up)
    store.run()
    (batch,) = store.notebook.batches
    assert batch.failures == ((document.item.id, "its chunks' vectors cancel out: the mean is zero"),)
    # What it shares with others is none of their fault.
    assert [row.item_id for row in batch.documents] == [1]


def test_the_mean_of_a_document() -> None:
    east, north = np.array([1, 0], np.float32), np.array([0, 1], np.float32)
    mean = mean_of([east, north, north])
    assert mean is not None
    np.testing.assert_allclose(mean, np.array([1, 2]) / np.sqrt(5), rtol=1e-6)
    assert mean_of([east]) is east
    assert mean_of([east, -east]) is None


def test_a_lost_claim_is_dropped_and_takes_no_other_along() -> None:
    store = Store()
    documents = [store.take_in([f"{number} a"], [f"{number} b"])[0] for number in range(3)]
    store.embed(6)
    store.notebook.lost = [documents[1].claim]
    store.run()
    assert {batch.claim for batch in store.notebook.batches} == {documents[0].claim, documents[2].claim}
    stats = store.line.stats
    assert (stats.completed, stats.failed) == (4, 0)
    assert stats.take_notices() == [f"{LOST} (2 embedded documents)"]
    assert store.line.pipe.held_claims() == []


def test_after_an_abort_nothing_is_written() -> None:
    store = Store()
    (document,) = store.take_in(["a"])
    store.embed(1)
    store.line.stop.aborted.set()
    with pytest.raises(Interrupted):
        store.run()
    assert store.notebook.transactions == []
    assert store.line.pipe.held_claims() == [document.claim]


def test_what_the_database_refuses_ends_the_completer() -> None:
    store = Store()
    store.take_in(["a"])
    store.embed(1)

    class Full(Notebook):
        def write(self, connection: object, *batches: Batch) -> None:
            raise OSError("disk full")

    store.completer._writer = Full()
    with pytest.raises(OSError, match="disk full"):
        store.run()
