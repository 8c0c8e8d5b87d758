"""Who waits for what in a pipeline, and what wakes them up; a deadlock fails a test."""

from __future__ import annotations

import pytest
from pipelines import BATCH, DEADLINE_S, Line, claim, is_waiting, started, within

from ragops.workers.buffer import UNSTORED_CLAIMS
from ragops.workers.inflight import InFlight
from ragops.workers.queues import REQUEST_TOKENS, REQUESTS_AHEAD

LATER_S = 60.0


def test_the_completer_takes_as_many_as_it_asked_for() -> None:
    line = Line()
    documents = line.take_in(*("abcde"))
    for _ in range(4):
        line.embed(line.request())
    taken = within(lambda: line.pipe.take_finished(limit=3, within_s=LATER_S))
    assert taken == documents[:3]
    future = started(lambda: line.pipe.take_finished(limit=3, within_s=LATER_S))
    assert is_waiting(future)
    line.embed(line.request())
    assert future.result(DEADLINE_S) == documents[3:]


def test_the_completer_waits_no_longer_than_it_asked_for() -> None:
    line = Line()
    documents = line.take_in("a", "b")
    future = started(lambda: line.pipe.take_finished(limit=1000, within_s=0.01))
    assert is_waiting(future)  # nothing is finished: it has no age
    line.embed(line.request())
    assert future.result(DEADLINE_S) == documents[:1]


@pytest.mark.parametrize("ask", ["end", "stop"])
def test_the_completer_gets_the_rest_at_once(ask: str) -> None:
    line = Line()
    documents = line.take_in("a", "b")
    line.embed(line.request())
    future = started(lambda: line.pipe.take_finished(limit=1000, within_s=LATER_S))
    assert is_waiting(future)
    line.pipe.end() if ask == "end" else line.stop.requested.set()
    assert future.result(DEADLINE_S) == documents[:1]


def test_after_the_end_the_completer_gets_nothing() -> None:
    line = Line()
    future = started(lambda: line.pipe.take_finished(limit=1, within_s=0))
    assert is_waiting(future)
    line.pipe.end()
    assert future.result(DEADLINE_S) == []


def test_the_fetcher_waits_while_enough_lies_ready() -> None:
    line = Line(workers=2)
    long = [str(number) * (REQUEST_TOKENS // 2) for number in range(10)]
    for text in long[: 4 * REQUESTS_AHEAD]:
        assert within(line.pipe.wait_for_room)
        line.take_in([text])
    future = started(line.pipe.wait_for_room)
    assert is_waiting(future)
    line.request()
    assert future.result(DEADLINE_S) is True


def test_the_fetcher_waits_while_too_much_is_not_stored() -> None:
    line = Line()
    documents: list[InFlight] = []
    while len(documents) <= UNSTORED_CLAIMS * BATCH:
        assert within(line.pipe.wait_for_room)
        documents += line.take_in(*["a"] * BATCH)
        if len(documents) == BATCH:
            line.embed(line.request())
    future = started(line.pipe.wait_for_room)
    assert is_waiting(future)
    assert sum(len(held.items) for held in line.pipe.held_claims()) == len(documents)
    line.pipe.settle(documents[:BATCH])
    assert future.result(DEADLINE_S) is True


@pytest.mark.parametrize("ask", ["close", "stop"])
def test_workers_that_wait_are_woken_up(ask: str) -> None:
    line = Line(workers=3)
    futures = [started(line.pipe.next_request) for _ in range(3)]
    assert all(map(is_waiting, futures))
    line.pipe.close() if ask == "close" else line.stop.requested.set()
    assert [future.result(DEADLINE_S) for future in futures] == [None] * 3


def test_what_lies_ready_is_handed_out_after_closing_but_not_after_a_stop() -> None:
    line = Line()
    line.take_in(["a"], ["b"])
    line.pipe.close()
    assert line.next() == ["a"]
    line.stop.requested.set()
    assert within(line.pipe.next_request) is None


def test_a_stop_wakes_the_fetcher_up() -> None:
    line = Line()
    line.take_in(*["a"] * (UNSTORED_CLAIMS * BATCH + 1))
    future = started(line.pipe.wait_for_room)
    assert is_waiting(future)
    line.stop.requested.set()
    assert future.result(DEADLINE_S) is False


def test_documents_that_were_set_aside_take_no_room_and_nobody_waits_for_them() -> None:
    line = Line()
    claimed = claim(UNSTORED_CLAIMS * BATCH + 2)
    line.pipe.hold(claimed)
    documents = [InFlight(item, claimed) for item in claimed.items]
    future = started(line.pipe.wait_for_room)
    assert is_waiting(future)
    for document in documents[1:]:
        line.pipe.set_aside(document)
    assert future.result(DEADLINE_S)
    assert line.pipe.seen == 0
    line.pipe.refuse(documents[0], "empty")
    # The last one that is expected: it is stored at once.
    assert within(lambda: line.pipe.take_finished(limit=1000, within_s=LATER_S)) == documents[:1]
    line.pipe.settle(documents[:1])
    for document in documents[1:]:
        line.pipe.refuse_set_aside(document, "no such file")
    assert line.pipe.seen == len(documents) - 1
    assert line.finished() == documents[1:]
    assert {document.failure for document in documents[1:]} == {"no such file"}
    line.pipe.settle(documents[1:])
    assert line.pipe.held_claims() == []


def test_the_completer_waits_for_the_next_claim_only_while_one_may_come() -> None:
    """It holds documents that were refused, and must know whether others are still to come."""
    line = Line()
    assert within(lambda: line.pipe.wait_for_more(0.0)) is False
    future = started(lambda: line.pipe.wait_for_more(DEADLINE_S))
    assert is_waiting(future)
    line.take_in(["a"])
    assert future.result(DEADLINE_S) is True
    line.embed(line.request())
    assert within(lambda: line.pipe.wait_for_more(0.0)) is True
    line.finished()
    future = started(lambda: line.pipe.wait_for_more(2 * DEADLINE_S))
    assert is_waiting(future)
    line.pipe.end()
    assert future.result(DEADLINE_S) is False
