"""`ragops cache status · clear`: what is kept is shown, and deleted only on a word."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ragops.cli.main import run
from ragops.paths import cache_file
from ragops.workers.cache import VectorCache


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAGOPS_CACHE_DIR", str(tmp_path / "cache"))


def keep_two() -> None:
    cache = VectorCache(cache_file(), limit_bytes=1 << 20)
    cache.put([(b"one", np.ones(4, np.float32)), (b"two", np.ones(4, np.float32))])
    cache.close()


def test_status_without_a_cache(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["cache", "status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"file": str(cache_file()), "vectors": 0, "bytes": 0}
    assert not cache_file().exists()


def test_what_is_kept_is_counted_and_cleared(capsys: pytest.CaptureFixture[str]) -> None:
    keep_two()
    assert run(["cache", "status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["vectors"] == 2
    assert run(["cache", "clear", "--yes", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["vectors"] == 2
    assert not cache_file().exists()


def test_nothing_is_cleared_without_a_word(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_two()
    monkeypatch.setattr("sys.stdin", None)
    assert run(["cache", "clear"]) == 2
    assert "--yes" in capsys.readouterr().err
    assert cache_file().exists()
