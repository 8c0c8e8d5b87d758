"""Commands and groups with what all of them share: options, refusal of empty values, errors as JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup

from ragops.cli.chosen_playbook import note_command_line
from ragops.cli.invocation import Invocation
from ragops.cli.options import AsJson, Debug, LogFile, LogFormat
from ragops.errors import UsageError

# What typer raises for a wrong command line: click's ClickException until 0.25, that of its own copy of click
# from 0.26 on, and its TyperException since that became the base. Every version exports BadParameter, a class of
# that family; the family's root is the class below Exception.
ClickException: type[Exception] = typer.BadParameter.__mro__[typer.BadParameter.__mro__.index(Exception) - 1]

_Parsed = TypeVar("_Parsed")


class RagopsCommand(TyperCommand):
    """One command, with the options that every command has."""

    # Typer's versions have contexts and parameters of different types: click's, or those of its own copy.
    def __init__(self, *positional: Any, **settings: Any) -> None:
        super().__init__(*positional, **settings)
        self.params = [*self.params, *shared_options()]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Open the log file before anything else happens, and refuse empty values; then parse."""
        if not ctx.resilient_parsing:  # The shell asks for completions.
            typed = typed_values(self, ctx, args)
            invocation = invocation_of(ctx)
            invocation.take(typed, path_of(ctx))
            note_command_line(typed)
            if not typed.get("help"):
                refuse_empty_values(self, ctx, typed)
                invocation.start()
        return super().parse_args(ctx, args)


class RagopsGroup(TyperGroup):
    """A group of commands, with the options that every command has."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.params = [*self.params, *shared_options()]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse up to the name of the command. Without any argument, print the help and raise Exit(2)."""
        if ctx.resilient_parsing:
            return super().parse_args(ctx, args)
        if not args:
            # click ends with 0, 2 or an exception of its own here, depending on its version.
            if shown := ctx.get_help():  # Empty when Rich has drawn it.
                typer.echo(shown)
            raise typer.Exit(2)
        typed = typed_values(self, ctx, args)
        invocation_of(ctx).take(typed, path_of(ctx))
        refuse_empty_values(self, ctx, typed)
        return self._or_take(super().parse_args, ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command that the next argument names."""
        return self._or_take(super().resolve_command, ctx, args)

    @staticmethod
    def _or_take(parse: Callable[[Any, list[str]], _Parsed], ctx: Any, args: list[str]) -> _Parsed:
        """Call `parse`. When it fails, no command will read the rest of the line: take the options from it."""
        typed = list(args)
        try:
            return parse(ctx, args)
        except ClickException:
            invocation_of(ctx).take(typed_values(_stand_in(), ctx, typed, interspersed=True), path_of(ctx))
            raise


def invocation_of(ctx: Any) -> Invocation:
    """Return the run that a context belongs to; a fresh one where the app is called without `obj`."""
    return ctx.find_object(Invocation) or Invocation()


def path_of(ctx: Any) -> str:
    """Return the words of a command, e.g. `ragops index drop`, however the program was started."""
    words: list[str] = []
    while ctx.parent is not None:
        words.insert(0, ctx.info_name)
        ctx = ctx.parent
    return " ".join(["ragops", *words])


def typed_values(command: Any, ctx: Any, args: list[str], *, interspersed: bool = False) -> dict[str, object]:
    """Return what the command line gives for each parameter, unconverted; errors in it are passed over.

    click's converted values are no substitute: an empty path becomes `.`, and click reads no further after an
    unknown option. Nor is a search through the arguments: only the parser can tell the option `--json` from a
    value.
    """
    was_resilient = ctx.resilient_parsing
    ctx.resilient_parsing = True
    try:
        parser = command.make_parser(ctx)
        parser.ignore_unknown_options = True
        if interspersed:
            # Otherwise a group's context ends the options before the first name.
            parser.allow_interspersed_args = True
        values: dict[str, object] = parser.parse_args(list(args))[0]
    finally:
        ctx.resilient_parsing = was_resilient
    json_names = {param.name for param in command.params if "--json" in param.opts}
    return {"as_json" if name in json_names else name: value for name, value in values.items()}


def refuse_empty_values(command: Any, ctx: Any, typed: Mapping[str, Any]) -> None:
    """Raise UsageError for an option or argument with an empty value.

    `--dsn "$PROD"` with an unset variable must not mean the default, which is another database.
    """
    for param in command.get_params(ctx):
        value = typed.get(param.name)
        if value == "" or (isinstance(value, (list, tuple)) and "" in value):
            is_option = param.param_type_name == "option"
            name = max(param.opts, key=len) if is_option else (param.metavar or param.name).upper()
            raise UsageError(
                f"{name} has an empty value",
                expected="a value" if param.required else f"a value, or no {name} at all for the default",
                hint="check that the variable which the value comes from is set",
            )


@cache
def shared_options() -> tuple[Any, ...]:
    """Return click's parameters of the options that every command has, built by the installed typer."""

    def options(debug: Debug = False, log_file: LogFile = None, log_format: LogFormat = None) -> None: ...

    return tuple(_command(options).params)


@cache
def _stand_in() -> Any:
    """Return a command that has only what commands share, to read a line whose command does not exist."""

    def options(as_json: AsJson = False) -> None: ...

    command = _command(options)
    command.params = [*command.params, *shared_options()]
    return command


def _command(function: Callable[..., None]) -> Any:
    part = typer.Typer(add_completion=False)
    part.command()(function)
    return typer.main.get_command(part)
