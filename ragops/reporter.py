"""The reporter: how commands and steps tell people what they do.

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
PROGRESS, END_OF_PROGRESS = "progress", "progress_end"
"""Events that only a progress display shows; every other event is a notice."""


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
        self._log(logging.INFO, message, "notice", fields)

    def warning(self, message: str, **fields: object) -> None:
        self._log(logging.WARNING, message, "notice", fields)

    def info_once(self, message: str, *, about: str | None = None) -> None:
        key = about or message
        with self._lock:
            is_new = key not in self._reported
            self._reported.add(key)
        if is_new:
            self.info(message)

    def progress(self, what: str, done: float, total: float | None, note: str = "") -> None:
        self._log(logging.INFO, what, PROGRESS, {"what": what, "done": done, "total": total, "note": note})

    def end_progress(self) -> None:
        self._log(logging.INFO, "", END_OF_PROGRESS, {})

    def _log(self, level: int, message: str, event: str, fields: dict[str, object]) -> None:
        # The message is no format string: it may hold a `%` of a file's name.
        self._logger.log(level, "%s", message, extra={"event": event, "fields": fields})


class NullReporter:
    """Report nothing."""

    def info(self, message: str, **fields: object) -> None: ...

    def warning(self, message: str, **fields: object) -> None: ...

    def info_once(self, message: str, *, about: str | None = None) -> None: ...

    def progress(self, what: str, done: float, total: float | None, note: str = "") -> None: ...

    def end_progress(self) -> None: ...
