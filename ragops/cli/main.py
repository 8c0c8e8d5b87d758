"""The app: options of the whole program, and what becomes of an error."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from itertools import pairwise
from typing import Annotated, NoReturn

import typer

from ragops import __version__
from ragops.cli.lazy import LazyGroup
from ragops.errors import RagopsError, UsageError

# Options with a value that must not be empty: files, folders, places, names.
_WITH_VALUE = (
    *("--dsn", "--playbook", "-p", "--against", "--model", "--python", "--requirements", "--output", "-o"),
    *("--folder", "--table", "--query", "--manifest", "--token-env", "--host", "--name", "--version"),
)

app = typer.Typer(
    name="ragops",
    no_args_is_help=True,
    cls=LazyGroup,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Rebuild and reset campaigns for embeddings in PostgreSQL/pgvector, embedded with llama-cpp-python.",
    epilog="Example: ragops demo --docs 500",
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"ragops {__version__}")
        raise typer.Exit


@app.callback()
def _program(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback when something fails.")] = False,
) -> None:
    """Options of the whole program come before the command."""


def main() -> NoReturn:
    """Entry point of the program: runs the app and turns errors into exit codes."""
    code = run(sys.argv[1:])
    try:
        _flush()
    except OSError:
        # Nobody reads any more, or the disk is full: Python would complain once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def _flush() -> None:
    if sys.stdout is not None:  # It is None for a program that was started with stdout closed.
        sys.stdout.flush()


def run(arguments: list[str]) -> int:
    """Run the app and return the exit code. `--debug` lets the traceback of a failure through."""
    is_debug = "--debug" in arguments
    try:
        _refuse_empty_values(arguments)
        code = int(app(arguments, standalone_mode=False) or 0)
        _flush()
        return code
    except RagopsError as error:
        if is_debug:
            raise
        _show(error, as_json="--json" in arguments)
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        print("stopped", file=sys.stderr)  # noqa: T201
        return 130
    except BrokenPipeError:
        return 1
    except Exception as error:
        if is_debug:
            raise
        return _show_unexpected(error, as_json="--json" in arguments)


def _refuse_empty_values(arguments: list[str]) -> None:
    """`--dsn "$PROD"` with an unset variable must not mean the default: another database, no reference at all."""
    for option, value in pairwise([*arguments, "end"]):
        name, equals, given = option.partition("=")
        if name in _WITH_VALUE and not (given if equals else value):
            raise UsageError(
                f"{name} has an empty value",
                expected=f"a value; without {name} the default is taken",
                hint="is the variable set that the value comes from?",
            )


def _show(error: RagopsError, *, as_json: bool) -> None:
    from rich.console import Console

    from ragops.report.terminal import error_text

    if as_json:
        _print_json(error)
    Console(stderr=True, highlight=False).print(error_text(error), soft_wrap=True)


def _print_json(error: RagopsError) -> None:
    import json

    with suppress(OSError):  # It may be stdout itself that has failed.
        print(json.dumps({"status": "error", "error": error.as_dict()}, default=str), flush=True)  # noqa: T201


def _show_unexpected(error: Exception, *, as_json: bool) -> int:
    """Errors of the command line keep their own form; anything else is named in one line."""
    if type(error).__name__ == "NoArgsIsHelpError":
        help_text = getattr(error, "message", "")
        if help_text:  # A group has drawn its help already.
            print(help_text)  # noqa: T201
        return 2
    if any(kind.__name__ == "ClickException" for kind in type(error).__mro__):
        from typer import rich_utils

        if as_json:
            what = getattr(error, "format_message", lambda: str(error))()
            _print_json(UsageError(what, hint="the same command with --help"))
        rich_utils.rich_format_error(error)  # type: ignore[arg-type]
        return int(getattr(error, "exit_code", 2))
    first = str(error).splitlines()[0] if str(error) else ""
    kind = type(error)
    if kind.__name__ == "InsufficientPrivilege":
        wrapped = RagopsError(
            "this role may not do that in this database",
            actual=first,
            expected="the tables' owner, or its rights: GRANT … TO …; for the schema ragops USAGE and its tables",
            hint="the same command with the DSN of a role that may",
        )
    elif kind.__module__.startswith("psycopg"):
        wrapped = RagopsError(
            "the database refused a statement",
            actual=f"{kind.__name__}: {first}",
            hint="the same command with --debug before it shows where: ragops --debug …",
        )
    elif isinstance(error, OSError):
        wrapped = RagopsError(
            "a file cannot be used",
            where=str(error.filename) if error.filename else None,
            actual=error.strerror or first or kind.__name__,
            hint="check that the folder exists, that you may write there, and that the disk has room",
        )
    else:
        wrapped = RagopsError(
            "ragops failed in a way that it should not",
            actual=f"{kind.__name__}: {first}",
            hint="ragops --debug …   shows the traceback for a bug report",
        )
    _show(wrapped, as_json=as_json)
    return 1
