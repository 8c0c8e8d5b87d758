"""Every command explains itself, with an example."""

from __future__ import annotations

from typing import Any

import pytest
import typer
from conftest import Ragops

from ragops.cli.main import app, run


def commands() -> list[tuple[str, ...]]:
    """Every command and group of the program, as it is typed."""
    found: list[tuple[str, ...]] = []

    def walk(command: Any, path: tuple[str, ...]) -> None:
        found.append(path)
        if hasattr(command, "list_commands"):
            for name in command.list_commands(None):
                walk(command.get_command(None, name), (*path, name))

    walk(typer.main.get_command(app), ())
    return found


def test_every_command_s_help_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    known = commands()
    assert {("reset",), ("index", "rebuild"), ("queue", "reseed"), ("db", "init")} <= set(known)
    for path in known:
        assert run([*path, "--help"]) == 0, path
        help = capsys.readouterr().out
        assert "Usage: " in help, path
        assert all(option in help for option in ("--debug", "--log-file", "--log-format")), path
        assert "Example:" in help, path
        assert " ".join(("ragops", *path)) in help.split("Example:")[1], path


def test_without_arguments_the_program_shows_its_commands(ragops: Ragops) -> None:
    shown = ragops()
    assert all(name in shown.out for name in ("reset", "verify", "search", "status", "index", "queue"))


def test_version(ragops: Ragops) -> None:
    shown = ragops("--version")
    assert (shown.code, shown.out.split()[0]) == (0, "ragops")
