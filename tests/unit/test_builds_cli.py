"""`ragops build`: what a person and a script see."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from builds_factory import make_build
from fake_build_python import write_fake_python
from workplace import Finished, clean_environment, run_program

from ragops.cli.main import run
from ragops.findings import Finding


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RAGOPS_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data"


def typed(capsys: pytest.CaptureFixture[str], *arguments: str) -> Finished:
    code = run(["build", *arguments])
    shown = capsys.readouterr()
    return Finished(code, shown.out, shown.err)


def test_list(capsys: pytest.CaptureFixture[str], data: Path) -> None:
    assert "next: ragops build install" in typed(capsys, "list").out
    make_build("one")
    (data / "builds" / "half").mkdir()
    shown = typed(capsys, "list").out
    assert "SSE3 SSSE3 AVX F16C BMI2" in shown
    assert "incomplete" in shown
    result = typed(capsys, "list", "--json").json
    assert [build["name"] for build in result["builds"]] == ["one"]
    assert result["incomplete"] == ["half"]


def test_show(capsys: pytest.CaptureFixture[str]) -> None:
    make_build("one", findings=(Finding("flag-avx", "warning", "AVX is on", "add -DGGML_F16C=OFF"),))
    shown = typed(capsys, "show", "one").out
    assert "differs from the request" in shown
    assert "next: add -DGGML_F16C=OFF" in shown
    result = typed(capsys, "show", "one", "--json").json
    assert {"name", "version", "cmake_args", "created_at", "interpreter", "features", "libraries"} <= result.keys()
    assert result["seconds"] == 271.5
    assert "illegal_here" in result
    missing = typed(capsys, "show", "two")
    assert missing.code == 2
    assert "builds: one" in missing.err


def test_remove_asks(capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_build("one").folder
    assert typed(capsys, "remove", "one").code == 2
    assert folder.is_dir()
    assert typed(capsys, "remove", "one", "--yes", "--json").json == {"removed": "one", "folder": str(folder)}
    assert not folder.exists()
    assert typed(capsys, "remove", "one", "--yes").code == 2


def test_script(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ("--cmake-arg", "-DGGML_AVX=OFF -DGGML_FMA=OFF", "--cmake-arg", "-DGGML_F16C=OFF")
    shown = typed(capsys, "script", "--version", "0.3.16", *flags)
    assert shown.out.startswith("#!/usr/bin/env bash\n")
    assert "'-DGGML_AVX=OFF -DGGML_FMA=OFF -DGGML_F16C=OFF'" in shown.out
    assert "$env:CMAKE_ARGS" in typed(capsys, "script", "--shell", "powershell").out
    assert typed(capsys, "script", "--json").json["script"].startswith("#!")
    assert typed(capsys, "script", "--shell", "fish").code == 2


@pytest.mark.parametrize(
    "wrong", [("--cmake-arg", "nonsense"), ("--version", ">=1"), ("--name", "../x"), ("--cmake-arg", "-DX='y z'")]
)
def test_what_is_refused_before_anything_runs(capsys: pytest.CaptureFixture[str], data: Path, wrong: Any) -> None:
    done = typed(capsys, "install", *wrong, "--json")
    assert (done.code, done.json["status"]) == (2, "error")
    assert not data.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="the fake interpreter is a script")
def test_install(tmp_path: Path) -> None:
    python = write_fake_python(tmp_path)
    environment = {**clean_environment(tmp_path), "CC": sys.executable, "CXX": sys.executable}
    command = ("build", "install", "--version", "0.3.16", "--cmake-arg", "-DGGML_NATIVE=OFF", "--python", python)

    def install(*more: str, **variables: str) -> Finished:
        return run_program((*command, *more), environment={**environment, **variables}, cwd=tmp_path, timeout_s=60)

    first, again = install("--json"), install("--json")
    assert (first.code, first.json["verdict"], first.json["is_new"]) == (0, "as_asked", True), first.err
    assert (again.code, again.json["is_new"]) == (0, False)
    assert again.json["created_at"] == first.json["created_at"]
    dead = install("--name", "dead", GGML_FAKE_PROBE="kill")
    assert dead.code == 3
    assert "this machine cannot run it" in dead.out
    failed = install("--name", "failed", "--json", GGML_FAKE_PIP="fail")
    assert failed.code == 1
    assert json.loads(failed.out)["error"]["where"].endswith("install.log")
