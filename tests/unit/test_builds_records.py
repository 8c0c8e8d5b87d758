"""Builds on disk: complete, incomplete, damaged, removed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from builds_factory import make_build

from ragops.builds.records import (
    check_version,
    default_name,
    find_build,
    folder_of,
    interpreter_of,
    list_builds,
    list_incomplete,
    remove_build,
)
from ragops.builds.standalone import RECORD
from ragops.errors import UsageError
from ragops.findings import Finding


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RAGOPS_DATA_DIR", str(tmp_path))
    return tmp_path


def test_a_build_is_read_back(data: Path) -> None:
    written = make_build("one", findings=(Finding("flag-avx", "warning", "AVX is on", "add it"),))
    assert find_build("one") == written
    assert list_builds() == [written]
    assert written.interpreter == interpreter_of(data / "builds" / "one")
    stored = json.loads((written.folder / RECORD).read_text(encoding="utf-8"))
    assert stored["interpreter"] == str(written.interpreter)
    assert stored["features"]["AVX"] == "1"
    assert stored["cmake_args"] == ["-DGGML_NATIVE=OFF"]
    assert not list(written.folder.glob("*.partial"))


def test_an_unknown_name_lists_what_there_is() -> None:
    with pytest.raises(UsageError) as caught:
        find_build("two")
    assert caught.value.actual == "no build yet"
    make_build("one")
    make_build("other")
    with pytest.raises(UsageError) as caught:
        find_build("two")
    assert caught.value.actual == "builds: one, other"
    assert "ragops build install --name two" in (caught.value.hint or "")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": "1"}', "null", '{"libraries": [1]}'])
def test_a_folder_without_a_whole_record_is_incomplete(text: str) -> None:
    record = make_build("one")
    (record.folder / RECORD).write_text(text, encoding="utf-8")
    assert (list_builds(), list_incomplete()) == ([], ["one"])
    with pytest.raises(UsageError, match="not complete"):
        find_build("one")


def test_a_build_whose_interpreter_is_gone() -> None:
    make_build("one").interpreter.unlink()
    with pytest.raises(UsageError, match="interpreter is missing"):
        find_build("one")


def test_removed_whole_or_not() -> None:
    for name in ("one", "half"):
        make_build(name)
    (folder_of("half") / RECORD).unlink()
    for name in ("one", "half"):
        assert not remove_build(name).exists()
    with pytest.raises(UsageError):
        remove_build("one")


@pytest.mark.parametrize("name", ["", "..", ".", "a/b", "a\\b", "-x", ".hidden", "a b", "x" * 65, "dot."])
def test_names_that_are_no_folder_of_ours(name: str) -> None:
    with pytest.raises(UsageError, match="invalid name"):
        folder_of(name)


@pytest.mark.parametrize("version", ["", "==0.3.16", ">=1", "latest", "0.3.16; rm", "0.3.*", "0.3 .1"])
def test_versions_that_are_not_exact(version: str) -> None:
    with pytest.raises(UsageError):
        check_version(version)


def test_default_names_follow_what_is_set() -> None:
    assert default_name("0.3.16", ()) == "0.3.16-default"
    first = default_name("0.3.16", ("-DA=ON", "-DB=OFF"))
    assert first.startswith("0.3.16-")
    assert first == default_name("0.3.16", ("-DB=OFF", "-DA=ON"))
    assert first != default_name("0.3.16", ("-DA=ON", "-DB=ON"))
    assert first != default_name("0.3.16", ("-DA=ON", "-DB=OFF", "-GNinja"))
    assert folder_of(first)


def test_the_verdict_follows_the_worst_finding() -> None:
    record = make_build("one")
    assert record.verdict == "as_asked"
    for severity, verdict in (("info", "as_asked"), ("warning", "differs"), ("error", "unusable")):
        finding = Finding("x", severity, "message")  # type: ignore[arg-type]
        assert replace(record, findings=(finding,)).verdict == verdict


def test_interpreters_of_both_kinds_of_systems() -> None:
    assert interpreter_of(Path("b"), platform="win32") == Path("b/venv/Scripts/python.exe")
    assert interpreter_of(Path("b"), platform="linux") == Path("b/venv/bin/python")
