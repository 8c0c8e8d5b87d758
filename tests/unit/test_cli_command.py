"""What every command has: shared options, no empty values, errors as JSON, a log of start, error and end."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from ragops import __version__
from ragops.cli.command import shared_options
from ragops.cli.main import app, run

SHARED = ["--debug", "--log-file", "--log-format"]


def commands() -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command and group of the program with the words that are typed for it."""

    def walk(command: Any, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
        yield words, command
        if hasattr(command, "list_commands"):
            for name in command.list_commands(None):
                yield from walk(command.get_command(None, name), (*words, name))

    return walk(typer.main.get_command(app), ())


COMMANDS = dict(commands())
LEAVES = {words: command for words, command in COMMANDS.items() if not hasattr(command, "list_commands")}


def value_params(command: Any) -> list[Any]:
    """The options and arguments that take a value."""
    return [param for param in command.params if not getattr(param, "is_flag", False)]


def spelling(param: Any) -> str:
    return str(max(param.opts, key=len))


EMPTY = [
    (words, param)
    for words, command in COMMANDS.items()
    for param in value_params(command)
    if words or param in shared_options()  # The program's own: completion, which takes no value of ours.
]


def last_json(text: str) -> Any:
    assert len(text.splitlines()) == 1
    return json.loads(text)


def events(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(autouse=True)
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("RAGOPS_DATA_DIR", "RAGOPS_CACHE_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_and_group_has_the_shared_options(words: tuple[str, ...]) -> None:
    options = [spelling(param) for param in COMMANDS[words].params if param.param_type_name == "option"]
    assert options[-3:] == SHARED or not words
    assert all(options.count(option) == 1 for option in SHARED)


def test_the_walk_finds_all_kinds_of_values() -> None:
    found = {spelling(param) for _, param in EMPTY}
    assert {"--dsn", "--playbook", "--pattern", "--id-column", "--text-column", "--cmake-arg", "--shell"} < found
    assert {"--metric", "--maintenance-work-mem", "--model", "--against", "--log-file", "file", "names"} < found
    assert len(EMPTY) > 150


@pytest.mark.parametrize(
    ("words", "param"), EMPTY, ids=[f"{' '.join(words)} {spelling(param)}" for words, param in EMPTY]
)
def test_an_empty_value_is_refused(
    words: tuple[str, ...], param: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    is_option = param.param_type_name == "option"
    forms = [[spelling(param), ""], [f"{spelling(param)}="]] if is_option else [[""]]
    for typed in forms:
        before = [] if is_option or not words else others(LEAVES[words], param)
        rest = ["status"] if words not in LEAVES else []
        assert run([*words, *before, *typed, *rest]) == 2
        captured = capsys.readouterr()
        name = spelling(param) if is_option else (param.metavar or param.name).upper()
        assert captured.err.startswith(f"error: {name} has an empty value\n")
        assert captured.out == ""
    assert list(tmp_path.iterdir()) == []


def others(command: Any, param: Any) -> list[str]:
    """Values for the arguments before this one."""
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    return ["x"] * arguments.index(param)


def test_help_comes_before_an_empty_value(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["status", "--dsn", "", "--help"]) == 0
    assert "Usage:" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("typed", "message", "hint"),
    [
        (["status", "--nonsense", "--json"], "No such option: --nonsense", "ragops status --help"),
        (["--json", "status"], "No such option: --json", "ragops --help"),
        (["--nonsense", "status", "--json"], "No such option: --nonsense", "ragops --help"),
        (["statsu", "--json"], "No such command 'statsu'", "ragops --help"),
        (["index", "rebiuld", "x", "--json"], "No such command 'rebiuld'", "ragops index --help"),
        (["index", "--nonsense", "drop", "--json"], "No such option: --nonsense", "ragops index --help"),
        (["embed", "--workers", "zero", "--json"], "--workers", "ragops embed --help"),
        (["embed", "--json", "--workers"], "--workers", "ragops embed --help"),
        (["playbook", "check", "--json"], "Missing argument", "ragops playbook check --help"),
        (["status", "--json", "--dsn", ""], "--dsn has an empty value", None),
        (["status", "--json", "--log-format", "xml", "--log-file", "x"], "unknown log format", None),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_command_line_is_json_where_json_is_asked_for(
    typed: list[str], message: str, hint: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(typed) == 2
    captured = capsys.readouterr()
    shown = last_json(captured.out)
    assert (set(shown), shown["status"]) == ({"status", "error"}, "error")
    assert message in shown["error"]["what"]
    if hint:
        assert shown["error"]["hint"] == hint
    assert "rror" in captured.err


@pytest.mark.parametrize(
    "typed",
    [
        ["status", "--nonsense"],
        ["status", "--dsn", "--json"],
        ["search", "--nonsense", "--", "--json"],
        ["statsu", "--", "--json"],
    ],
)
def test_json_as_a_value_is_not_the_option(typed: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(typed) == 2
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("typed", [["--debug", "build", "show", "x"], ["build", "--debug", "show", "x"]])
def test_debug_before_the_command_lets_the_traceback_through(typed: list[str]) -> None:
    from ragops.errors import RagopsError

    with pytest.raises(RagopsError, match="no build of that name"):
        run(typed)
    with pytest.raises(RagopsError, match="no build of that name"):
        run(["build", "show", "x", "--debug"])
    assert run(["build", "show", "x"]) == 2


def test_a_wrong_command_line_has_no_traceback_worth_showing(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--debug", "status", "--nonsense"]) == 2
    assert run(["--debug"]) == 2
    assert "Missing command" in capsys.readouterr().err


@pytest.mark.parametrize(
    "typed",
    [
        ["--log-file", "x.log", "--log-format", "json", "cache", "status"],
        ["cache", "--log-file=x.log", "status", "--log-format", "json"],
        ["--log-file", "y.log", "cache", "status", "--log-file", "x.log", "--log-format=json", "--json"],
    ],
)
def test_start_and_end_are_logged(typed: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(typed) == 0
    assert capsys.readouterr().err == ""
    assert [file.name for file in tmp_path.glob("*.log")] == ["x.log"]
    start, end = events(tmp_path / "x.log")
    assert (start["event"], start["level"]) == ("command_start", "INFO")
    assert start["fields"] == {"command": "ragops cache status", "version": __version__}
    assert end["event"] == "command_end"
    assert end["fields"]["command"] == "ragops cache status"
    assert end["fields"]["exit_code"] == 0
    assert 0 <= end["fields"]["seconds"] < 60


def test_text_is_the_default(tmp_path: Path) -> None:
    assert run(["build", "show", "nope", "--log-file", "x.log"]) == 2
    lines = (tmp_path / "x.log").read_text(encoding="utf-8").splitlines()
    assert f" INFO  command_start  ragops build show ({__version__})" in lines[0]
    assert lines[1].endswith(" ERROR  error  there is no build of that name")
    assert lines[2].startswith("    where: ") and lines[-2].startswith("    next: ")
    assert " INFO  command_end  ragops build show: exit code 2 after 0." in lines[-1]


@pytest.mark.parametrize(
    ("typed", "what", "command"),
    [
        (["build", "show", "nope"], "there is no build of that name", "ragops build show"),
        (["cache", "status", "--nonsense"], "No such option: --nonsense", "ragops cache status"),
        (["cache", "statsu"], "No such command 'statsu'. Did you mean 'status'?", "ragops cache"),
        (["cahce"], "No such command 'cahce'. Did you mean 'cache'?", "ragops"),
    ],
)
def test_errors_are_logged(typed: list[str], what: str, command: str, tmp_path: Path) -> None:
    assert run([*typed, "--log-file", "x.log", "--log-format", "json"]) == 2
    start, error, end = events(tmp_path / "x.log")
    assert start["fields"]["command"] == command
    assert (error["event"], error["level"], error["message"]) == ("error", "ERROR", what)
    assert error["fields"]["what"] == what
    assert "traceback" not in error["fields"]
    assert end["fields"]["exit_code"] == 2


def test_an_unexpected_error_is_logged_with_its_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> Path:
        raise ZeroDivisionError("why")

    monkeypatch.setattr("ragops.paths.cache_file", fail)
    typed = ["cache", "status", "--log-file", "x.log", "--log-format", "json"]
    assert run(typed) == 1
    with pytest.raises(ZeroDivisionError):
        run(["--debug", *typed])
    first, second = (one for one in events(tmp_path / "x.log") if one["event"] == "error")
    for error in (first, second):
        assert error["message"] == "internal error (this is a bug in ragops)"
        assert error["fields"]["found"] == "ZeroDivisionError: why"
        assert error["fields"]["traceback"].startswith("Traceback (most recent call last):")
        assert "in fail" in error["fields"]["traceback"]
    ends = [one["fields"]["exit_code"] for one in events(tmp_path / "x.log") if one["event"] == "command_end"]
    assert ends == [1, 1]
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("typed", [["cache", "clear", "--yes"], ["build", "show", "nope"], ["cahce"]])
def test_a_log_that_cannot_be_opened_comes_before_everything(
    typed: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("ragops.paths.cache_file", lambda: pytest.fail("the command has begun"))
    assert run([*typed, "--log-file", "missing/x.log"]) == 2
    shown = capsys.readouterr().err
    assert ("cannot open the log file" in shown) == (typed != ["cahce"])
    assert ("No such file or directory" in shown) == (typed != ["cahce"])


def test_a_format_without_a_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["cache", "status", "--log-format", "json"]) == 2
    shown = capsys.readouterr().err
    assert "--log-format goes with --log-file" in shown
    assert "next:   add --log-file FILE" in shown
    assert run(["cache", "status", "--log-file", "x.log", "--log-format", "xml"]) == 2
    assert "unknown log format" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("typed", [["--help"], ["cache", "--help"], ["cache", "status", "-h"], ["--version"], []])
def test_help_opens_no_log(typed: list[str], tmp_path: Path) -> None:
    run(["--log-file", "x.log", *typed])
    assert list(tmp_path.iterdir()) == [] or typed == []


def test_no_handler_stays_behind(tmp_path: Path) -> None:
    for _ in range(3):
        run(["build", "remove", "nope", "--log-file", "x.log"])
    assert [type(handler) for handler in logging.getLogger("ragops").handlers] == [logging.NullHandler]
    assert logging.getLogger("ragops").level == logging.NOTSET
    assert (tmp_path / "x.log").read_text(encoding="utf-8").count("command_start") == 3


def test_arguments_are_not_logged(tmp_path: Path) -> None:
    secret = "c4n4ry-pa55word"
    assert run(["status", "--dsn", f"postgresql//me:{secret}@h/d", "--log-file", "x.log"]) == 2
    text = (tmp_path / "x.log").read_text(encoding="utf-8")
    assert "the DSN is malformed" in text
    assert secret not in text
