"""The reporter: how commands and steps tell people what they do."""

from __future__ import annotations

from typing import Protocol


class Reporter(Protocol):
    """How a step speaks: notices and progress, both for people (stderr)."""

    def info(self, message: str) -> None: ...

    def progress(self, what: str, done: float, total: float | None, note: str = "") -> None: ...

    def end_progress(self) -> None: ...


class NullReporter:
    """A voice that says nothing."""

    def info(self, message: str) -> None: ...

    def progress(self, what: str, done: float, total: float | None, note: str = "") -> None: ...

    def end_progress(self) -> None: ...
