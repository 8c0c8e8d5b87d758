"""`source.encoding`: one label, or labels by patterns; a refused one is a problem of the playbook."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ragops.documents.labels import Labels
from ragops.errors import PlaybookError
from ragops.playbook.loading import parse_playbook
from ragops.playbook.model import Source
from ragops.postgres.queue import Item
from ragops.workers.sources import Documents


def problems(encoding: str) -> list[tuple[str, str, int | None]]:
    text = f"version: 1\nname: x\nsource:\n  folder: docs\n  encoding: {encoding}\nsteps:\n  - step: validate\n"
    with pytest.raises(PlaybookError) as error:
        parse_playbook(text, file="p.yaml", environment={})
    return [(one.path, one.message, one.line) for one in error.value.problems]


def test_an_unknown_label_is_a_problem_with_its_place() -> None:
    assert problems("unicode_escape") == [
        (
            "source.encoding",
            "'unicode_escape' is no encoding that ragops reads; "
            "expected a label such as windows-1252, shift_jis or utf-16le",
            5,
        )
    ]
    assert [where for where, _, _ in problems('{"*.txt": latin1, "a/*": nonsense, "../x": utf-8}')] == [
        "source.encoding.a/*",
        "source.encoding.../x",
    ]
    assert problems("[latin1]")[0][1].startswith("found ['latin1']; expected a label such as windows-1252")
    assert len(problems('{"*": 5}')) == 1


def test_the_first_pattern_that_matches_decides() -> None:
    labels = Labels([("old/**/*.csv", "cp850"), ("*.csv", "shift_jis"), ("*", "latin1")])
    found = [labels.of(name) for name in ("a.txt", "x/y.txt", "x/a.csv", "old/a.csv", "old/b/c/a.csv")]
    assert found == ["latin1", "latin1", "shift_jis", "cp850", "cp850"]
    assert Labels(None).of("a.txt") is None
    assert Labels("latin1").of("x/a.txt") == "latin1"
    assert Labels([("*.txt", "latin1")]).of("a.csv") is None


def test_documents_are_read_in_the_encoding_that_their_pattern_names(tmp_path: Path) -> None:
    (tmp_path / "jp").mkdir()
    (tmp_path / "jp" / "a.txt").write_bytes("日本語".encode("cp932"))
    (tmp_path / "b.txt").write_bytes("Straße".encode("cp1252"))
    source = Source.model_validate({"folder": tmp_path, "encoding": {"jp/**": "x-sjis", "*.txt": "latin1"}})
    # The ledger's copy means the same: JSON in the database has its keys in another order.
    again = Source.model_validate_json(json.dumps(source.model_dump(mode="json"), sort_keys=True))
    for documents in (Documents(source), Documents(again)):
        texts = [documents.extract(Item(1, name), {}) for name in ("jp/a.txt", "b.txt")]
        assert [getattr(text, "text", text) for text in texts] == ["日本語", "Straße"]
