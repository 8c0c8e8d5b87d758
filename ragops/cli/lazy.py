"""Commands that are imported when they are typed: a program that shows its help needs none of them.

As click documents it: https://click.palletsprojects.com/en/stable/complex/#lazily-loading-subcommands
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import typer

from ragops.cli.command import RagopsCommand, RagopsGroup
from ragops.errors import Interrupted, RagopsError

# Each command or group with its module in `ragops.cli`, in the order of the help.
COMMANDS = {
    "reset": "campaign",
    "undo": "campaign",
    "demo": "campaign",
    "init": "init",
    "embed": "work",
    "validate": "work",
    "tune": "work",
    "verify": "inspection",
    "search": "inspection",
    "status": "inspection",
    "index": "index",
    "cutover": "cutover",
    "fingerprint": "fingerprint",
    "tables": "tables",
    "queue": "queue",
    "archive": "archive",
    "cache": "cache",
    "db": "database",
    "playbook": "playbooks",
    "build": "build",
    "probe": "probe",
}


class OutputClosed(RagopsError):
    """Nobody reads the output any more (`ragops status | head -1`), so there is no one to show an error to."""


class LazyGroup(RagopsGroup):
    """The whole program. Its help is plain text: drawing it with Rich would take longer than everything else."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        # typer suggests similar names from the keys. None: not built yet.
        self.commands: Any = dict.fromkeys(COMMANDS)

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names without importing anything."""
        return list(self.commands)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command, built from its module the first time; None if there is none of that name."""
        if cmd_name in COMMANDS and self.commands[cmd_name] is None:
            self.commands[cmd_name] = _build(cmd_name)
        return self.commands.get(cmd_name)

    def invoke(self, ctx: Any) -> Any:
        """Import and run the command that was typed. Raises Interrupted for Ctrl-C, and OutputClosed."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as interrupt:
            # typer would turn it into an exit code without a word (0.26 and later) or into Abort (before).
            raise Interrupted("stopped") from interrupt
        except BrokenPipeError as error:
            # typer would call sys.exit(1): no error would reach the log file.
            raise OutputClosed("the reader of the output has gone") from error

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write each command's name with the first sentence of its help."""
        with formatter.section("Commands"):
            lines = [_read_first_line(name) or _first_line(self.get_command(ctx, name).help) for name in COMMANDS]
            formatter.write_dl(list(zip(COMMANDS, lines, strict=True)))


def _read_first_line(name: str) -> str:
    """Read a command's first line of help from its source: the function's docstring, or the `help=` of a group.

    `ragops --help` takes 70 ms, of which importing typer and Rich takes 60. Importing the commands would add 50
    ms, parsing them with `ast` 12 ms, compiling a regular expression for each of them 2 ms. A test compares
    these lines with the help of the built commands. Empty if there is no source or no such line: then the
    command is built.
    """
    try:
        source = Path(__file__).with_name(f"{COMMANDS[name]}.py").read_text(encoding="utf-8")
    except OSError:
        return ""
    _, is_function, function = source.partition(f"\ndef {name}(")
    if is_function:
        text = function.partition('"""')[2].partition('"""')[0]
    else:
        text = source.partition("\napp = typer.Typer(")[2].partition('help="')[2].partition('"')[0]
    return _first_line(text)


def _first_line(help_text: str) -> str:
    """Return the first paragraph of a help text on one line."""
    return " ".join(help_text.partition("\n\n")[0].split())


def _build(name: str) -> Any:
    """Import a command's module, and build its group `app` or the command that it registers."""
    module = import_module(f"ragops.cli.{COMMANDS[name]}")
    part = typer.Typer(add_completion=False, rich_markup_mode="rich")
    part.callback()(lambda: None)
    if hasattr(module, "register"):
        module.register(part)
        commands = part.registered_commands
    else:
        part.add_typer(module.app, name=name, cls=RagopsGroup)
        commands = module.app.registered_commands
    for command in commands:
        command.cls = RagopsCommand
    return typer.main.get_group(part).commands[name]
