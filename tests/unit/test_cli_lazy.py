"""Commands are known by name and line before they are imported; names and lines are the commands' own."""

from __future__ import annotations

import pkgutil
from importlib import import_module

import pytest
import typer

import ragops.cli
from ragops.cli.lazy import ENTRIES, LazyCommands, LazyGroup
from ragops.cli.main import app, run


def first_paragraph(help_text: str) -> str:
    return " ".join(help_text.split("\n\n")[0].split())


@pytest.mark.parametrize("name", ENTRIES)
def test_the_line_in_the_program_s_help_is_the_command_s_own(name: str) -> None:
    command = LazyCommands()[name]
    assert command.name == name
    assert first_paragraph(command.help) == ENTRIES[name].help


def test_no_module_brings_a_command_that_the_table_lacks() -> None:
    brought: dict[str, set[str | None]] = {}
    for found in pkgutil.iter_modules(ragops.cli.__path__):
        module = import_module(f"ragops.cli.{found.name}")
        part = typer.Typer()
        if hasattr(module, "register"):
            module.register(part)
            brought[found.name] = {command.name for command in part.registered_commands}
        elif isinstance(getattr(module, "app", None), typer.Typer) and module.app is not app:
            brought[found.name] = {name for name, entry in ENTRIES.items() if entry.module == found.name}
            assert len(brought[found.name]) == 1, found.name
    modules = {entry.module for entry in ENTRIES.values()}
    assert brought == {m: {n for n, entry in ENTRIES.items() if entry.module == m} for m in modules}


def test_a_name_that_does_not_exist_is_none_of_the_commands() -> None:
    commands = LazyCommands()
    assert commands.get("statsu") is None
    assert list(commands) == list(ENTRIES)
    assert len(commands) == len(ENTRIES)


def test_a_command_can_be_added_beside_the_table() -> None:
    commands = LazyCommands()
    commands["extra"] = "a command"
    assert (list(commands)[-1], commands["extra"], len(commands)) == ("extra", "a command", len(ENTRIES) + 1)
    del commands["extra"]
    assert "extra" not in commands


def test_the_program_is_made_of_the_table() -> None:
    group = typer.main.get_command(app)
    assert isinstance(group, LazyGroup)
    assert list(group.commands) == list(ENTRIES)


def test_the_help_has_every_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for name, entry in ENTRIES.items():
        assert f" {name} {entry.help}" in shown
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
    [("ragops qu", "1", ["queue"]), ("ragops index re", "2", ["rebuild"]), ("ragops ", "1", list(ENTRIES))],
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
