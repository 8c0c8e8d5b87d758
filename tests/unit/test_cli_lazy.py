"""Commands are known by name and line before they are imported; names and lines are the commands' own."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer

import ragops.cli
from ragops.cli import lazy
from ragops.cli.lazy import COMMANDS, LazyGroup
from ragops.cli.main import app, run


def first_paragraph(help_text: str) -> str:
    return " ".join(help_text.split("\n\n")[0].split())


def program() -> Any:
    return typer.main.get_command(app)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_line_in_the_program_s_help_is_the_command_s_own(name: str) -> None:
    command = program().get_command(None, name)
    assert command.name == name
    assert lazy._read_first_line(name) == first_paragraph(command.help)


def test_without_source_the_line_comes_from_the_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["--help"]) == 0
    shown = capsys.readouterr().out
    monkeypatch.setattr(lazy, "__file__", str(tmp_path / "lazy.py"))
    assert lazy._read_first_line("reset") == ""
    assert run(["--help"]) == 0
    assert capsys.readouterr().out == shown


def test_no_module_brings_a_command_that_the_table_lacks() -> None:
    brought: dict[str, set[str | None]] = {}
    for found in pkgutil.iter_modules(ragops.cli.__path__):
        module = import_module(f"ragops.cli.{found.name}")
        part = typer.Typer()
        if hasattr(module, "register"):
            module.register(part)
            brought[found.name] = {command.name for command in part.registered_commands}
        elif isinstance(getattr(module, "app", None), typer.Typer) and module.app is not app:
            brought[found.name] = {name for name, module_name in COMMANDS.items() if module_name == found.name}
            assert len(brought[found.name]) == 1, found.name
    assert brought == {m: {n for n, module in COMMANDS.items() if module == m} for m in COMMANDS.values()}


def test_commands_are_built_once_and_when_they_are_looked_up() -> None:
    group = program()
    assert isinstance(group, LazyGroup)
    assert group.list_commands(None) == list(COMMANDS)
    assert set(group.commands.values()) == {None}
    assert group.get_command(None, "statsu") is None
    assert group.get_command(None, "cache") is group.get_command(None, "cache")
    assert [name for name, command in group.commands.items() if command is not None] == ["cache"]


def test_the_help_has_every_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for name in COMMANDS:
        assert f" {name} {first_paragraph(program().get_command(None, name).help)}" in shown
    assert shown.endswith("Example: ragops demo --docs 500")


def test_without_arguments_the_help_goes_to_stdout_and_the_exit_code_is_2(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run([]) == 2
    captured = capsys.readouterr()
    assert "Usage:" in captured.out and "\n  probe " in captured.out
    assert captured.err == ""


def test_a_group_without_arguments_shows_its_help_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["index"]) == 2
    captured = capsys.readouterr()
    assert captured.out.count("Usage:") == 1
    assert "rebuild" in captured.out
    assert captured.err == ""


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["statsu"], "No such command 'statsu'. Did you mean 'status'?"),
        (["index", "rebiuld"], "No such command 'rebiuld'. Did you mean 'rebuild'?"),
        (["--bogus"], "No such option"),
        (["status", "--bogus"], "No such option"),
    ],
)
def test_what_does_not_exist_is_named(typed: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(typed) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "count", "offered"),
    [("ragops qu", "1", ["queue"]), ("ragops index re", "2", ["rebuild"]), ("ragops ", "1", list(COMMANDS))],
)
def test_the_shell_completes_commands(
    words: str, count: str, offered: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("_RAGOPS_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", count)
    with pytest.raises(SystemExit) as ended:
        app(prog_name="ragops", standalone_mode=False)
    assert ended.value.code == 0
    assert capsys.readouterr().out.split() == offered
