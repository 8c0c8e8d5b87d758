"""The app: its entry point, and exit codes and messages for errors."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from types import TracebackType
from typing import Annotated, Any, NoReturn

import typer

from ragops import __version__
from ragops.cli.command import ClickException
from ragops.cli.invocation import Invocation
from ragops.cli.lazy import LazyGroup, OutputClosed
from ragops.errors import DatabaseUnavailable, Interrupted, RagopsError, UsageError

# https://www.postgresql.org/docs/current/errcodes-appendix.html
_INSUFFICIENT_PRIVILEGE = "42501"

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
) -> None:
    """Options of the whole program come before the command."""


def main() -> NoReturn:
    """Run the program: run the app and end with its exit code."""
    sys.excepthook = _print_traceback
    # libpq sends it when it connects, so that a role's or database's own DateStyle does not count: psycopg reads
    # times in the ISO style only. A pooler keeps it for each client.
    os.environ["PGDATESTYLE"] = "ISO"
    code = run(sys.argv[1:])
    try:
        _flush()
    except OSError:
        # Nobody reads any more, or the disk is full: Python would complain once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def _print_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print what --debug lets through, as Python does, but with harmful characters as escapes."""
    import traceback

    from ragops.report.printable import printable

    if sys.stderr is not None:
        sys.stderr.write(printable("".join(traceback.format_exception(kind, error, trace))))


def _flush() -> None:
    if sys.stdout is not None:  # It is None for a program that was started with stdout closed.
        sys.stdout.flush()


def run(arguments: list[str]) -> int:
    """Run the app and return the exit code. `--debug` lets the traceback of a failure through."""
    invocation = Invocation()
    code = 1  # Python's own, when a traceback ends the program.
    try:
        code = _run(arguments, invocation)
        return code
    finally:
        invocation.end(code)


def _run(arguments: list[str], invocation: Invocation) -> int:
    try:
        # Not standalone: typer would print errors and exit by itself, without JSON and with codes of its own.
        code = int(app(arguments, standalone_mode=False, obj=invocation) or 0)
        _flush()
        return code
    except (OutputClosed, BrokenPipeError) as error:
        # BrokenPipeError: from the flush above.
        invocation.log_error(OutputClosed(str(error)))
        return OutputClosed.exit_code
    except SystemExit as ended:
        # Rich ends the program by itself when the reader of stderr has gone.
        code = ended.code if isinstance(ended.code, int) else 1
        if code:
            invocation.log_error(OutputClosed("the reader of the output has gone"))
        return code
    except RagopsError as error:
        invocation.log_error(error)
        if invocation.is_debug:
            raise
        _show(error, as_json=invocation.as_json)
        return error.exit_code
    except ClickException as error:
        return _show_click_error(error, invocation)
    except (KeyboardInterrupt, typer.Abort):
        invocation.log_error(Interrupted("stopped"))
        print("stopped", file=sys.stderr)  # noqa: T201
        return 130
    except Exception as error:
        shown = _as_ragops_error(error)
        invocation.log_error(shown, cause=error)
        if invocation.is_debug:
            raise
        _show(shown, as_json=invocation.as_json)
        return shown.exit_code


def _show(error: RagopsError, *, as_json: bool) -> None:
    from ragops.report.terminal import err, error_text

    if as_json:
        _print_json(error)
    err().print(error_text(error), soft_wrap=True)


def _print_json(error: RagopsError) -> None:
    import json

    with suppress(OSError):  # It may be stdout itself that has failed.
        print(json.dumps({"status": "error", "error": error.as_dict()}, default=str), flush=True)  # noqa: T201


def _show_click_error(error: Any, invocation: Invocation) -> int:
    """Show a wrong command line in typer's own form, with the usage line of the command. Return the exit code.

    Without a traceback even under --debug: the error lies in what was typed.
    """
    from typer import rich_utils

    usage_error = UsageError(error.format_message(), hint=f"{invocation.command} --help")
    invocation.log_error(usage_error)
    if invocation.as_json:
        _print_json(usage_error)
    rich_utils.rich_format_error(error)
    return int(error.exit_code)


def _as_ragops_error(error: Exception) -> RagopsError:
    """Return an error of the database or of a file in ragops' own form; anything else is a bug."""
    # The server's further lines quote the statement and rows of it; --debug shows them.
    message = str(error).splitlines()[0] if str(error) else ""
    name = type(error).__name__
    # A command that has not imported psycopg cannot have failed in it, and must not import it to find that out.
    psycopg = sys.modules.get("psycopg")
    if psycopg is not None and isinstance(error, psycopg.Error):
        if error.sqlstate == _INSUFFICIENT_PRIVILEGE:
            return RagopsError(
                "permission denied: the database role lacks a privilege",
                actual=message,
                expected="the owner of the tables, or a role with the same privileges (GRANT … ON … TO …);"
                " on the schema ragops: USAGE, and the privileges on its tables",
                hint="GRANT what is missing, or run the command with the DSN of a role that has it",
            )
        from ragops.postgres.outages import outage_of

        # What the server did not say, libpq or psycopg noticed: the connection is gone.
        is_lost = error.sqlstate is None and isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError))
        if (outage := outage_of(error, is_lost=is_lost)) is not None:
            return DatabaseUnavailable(
                "the database went away during the command",
                actual=outage.reason,
                hint="ragops status   then type the command again: nothing is done twice",
            )
        return RagopsError(
            "the database rejected a statement",
            actual=f"{name}: {message}",
            hint="run the command again with --debug: the traceback shows which statement",
        )
    if isinstance(error, OSError):
        return RagopsError(
            "cannot read or write a file",
            where=str(error.filename) if error.filename else None,
            actual=error.strerror or message or name,
            hint="check that the folder exists, that you may write there, and that the disk has room",
        )
    return RagopsError(
        "internal error (this is a bug in ragops)",
        actual=f"{name}: {message}",
        hint="run the command again with --debug, and report the bug with the traceback",
    )
