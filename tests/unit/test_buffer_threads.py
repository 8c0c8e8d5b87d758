"""Documents through a pipeline with all its threads: none is lost, none is finished twice."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

import numpy as np
from fake_embedder import text_of
from hypothesis import given, settings
from hypothesis import strategies as st
from pipelines import DEADLINE_S, Line, claim, started, unit, within

from ragops.workers.inflight import InFlight, UnitVector
from ragops.workers.preparation import requests_of


class Crew:
    """Threads that run documents through a pipeline: texts with an `x` fail, all others get their vector."""

    def __init__(self, documents: Sequence[Sequence[str]], *, workers: int, seed: int) -> None:
        self.line = Line(workers=workers)
        self.documents = documents
        self.workers = workers
        self.draw = random.Random(seed)
        self.embedded: Counter[str] = Counter()
        self.stored: list[InFlight] = []
        self.vectors: dict[int, list[UnitVector | None]] = {}
        self.taken: list[InFlight] = []

    def run(self) -> None:
        completer = started(self.store)
        workers = [started(self.work) for _ in range(self.workers)]
        within(self.take_in)
        for worker in workers:
            worker.result(DEADLINE_S)
        self.line.pipe.end()
        completer.result(DEADLINE_S)

    def take_in(self) -> None:
        pipe, left = self.line.pipe, list(self.documents)
        while left and pipe.wait_for_room():
            size = self.draw.randint(1, 5)
            claimed = claim(len(left[:size]))
            pipe.hold(claimed)
            taken = [InFlight(item, claimed) for item in claimed.items]
            self.taken += taken
            new = [
                wanted
                for document, texts in zip(taken, left[:size], strict=True)
                for wanted in self.line.admit(document, *texts)
            ]
            pipe.enqueue(requests_of(new, workers=self.workers))
            del left[:size]
        pipe.close()

    def work(self) -> None:
        pipe = self.line.pipe
        while (request := pipe.next_request()) is not None:
            done, failed = [], []
            for wanted in request:
                if not wanted.is_wanted:
                    failed.append(wanted)
                elif "x" in (text := text_of(wanted.ids)):
                    wanted.fail(text)
                    failed.append(wanted)
                else:
                    self.embedded[text] += 1
                    done.append((wanted, unit(text)))
            pipe.deliver(done, failed, worker="w")

    def store(self) -> None:
        while documents := self.line.pipe.take_finished(limit=4, within_s=0.001):
            self.stored += documents
            self.vectors |= {id(document): document.vectors for document in documents}
            self.line.pipe.settle(documents)


def assert_stored(crew: Crew, document: InFlight, *texts: str) -> None:
    """It had these vectors when it was stored; it has let them go since."""
    assert document.failure is None
    np.testing.assert_array_equal(crew.vectors[id(document)], [unit(text) for text in texts])


def corpora(alphabet: str) -> st.SearchStrategy[list[list[str]]]:
    return st.lists(st.lists(st.text(alphabet, min_size=1, max_size=2), min_size=1, max_size=4), max_size=40)


@settings(max_examples=40, deadline=None)
@given(documents=corpora("abc"), workers=st.integers(1, 4), seed=st.integers(0, 999))
def test_every_document_is_finished_once_and_every_text_embedded_once(
    documents: list[list[str]], workers: int, seed: int
) -> None:
    crew = Crew(documents, workers=workers, seed=seed)
    crew.run()
    assert Counter(map(id, crew.stored)) == Counter(map(id, crew.taken))
    assert len(crew.taken) == len(documents)
    for document, texts in zip(crew.taken, documents, strict=True):
        assert_stored(crew, document, *texts)
    assert crew.embedded == Counter({text for texts in documents for text in texts})
    assert crew.line.stats.embedded == crew.embedded.total()
    assert crew.line.stats.reused == sum(map(len, documents)) - crew.embedded.total()
    assert (crew.line.pipe.wait_until_empty(0), crew.line.pipe.held_claims()) == (True, [])


@settings(max_examples=40, deadline=None)
@given(documents=corpora("abx"), workers=st.integers(1, 4), seed=st.integers(0, 999))
def test_failing_texts_fail_their_documents_and_no_other(
    documents: list[list[str]], workers: int, seed: int
) -> None:
    crew = Crew(documents, workers=workers, seed=seed)
    crew.run()
    assert Counter(map(id, crew.stored)) == Counter(map(id, crew.taken))
    for document, texts in zip(crew.taken, documents, strict=True):
        broken = [text for text in texts if "x" in text]
        if broken:
            assert document.failure in broken
        else:
            assert_stored(crew, document, *texts)
    assert (crew.line.pipe.wait_until_empty(0), crew.line.pipe.held_claims()) == (True, [])
