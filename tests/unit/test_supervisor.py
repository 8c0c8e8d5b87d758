"""The supervisor of a child: crashes are bisected to their document, invalid vectors fail only their own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from fake_embedder import Nursery, unique_texts
from hypothesis import given
from hypothesis import strategies as st

from ragops.documents.errors import Unreadable
from ragops.embedder import starting
from ragops.embedder.client import Embedder
from ragops.embedder.starting import STARTS_AGAIN
from ragops.errors import EmbedderDied, EmbedderError, EmbedderTimeout
from ragops.workers import state
from ragops.workers import supervisor as module
from ragops.workers.inflight import UniqueText
from ragops.workers.supervisor import CANARY, MAX_FAILURES, Outcome, try_twice

BLAMED = "the embedder child crashed on this document: during a request"


def _batch(size: int, poisoned: Sequence[int] = (), word: str = "poison") -> list[UniqueText]:
    return [text for n in range(size) for text in unique_texts(n, f"text {n} {word if n in poisoned else 'more'}")]


def _items(texts: Sequence[UniqueText]) -> list[object]:
    return [text.owner for text in texts]


def _completed(outcome: Outcome) -> list[object]:
    return _items([text for text, _ in outcome.done])


def _failures(outcome: Outcome) -> list[tuple[object, str | None]]:
    return [(text.owner, text.wanted_by[0][0].failure) for text in outcome.failed]


def test_texts_in_one_request() -> None:
    nursery = Nursery()
    outcome = nursery.supervisor().embed([*unique_texts(1, "one", "two"), *unique_texts(2, "three")])
    assert nursery.requests == [("one", "two", "three")]
    assert _completed(outcome) == [1, 1, 2]
    for _, vector in outcome.done:
        assert vector.shape == (4,)
        assert np.isclose(np.linalg.norm(vector), 1)
    assert (outcome.failed, nursery.starts, nursery.stats.notices) == ([], 1, [])


def test_an_empty_request_asks_nothing() -> None:
    nursery = Nursery()
    assert nursery.supervisor().embed([]) == Outcome()
    assert nursery.requests == []


def test_texts_of_documents_that_have_failed_are_passed_over() -> None:
    nursery = Nursery()
    lost, good = unique_texts(1, "one", "two"), unique_texts(2, "three")
    lost[0].fail("broken")
    outcome = nursery.supervisor().embed([*lost, *good])
    assert nursery.requests == [("three",)]
    assert _completed(outcome) == [2]
    assert outcome.failed == lost


def test_a_text_that_others_want_too_is_embedded_although_one_of_them_has_failed() -> None:
    lost, shared = unique_texts(1, "one", "two"), unique_texts(2, "two")
    lost[1].wanted_by += shared[0].wanted_by
    lost[0].fail("broken")
    assert _completed(Nursery().supervisor().embed(lost)) == [1]


@given(data=st.data(), size=st.integers(1, 100))
def test_one_poison_document_at_any_position_fails_alone(data: st.DataObject, size: int) -> None:
    position = data.draw(st.integers(0, size - 1))
    nursery = Nursery()
    outcome = nursery.supervisor().embed(_batch(size, [position]))
    assert _failures(outcome) == [(position, BLAMED)]
    assert _completed(outcome) == [n for n in range(size) if n != position]
    # Bisecting: one death on each level of the tree down to the document, which gets a second try.
    assert nursery.starts - 1 <= np.ceil(np.log2(size)) + 2
    assert nursery.open_children == 1


@given(data=st.data(), size=st.integers(4, 64))
def test_two_poison_documents_fail_alone(data: st.DataObject, size: int) -> None:
    positions = sorted(data.draw(st.sets(st.integers(0, size - 1), min_size=2, max_size=2)))
    outcome = Nursery().supervisor().embed(_batch(size, positions))
    assert _failures(outcome) == [(position, BLAMED) for position in positions]
    assert _completed(outcome) == [n for n in range(size) if n not in positions]


def test_every_position_of_a_small_batch() -> None:
    for size in range(1, 18):
        for position in range(size):
            outcome = Nursery().supervisor().embed(_batch(size, [position]))
            assert _items(outcome.failed) == [position]
            assert len(outcome.done) == size - 1


def test_poison_between_good_documents_never_stops_the_queue() -> None:
    poisoned = range(1, 40, 2)
    supervisor = Nursery().supervisor()
    outcome = supervisor.embed(_batch(40, poisoned))
    assert _items(outcome.failed) == list(poisoned)
    assert _completed(outcome) == list(range(0, 40, 2))


@pytest.mark.parametrize("size", [1, 2, 3, 8, 100])
def test_a_child_that_dies_on_everything_blames_no_document(size: int) -> None:
    nursery = Nursery(is_deadly=lambda text: True)
    supervisor = nursery.supervisor()
    outcome = supervisor.embed(_batch(size))
    assert isinstance(outcome.fatal, EmbedderDied)
    assert "SIGABRT" in str(outcome.fatal)
    assert (outcome.done, outcome.failed) == ([], [])
    assert nursery.starts == 1 + MAX_FAILURES
    # Each new child was asked for its health only, never for another document.
    assert nursery.requests[1:] == [("ok",)] * MAX_FAILURES


def test_a_child_that_does_not_start_again_stops() -> None:
    nursery = Nursery(dies_at_start=lambda number: number > 1)
    supervisor = nursery.supervisor()
    outcome = supervisor.embed(_batch(4, [0]))
    assert isinstance(outcome.fatal, EmbedderDied)
    assert "SIGILL" in str(outcome.fatal)
    assert nursery.starts == 1 + MAX_FAILURES


def test_a_child_that_dies_at_start_now_and_then_goes_on() -> None:
    nursery = Nursery(dies_at_start=lambda number: number in (2, 3, 5, 6))
    outcome = nursery.supervisor().embed(_batch(4, [2]))
    assert _failures(outcome) == [(2, BLAMED)]
    assert _completed(outcome) == [0, 1, 3]


@pytest.mark.parametrize("returncode", [-9, -6, 3])
def test_a_text_whose_child_dies_by_chance_is_tried_alone_once_more(returncode: int) -> None:
    deaths: list[str] = []

    def is_deadly(text: str) -> bool:
        if "text 2" in text and len(deaths) < 3:
            deaths.append(text)
            return True
        return False

    nursery = Nursery(is_deadly=is_deadly, returncode=returncode)
    outcome = nursery.supervisor().embed(_batch(4))
    # Among four, among two, and alone; the fourth time it is embedded.
    assert len(deaths) == 3
    assert (outcome.failed, outcome.fatal) == ([], None)
    assert sorted(map(int, map(str, _completed(outcome)))) == [0, 1, 2, 3]


@pytest.mark.parametrize("killed", [1, STARTS_AGAIN, STARTS_AGAIN + 1])
def test_a_question_is_asked_again_when_its_child_was_killed_from_outside(killed: int) -> None:
    deaths: list[str] = []

    def is_deadly(text: str) -> bool:
        if text == "a question" and len(deaths) < killed:
            deaths.append(text)
            return True
        return False

    supervisor = Nursery(is_deadly=is_deadly, returncode=-9).supervisor()
    if killed > STARTS_AGAIN:
        with pytest.raises(EmbedderDied):
            supervisor.ask(lambda embedder: embedder.count_tokens(["a question"]))
    else:
        assert supervisor.ask(lambda embedder: embedder.count_tokens(["a question"])) == [2]
    assert len(deaths) == killed


@pytest.mark.parametrize("returncode", [-6, 3, None])
def test_a_question_that_the_child_crashes_on_is_not_asked_again(returncode: int | None) -> None:
    nursery = Nursery(returncode=returncode)
    with pytest.raises(EmbedderDied):
        nursery.supervisor().ask(lambda embedder: embedder.embed(["poison"]))
    assert nursery.starts == 1


def test_a_canary_whose_child_is_killed_by_chance_is_embedded_again() -> None:
    deaths: list[str] = []

    def is_deadly(text: str) -> bool:
        if text == CANARY and not deaths:
            deaths.append(text)
            return True
        return "poison" in text

    outcome = Nursery(is_deadly=is_deadly, returncode=-9).supervisor().embed(_batch(MAX_FAILURES, [0, 1, 2]))
    assert (len(outcome.failed), outcome.fatal, deaths) == (MAX_FAILURES, None, [CANARY])


@pytest.mark.parametrize(
    ("returncode", "ending"),
    [(-9, "ended by SIGKILL"), (-6, "ended by SIGABRT"), (3, "ended with code 3"), (0, "ended with code 0")],
)
def test_the_reason_says_how_the_child_ended(returncode: int, ending: str) -> None:
    nursery = Nursery(returncode=returncode)
    outcome = nursery.supervisor().embed(_batch(1, [0]))
    assert _failures(outcome) == [(0, f"the embedder child crashed on this document: {ending} during a request")]
    assert nursery.stats.notices[0] == f"embedder child crashed ({ending} during a request); restarting it"


def test_a_text_that_the_child_hangs_on_is_not_tried_again() -> None:
    nursery = Nursery()
    supervisor = nursery.supervisor()
    requests = []

    def hang(tokens: object) -> None:
        requests.append(tokens)
        raise EmbedderTimeout("no response", actual="no response during a request")

    nursery.children[0].embed_tokens = hang  # type: ignore[method-assign, assignment]
    assert len(supervisor.embed(_batch(1)).failed) == 1
    assert len(requests) == 1
    assert nursery.requests == [("ok",)]


@pytest.mark.parametrize("deaths", [1, STARTS_AGAIN])
def test_a_first_child_that_is_killed_from_outside_is_started_again(
    monkeypatch: pytest.MonkeyPatch, deaths: int
) -> None:
    monkeypatch.setattr(starting, "PAUSE_S", 0.0)
    nursery = Nursery(dies_at_start=lambda number: number <= deaths, returncode=-9)
    assert len(nursery.supervisor().embed(_batch(3)).done) == 3
    assert nursery.starts == deaths + 1
    notice = "embedder child did not start (ended by SIGKILL while it started); starting it again"
    assert nursery.stats.notices == [notice] * deaths


@pytest.mark.parametrize(("returncode", "starts"), [(-9, 1 + STARTS_AGAIN), (-4, 1), (-6, 1), (1, 1), (None, 1)])
def test_a_first_child_that_dies_by_itself_is_not_started_again(
    monkeypatch: pytest.MonkeyPatch, returncode: int | None, starts: int
) -> None:
    monkeypatch.setattr(starting, "PAUSE_S", 0.0)
    nursery = Nursery(dies_at_start=lambda _: True, returncode=returncode)
    with pytest.raises(EmbedderDied):
        nursery.supervisor()
    assert nursery.starts == starts


def test_no_child_is_started_again_after_an_abort() -> None:
    nursery = Nursery(dies_at_start=lambda _: True, returncode=-9)
    nursery.stop.aborted.set()
    with pytest.raises(EmbedderDied):
        nursery.supervisor()
    assert nursery.starts == 1


@pytest.mark.parametrize("size", [3, 4, 10, 100])
def test_a_child_that_dies_on_every_document_stops_after_three(size: int) -> None:
    nursery = Nursery(is_deadly=lambda text: text != "ok")
    supervisor = nursery.supervisor()
    outcome = supervisor.embed(_batch(size))
    assert outcome.fatal is not None
    assert f"failed on {MAX_FAILURES} documents in a row" in outcome.fatal.what
    # They are stored as failed, so that the next run does not meet them again.
    assert _items(outcome.failed) == [0, 1, 2]
    documents = [request for request in nursery.requests if request not in (("ok",), (CANARY,))]
    # Each was tried twice, as the first death may have been chance.
    assert sum(len(request) == 1 for request in documents) == 2 * MAX_FAILURES


def test_deaths_in_a_row_are_counted_across_batches() -> None:
    nursery = Nursery(is_deadly=lambda text: text != "ok")
    supervisor = nursery.supervisor()
    failed = [id for n in range(2) for id in _items(supervisor.embed(unique_texts(n, "text")).failed)]
    assert failed == [0, 1]
    assert supervisor.embed(unique_texts(2, "text")).fatal is not None


def test_a_child_that_makes_only_broken_vectors_stops_after_three() -> None:
    nursery = Nursery(word="nan")
    outcome = nursery.supervisor().embed(_batch(20))
    assert outcome.fatal is not None
    assert outcome.fatal.actual == "NaN at position 1"
    assert len(outcome.failed) == MAX_FAILURES
    assert outcome.done == []


@pytest.mark.parametrize("word", ["poison", "nan"])
@given(data=st.data(), size=st.integers(1, 40))
def test_many_failing_documents_in_a_row_fail_alone(word: str, data: st.DataObject, size: int) -> None:
    """Any set of documents, all of them included: the child embeds the canary, so the fault is theirs."""
    failing = data.draw(st.sets(st.integers(0, size - 1)))
    outcome = Nursery().supervisor().embed(_batch(size, sorted(failing), word))
    assert outcome.fatal is None
    assert _items(outcome.failed) == sorted(failing)
    assert _completed(outcome) == [n for n in range(size) if n not in failing]


def test_the_canary_is_asked_for_at_every_third_failure_in_a_row() -> None:
    nursery = Nursery()
    assert len(nursery.supervisor().embed(_batch(12, range(12))).failed) == 12
    assert nursery.requests.count((CANARY,)) == 4


def test_a_child_that_embeds_nothing_but_the_canary_stops_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HOPELESS", 9)
    nursery = Nursery(is_deadly=lambda text: text not in ("ok", CANARY))
    outcome = nursery.supervisor().embed(_batch(100))
    assert outcome.fatal is not None
    assert len(outcome.failed) <= 9


def test_a_success_between_lets_any_number_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HOPELESS", 9)
    outcome = Nursery().supervisor().embed(_batch(60, [n for n in range(60) if n % 7]))
    assert outcome.fatal is None
    assert _completed(outcome) == list(range(0, 60, 7))


def test_a_success_starts_the_count_anew() -> None:
    supervisor = Nursery().supervisor()
    for n in range(10):
        assert len(supervisor.embed(unique_texts(n, "poison")).failed) == 1
        assert len(supervisor.embed(unique_texts(n, "text")).done) == 1


REASONS = {
    "nan": "chunk 0: NaN at position 1",
    "inf": "chunk 0: Inf at position 0",
    "zero": "chunk 0: zero vector (norm 0)",
}


@pytest.mark.parametrize("word", REASONS)
@given(data=st.data(), size=st.integers(1, 30))
def test_a_broken_vector_fails_its_document_and_replaces_the_child(
    word: str, data: st.DataObject, size: int
) -> None:
    position = data.draw(st.integers(0, size - 1))
    nursery = Nursery()
    outcome = nursery.supervisor().embed(_batch(size, [position], word))
    assert _failures(outcome) == [(position, REASONS[word])]
    assert _completed(outcome) == [n for n in range(size) if n != position]
    # Its batch-mates' vectors are whole here: it alone is embedded once more.
    assert nursery.requests[1:] == [(f"text {position} {word}",)] * (size > 1)
    assert (nursery.starts, nursery.open_children) == (2, 1)
    assert nursery.children[0].is_closed
    assert nursery.stats.notices == ["embedder child returned an invalid vector; restarting it"]


def test_several_broken_vectors_replace_the_child_once() -> None:
    nursery = Nursery()
    outcome = nursery.supervisor().embed(
        [*unique_texts(1, "some nan", "zero"), *unique_texts(2, "text"), *unique_texts(3, "inf")]
    )
    assert _items(outcome.failed) == [1, 1, 3]
    assert _failures(outcome)[0][1] == "chunk 0: NaN at position 1"
    assert _completed(outcome) == [2]
    assert nursery.starts == 2


def test_a_nan_that_spreads_through_a_batch_fails_only_the_text_that_makes_it_alone() -> None:
    nursery = Nursery(spreads=True)
    outcome = nursery.supervisor().embed(_batch(5, [2], "nan"))
    assert _failures(outcome) == [(2, "chunk 0: NaN at position 1")]
    assert _completed(outcome) == [0, 1, 3, 4]
    assert nursery.starts == 2


def test_a_child_that_has_gone_bad_makes_no_text_fail() -> None:
    nursery = Nursery(goes_bad=lambda number: number == 1)
    outcome = nursery.supervisor().embed(_batch(4))
    assert _failures(outcome) == []
    assert _completed(outcome) == [0, 1, 2, 3]
    assert nursery.starts == 2


def test_a_stop_blames_nobody_and_starts_no_child() -> None:
    nursery = Nursery()
    supervisor = nursery.supervisor()
    nursery.stop.aborted.set()
    supervisor.kill()
    with pytest.raises(EmbedderDied):
        supervisor.embed(_batch(4))
    assert (nursery.starts, nursery.stats.notices) == (1, [])


def test_a_stop_while_bisecting_ends_it() -> None:
    nursery = Nursery()

    def is_deadly(text: str) -> bool:
        # The stop comes in with the third child.
        if nursery.starts == 3:
            nursery.stop.aborted.set()
        return "poison" in text

    nursery.is_deadly = is_deadly
    with pytest.raises(EmbedderDied):
        nursery.supervisor().embed(_batch(64, [0]))
    assert nursery.starts == 3


def test_try_twice_passes_the_result_on() -> None:
    assert try_twice(Nursery().supervisor(), 1, lambda embedder: embedder.count_tokens(["two words"])) == [2]


@pytest.mark.parametrize(("deaths", "is_blamed"), [(1, False), (2, True)])
def test_try_twice_blames_a_document_at_its_second_death(deaths: int, is_blamed: bool) -> None:
    nursery = Nursery()
    supervisor = nursery.supervisor()
    calls = []

    def work(embedder: Embedder) -> list[int]:
        calls.append(1)
        return embedder.count_tokens(["poison"] if len(calls) <= deaths else ["text"])

    if is_blamed:
        with pytest.raises(Unreadable, match="crashed on this document"):
            try_twice(supervisor, 1, work)
    else:
        assert try_twice(supervisor, 1, work) == [1]
    assert (len(calls), nursery.starts) == (2, 1 + deaths)
    assert len(supervisor.embed(unique_texts(2, "text")).done) == 1


def test_try_twice_blames_a_document_that_the_child_refuses() -> None:
    nursery = Nursery()
    supervisor = nursery.supervisor()

    def refuse(embedder: Embedder) -> None:
        raise EmbedderError("refused", actual="llama.cpp could not tokenise a text")

    for number in range(3 * MAX_FAILURES):
        with pytest.raises(Unreadable, match="refused this document: llama"):
            try_twice(supervisor, number, refuse)
    assert nursery.starts == 1


def test_try_twice_stops_when_the_canary_fails_too() -> None:
    nursery = Nursery()
    supervisor = nursery.supervisor()

    def refuse(embedder: Embedder) -> None:
        raise EmbedderError("refused", actual="llama.cpp could not tokenise a text")

    for number in range(MAX_FAILURES):
        with pytest.raises(Unreadable):
            try_twice(supervisor, number, refuse)
    supervisor.kill()
    with pytest.raises(EmbedderError, match="in a row"):
        try_twice(supervisor, MAX_FAILURES, refuse)


def test_try_twice_stops_when_every_document_kills_the_child() -> None:
    supervisor = Nursery(is_deadly=lambda text: text != "ok").supervisor()
    for number in range(MAX_FAILURES):
        with pytest.raises(Unreadable):
            try_twice(supervisor, number, lambda embedder: embedder.count_tokens(["text"]))
    with pytest.raises(EmbedderError, match="in a row"):
        try_twice(supervisor, MAX_FAILURES, lambda embedder: embedder.count_tokens(["text"]))


def test_many_crashes_take_a_few_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    nursery = Nursery()
    supervisor = nursery.supervisor()
    for number in range(20):
        supervisor.embed(unique_texts(number, "poison"))
    assert len(nursery.stats.take_notices()) == state.SHOWN_PER_MINUTE
    monkeypatch.setattr(state, "MINUTE_S", 0.0)
    supervisor.embed(unique_texts(20, "poison"))
    first, second = nursery.stats.take_notices()
    # Each document kills two children.
    assert first.endswith(
        f"restarting it (and {2 * 20 - state.SHOWN_PER_MINUTE} more like it since the last of these)"
    )
    assert second.endswith("restarting it")


def test_close_ends_the_child_at_hand() -> None:
    nursery = Nursery()
    supervisor = nursery.supervisor()
    supervisor.embed(_batch(4, [1]))
    supervisor.close()
    assert nursery.open_children == 0
