"""Screens of cutovers: what the application must use, and what a rollback leaves to do."""

from __future__ import annotations

from rich.console import Console

from ragops.campaign.cutover.draining import DrainResult
from ragops.campaign.cutover.results import ColumnInUse, CutOverResult, InUse, RollbackResult, Written
from ragops.campaign.cutover.status import ColumnStatus, CutoverStatus
from ragops.report.cutover import cut_over_screen, rollback_screen, status_screen

COLUMN = ColumnInUse("kb.articles.embedding", "vector(48)", "embedding_old", ("hnsw (vector_cosine_ops)",))
USED = InUse("new.gguf", "ab" * 32, 48, "mean", "query: ", "", "", "", (COLUMN,))
RESULT = CutOverResult(USED, 0.006, 2, DrainResult(embedded=2), ("kb.articles.embedding",), ("ALTER",))


def text_of(screen: object) -> str:
    console = Console(width=200, no_color=True)
    with console.capture() as captured:
        console.print(screen)
    return captured.get()


def test_a_result_is_the_same_from_the_ledger() -> None:
    assert CutOverResult.from_json(RESULT.to_json()) == RESULT


def test_what_the_application_must_use() -> None:
    shown = text_of(cut_over_screen(RESULT))
    for part in ("locked for 6 ms", "new.gguf", "48", "'query: '", "hnsw (vector_cosine_ops)", "embedding_old"):
        assert part in shown
    assert "kb.articles.embedding has rows without a vector" in shown
    assert "ragops cutover rollback" in shown


def test_a_rollback_names_the_rows_and_the_next_command() -> None:
    written = Written("kb.articles.embedding", ('["1"]', '["2"]'), "id IN (SELECT 1)")
    shown = text_of(rollback_screen(RollbackResult(0.02, (written,), (), ())))
    assert "2 rows were written since the cutover" in shown
    assert "where: 'id IN (SELECT 1)'" in shown


def test_a_state_with_what_is_next() -> None:
    one = ColumnStatus("t.v", "cut_over", "t.v_old", 9, 8, 1, 2, ("i",), (), "ragops cutover run")
    shown = text_of(status_screen(CutoverStatus((one,))))
    for part in ("t.v: cut over", "8 of 9 rows", "1 rows were written and wait", "next: ragops cutover run"):
        assert part in shown
