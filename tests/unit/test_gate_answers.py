"""What to type after a gate that failed for its shares alone, and what an answer changes."""

from __future__ import annotations

import pytest
from playbook_factory import playbook as a_playbook

from ragops.campaign.answers import Answers, answer_lines
from ragops.documents.patterns import excludes
from ragops.errors import OverrideError, UsageError
from ragops.playbook import load_playbook
from ragops.playbook.steps import Compare

FAILED = "failed_items: 8 failed items, 25.0% of those processed"
PARTIAL = "partial_documents: 4 documents lack text, 14.3% of those stored (e.g. a.pdf: 1 of 3 pages)"


def lines(error: str | None, **more: tuple[str, int]) -> list[str]:
    return (answer_lines(error, **more) or "").splitlines()


def test_failed_items_are_answered_by_a_retry_a_pattern_or_a_limit() -> None:
    assert lines(FAILED, suffix=(".png", 6)) == [
        "ragops queue status   (why did they fail, what is missing?), then one of:",
        "ragops queue retry   and: ragops reset --resume   (once their cause is gone)",
        'ragops reset --resume --exclude "*.png"   (6 that do not count then)',
        "ragops reset --resume --max-failed-share 0.26",
    ]
    assert '--exclude "PATTERN"' in lines(FAILED)[2]


def test_partial_documents_are_answered_by_a_limit() -> None:
    assert lines(PARTIAL)[1:] == ["ragops reset --resume --max-partial-share 0.15"]


def test_both_are_answered_together() -> None:
    assert lines(f"{FAILED}\n{PARTIAL}", suffix=(".png", 6))[2:] == [
        'ragops reset --resume --max-partial-share 0.15 --exclude "*.png"   (6 that do not count then)',
        "ragops reset --resume --max-failed-share 0.26 --max-partial-share 0.15",
    ]


@pytest.mark.parametrize("error", [None, "", "validation failed", f"{FAILED}\nstored_vectors_agree: max 0.5"])
def test_wrong_vectors_have_no_answer(error: str | None) -> None:
    assert answer_lines(error) is None


@pytest.mark.parametrize(("measured", "limit"), [("5.04%", "0.06"), ("100.0%", "1"), ("0.0%", "0.01")])
def test_the_limit_holds_what_was_measured(measured: str, limit: str) -> None:
    assert lines(f"partial_documents: 1 documents, {measured}")[-1].endswith(f" {limit}")


@pytest.mark.parametrize("criterion", ["index_recall", "ndcg"])
def test_a_comparison_is_answered_by_queries_or_a_limit(criterion: str) -> None:
    (line,) = lines(f"kb.articles: {criterion} loses 0.0300 (0.0100 to 0.0500) over 200 queries")
    assert "--compare-sample N" in line and "--max-loss SHARE" in line


def test_answers_to_a_comparison_change_that_step_alone() -> None:
    playbook = load_playbook("reembed", environment={})
    changed = Answers(max_loss=0.1, compare_sample=900).applied_to(playbook)
    (step,) = (step for step in changed.steps if isinstance(step, Compare))
    assert (step.max_loss, step.sample, step.confidence) == (0.1, 900, 0.95)
    assert [s for s in changed.steps if s != step] == [s for s in playbook.steps if not isinstance(s, Compare)]
    with pytest.raises(OverrideError):
        Answers(max_loss=1.5).applied_to(playbook)
    with pytest.raises(UsageError, match="with the step compare"):
        Answers(max_loss=0.5).applied_to(a_playbook())


def test_answers_change_the_limits_alone() -> None:
    playbook = a_playbook()
    changed = Answers(max_failed_share=0.3).applied_to(playbook)
    assert changed.validation.max_failed_share == 0.3
    assert changed.validation.max_partial_share == playbook.validation.max_partial_share
    assert Answers(exclude=("*.png",)).applied_to(playbook) is playbook
    with pytest.raises(OverrideError):
        Answers(max_partial_share=1.5).applied_to(playbook)


@pytest.mark.parametrize(
    ("pattern", "location", "is_excluded"),
    [
        ("*.png", "a/b.png", True),
        ("*.png", "b.pngx", False),
        ("scans/**", "scans/a/b.txt", True),
        ("scans", "scans/a/b.txt", True),
        ("scans/**", "other/scans/b.txt", False),
        ("7", "7", True),
        ("7", "77", False),
    ],
)
def test_a_pattern_excludes_what_it_excludes_in_a_source(pattern: str, location: str, is_excluded: bool) -> None:
    assert excludes(pattern)(location) is is_excluded
