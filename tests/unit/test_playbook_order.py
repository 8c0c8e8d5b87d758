"""The order of a playbook's steps, contradictions between its parts, and its gates."""

from __future__ import annotations

import pytest
from playbook_factory import places_of, problems_of, steps_text, with_steps

EMBED_ORDER = "every embed needs a larger `until` than the one before; only the last may omit it"
DROP_ORDER = "drop_indexes must come before empty_tables (an index belongs to its vectors)"
RESEED_ORDER = "reseed_queue must come before the first embed"
EMPTY_ORDER = "empty_tables must come before the first embed (it removes what is embedded)"
QUEUE_ORDER = "empty_tables must come before reseed_queue (it empties the queue)"
ORDERS: list[tuple[str, list[tuple[int, str]]]] = [
    ("embed:5 embed:5", [(1, EMBED_ORDER)]),
    ("embed:5 embed:4 embed:6", [(1, EMBED_ORDER)]),
    ("embed:5 embed:4 embed:5", [(1, EMBED_ORDER), (2, EMBED_ORDER)]),
    ("embed embed:5", [(1, EMBED_ORDER)]),
    ("embed embed", [(1, EMBED_ORDER)]),
    ("empty_tables drop_indexes", [(0, DROP_ORDER)]),
    ("embed reseed_queue", [(1, RESEED_ORDER)]),
    ("reseed_queue embed:5 reseed_queue embed", [(2, RESEED_ORDER)]),
    ("embed empty_tables", [(1, EMPTY_ORDER)]),
    ("reseed_queue empty_tables embed", [(1, QUEUE_ORDER)]),
    (
        "embed:5 reseed_queue embed:5 empty_tables drop_indexes",
        [(2, EMBED_ORDER), (3, DROP_ORDER), (1, RESEED_ORDER), (3, EMPTY_ORDER), (3, QUEUE_ORDER)],
    ),
    ("drop_indexes empty_tables reseed_queue embed:5 embed:6 rebuild_indexes embed validate", []),
    ("validate rebuild_indexes drop_indexes verify_build", []),
    ("reseed_queue", []),
    ("rebuild_indexes embed", []),
]


def _steps(text: str) -> list[str]:
    pairs = [word.partition(":") for word in text.split()]
    return [f"{{step: {verb}{f', until: {until}' if until else ''}}}" for verb, _, until in pairs]


@pytest.mark.parametrize(("order", "expected"), ORDERS)
def test_order_of_steps(order: str, expected: list[tuple[int, str]]) -> None:
    steps = _steps(order)
    if not expected:
        assert [step.step for step in with_steps(*steps).steps] == [word.split(":")[0] for word in order.split()]
        return
    found = problems_of(steps_text(*steps))
    assert [(p.path, p.line, p.message) for p in found] == [(f"steps[{i}]", 4 + i, m) for i, m in expected]


def test_contradictions_of_several_parts_are_listed_together() -> None:
    more = "tables:\n  document_chunks:\n    table: documents\nindexes: []\n"
    found = problems_of(steps_text("{step: embed}", "{step: reseed_queue}", more=more))
    assert places_of(found) == [("steps[1]", 5), ("tables.document_chunks", 7)]


@pytest.mark.parametrize(
    ("order", "gates"),
    [
        ("verify_build", ()),
        ("embed", ()),
        ("embed:1", (1,)),
        ("embed:1000 validate embed:100000 embed", (1000, 100_000)),
    ],
)
def test_gates(order: str, gates: tuple[int, ...]) -> None:
    assert with_steps(*_steps(order)).gates() == gates


def test_two_words_on_one_column() -> None:
    more = "tables:\n  documents:\n    columns:\n      file_path: content\n"
    (problem,) = problems_of(steps_text("{step: embed}", more=more))
    assert problem.path == "tables.documents.columns.content"
    assert problem.message == "column content is mapped twice, as file_path and as content"
