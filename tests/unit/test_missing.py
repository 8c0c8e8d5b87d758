"""Missing documents: when they fail, when they wait, and when the whole source is gone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from pipelines import Line, claim

from ragops.documents.errors import Missing
from ragops.errors import RagopsError
from ragops.playbook.tables import Tables
from ragops.workers import missing as module
from ragops.workers.inflight import InFlight
from ragops.workers.missing import LIMIT, MissingDocuments


@dataclass
class Source:
    """Documents that can be opened, and a queue whose sample is given; stands for both and for the database."""

    there: set[str] = field(default_factory=set)
    sample: list[str] = field(default_factory=list)
    samples: int = 0
    name: str = "/corpus"
    are_rows: bool = False

    def first_existing(self, connection: object, locations: Sequence[str]) -> str | None:
        return next((location for location in locations if location in self.there), None)

    def run(self, work: Callable[[Any], Any]) -> Any:
        return work(self)

    def execute(self, statement: object, values: object) -> Source:
        self.samples += 1
        return self

    def fetchall(self) -> list[tuple[str]]:
        return [(location,) for location in self.sample]


class Judged:
    """Missing documents of one claim, each with its turn."""

    def __init__(self, source: Source, *, size: int = 2 * LIMIT) -> None:
        self.line = Line()
        claimed = claim(size)
        self.line.pipe.hold(claimed)
        self._left = [InFlight(item, claimed) for item in claimed.items]
        self.missing = MissingDocuments(self.line.pipe, cast(Any, source), Tables(), documents=cast(Any, source))

    def add(self, number: int) -> None:
        for _ in range(number):
            self.missing.add(self._left.pop(0), Missing("no such file"))

    @property
    def failed(self) -> list[str | None]:
        return [document.failure for document in self.line.finished()]


def test_without_a_proof_they_wait_up_to_the_limit() -> None:
    judged = Judged(Source())
    judged.add(LIMIT - 1)
    assert judged.missing
    assert judged.line.pipe.seen == 0
    with pytest.raises(RagopsError, match=f"{LIMIT} in a row do not exist, nor does any in a sample") as caught:
        judged.add(1)
    assert caught.value.where == "/corpus"
    assert judged.line.pipe.seen == 0


def test_at_the_end_of_the_queue_one_is_enough() -> None:
    judged = Judged(Source(), size=1)
    judged.add(1)
    with pytest.raises(RagopsError, match=r"are gone: 0\.txt does not exist, nor does any"):
        judged.missing.judge(is_last=True)


def test_a_document_that_was_read_and_opens_again_is_a_proof() -> None:
    source = Source(there={"read.txt"})
    judged = Judged(source)
    judged.missing.saw("read.txt")
    judged.missing.saw("gone.txt")
    judged.add(LIMIT)
    assert judged.failed == ["no such file"] * LIMIT
    assert not judged.missing
    assert source.samples == 0


def test_the_last_document_that_was_read_is_named() -> None:
    judged = Judged(Source())
    judged.missing.saw("a.txt")
    judged.missing.saw("b.txt")
    with pytest.raises(RagopsError, match=r"nor does b\.txt, which was read before"):
        judged.add(LIMIT)


def test_a_sample_of_the_queue_is_a_proof() -> None:
    judged = Judged(Source(there={"other.txt"}, sample=["x.txt", "other.txt"]), size=3)
    judged.add(3)
    judged.missing.judge(is_last=True)
    assert judged.failed == ["no such file"] * 3


def test_few_do_not_wait_for_the_end_of_the_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    judged = Judged(Source(there={"read.txt"}))
    judged.missing.saw("read.txt")
    judged.add(2)
    assert judged.missing  # not at once: a folder may be on its way out
    monkeypatch.setattr(module, "PATIENCE_S", 0.0)
    judged.missing._due_at = 0.0
    judged.missing.judge()
    assert judged.failed == ["no such file"] * 2


def test_a_sample_does_not_count_early_while_documents_of_this_run_are_gone() -> None:
    source = Source(there={"other.txt"}, sample=["other.txt"])
    judged = Judged(source)
    judged.missing.saw("gone.txt")
    judged.add(2)
    judged.missing._due_at = 0.0
    judged.missing.judge()
    assert judged.missing
    judged.add(LIMIT - 2)
    assert judged.failed == ["no such file"] * LIMIT


def test_rows_are_restored_not_mounted() -> None:
    judged = Judged(Source(name="public.texts", are_rows=True), size=1)
    judged.add(1)
    with pytest.raises(RagopsError, match=r"the documents of public\.texts are gone") as caught:
        judged.missing.judge(is_last=True)
    assert str(caught.value.hint).startswith("restore its rows")
