"""The screen of the queue: reasons in groups, what is excluded, what lacks text, on 80 columns."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rich.console import Console

from ragops.documents.reading import Partial, UnknownTokens
from ragops.documents.reasons import FailureGroup
from ragops.postgres.failures import FailedItem
from ragops.postgres.measured import Measured, PartialDocument, UnknownDocument
from ragops.report.queue import GROUPS_SHOWN, QueueStatus, queue_screen
from ragops.status import QueueRead

COUNTS: dict[str, int | None] = {"pending": 0, "processing": 0, "completed": 80, "failed": 20}
PAGES = Partial(29, 30, "pages", ("page 3 (probably a scan)",))
READ = QueueRead(COUNTS, False, ())
GROUPS = (
    FailureGroup("not UTF-8 text (byte … at offset N)", 12, "a/b.txt", "not UTF-8 text (byte 0xdf at offset 4)"),
    FailureGroup("no such file", 8, "c.txt", "no such file"),
)


def lines_of(status: QueueStatus) -> list[str]:
    console = Console(width=80)
    with console.capture() as captured:
        console.print(queue_screen(status))
    shown = captured.get().splitlines()
    assert max(map(len, shown)) <= 80
    return [" ".join(line.split()) for line in shown]


def test_failures_stand_by_reason_with_an_example() -> None:
    shown = lines_of(QueueStatus(replace(READ, groups=GROUPS), None))
    assert shown[5:] == [
        "failed reason",
        "12 not UTF-8 text (byte … at offset N)",
        "e.g. a/b.txt",
        "8 no such file",
        "e.g. c.txt",
        "next: fix them, then: ragops queue retry",
        "every one of them: ragops queue status --all",
    ]


def test_the_rarest_reasons_are_counted_where_the_screen_ends() -> None:
    many = tuple(FailureGroup(f"reason {number}", 2, "a", "a") for number in range(GROUPS_SHOWN + 3))
    assert "and 6 with 3 more reasons" in lines_of(QueueStatus(replace(READ, groups=many), None))
    everything = lines_of(QueueStatus(replace(READ, groups=many), None, lists_all=True))
    assert f"2 reason {GROUPS_SHOWN + 2}" in everything


def test_every_item_is_listed_on_request() -> None:
    read = replace(READ, groups=GROUPS, failures=(FailedItem("c.txt", "no such file"), FailedItem("d.txt", None)))
    shown = lines_of(QueueStatus(read, None, lists_all=True))
    assert "c.txt: no such file" in shown and "d.txt:" in shown


def test_excluded_items_are_shown_with_the_way_back() -> None:
    read = replace(
        READ,
        counts={**COUNTS, "excluded": 1},
        excluded=(FailedItem("e.png", "excluded (*.png): failed, empty document"),),
    )
    shown = lines_of(QueueStatus(read, None))
    assert "excluded: 1 items" in shown
    assert "e.png: excluded (*.png): failed, empty document" in shown
    assert "next, to take them in again: ragops queue retry --excluded" in shown


def test_partial_documents_are_shown_with_their_share_and_what_is_missing() -> None:
    read = replace(READ, measured=Measured(3, (PartialDocument("scan.pdf", PAGES),), UnknownTokens(0, 0)))
    shown = lines_of(QueueStatus(read, None))
    assert "partial: 3 documents of 80 stored, 3.75%, lack text" in shown
    assert "scan.pdf: 29 of 30 pages; missing: page 3 (probably a scan)" in shown
    assert "and 2 more: ragops queue status --all" in shown


@pytest.mark.parametrize(
    ("unknown", "foreign", "words"),
    [
        (1, 0, None),
        (5, 1, "unknown to the model: 5.0% of 100 tokens are unknown, and of 1 of 20 documents at least half"),
        (
            50,
            9,
            "the model does not know the script of these documents: 50.0% of 100 tokens are unknown, and of 9 of",
        ),
    ],
)
def test_unknown_tokens_are_shown_where_they_say_something(unknown: int, foreign: int, words: str | None) -> None:
    documents = tuple(UnknownDocument("thai.txt", UnknownTokens(7, 8)) for _ in range(foreign))
    measured = Measured(0, (), UnknownTokens(unknown, 100), foreign, documents, 20)
    shown = " ".join(lines_of(QueueStatus(replace(READ, measured=measured), None)))
    assert words is None or words in shown
    assert ("thai.txt: 87.50% of 8 tokens" in shown) is bool(foreign)


def test_json_has_everything() -> None:
    measured = Measured(1, (PartialDocument("scan.pdf", PAGES),), UnknownTokens(1, 10), 0, (), 5)
    found = QueueStatus(replace(READ, groups=GROUPS, measured=measured), None).to_json()
    assert found["partial"] == {
        "documents": 1,
        "share": 0.0125,
        "list": [
            {
                "location": "scan.pdf",
                "found": 29,
                "expected": 30,
                "unit": "pages",
                "missing": ("page 3 (probably a scan)",),
                "share": 0.9667,
            }
        ],
    }
    assert found["unknown_tokens"] == {
        "documents": 5,
        "tokens": 10,
        "unknown": 1,
        "share": 0.1,
        "mostly_unknown": 0,
        "knows_script": False,
        "list": [],
    }
    assert QueueStatus(READ, None).to_json()["partial"] is None
