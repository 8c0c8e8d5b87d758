"""The status screen: what is estimated or unknown is told apart from what was counted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from ragops.postgres.progress import ColumnStatistics, DocumentCounts, ParsedFilesCounts, QueueCounts
from ragops.report.status import ESTIMATED, status_screen
from ragops.report.units import estimate
from ragops.status import Status

ITEMS: dict[str, int | None] = {"pending": 25, "processing": 0, "completed": 75, "failed": 0}
COUNTED = Status(
    database="rag on localhost",
    documents=DocumentCounts(1200, 1100, 2048, is_estimated=False),
    queue=QueueCounts(ITEMS, is_estimated=False),
    parsed_files=ParsedFilesCounts(1300, 1250, is_estimated=False),
    indexes=(),
    campaign=None,
)


def lines_of(**changes: Any) -> list[str]:
    console = Console(width=160)
    with console.capture() as captured:
        console.print(status_screen(replace(COUNTED, **changes)))
    return [" ".join(line.split()) for line in captured.get().splitlines()]


def test_counts_stand_as_they_are() -> None:
    assert lines_of() == [
        "rag on localhost",
        "documents 1,200, 1,100 with embedding, 2.0 KiB",
        "parsed 1,300, 1,250 unique files",
        "queue items share",
        "pending 25 25.00%",
        "processing 0 0.00%",
        "completed 75 75.00%",
        "failed 0 0.00%",
        "no vector index",
    ]


def test_estimates_are_marked_and_explained() -> None:
    shown = lines_of(documents=replace(COUNTED.documents, is_estimated=True))
    assert "documents ≈ 1,200, ≈ 1,100 with embedding, 2.0 KiB" in shown
    assert "parsed 1,300, 1,250 unique files" in shown
    assert "pending 25 25.00%" in shown
    assert ESTIMATED in shown


def test_an_estimated_queue_is_marked_item_by_item() -> None:
    shown = lines_of(queue=QueueCounts(ITEMS, is_estimated=True))
    assert "pending ≈ 25 25.00%" in shown
    assert ESTIMATED in shown


def test_unknown_numbers_are_named_and_give_no_share() -> None:
    unknown = {**ITEMS, "completed": None, "failed": None}
    shown = lines_of(
        parsed_files=ParsedFilesCounts(None, None, is_estimated=True),
        queue=QueueCounts(unknown, is_estimated=True),
    )
    assert "parsed unknown, unknown unique files" in shown
    assert "pending ≈ 25 –" in shown
    assert "completed unknown –" in shown
    assert "ragops status --exact" in ESTIMATED


@pytest.mark.parametrize(
    ("value", "is_estimated", "text"),
    [(1234, False, "1,234"), (1234, True, "≈ 1,234"), (0, True, "≈ 0"), (None, True, "unknown")],
)
def test_a_number_says_what_it_is(value: int | None, is_estimated: bool, text: str) -> None:
    assert estimate(value, is_estimated=is_estimated) == text


@pytest.mark.parametrize(
    ("statistics", "filled", "values"),
    [
        (ColumnStatistics(is_not_null=False, null_share=0.25, distinct=-0.5), 750, 500),
        (ColumnStatistics(is_not_null=True, null_share=None, distinct=7), 1000, 7),
        (ColumnStatistics(is_not_null=False, null_share=None, distinct=None), None, None),
        (ColumnStatistics(is_not_null=False, null_share=1.0, distinct=0), 0, 0),
    ],
)
def test_statistics_of_a_column_read_for_a_thousand_rows(
    statistics: ColumnStatistics, filled: int | None, values: int | None
) -> None:
    assert (statistics.filled(1000), statistics.values(1000)) == (filled, values)
