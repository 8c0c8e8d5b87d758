"""The completer: finished documents become batches, and a lost claim does not take another one with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pipelines import Line, unit, within

from ragops.documents.chunking import Chunk
from ragops.documents.extraction import Extracted
from ragops.errors import FenceLost, Interrupted, RagopsError
from ragops.postgres.queue import Claim
from ragops.postgres.refusals import ValueRefused
from ragops.postgres.writer import Batch, Stored, Writer
from ragops.workers.completer import FIRST_STORE, MAX_REFUSED, Completer, mean_of
from ragops.workers.database import Database
from ragops.workers.inflight import InFlight, UnitVector

LOST = "a batch was dropped: its lease had run out and its items were claimed anew"


class AtHand(Database):
    """Runs work at once, on no connection."""

    def __init__(self) -> None: ...

    def run(self, work: Callable[[Any], Any]) -> Any:
        return work(None)


class Notebook(Writer):
    """Keeps batches, transaction by transaction; refuses those of lost claims, and documents of some texts."""

    def __init__(self) -> None:
        self.transactions: list[tuple[Batch, ...]] = []
        self.lost: list[Claim] = []
        self.refuses: Callable[[str], bool] = lambda text: "refused" in text
        self.refuses_reason: Callable[[str], bool] = lambda reason: False
        self.attempts = self.proofs = 0
        self.error: Exception = psycopg.errors.CheckViolation("violates a check\nDETAIL: the row")

    def write(self, connection: object, *batches: Batch) -> Stored:
        self.attempts += 1
        if any(batch.claim in self.lost for batch in batches):
            raise FenceLost(LOST)
        if any(self.refuses(row.text) for batch in batches for row in batch.documents):
            raise self.error
        if any(self.refuses_reason(reason) for batch in batches for _, reason in batch.failures):
            raise psycopg.errors.UntranslatableCharacter("no such character")
        self.transactions.append(batches)
        return Stored()

    def accepts(self, connection: object, batch: Batch) -> bool:
        self.proofs += 1
        return not any(self.refuses(row.text) for row in batch.documents)

    @property
    def stored(self) -> list[object]:
        """Items in the order in which they were stored."""
        return [row.item_id for batch in self.batches for row in batch.documents]

    @property
    def failures(self) -> dict[object, str]:
        failed = [failure for batch in self.batches for failure in batch.failures]
        assert len(failed) == len(dict(failed)), "failed twice"
        return dict(failed)

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
            claimant="host:1",
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


NO_ROW_IS_TO_BLAME = (
    OSError("no such folder"),
    psycopg.errors.DiskFull("no space left on device"),
    psycopg.errors.OutOfMemory("out of memory"),
    psycopg.errors.ReadOnlySqlTransaction("read-only transaction"),
    psycopg.errors.InsufficientPrivilege("permission denied"),
    psycopg.errors.UndefinedTable("does not exist"),
    psycopg.errors.QueryCanceled("canceling statement due to user request"),
    psycopg.errors.LockNotAvailable("lock timeout"),
    psycopg.errors.SerializationFailure("could not serialize"),
    psycopg.errors.FeatureNotSupported("COPY FROM not supported with row-level security"),
    psycopg.errors.BadCopyFileFormat("row field count is 5, expected 6"),
    psycopg.errors.InternalError_("cache lookup failed"),
    psycopg.OperationalError("the connection is lost"),
)


@pytest.mark.parametrize("error", NO_ROW_IS_TO_BLAME, ids=lambda error: type(error).__name__)
def test_what_no_row_is_to_blame_for_ends_the_completer_and_fails_none(error: Exception) -> None:
    store = Store()
    (document, _) = store.take_in(["a refused one"], ["b"])
    store.embed(2)
    store.notebook.error = error
    with pytest.raises(type(error)):
        store.run()
    assert (store.notebook.attempts, store.notebook.transactions) == (1, [])
    assert store.line.pipe.held_claims() == [document.claim]


ABOUT_A_ROW = (
    psycopg.errors.NotNullViolation("null value"),
    psycopg.errors.StringDataRightTruncation("value too long"),
    psycopg.errors.ProgramLimitExceeded("index row size 2800 exceeds maximum 2704"),
    psycopg.errors.RaiseException("the trigger objects"),
    psycopg.errors.CaseNotFound("case not found"),
    psycopg.errors.ExternalRoutineException("a function in another language failed"),
    psycopg.errors.NameTooLong("identifier too long"),
    psycopg.DataError("PostgreSQL text fields cannot contain NUL (0x00) bytes"),
    UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed"),
    ValueRefused("it does not fit", where="public.documents.file_id", actual="70000", expected="smallint"),
)


@pytest.mark.parametrize("error", ABOUT_A_ROW, ids=lambda error: type(error).__name__)
def test_what_is_about_a_row_fails_it_alone(error: Exception) -> None:
    store = Store()
    refused, _ = store.take_in(["a refused one"], ["b"])
    store.embed(2)
    store.notebook.error = error
    store.run()
    assert store.notebook.stored == [1]
    assert store.notebook.failures.keys() == {refused.item.id}
    assert store.notebook.failures[refused.item.id].startswith("the database refused this document: ")


def embedded(texts: Sequence[str], *, claims: int = 1) -> Store:
    """A store with one embedded document per text, spread over claims."""
    store = Store()
    share = -(-len(texts) // claims)
    for start in range(0, len(texts), share):
        store.take_in(*([text] for text in texts[start : start + share]))
    store.embed(len(texts))
    return store


@given(data=st.data(), size=st.integers(2, 100), claims=st.integers(1, 3))
def test_exactly_the_refused_documents_fail_and_bisecting_is_logarithmic(
    data: st.DataObject, size: int, claims: int
) -> None:
    refused = data.draw(st.sets(st.integers(0, size - 1), max_size=min(size, FIRST_STORE) - 1))
    store = embedded([f"{n} {'refused' if n in refused else 'fine'}" for n in range(size)], claims=claims)
    store.run()
    notebook, stats = store.notebook, store.line.stats
    texts = [row.text for batch in notebook.batches for row in batch.documents]
    assert sorted(texts) == sorted(f"{n} fine" for n in range(size) if n not in refused)
    reason = "the database refused this document: violates a check"
    failed = [failure for batch in notebook.batches for _, failure in batch.failures]
    assert failed == [reason] * len(refused)
    assert (stats.completed, stats.failed) == (size - len(refused), len(refused))
    assert stats.tokens == sum(len(f"{n} {'refused' if n in refused else 'fine'}") for n in range(size))
    assert store.line.pipe.held_claims() == []
    # Per refused document two transactions on each level of its tree, one that fails it, and a third of a proof.
    takes = size // 10 + 2
    assert notebook.attempts <= takes + len(refused) * (2 * np.ceil(np.log2(size)) + 2)
    assert notebook.proofs <= len(refused) + takes


@given(data=st.data(), size=st.integers(4, 100))
def test_a_database_that_refuses_everything_stops_with_at_most_three_failed(
    data: st.DataObject, size: int
) -> None:
    """From the first document on, or after some: a constraint may be added while a campaign runs."""
    stored = data.draw(st.integers(0, size - 4))
    store = embedded([f"{n} {'fine' if n < stored else 'refused'}" for n in range(size)])
    if stored:
        # What was stored before would be refused now, too.
        store.notebook.accepts = lambda connection, batch: False  # type: ignore[method-assign]
    with pytest.raises(RagopsError, match="stopped before it refuses the whole queue") as caught:
        store.run()
    assert caught.value.actual == "violates a check"
    assert len(store.notebook.failures) == MAX_REFUSED
    assert sorted(map(str, store.notebook.stored)) == sorted(str(n) for n in range(stored))
    assert len(store.line.pipe.held_claims()) == 1


@pytest.mark.parametrize("size", [1, 2, MAX_REFUSED])
def test_the_last_documents_of_a_queue_may_all_be_refused(size: int) -> None:
    store = embedded([f"{n} refused" for n in range(size)])
    store.run()
    assert len(store.notebook.failures) == size
    assert store.line.pipe.held_claims() == []


def test_many_documents_in_a_row_fail_alone_although_nothing_was_stored_before() -> None:
    store = embedded([*(f"{n} refused" for n in range(FIRST_STORE - 1)), "fine"])
    store.run()
    assert len(store.notebook.failures) == FIRST_STORE - 1
    assert len(store.notebook.stored) == 1
    assert store.notebook.proofs == 0


def test_any_number_in_a_row_fails_alone_while_what_was_stored_is_still_accepted() -> None:
    store = embedded(["fine", *(f"{n} refused" for n in range(200))])
    store.run()
    assert (len(store.notebook.failures), len(store.notebook.stored)) == (200, 1)


def test_a_failure_whose_reason_the_database_refuses_gets_a_plainer_one() -> None:
    store = embedded(["a refused one", "b"])
    store.notebook.error = psycopg.errors.CheckViolation("‹é› violates \0 " + "x" * 100)
    store.notebook.refuses_reason = lambda reason: not reason.isascii() or "\0" in reason or len(reason) > 40
    store.run()
    assert list(store.notebook.failures.values()) == ["the database refused this docu"]
    assert len(store.notebook.stored) == 1


def test_a_failure_that_cannot_be_recorded_at_all_ends_the_run() -> None:
    store = embedded(["a refused one", "b"])
    store.notebook.refuses_reason = lambda reason: True
    with pytest.raises(psycopg.errors.UntranslatableCharacter):
        store.run()


def test_a_claim_that_is_lost_while_bisecting_is_dropped() -> None:
    store = Store()
    lost = store.take_in(["1 refused"], ["1 fine"])
    kept = store.take_in(["2 refused"], ["2 fine"])
    store.embed(4)
    store.notebook.lost = [lost[0].claim]
    store.run()
    assert len(store.notebook.failures) == 1
    assert {batch.claim for batch in store.notebook.batches} == {kept[0].claim}
    assert store.line.pipe.held_claims() == []
