"""The reporter: how commands and steps report what they do.

Everything goes through the logger `ragops`, so that a program which embeds ragops can route it. The
console (`ragops.report.console`) and log files (`ragops.report.logs`) are handlers of that logger.
"""

from __future__ import annotations

import logging
import threading
from typing import Protocol

LOGGER = logging.getLogger("ragops")
# A library writes nothing unless its user configures logging: https://docs.python.org/3/howto/logging.html
LOGGER.addHandler(logging.NullHandler())

NOTICE = "notice"
# Events that only a progress display shows.
PROGRESS, END_OF_PROGRESS = "progress", "progress_end"
# Events around a command. The console leaves them out: the result and the error have their own screens.
COMMAND_START, COMMAND_END, ERROR = "command_start", "command_end", "error"
LIFECYCLE = frozenset({COMMAND_START, COMMAND_END, ERROR})

_installed: list[logging.Handler] = []


def install(handler: logging.Handler) -> None:
    """Send ragops' records from INFO up to `handler`, in place of an earlier handler of the same class.

    A process may run several commands; each brings its own console, and nothing may be printed twice.
    """
    for earlier in [one for one in _installed if type(one) is type(handler)]:
        _remove(earlier)
    _installed.append(handler)
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.INFO)


def uninstall() -> None:
    """Remove and close every handler that `install` added."""
    for handler in list(_installed):
        _remove(handler)
    LOGGER.setLevel(logging.NOTSET)


def _remove(handler: logging.Handler) -> None:
    _installed.remove(handler)
    LOGGER.removeHandler(handler)
    handler.close()


class Reporter(Protocol):
    """Where notices and progress go. Safe to use from several threads."""

    def info(self, message: str, **fields: object) -> None:
        """Report a notice; `fields` are its data for machines."""

    def warning(self, message: str, **fields: object) -> None:
        """Report what the operator should look at, although the command goes on."""

    def info_once(self, message: str, *, about: str | None = None) -> None:
        """Report a notice once per command; pass `about` as the key if the wording varies."""

    def progress(self, what: str, done: float, total: float | None, note: str = "") -> None:
        """Report that `done` of `total` units of `what` are finished; `total` is None while it is unknown."""

    def end_progress(self) -> None:
        """Report that the work whose progress was shown has ended, one way or the other."""


class LogReporter:
    """Report through a logger; each record carries `event` and `fields` for handlers that write data."""

    def __init__(self, logger: logging.Logger = LOGGER) -> None:
        self._logger = logger
        self._lock = threading.Lock()
        self._reported: set[str] = set()

    def info(self, message: str, **fields: object) -> None:
        self.event(NOTICE, message, fields)

    def warning(self, message: str, **fields: object) -> None:
        self.event(NOTICE, message, fields, level=logging.WARNING)

    def info_once(self, message: str, *, about: str | None = None) -> None:
        key = about or message
        with self._lock:
            is_new = key not in self._reported
            self._reported.add(key)
        if is_new:
            self.info(message)

    def progress(self, what: str, done: float, total: float | None, note: str = "") -> None:
        self.event(PROGRESS, what, {"what": what, "done": done, "total": total, "note": note})

    def end_progress(self) -> None:
        self.event(END_OF_PROGRESS, "", {})

    def event(self, event: str, message: str, fields: dict[str, object], *, level: int = logging.INFO) -> None:
        """Log one record of the given event."""
        # The message is no format string: it may hold a `%` of a file's name.
        self._logger.log(level, "%s", message, extra={"event": event, "fields": fields})


class NullReporter:
    """Report nothing."""

    def info(self, message: str, **fields: object) -> None: ...

    def warning(self, message: str, **fields: object) -> None: ...

    def info_once(self, message: str, *, about: str | None = None) -> None: ...

    def progress(self, what: str, done: float, total: float | None, note: str = "") -> None: ...

    def end_progress(self) -> None: ...
