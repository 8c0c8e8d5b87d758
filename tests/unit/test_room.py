"""Bytes in flight are bounded: who gets room, who waits for it, and that one large document always passes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pipelines import DEADLINE_S, Line, claim, is_waiting, started, texts_of, within

from ragops.documents.chunking import Chunk
from ragops.documents.extraction import Extracted
from ragops.workers import queues
from ragops.workers.inflight import InFlight
from ragops.workers.room import LONG_BYTES, MIB, ORDINARY_BYTES, Room, weight_of


def documents(line: Line, number: int, *, is_long: bool = False) -> list[InFlight]:
    claimed = claim(number)
    line.pipe.hold(claimed)
    return [InFlight(item, claimed, is_long=is_long) for item in claimed.items]


def test_as_many_get_in_as_there_is_room_for() -> None:
    line = Line()
    several = documents(line, 5)
    third = ORDINARY_BYTES // 3
    assert within(lambda: line.pipe.reserve([(document, third) for document in several])) == 3
    future = started(lambda: line.pipe.reserve([(document, third) for document in several[3:]]))
    assert is_waiting(future)
    line.pipe.refuse(several[0], "empty")
    line.pipe.settle(line.finished())
    assert future.result(DEADLINE_S) == 1


@pytest.mark.parametrize("is_long", [False, True])
def test_a_document_larger_than_all_room_waits_until_it_is_alone(is_long: bool) -> None:
    line = Line()
    small, huge, other = documents(line, 3, is_long=is_long)
    assert within(lambda: line.pipe.reserve([(small, MIB), (huge, 10 * LONG_BYTES)])) == 1
    future = started(lambda: line.pipe.reserve([(huge, 10 * LONG_BYTES), (other, MIB)]))
    assert is_waiting(future)
    line.pipe.refuse(small, "empty")
    assert future.result(DEADLINE_S) == 1


def test_long_documents_leave_the_others_their_room() -> None:
    line = Line()
    (long,), (other,) = documents(line, 1, is_long=True), documents(line, 1)
    assert within(lambda: line.pipe.reserve([(long, 10 * LONG_BYTES)])) == 1
    assert within(lambda: line.pipe.reserve([(other, ORDINARY_BYTES)])) == 1
    # No claim before there is room again.
    future = started(line.pipe.wait_for_room)
    assert is_waiting(future)
    line.pipe.refuse(other, "empty")
    line.pipe.settle(line.finished())
    assert future.result(DEADLINE_S) is True


def test_a_stop_ends_the_wait_for_room() -> None:
    line = Line()
    first, second = documents(line, 2)
    assert line.pipe.reserve([(first, ORDINARY_BYTES)]) == 1
    future = started(lambda: line.pipe.reserve([(second, 1)]))
    assert is_waiting(future)
    line.stop.requested.set()
    assert future.result(DEADLINE_S) == 0


def test_a_missing_and_a_refused_document_take_no_room() -> None:
    """Nothing else would be read while they wait for what others show: the fleet would stand still."""
    line = Line()
    missing, refused, other = documents(line, 3)
    assert line.pipe.reserve([(missing, ORDINARY_BYTES // 2), (refused, ORDINARY_BYTES // 2)]) == 2
    line.pipe.set_aside(missing)
    line.pipe.give_up(refused)
    assert within(lambda: line.pipe.reserve([(other, ORDINARY_BYTES)])) == 1


def test_a_document_that_turns_out_long_moves_to_the_long_ones() -> None:
    line = Line()
    (ordinary, other), (long,) = documents(line, 2), documents(line, 1, is_long=True)
    assert line.pipe.reserve([(long, LONG_BYTES)]) == 1
    assert line.pipe.reserve([(ordinary, ORDINARY_BYTES)]) == 1
    future = started(lambda: line.pipe.make_long(ordinary, MIB))
    assert is_waiting(future)
    assert within(lambda: line.pipe.reserve([(other, ORDINARY_BYTES)])) == 1
    line.pipe.refuse(long, "empty")
    future.result(DEADLINE_S)
    assert (ordinary.is_long, ordinary.weight) == (True, MIB)
    # It has its room already.
    assert within(lambda: line.pipe.reserve([(ordinary, MIB)])) == 1


@given(
    steps=st.lists(st.tuples(st.integers(0, 4), st.booleans(), st.integers(0, 30), st.booleans()), max_size=60),
)
def test_room_is_what_its_documents_weigh(steps: list[tuple[int, bool, int, bool]]) -> None:
    room, claimed = Room(ordinary=20, long=20), claim(10)
    all = [InFlight(item, claimed, is_long=number >= 5) for number, item in enumerate(claimed.items)]
    for number, is_long, weight, asks in steps:
        document = all[number + 5 * is_long]
        before, lane = document.weight, [other for other in all if other.is_long == is_long]
        if asks:
            others = sum(other.weight for other in lane) - before
            taken = room.take(document, weight)
            assert taken == (weight <= before or others == 0 or others + weight <= 20)
            assert document.weight == (weight if taken else before)
        else:
            room.weigh(document, weight)
        assert room.held == sum(document.weight for document in all)


def test_the_weight_of_a_document_is_that_of_all_its_parts() -> None:
    text = "a" * 1000
    chunks = [Chunk(0, "a" * 500, 100), Chunk(1, "a" * 500, 100)]
    ids = [np.zeros(100, np.int32)] * 2
    weight = weight_of(text, chunks, ids, dimensions=1024)
    assert weight > 2 * 1000 + 2 * 400 + 2 * 4096
    assert weight < 2 * (2 * 1000 + 2 * 400 + 2 * 4096)
    wide = weight_of(text.replace("a", "\U0001f600"), chunks, ids, dimensions=1024)
    assert wide > weight + 2900


def test_what_is_stored_together_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queues, "STORE_BYTES", 100)
    line = Line()
    several = documents(line, 6)
    for document, weight in zip(several, (40, 40, 40, 500, 1, 1), strict=True):
        line.pipe.reserve([(document, weight)])
    line.pipe.admit([(document, [], document.weight) for document in several])
    # No longer wait for more of them, either.
    batches = [within(lambda: line.pipe.take_finished(limit=20, within_s=60)) for _ in range(4)]
    assert batches == [several[:2], several[2:3], several[3:4], several[4:]]


def test_requests_of_long_documents_take_turns_with_others() -> None:
    line = Line()
    (long,), (other,) = documents(line, 1, is_long=True), documents(line, 1)
    for document, names, is_long in ((long, "abcd", True), (other, "xy", False)):
        line.pipe.enqueue([[text] for text in line.admit(document, *names)], is_long=is_long)
    line.pipe.close()
    assert [texts_of(line.request())[0] for _ in range(6)] == ["x", "a", "y", "b", "c", "d"]
    assert within(line.pipe.next_request) is None


def test_what_is_stored_takes_no_memory_although_threads_keep_it() -> None:
    line = Line()
    (document,) = documents(line, 1)
    (text,) = line.admit(document, "a")
    document.extracted = Extracted("a", content_hash="", characters=1, media_type="text/plain")
    document.chunks = (Chunk(0, "a", 3),)
    text.fail("NaN")
    line.pipe.deliver([], [text], worker="w")
    line.pipe.settle(line.finished())
    assert (document.chunks, document.tokens) == ((Chunk(0, "", 3),), 3)
    assert [document.extracted] == [None]
    # Another text of a document that has failed may be on its way still.
    line.pipe.deliver([(text, np.ones(4, np.float32))], [], worker="w")
