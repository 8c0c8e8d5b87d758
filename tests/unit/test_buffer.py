"""What stands between the stages of a fleet: each distinct text once, its vector for all that want it."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from pipelines import BATCH, DEADLINE_S, Line, assert_vectors, claim, started, texts_of, unit, vector_of, within

from ragops.workers import buffer, unique_texts
from ragops.workers.claims import LARGEST_CLAIM
from ragops.workers.inflight import InFlight


def test_each_distinct_text_is_handed_out_once() -> None:
    line = Line()
    one, other = line.take_in(["a", "b"], ["b", "c"])
    handed = [line.request() for _ in range(3)]
    assert list(map(texts_of, handed)) == [["a"], ["b"], ["c"]]
    assert line.is_idle()
    for request in handed:
        line.embed(request)
    assert line.finished() == [one, other]
    assert_vectors(one, "a", "b")
    assert_vectors(other, "b", "c")
    assert (line.stats.embedded, line.stats.reused) == (3, 1)


def test_a_document_that_comes_to_want_a_text_in_flight_gets_its_vector() -> None:
    line = Line()
    (first,) = line.take_in(["a"])
    request = line.request()
    (later,) = line.take_in(["a"])
    line.embed(request, "w")
    assert line.finished() == [first, later]
    assert_vectors(later, "a")
    assert (first.worker, later.worker) == ("w", "w")
    assert line.is_idle()


def test_equal_texts_in_one_document() -> None:
    line = Line()
    (document,) = line.take_in(["a", "b", "a"])
    requests = [line.request(), line.request()]
    assert list(map(texts_of, requests)) == [["a"], ["b"]]
    assert line.is_idle()
    for request in requests:
        line.embed(request)
    assert line.finished() == [document]
    assert_vectors(document, "a", "b", "a")
    assert line.pipe.seen == 1


def test_a_failed_text_fails_every_document_that_wants_it() -> None:
    line = Line()
    early = line.take_in(["bad", "a"], ["bad"])
    (text,) = line.request()
    line.embed(line.request())
    text.fail("NaN at position 3", names_chunk=True)
    # The worker has failed the text, and has not delivered it yet.
    late = line.take_in(["b", "bad"])
    line.pipe.deliver([], [text], worker="w")
    assert line.finished() == [*early, *late]
    assert [document.failure for document in (*early, *late)] == [
        "chunk 0: NaN at position 3",
        "chunk 0: NaN at position 3",
        "chunk 1: NaN at position 3",
    ]
    # The failed text is not in flight any more: a document that comes now has it tried again.
    line.take_in(["bad"])
    assert line.next() == ["bad"]


def test_a_reason_that_is_the_document_s_names_no_chunk() -> None:
    line = Line()
    (document,) = line.take_in(["a", "poison"])
    line.request()
    (text,) = line.request()
    text.fail("the child died on this document")
    line.pipe.deliver([], [text], worker="w")
    assert document.failure == "the child died on this document"


def test_texts_of_documents_that_have_failed_are_passed_over() -> None:
    line = Line()
    (document,) = line.take_in(["bad", "a"])
    (text,) = line.request()
    text.fail("broken")
    line.pipe.deliver([], [text], worker="w")
    assert line.finished() == [document]
    line.take_in(["b"])
    assert line.next() == ["b"]
    # It is not held for ever: who comes later has it embedded.
    line.take_in(["a"])
    assert line.next() == ["a"]
    assert line.is_idle()


def test_a_text_of_a_failed_document_is_embedded_for_another_one() -> None:
    line = Line()
    failed, good = line.take_in(["bad", "a"], ["a"])
    (text,) = line.request()
    text.fail("broken")
    line.pipe.deliver([], [text], worker="w")
    request = line.request()
    assert texts_of(request) == ["a"]
    line.embed(request)
    assert line.finished() == [failed, good]
    assert failed.failure == "broken"
    assert_vectors(good, "a")


def test_a_text_that_a_worker_passed_over_comes_back_when_it_is_wanted_after_all() -> None:
    line = Line()
    failed = claim(1)
    line.pipe.hold(failed)
    document = InFlight(failed.items[0], failed)
    line.pipe.enqueue([line.admit(document, "bad", "a")])
    bad, passed_over = line.request()
    bad.fail("broken")
    assert not passed_over.is_wanted
    (good,) = line.take_in(["a"])
    line.pipe.deliver([], [bad, passed_over], worker="w")
    assert good.failure is None
    line.embed(line.request())
    assert line.finished() == [document, good]
    assert_vectors(good, "a")


def test_refused_documents_and_documents_without_an_unknown_text_are_finished_at_once() -> None:
    line = Line()
    (first,) = line.take_in(["a"])
    line.embed(line.request())
    claimed = claim(2)
    line.pipe.hold(claimed)
    refused, known = (InFlight(item, claimed) for item in claimed.items)
    line.pipe.refuse(refused, "empty document: 0 bytes")
    assert line.admit(known, "a", "a") == []
    assert line.finished() == [first, refused, known]
    assert refused.failure == "empty document: 0 bytes"
    assert_vectors(known, "a", "a")


def test_recent_vectors_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unique_texts, "RECENT_BYTES", 3 * unit("a").nbytes)
    line = Line()
    line.take_in(list("abcde"))
    for _ in range(5):
        line.embed(line.request())
    (document,) = line.take_in(["a", "b", "c", "d", "e"])
    assert [line.next(), line.next()] == [["a"], ["b"]]
    assert line.is_idle()
    np.testing.assert_array_equal(document.vectors[2:], list(map(unit, "cde")))


def test_vectors_stay_in_memory_until_the_cache_has_them() -> None:
    line = Line(keeps_recent=False)
    line.take_in(["a", "b"])
    line.embed(line.request())
    line.embed(line.request())
    unsaved = line.unsaved()
    assert [key for key, _ in unsaved] == [b"a", b"b"]
    line.pipe.end()
    assert line.unsaved() == []
    (known,) = line.take_in(["a"])
    assert known.is_finished
    line.pipe.forget([b"a"])
    line.take_in(["a"], ["b"])
    assert line.next() == ["a"]
    assert line.is_idle()


def test_what_the_cache_knew_is_not_new_and_counts_as_reused() -> None:
    line = Line(keeps_recent=False)
    (document,) = line.take_in(["a"])
    line.pipe.deliver([(text, vector_of(text)) for text in line.request()], [])
    assert (document.is_finished, document.worker) == (True, "")
    line.pipe.end()
    assert line.unsaved() == []
    assert (line.stats.embedded, line.stats.reused) == (0, 1)


def test_milliseconds_are_shared_by_tokens_and_counted_once() -> None:
    line = Line()
    one, other, third = line.take_in(["a" * 30, "shared"], ["b" * 10], ["shared"])
    request = [text for _ in range(3) for text in line.request()]
    line.pipe.deliver([(text, vector_of(text)) for text in request], [], worker="w", seconds=0.46)
    assert [document.milliseconds for document in (one, other, third)] == pytest.approx([360, 100, 0])


def test_claims_are_held_until_all_of_their_items_are_settled() -> None:
    line = Line()
    one, other = line.take_in("a", "b")
    (third,) = line.take_in("c")
    assert line.pipe.held_claims() == [one.claim, third.claim]
    assert not within(lambda: line.pipe.wait_until_empty(0.01))
    line.pipe.settle([one])
    assert line.pipe.held_claims() == [one.claim, third.claim]
    line.pipe.settle([third])
    assert line.pipe.held_claims() == [one.claim]
    future = started(lambda: line.pipe.wait_until_empty(DEADLINE_S))
    line.pipe.settle([other])
    assert future.result(DEADLINE_S) is True
    assert line.pipe.held_claims() == []


def test_seen_counts_what_is_stored_and_what_is_about_to_be() -> None:
    line = Line()
    documents = line.take_in("a", "b", "c")
    assert line.pipe.seen == 0
    line.embed(line.request())
    line.embed(line.request())
    assert line.pipe.seen == 2
    line.stats.add(completed=1, failed=1, chunks=2, tokens=2)
    line.pipe.settle(documents[:2])
    assert line.pipe.seen == 2


def test_claims_grow_with_the_throughput_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(buffer, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    line = Line()
    line.take_in(["first"])
    line.embed(line.request())
    line.pipe.settle(line.finished())
    assert line.pipe.claim_size == BATCH
    sizes = []
    for documents in (1, 1200, 10_000, 1):
        line.take_in(*[[f"text at {clock[0]}"]] * documents)
        clock[0] += 10
        line.embed(line.request())
        line.pipe.settle(line.finished())
        sizes.append(line.pipe.claim_size)
    assert sizes == [BATCH, 30, LARGEST_CLAIM * BATCH, BATCH]
