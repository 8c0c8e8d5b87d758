"""State of one run of the program: the options that every command takes, its log file, its start and end."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any

from ragops import __version__
from ragops.errors import RagopsError, UsageError


class Invocation:
    """State of one run, shared by click's contexts (as `obj`) and by what handles the errors after they are gone.

    `is_debug`, `as_json` and `command` hold what has been parsed so far, so that an error in the middle of parsing
    is shown as JSON or with a traceback, too.
    """

    def __init__(self) -> None:
        self.is_debug = False
        self.as_json = False
        self.command = "ragops"
        self._log_file: str | None = None
        self._log_format: str | None = None
        self._started = monotonic()
        self._is_logging = False

    def take(self, typed: Mapping[str, Any], command: str) -> None:
        """Take over the shared options that stand before or after a command; what stands later wins."""
        self.command = command
        self.is_debug = self.is_debug or bool(typed.get("debug"))
        self.as_json = self.as_json or bool(typed.get("as_json"))
        # A command before its sub-command: `ragops --log-file a status --log-file b` writes b only.
        self._log_file = typed.get("log_file") or self._log_file
        self._log_format = typed.get("log_format") or self._log_format

    def start(self) -> None:
        """Open the log file and log the command's start. Raises UsageError when the file cannot be written."""
        if self._log_file is None:
            if self._log_format is not None:
                raise UsageError(
                    "--log-format goes with --log-file",
                    actual=f"--log-format {self._log_format} alone",
                    hint="add --log-file FILE; stderr has one form only",
                )
            return
        from ragops.report.logs import open_log
        from ragops.reporter import COMMAND_START, install

        log_format = self._log_format or "text"
        if log_format not in ("text", "json"):
            raise UsageError("unknown log format", actual=f"--log-format {log_format}", expected="text or json")
        install(open_log(Path(self._log_file), as_json=log_format == "json"))
        self._is_logging = True
        fields: dict[str, object] = {"command": self.command, "version": __version__}
        self._log(COMMAND_START, f"{self.command} ({__version__})", fields)

    def log_error(self, error: RagopsError, *, cause: BaseException | None = None) -> None:
        """Log the error that ends the command; `cause` is an unexpected one, whose traceback is worth keeping."""
        if not self._is_logging:
            # A wrong command line is found before the command starts. If the log cannot be opened either, the
            # first error is the one to show.
            with suppress(UsageError):
                self.start()
        if not self._is_logging:
            return
        import logging

        from ragops.reporter import ERROR

        fields = error.as_dict()
        if cause is not None:
            import traceback

            fields["traceback"] = "".join(traceback.format_exception(cause))
        self._log(ERROR, error.what, fields, level=logging.ERROR)

    def end(self, exit_code: int) -> None:
        """Log the command's end, and take away every handler that the command has installed."""
        import sys

        if self._is_logging:
            from ragops.reporter import COMMAND_END

            seconds = round(monotonic() - self._started, 3)
            fields: dict[str, object] = {"command": self.command, "exit_code": exit_code, "seconds": seconds}
            self._log(COMMAND_END, f"{self.command}: exit code {exit_code} after {seconds:,.1f} s", fields)
        # `ragops --help` loads no reporter, and needs none to be told that it has no handlers.
        if reporter := sys.modules.get("ragops.reporter"):
            reporter.uninstall()

    @staticmethod
    def _log(event: str, message: str, fields: dict[str, object], **level: int) -> None:
        from ragops.reporter import LogReporter

        LogReporter().event(event, message, fields, **level)
