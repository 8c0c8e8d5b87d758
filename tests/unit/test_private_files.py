"""Files that only this user may read or write, and what is done about those of others."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ragops.paths import append_private, make_private_folder, read_private, replace_private
from ragops.workers.cache import VectorCache

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="a file's mode and owner are POSIX")
VECTORS = [(b"k" * 16, np.full(4, 0.5, dtype=np.float32))]


@pytest.fixture(autouse=True)
def open_umask() -> Iterator[None]:
    """The most careless of all."""
    before = os.umask(0)
    yield
    os.umask(before)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_is_created_is_private(tmp_path: Path) -> None:
    append_private(tmp_path / "a", "one\n")
    append_private(tmp_path / "a", "two\n")
    assert read_private(tmp_path / "a") == "one\ntwo\n"
    replace_private(tmp_path / "b", "x")
    make_private_folder(tmp_path / "c")
    assert [mode_of(tmp_path / name) for name in "abc"] == [0o600, 0o600, 0o700]
    (tmp_path / "b").chmod(0o666)
    with pytest.raises(PermissionError, match="other users may write to it"):
        read_private(tmp_path / "b")
    assert read_private(tmp_path / "missing") == ""


def test_a_file_of_another_user_is_neither_read_nor_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append_private(tmp_path / "a", "planted")
    other = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: other)
    for act in (lambda: read_private(tmp_path / "a"), lambda: append_private(tmp_path / "a", "x")):
        with pytest.raises(PermissionError, match="it belongs to another user"):
            act()
    with pytest.raises(PermissionError, match="it belongs to another user"):
        make_private_folder(tmp_path)


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "target").touch()
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with pytest.raises(OSError):
        append_private(tmp_path / "link", "x")
    (tmp_path / f"new.{os.getpid()}").symlink_to(tmp_path / "target")
    with pytest.raises(OSError):
        replace_private(tmp_path / "new", "x")
    assert (tmp_path / "target").read_text() == ""


def test_the_cache_s_files_are_private(tmp_path: Path) -> None:
    file = tmp_path / "cache" / "vectors.sqlite"
    cache = VectorCache(file, limit_bytes=1 << 20)
    cache.put(VECTORS)
    assert cache.fault is None
    assert mode_of(file.parent) == 0o700
    names = ("vectors.sqlite", "vectors.sqlite-shm", "vectors.sqlite-wal")
    assert sorted((part.name, mode_of(part)) for part in file.parent.iterdir()) == [(n, 0o600) for n in names]
    cache.close()
    # Of an earlier version.
    file.chmod(0o644)
    assert len(cache.get([VECTORS[0][0]], dimensions=VECTORS[0][1].size)) == 1
    assert mode_of(file) == 0o600


@pytest.mark.parametrize("what", ["folder", "owner"])
def test_a_cache_that_others_may_write_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    file = tmp_path / "cache" / "vectors.sqlite"
    VectorCache(file, limit_bytes=1 << 20).put(VECTORS)
    reason = "other users may write to it"
    if what == "folder":
        file.parent.chmod(0o777)
    else:
        other = os.geteuid() + 1
        monkeypatch.setattr(os, "geteuid", lambda: other)
        reason = "it belongs to another user"
    cache = VectorCache(file, limit_bytes=1 << 20)
    assert cache.get([VECTORS[0][0]], dimensions=VECTORS[0][1].size) == {}
    assert cache.fault == f"{file.parent}: {reason}"
