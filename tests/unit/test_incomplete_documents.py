"""A document that is not whole is handed on with its numbers, or fails with them, as the source says."""

from __future__ import annotations

from pathlib import Path

import pytest

from ragops.documents.errors import Unreadable
from ragops.documents.extraction import Extracted
from ragops.documents.reading import Partial, UnknownTokens
from ragops.playbook.model import Source
from ragops.postgres.measured import Measure, partial_json
from ragops.postgres.queue import Item
from ragops.workers import sources
from ragops.workers.sources import Documents

PAGES = Partial(1, 3, "pages", ("page 2 (probably a scan)", "page 3 (damaged)"))
TEXT = Extracted("text", "0" * 64, 4, "application/pdf", PAGES)


def read(folder: Path, source: Source, monkeypatch: pytest.MonkeyPatch) -> Extracted | Unreadable:
    (folder / "a.pdf").write_bytes(b"%PDF")
    monkeypatch.setattr(sources, "extract", lambda *_, **__: TEXT)
    return Documents(source).extract(Item(1, "a.pdf"), {})


def test_a_partial_document_is_handed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read(tmp_path, Source(folder=tmp_path), monkeypatch) is TEXT


def test_a_partial_document_fails_where_the_source_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = read(tmp_path, Source(folder=tmp_path, incomplete="fail"), monkeypatch)
    assert isinstance(failed, Unreadable)
    assert failed.reason == ("incomplete: 1 of 3 pages; missing: page 2 (probably a scan), page 3 (damaged)")


def test_the_column_holds_json_or_nothing() -> None:
    assert partial_json(None) is None
    assert partial_json(Partial(0, 2, "words")) == '{"found": 0, "expected": 2, "unit": "words", "missing": []}'


@pytest.mark.parametrize(
    ("partial", "unknown", "is_listed"),
    [
        (None, None, False),
        (None, UnknownTokens(4, 100), False),
        (None, UnknownTokens(5, 100), True),
        (None, UnknownTokens(0, 0), False),
        (PAGES, None, True),
    ],
)
def test_only_what_is_not_as_it_should_be_gets_a_row(
    partial: Partial | None, unknown: UnknownTokens | None, is_listed: bool
) -> None:
    assert Measure(1, partial, unknown).is_listed is is_listed
