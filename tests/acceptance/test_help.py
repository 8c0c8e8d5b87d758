"""Every command explains itself, with an example."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import typer
from conftest import Ragops

from ragops.cli.main import app


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


def test_every_command_s_help_has_an_example(ragops: Ragops) -> None:
    known = commands()
    assert {("reset",), ("index", "rebuild"), ("queue", "reseed"), ("db", "init")} <= set(known)
    with ThreadPoolExecutor(4) as pool:
        shown = dict(zip(known, pool.map(lambda path: ragops(*path, "--help"), known), strict=True))
    for path, help in shown.items():
        assert help.code == 0, path
        assert "Usage: " in help.out, path
        assert all(option in help.out for option in ("--debug", "--log-file", "--log-format")), path
        assert "Example:" in help.out, path
        assert " ".join(("ragops", *path)) in help.out.split("Example:")[1], path


def test_without_arguments_the_program_shows_its_commands(ragops: Ragops) -> None:
    shown = ragops()
    assert all(name in shown.out for name in ("reset", "verify", "search", "status", "index", "queue"))


def test_version(ragops: Ragops) -> None:
    shown = ragops("--version")
    assert (shown.code, shown.out.split()[0]) == (0, "ragops")
