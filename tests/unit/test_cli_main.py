"""Errors end the program with their exit code, in words that help."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
import typer

from ragops.cli.main import run
from ragops.errors import Interrupted, RagopsError, UsageError


def run_failing(error: BaseException, monkeypatch: pytest.MonkeyPatch, *options: str) -> int:
    """Run a command that fails with `error`."""

    def fail() -> Path:
        raise error

    monkeypatch.setattr("ragops.paths.cache_file", fail)
    return run(["cache", "status", *options])


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (RagopsError("what", hint="next"), 1, ("error: what", "next:   next")),
        (UsageError("what"), 2, ("error: what",)),
        (
            psycopg.errors.InsufficientPrivilege("permission denied for table t\nHINT: x"),
            1,
            ("permission denied: the database role lacks a privilege", "permission denied for table t", "GRANT"),
        ),
        (
            psycopg.errors.UndefinedTable('relation "t" does not exist\nLINE 1'),
            1,
            ("the database rejected a statement", 'UndefinedTable: relation "t" does not exist', "--debug"),
        ),
        (psycopg.OperationalError("gone"), 1, ("the database went away during the command", "(gone)")),
        (
            PermissionError(13, "Permission denied", "/x"),
            1,
            ("cannot read or write a file", "where:  /x", "found:  Permission denied"),
        ),
        (OSError("odd"), 1, ("cannot read or write a file", "found:  odd")),
        (KeyError("k"), 1, ("internal error (this is a bug in ragops)", "KeyError: 'k'", "--debug")),
        (RuntimeError(), 1, ("internal error (this is a bug in ragops)", "RuntimeError: ")),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_an_error_is_shown_once(
    error: Exception,
    code: int,
    words: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_failing(error, monkeypatch) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("error:") == 1
    assert all(word in captured.err for word in words), captured.err
    assert run_failing(error, monkeypatch, "--json") == code
    assert json.loads(capsys.readouterr().out)["error"]["what"] in captured.err
    with pytest.raises(type(error)):
        run_failing(error, monkeypatch, "--debug")


def test_a_class_that_only_has_the_name_is_no_error_of_the_database(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class InsufficientPrivilege(Exception):
        sqlstate = "42501"

    class ClickException(Exception):
        exit_code = 2

    for error in (InsufficientPrivilege("no"), ClickException("no")):
        assert run_failing(error, monkeypatch) == 1
        assert "internal error" in capsys.readouterr().err


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), typer.Abort(), Interrupted("stopped")], ids=lambda error: type(error).__name__
)
def test_an_interrupted_command_prints_one_line(
    error: BaseException, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_failing(error, monkeypatch) == 130
    assert capsys.readouterr() == ("", "stopped\n")


def test_an_interrupted_command_is_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "x.log"
    assert run_failing(KeyboardInterrupt(), monkeypatch, "--log-file", str(log)) == 130
    assert [line.split("  ")[1] for line in log.read_text(encoding="utf-8").splitlines()] == [
        "command_start",
        "error",
        "command_end",
    ]


def test_a_reader_that_has_gone_is_no_error_to_show(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_failing(BrokenPipeError(32, "Broken pipe"), monkeypatch) == 1
    assert run_failing(BrokenPipeError(32, "Broken pipe"), monkeypatch, "--debug") == 1
    assert capsys.readouterr() == ("", "")


def test_a_pipe_that_breaks(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    command = [sys.executable, "-m", "ragops", "playbook", "list", "--json", "--log-file", str(log)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert (process.stderr.read(), process.wait()) == ("", 1)
    assert " ERROR  error  " in log.read_text(encoding="utf-8")
    assert "exit code 1" in log.read_text(encoding="utf-8")


def test_an_error_needs_no_psycopg() -> None:
    code = (
        "import sys\nfrom ragops.cli.main import run\nimport ragops.paths\n"
        "ragops.paths.cache_file = lambda: 1 / 0\n"
        "assert run(['cache', 'status']) == 1\nassert 'psycopg' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "ZeroDivisionError" in done.stderr
