"""Notices and progress on stderr: bars on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import logging
from functools import cached_property
from time import monotonic
from typing import TYPE_CHECKING

from ragops.reporter import END_OF_PROGRESS, LIFECYCLE, NOTICE, PROGRESS, LogReporter, Reporter, install

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

# Without a terminal: often enough to see that a long step moves, rarely enough for a CI log of many hours.
LINE_EVERY_S = 30.0
# A rate over less than a second is noise.
RATE_AFTER_S = 1.0


class ConsoleReporter(LogReporter):
    """Report to stderr: a reporter with a console handler installed on its logger."""

    def __init__(self, console: Console | None = None) -> None:
        super().__init__()
        install(ConsoleHandler(console))


def console_reporter() -> Reporter:
    """Return a reporter that writes to stderr."""
    return ConsoleReporter()


class ConsoleHandler(logging.Handler):
    """Print records for people.

    Safe to use from several threads: `logging` calls `emit` under the handler's lock. That lock is reentrant, as a
    signal handler may report while its thread is printing. Rich is imported with the first message; most commands
    print none. An error of stderr is raised to the caller, as `print` raises it.
    """

    def __init__(self, console: Console | None = None) -> None:
        super().__init__(logging.INFO)
        self._given = console
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._what = ""
        self._started = 0.0
        self._line_at = 0.0

    @cached_property
    def _console(self) -> Console:
        from ragops.report.terminal import err

        return self._given or err()

    def emit(self, record: logging.LogRecord) -> None:
        """Print a notice, or move or remove the progress display."""
        # Records of `logging.getLogger(__name__)` have no event.
        event = getattr(record, "event", NOTICE)
        if event == PROGRESS:
            self._show_progress(**record.__dict__["fields"])
        elif event == END_OF_PROGRESS:
            self._end_progress()
        elif event not in LIFECYCLE:
            prefix = "warning: " if record.levelno >= logging.WARNING else ""
            self._print(prefix + record.getMessage())

    def close(self) -> None:
        """Remove a progress bar that is still there, so that the terminal shows its cursor again."""
        self.acquire()
        try:
            self._end_progress()
        finally:
            self.release()
        super().close()

    def _print(self, text: str) -> None:
        # No markup: a file may be called `[red]`. No wrapping: a path or command must be copied in one piece.
        self._console.print(text, markup=False, soft_wrap=True)

    def _show_progress(self, what: str, done: float, total: float | None, note: str) -> None:
        now = monotonic()
        if what != self._what:
            self._end_progress()
            self._what, self._started, self._line_at = what, now, now + LINE_EVERY_S
        seconds = now - self._started
        rate = f"{done / seconds:,.1f}/s" if seconds > RATE_AFTER_S and done else ""
        detail = "  ".join(part for part in (rate, note) if part)
        if self._console.is_terminal:
            self._draw(what, done, total, detail)
        elif now >= self._line_at:
            self._line_at = now + LINE_EVERY_S
            of = f" of {total:,.0f}" if total else ""
            self._print(f"{what}: {done:,.0f}{of}  {detail}".rstrip())

    def _draw(self, what: str, done: float, total: float | None, detail: str) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        if self._bar is None:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                TextColumn("{task.completed:,.0f} of {task.fields[of]}  {task.fields[detail]}"),
                TimeRemainingColumn(compact=True),
                console=self._console,
                transient=True,
            )
            self._bar.start()
            self._task = self._bar.add_task(what, total=total, of="?", detail="")
        assert self._task is not None
        of = f"{total:,.0f}" if total else "?"
        self._bar.update(self._task, completed=done, total=total, of=of, detail=detail)

    def _end_progress(self) -> None:
        if self._bar is not None:
            self._bar.stop()
        self._bar = self._task = None
        self._what = ""
