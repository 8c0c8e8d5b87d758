"""From measurements to a verdict: each check on its own, and what decides."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from ragops.quality.validation import (
    Check,
    ColumnMeasure,
    Measurements,
    QueryMeasure,
    ValidationLimits,
    comparison_stats,
    judge,
    self_retrieval,
    validation_verdict,
)

LIMITS = ValidationLimits(max_distance=1e-3, criterion=0.7, max_failed_share=0.05)
THRESHOLDS = (0.3, 0.5, 0.7, 0.9)
DOCUMENTS = ColumnMeasure("documents", 100, 100, 0, (32,))
CHUNKS = ColumnMeasure("document_chunks", 150, 150, 0, (32,))
QUERY = QueryMeasure("first words", 100, 100, 0.1, 1.1, 0.8, (1, 5, 20, 80), rank=1)
GOOD = Measurements(
    dimensions=32,
    columns=(DOCUMENTS, CHUNKS),
    queue={"pending": 0, "processing": 0, "completed": 100, "failed": 0},
    agreement=(1e-4, 3.4e-4, 0.0),
    thresholds=THRESHOLDS,
    queries=(QUERY, replace(QUERY, rank=12)),
    is_sampled=True,
)


def by_id(found: Measurements) -> dict[str, Check]:
    return {check.id: check for check in judge(found, LIMITS)}


def test_a_good_corpus_passes_and_the_decisive_check_comes_first() -> None:
    checks = judge(GOOD, LIMITS)
    assert validation_verdict(checks) == "pass"
    assert checks[0].id == "stored_vectors_agree"
    assert checks[0].measured == "max 0.00034, median 0.0001, 0 of 3 rows disagree"


BROKEN: list[tuple[str, Measurements, str, str]] = [
    (
        "another space",
        replace(GOOD, agreement=(0.53, 0.6), unlike=("document 7",)),
        "stored_vectors_agree",
        "2 of 2",
    ),
    ("one row", replace(GOOD, agreement=(1e-4, 2e-3)), "stored_vectors_agree", "1 of 2 rows disagree"),
    (
        "a zero vector",
        replace(GOOD, agreement=(1e-4, math.nan)),
        "stored_vectors_agree",
        "1 of them without a distance",
    ),
    ("nothing to sample", replace(GOOD, agreement=()), "stored_vectors_agree", "no stored row"),
    ("no document", replace(GOOD, columns=(replace(DOCUMENTS, total=0),)), "documents", "0 documents"),
    ("a document too many", replace(GOOD, columns=(replace(DOCUMENTS, total=101),)), "documents", "101 documents"),
    (
        "too many failures",
        replace(GOOD, queue={"completed": 100, "failed": 6}),
        "failed_items",
        "6 failed items, 5.7% of those processed",
    ),
    (
        "a NULL",
        replace(GOOD, columns=(replace(DOCUMENTS, with_embedding=99), CHUNKS)),
        "documents_no_null",
        "1 rows without embedding",
    ),
    (
        "a zero chunk",
        replace(GOOD, columns=(DOCUMENTS, replace(CHUNKS, zero=2))),
        "document_chunks_no_zero_vector",
        "2 zero vectors",
    ),
    (
        "two dimensions",
        replace(GOOD, columns=(replace(DOCUMENTS, dimensions=(32, 64)), CHUNKS)),
        "documents_dimensions",
        "32, 64",
    ),
    (
        "a distance that is no number",
        replace(GOOD, queries=(replace(QUERY, finite=98),)),
        "distances_are_numbers",
        "2 of 100 distances are not a number",
    ),
    ("a location twice", replace(GOOD, queued_twice=3), "queue_locations_unique", "3 locations"),
    ("a document twice", replace(GOOD, stored_twice=1), "documents_paths_unique", "1 documents"),
    ("no query", replace(GOOD, queries=()), "distances_are_numbers", "0 of 0"),
    (
        "nothing near",
        replace(GOOD, queries=(replace(QUERY, minimum=0.71),)),
        "procedure_criterion",
        "0 of 1 queries have a row under 0.7",
    ),
]


@pytest.mark.parametrize(("found", "id", "measured"), [case[1:] for case in BROKEN], ids=[c[0] for c in BROKEN])
def test_each_fault_fails_its_check(found: Measurements, id: str, measured: str) -> None:
    check = by_id(found)[id]
    assert check.status == "fail"
    assert measured in check.measured
    assert validation_verdict(judge(found, LIMITS)) == "fail"


def test_the_procedures_criterion_alone_saves_nothing() -> None:
    checks = by_id(replace(GOOD, agreement=(0.53, 0.55)))
    assert checks["procedure_criterion"].status == "pass"
    assert checks["stored_vectors_agree"].status == "fail"


def test_an_empty_queue_decides_nothing_about_the_count() -> None:
    assert by_id(replace(GOOD, queue={}))["documents"].status == "info"


def test_what_is_stored_twice_without_a_queue_is_another_program_s_business() -> None:
    checks = by_id(replace(GOOD, queue={}, stored_twice=5))
    assert checks["documents_paths_unique"].status == "info"
    counted = by_id(replace(GOOD, queued_twice=0, stored_twice=0))
    assert {counted[id].status for id in ("queue_locations_unique", "documents_paths_unique")} == {"pass"}
    assert "queue_locations_unique" not in by_id(GOOD)


def test_thresholds_and_self_retrieval_are_shown_and_decide_nothing() -> None:
    checks = by_id(GOOD)
    assert checks["rows_under_0.5"].measured == "5.0 rows per query on average, 0 of 2 queries find no row"
    assert checks["self_retrieval"].measured == "50% at 1, 50% at 10"
    assert {checks["rows_under_0.3"].status, checks["self_retrieval"].status} == {"info"}
    assert "self_retrieval" not in by_id(replace(GOOD, is_sampled=False))


def test_the_procedures_statistics() -> None:
    assert comparison_stats(QUERY, THRESHOLDS) == {
        "total_docs": 100,
        "distance_min": 0.1,
        "distance_max": 1.1,
        "distance_avg": 0.8,
        "count_threshold_0.3": 1,
        "count_threshold_0.5": 5,
        "count_threshold_0.7": 20,
        "count_threshold_0.9": 80,
    }


def test_a_distance_that_is_no_number_is_counted_and_never_null() -> None:
    broken = replace(QUERY, finite=0, minimum=None, maximum=None, mean=None, under=(0, 0, 0, 0))
    stats = comparison_stats(broken, THRESHOLDS)
    assert stats["distance_not_a_number"] == 100
    assert None not in stats.values()
    assert "distance_min" not in stats


def test_self_retrieval() -> None:
    assert self_retrieval([1, 1, 3, None], [1, 5]) == {1: 0.5, 5: 0.75}
    assert self_retrieval([None], [1]) == {1: 0.0}
    assert self_retrieval([1], []) == {}


@pytest.mark.parametrize(("ranks", "at"), [([], [1]), ([0], [1]), ([1], [0])])
def test_ranks_count_from_one(ranks: list[int | None], at: list[int]) -> None:
    with pytest.raises(ValueError):
        self_retrieval(ranks, at)


@pytest.mark.parametrize(("partial", "status"), [(0, "pass"), (5, "pass"), (6, "fail")])
def test_partial_documents_are_held_against_their_own_limit(partial: int, status: str) -> None:
    limits = replace(LIMITS, max_partial_share=0.05)
    checks = judge(replace(GOOD, partial=partial, partial_examples=("a.pdf: 1 of 3 pages",)), limits)
    found = next(check for check in checks if check.id == "partial_documents")
    assert (found.status, found.expected) == (status, "≤ 5.0%")
    assert (
        found.measured == f"{partial} documents lack text, {partial}.0% of those stored (e.g. a.pdf: 1 of 3 pages)"
    )


def test_what_an_older_version_did_not_record_is_no_check() -> None:
    assert {"partial_documents", "unknown_tokens"}.isdisjoint(by_id(GOOD))


def test_excluded_items_are_no_failures() -> None:
    queue = {"pending": 0, "processing": 0, "completed": 100, "failed": 5, "excluded": 50}
    assert by_id(replace(GOOD, queue=queue))["failed_items"].measured == (
        "5 failed items, 4.8% of those processed"
    )


def test_unknown_tokens_are_shown_and_decide_nothing() -> None:
    strange = replace(GOOD, unknown_tokens="40.0% of 10 tokens are unknown", knows_script=False)
    found = by_id(strange)["unknown_tokens"]
    assert (found.status, found.measured) == (
        "info",
        "40.0% of 10 tokens are unknown: the model does not know the script of this corpus",
    )
