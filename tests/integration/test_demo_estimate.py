"""What the demo says about its duration."""

from __future__ import annotations

from pathlib import Path

import pytest
from playbook_factory import playbook

from ragops.demo.estimate import estimate, in_words
from ragops.embedder.client import Embedder, EmbedderConfig


def test_a_few_documents_are_measured(tiny_model: Path, tmp_path: Path) -> None:
    for number in range(80):
        (tmp_path / f"{number}.txt").write_text("water and fire " * 30, encoding="utf-8")
    names = sorted(path.name for path in tmp_path.iterdir())
    with Embedder(EmbedderConfig(tiny_model)) as embedder:
        asked = playbook("workers: {count: 1, threads: 1}")
        found = estimate(embedder, asked, tmp_path, names)
        assert found is not None and found > 0
        assert estimate(embedder, asked, tmp_path, []) is None


@pytest.mark.parametrize(("seconds", "words"), [(0.2, "1 s"), (75, "75 s"), (600, "10 minutes")])
def test_durations_in_words(seconds: float, words: str) -> None:
    assert in_words(seconds) == words
