"""Long documents have their own thread: what it does with a document, with a missing one, and at the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import cast

import pytest
from conftest import wait_for
from pipelines import DEADLINE_S, Line, claim, started

from ragops.documents.errors import Missing, Stopped
from ragops.errors import EmbedderError
from ragops.postgres.row_source import Row
from ragops.workers.inflight import InFlight
from ragops.workers.long_documents import LongDocuments
from ragops.workers.preparation import Preparation, Sized


class Prepares:
    """Takes the place of Preparation: notes what it is given, and ends as the test says."""

    def __init__(self, on_missing: Callable[[InFlight, Missing], None]) -> None:
        self.on_missing = on_missing
        self.taken: list[Sized] = []
        self.raises: BaseException | None = None
        self.closed = 0

    def take_in(self, documents: Sequence[Sized], rows: Mapping[str, Row]) -> None:
        if self.raises is not None:
            raise self.raises
        for document, size in documents:
            if document.item.location == "0.txt":
                self.on_missing(document, Missing("no such file"))
            self.taken.append((document, size))

    def close(self) -> None:
        self.closed += 1


class Long:
    def __init__(self, raises: BaseException | None = None) -> None:
        self.line = Line()
        self.made: list[Prepares] = []
        self.raises = raises
        self.documents = LongDocuments(self.line.pipe, self.make)
        claimed = claim(3)
        self.line.pipe.hold(claimed)
        self.claimed = [InFlight(item, claimed) for item in claimed.items]

    def make(self, on_missing: Callable[[InFlight, Missing], None]) -> Preparation:
        self.made.append(Prepares(on_missing))
        self.made[-1].raises = self.raises
        return cast(Preparation, self.made[-1])


def test_nothing_is_started_for_a_corpus_without_long_documents() -> None:
    long = Long()
    future = started(long.documents.run)
    long.documents.close()
    future.result(DEADLINE_S)
    assert long.made == []


def test_documents_are_taken_in_their_order() -> None:
    long = Long()
    future = started(long.documents.run)
    for size, document in enumerate(long.claimed[1:]):
        long.documents.put(document, size)
    wait_for(lambda: sum(len(made.taken) for made in long.made) == 2, what="both")
    long.documents.close()
    future.result(DEADLINE_S)
    assert long.made[0].taken == [(long.claimed[1], 0), (long.claimed[2], 1)]
    assert [document.is_long for document in long.claimed] == [False, True, True]
    assert (len(long.made), long.made[0].closed) == (1, 1)


def test_a_missing_document_waits_for_the_fetcher_s_judgement() -> None:
    long = Long()
    future = started(long.documents.run)
    long.documents.put(long.claimed[0], 10)
    wait_for(lambda: sum(len(made.taken) for made in long.made) == 1, what="it")
    ((document, reason),) = long.documents.take_missing()
    assert (document, reason.reason) == (long.claimed[0], "no such file")
    assert long.documents.take_missing() == []
    long.documents.close()
    future.result(DEADLINE_S)
    # It takes no room, and nobody waits for it.
    long.line.pipe.refuse_set_aside(document, "no such file")
    assert long.line.finished() == [document]


def test_a_stop_ends_it_and_an_error_ends_the_fleet() -> None:
    stopped, failing = Long(Stopped()), Long(EmbedderError("broken"))
    for long in (stopped, failing):
        long.documents.put(long.claimed[1], 0)
    started(stopped.documents.run).result(DEADLINE_S)
    with pytest.raises(EmbedderError, match="broken"):
        started(failing.documents.run).result(DEADLINE_S)
    assert [long.made[0].closed for long in (stopped, failing)] == [1, 1]
