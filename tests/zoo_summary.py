"""Say at the end of a test run how many hostile files there were, and how many of them were silently wrong."""

from __future__ import annotations

from collections import Counter

from _pytest.terminal import TerminalReporter
from zoo import Verdict


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    """Print the line; with pytest-xdist too, whose reports carry their properties."""
    reports = [one for group in terminalreporter.stats.values() for one in group]
    verdicts = Counter(
        value
        for report in reports
        if getattr(report, "when", "") == "call"
        for key, value in getattr(report, "user_properties", ())
        if key == "zoo"
    )
    if verdicts:
        silent = verdicts[str(Verdict.SILENT_WRONG)]
        terminalreporter.line(f"hostile files: {verdicts.total()}, silently wrong: {silent}")
