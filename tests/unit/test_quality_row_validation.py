"""Judging rows that stay: what decides while a campaign runs, and what a sample proves."""

from __future__ import annotations

import math

import pytest

from ragops.campaign.row_names import row_name, shown_location
from ragops.playbook.targets import RowTarget
from ragops.quality.row_validation import RowMeasure, TargetMeasure, bound
from ragops.quality.validation import ColumnMeasure, Measurements, ValidationLimits, judge

LIMITS = ValidationLimits(max_distance=1e-3, criterion=0.7, max_failed_share=0.05)


def target(**changes: object) -> TargetMeasure:
    values = {"total": 10, "with_embedding": 10, "zero": 0, "missing": 0, "dimensions": (32,), **changes}
    return TargetMeasure("kb.articles", "embedding", **values)  # type: ignore[arg-type]


def checks(*targets: TargetMeasure, is_running: bool = False, completed: int = 5) -> dict[str, tuple[str, str]]:
    columns = tuple(ColumnMeasure(t.name, t.total, t.with_embedding, t.zero, t.dimensions) for t in targets)
    measured = Measurements(
        dimensions=32,
        columns=columns,
        queue={"completed": completed},
        agreement=(),
        thresholds=(),
        queries=(),
        is_sampled=True,
        rows=RowMeasure(targets, is_running=is_running),
    )
    return {check.id: (check.status, check.measured) for check in judge(measured, LIMITS)}


@pytest.mark.parametrize(
    ("written", "others", "is_running", "status"),
    [
        ((0.0, 1e-4), (0.5,), True, "pass"),
        ((0.0, 1e-4), (0.5,), False, "fail"),
        ((0.0, math.nan), (), True, "fail"),
        ((0.0,), (math.nan,), False, "fail"),
        ((0.0,), (0.0,), False, "pass"),
        ((), (), False, "fail"),
        ((), (0.5,), True, "fail"),
    ],
)
def test_rows_of_another_writer_decide_only_when_no_campaign_runs(
    written: tuple[float, ...], others: tuple[float, ...], is_running: bool, status: str
) -> None:
    found = checks(target(written=written, others=others), is_running=is_running)
    assert found["stored_vectors_agree"][0] == status


def test_a_campaign_that_had_nothing_to_write_has_nothing_wrong() -> None:
    found = checks(target(others=(0.5, 0.0)), is_running=True, completed=0)
    assert found["stored_vectors_agree"] == ("info", "this campaign has written no row")
    assert found["other_vectors_agree"][1].startswith("1 of 2 sampled rows")


@pytest.mark.parametrize("is_running, status", [(True, "info"), (False, "fail")])
def test_what_a_campaign_has_not_reached_may_lack_a_vector(is_running: bool, status: str) -> None:
    found = checks(
        target(with_embedding=6, missing=3, zero=1, dimensions=(16, 32), written=(0.0,)), is_running=is_running
    )
    for id in ("no_null", "no_zero_vector", "dimensions"):
        assert found[f"kb.articles.embedding_{id}"][0] == status
    assert found["kb.articles.embedding_no_null"][1] == "3 rows without embedding, and 1 more without text"


def test_a_sample_without_a_fault_says_what_that_proves() -> None:
    assert bound(300) == "fewer than 1.0% of the rows at 95 % confidence"
    assert checks(target(written=(0.0,) * 50))["stored_vectors_agree"][1].endswith(bound(50))


def test_rows_are_called_by_table_and_key() -> None:
    articles = RowTarget(table="kb.articles", text="{title}")
    assert row_name(articles, '["7", "2026-01-01"]') == "kb.articles (7, 2026-01-01)"
    assert shown_location((articles,), '1:["7", "2026-01-01"]') == "kb.articles (7, 2026-01-01)"
    # Of a playbook that has no such target, and of files.
    assert shown_location((articles,), '2:["7"]') == '2:["7"]'
    assert shown_location((articles,), "docs/a.txt") == "docs/a.txt"
