"""How a filling's texts are cut: what is recorded, what an older record lacks, what differs."""

from __future__ import annotations

import pytest
from facts_factory import model
from playbook_factory import playbook

from ragops.documents.formats import is_markdown
from ragops.workers.cutting import Cutting, splitter_version


def test_what_is_recorded_is_read_again() -> None:
    own = Cutting.of(
        playbook(
            "chunking: {max_tokens: 100, overlap_tokens: 9}",
            "model: {document_prefix: 'passage: ', document_suffix: </s>}",
            "source: {folder: /c}",
        ),
        model(max_tokens=512),
    )
    assert own == Cutting(100, 9, "passage: ", "</s>", "by_name", splitter_version())
    assert Cutting.parse(own.to_json()) == own
    assert Cutting.parse({**own.to_json(), "of a later version": 1}) == own
    rows = Cutting.of(playbook("source: {table: texts}"), model(max_tokens=512))
    assert (rows.kind, rows.max_tokens) == ("plain", 512)


def test_an_older_record_differs_only_where_it_says_something() -> None:
    older = Cutting.parse({"max_tokens": 512, "overlap_tokens": 0})
    assert older == Cutting(512, 0)
    assert older is not None
    now = Cutting(512, 0, "p: ", "", "plain", "another splitter")
    assert list(older.differences(now)) == []
    assert list(now.differences(Cutting(256, 0, "", "", "plain", "another splitter"))) == [
        ("max_tokens", 512, 256),
        ("prefix", "p: ", ""),
    ]


@pytest.mark.parametrize("recorded", [None, {}, {"max_tokens": 512}, {"max_tokens": "512", "overlap_tokens": 0}])
def test_no_record_is_none(recorded: dict[str, object] | None) -> None:
    assert Cutting.parse(recorded) is None


def test_a_text_is_cut_again_with_the_recorded_settings() -> None:
    recorded = Cutting(77, 5, "passage: ")
    book = recorded.within(playbook("chunking: {max_tokens: 10}", "model: {document_prefix: 'x'}"))
    assert (book.chunking.max_tokens, book.chunking.overlap_tokens) == (77, 5)
    assert book.model.document_prefix == "passage: "
    assert Cutting(77, 5).within(playbook("model: {document_prefix: 'x'}")).model.document_prefix == "x"


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("a.md", True),
        ("docs/A.MARKDOWN", True),
        ("a.md.gz", True),
        ("a.txt", False),
        ("a.md.txt", False),
        ("md", False),
        ("a.gz", False),
    ],
)
def test_markdown_is_told_by_the_name(name: str, found: bool) -> None:
    assert is_markdown(name) is found
