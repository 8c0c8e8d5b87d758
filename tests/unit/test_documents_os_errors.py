"""Errors of the file system: what no document is to blame for, and what the operator is told."""

from __future__ import annotations

import errno
import os
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ragops.documents import parser
from ragops.documents.errors import Missing, Unreadable
from ragops.documents.extraction import extract_file
from ragops.documents.manifest import read_manifest
from ragops.documents.opening import open_document
from ragops.documents.os_errors import is_folder, is_outage, outage
from ragops.documents.walking import walk_folder
from ragops.errors import RagopsError
from ragops.playbook.model import Source
from ragops.postgres.queue import Item
from ragops.workers.sources import Documents

OUTAGES = [
    name
    for name in (
        *("EIO", "ESTALE", "EMFILE", "ENFILE", "ENOMEM", "ETIMEDOUT", "ENOTCONN", "EHOSTDOWN", "EHOSTUNREACH"),
        *("ENETDOWN", "ENODEV", "ENOSPC"),
    )
    if hasattr(errno, name)
]


def error_of(name: str) -> OSError:
    number = getattr(errno, name)
    return OSError(number, os.strerror(number))


def failing(name: str) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> Any:
        raise error_of(name)

    return fail


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    (tmp_path / "corpus" / "part").mkdir(parents=True)
    (tmp_path / "corpus" / "part" / "a.txt").write_text("text")
    (tmp_path / "corpus" / "part" / "a.pdf").write_bytes(b"%PDF")
    return tmp_path / "corpus"


def extract(corpus: Path, location: str = "part/a.txt") -> object:
    return Documents(Source(folder=corpus)).extract(Item(1, location), {})


@pytest.mark.parametrize("name", OUTAGES)
@pytest.mark.parametrize(("owner", "call"), [(Path, "stat"), (Path, "lstat"), (os, "open"), (os, "fstat")])
def test_an_outage_ends_the_run_and_names_the_folder(
    corpus: Path, monkeypatch: pytest.MonkeyPatch, name: str, owner: Any, call: str
) -> None:
    monkeypatch.setattr(owner, call, failing(name))
    with pytest.raises(RagopsError) as caught:
        extract(corpus)
    monkeypatch.undo()
    assert not isinstance(caught.value, Unreadable)
    assert caught.value.where == str(corpus)
    assert caught.value.actual is not None
    assert caught.value.actual.startswith(f"{name}: {os.strerror(getattr(errno, name))}")
    assert caught.value.hint is not None
    assert "ragops reset --resume" in caught.value.hint


@pytest.mark.parametrize("name", ["EMFILE", "ENFILE"])
def test_a_limit_of_open_files_says_what_to_raise(name: str) -> None:
    hint = outage("what", error_of(name), where="there").hint
    assert hint is not None
    assert hint.startswith("raise ")


@pytest.mark.parametrize("name", ["EACCES", "EPERM", "ENAMETOOLONG", "EINVAL", "ELOOP"])
def test_other_errors_are_the_documents_own(corpus: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(Path, "lstat", failing(name))
    assert isinstance(extract(corpus), Unreadable)


def test_an_error_while_reading_is_told_from_a_bad_file(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Handle:
        def __enter__(self) -> Handle:
            return self

        def __exit__(self, *_: object) -> None: ...

        read = staticmethod(failing("EIO"))

    monkeypatch.setattr("ragops.workers.sources.open_document", lambda *_, **__: Handle())
    with pytest.raises(RagopsError, match="the corpus folder cannot be read") as caught:
        extract(corpus)
    assert caught.value.actual == f"EIO: {os.strerror(errno.EIO)} (part/a.txt)"
    Handle.read = staticmethod(failing("EINVAL"))
    assert isinstance(extract(corpus), Unreadable)


@pytest.mark.parametrize("code", [53, 59, 64, 67, 1231])
def test_a_network_share_that_is_gone_on_windows(code: int) -> None:
    # Python maps 53 and 67 to ENOENT: on Windows this is a FileNotFoundError.
    error = FileNotFoundError(errno.ENOENT, "The network path was not found")
    error.winerror = code  # type: ignore[attr-defined]
    assert is_outage(error)
    assert str(outage("what", error, where="there").actual).startswith(f"WinError {code}: ")


def test_missing_is_told_from_unreadable(corpus: Path) -> None:
    assert isinstance(extract(corpus, "part/gone.txt"), Missing)
    assert isinstance(extract(corpus, "gone/a.txt"), Missing)
    assert not isinstance(extract(corpus, "part"), Missing)
    assert not isinstance(extract(corpus, "../a.txt"), Missing)
    with pytest.raises(Missing):
        open_document(corpus, "part/gone.txt")
    with pytest.raises(Missing):
        extract_file(corpus / "gone.txt")


def test_a_folder_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_folder(tmp_path)
    assert not is_folder(tmp_path / "gone")
    assert not is_folder(tmp_path / "nul\0")
    monkeypatch.setattr(Path, "stat", failing("ESTALE"))
    with pytest.raises(RagopsError, match="the corpus folder cannot be read"):
        is_folder(tmp_path)
    with pytest.raises(RagopsError, match="the corpus folder cannot be read"):
        walk_folder(tmp_path, [])


def test_a_manifest_that_breaks_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "list").write_text("a.txt\n")

    class Broken:
        name = "list"

        def __enter__(self) -> Broken:
            return self

        def __exit__(self, *_: object) -> None: ...

        read = staticmethod(failing("EIO"))

    monkeypatch.setattr(Path, "open", lambda *_: Broken())
    with pytest.raises(RagopsError, match="the manifest cannot be read to its end"):
        list(read_manifest(tmp_path / "list"))


@pytest.mark.parametrize(
    ("target", "call"),
    [(Path, "write_bytes"), (tempfile, "TemporaryDirectory"), (subprocess, "Popen")],
    ids=["a full disk for temporary files", "no folder for them", "no process"],
)
def test_a_parser_that_cannot_work_here_is_no_documents_fault(
    corpus: Path, monkeypatch: pytest.MonkeyPatch, target: Any, call: str
) -> None:
    monkeypatch.setattr(target, call, failing("ENOSPC"))
    with pytest.raises(RagopsError, match="document") as caught:
        extract(corpus, "part/a.pdf")
    monkeypatch.undo()
    assert not isinstance(caught.value, Unreadable)
    assert caught.value.actual == f"ENOSPC: {os.strerror(errno.ENOSPC)}"
    assert caught.value.where is not None


def test_a_parser_that_has_no_disk_says_so(corpus: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    child = tmp_path / "child.py"
    child.write_text("""print('{"kind": "system", "error": "[Errno 28] No space left on device"}')""")
    monkeypatch.setattr(parser, "_CHILD", child)
    with pytest.raises(RagopsError, match="cannot work on this machine") as caught:
        extract(corpus, "part/a.pdf")
    assert not isinstance(caught.value, Unreadable)
