"""Notices and progress on stderr: bars on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

LINE_EVERY_S = 30.0


class ConsoleReporter:
    """Speaks for people. Safe to use from several threads (Rich locks its console).

    Rich is imported by the first word: most commands have nothing to say.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._given = console
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._what = ""
        self._started = 0.0
        self._line_at = 0.0

    @cached_property
    def _console(self) -> Console:
        from rich.console import Console

        return self._given or Console(stderr=True, highlight=False)

    def info(self, message: str) -> None:
        self._console.print(message, markup=False, soft_wrap=True)

    def progress(self, what: str, done: float, total: float | None, note: str = "") -> None:
        now = time.monotonic()
        if what != self._what:
            self.end_progress()
            self._what, self._started, self._line_at = what, now, now + LINE_EVERY_S
        rate = done / (now - self._started) if now - self._started > 1 and done else 0.0
        detail = "  ".join(part for part in (f"{rate:,.1f}/s" if rate else "", note) if part)
        if self._console.is_terminal:
            self._draw(what, done, total, detail)
        elif now >= self._line_at:
            self._line_at = now + LINE_EVERY_S
            of = f" of {total:,.0f}" if total else ""
            self.info(f"{what}: {done:,.0f}{of}  {detail}".rstrip())

    def end_progress(self) -> None:
        if self._bar is not None:
            self._bar.stop()
        self._bar = self._task = None
        self._what = ""

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
