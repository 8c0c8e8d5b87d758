"""What is reported goes through the logger `ragops`; the console is one handler of it."""

from __future__ import annotations

import io
import logging
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from rich.console import Console

from ragops import reporter
from ragops.report import console
from ragops.report.console import ConsoleReporter, console_reporter
from ragops.reporter import LogReporter, NullReporter, Reporter


@pytest.fixture(autouse=True)
def uninstalled() -> Iterator[None]:
    yield
    reporter.uninstall()


def handlers() -> list[type[logging.Handler]]:
    return [type(handler) for handler in logging.getLogger("ragops").handlers]


def printed(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err


def test_records_carry_event_and_fields(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="ragops")
    log = LogReporter()
    log.info("100 % of [red]", rows=3)
    log.warning("slow")
    log.progress("embed", 2, 10, "x")
    log.end_progress()
    assert [(r.levelname, r.__dict__["event"], r.getMessage(), r.__dict__["fields"]) for r in caplog.records] == [
        ("INFO", "notice", "100 % of [red]", {"rows": 3}),
        ("WARNING", "notice", "slow", {}),
        ("INFO", "progress", "embed", {"what": "embed", "done": 2, "total": 10, "note": "x"}),
        ("INFO", "progress_end", "", {}),
    ]


def test_a_notice_is_reported_once_by_its_key(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="ragops")
    log = LogReporter()
    for message, about in (("3 GiB free", "memory"), ("4 GiB free", "memory"), ("same", None), ("same", None)):
        log.info_once(message, about=about)
    assert [record.getMessage() for record in caplog.records] == ["3 GiB free", "same"]


def test_the_null_reporter_has_every_method() -> None:
    silent: Reporter = NullReporter()
    silent.info("a", b=1)
    silent.warning("a")
    silent.info_once("a", about="b")
    silent.progress("a", 1, None)
    silent.end_progress()


def test_a_program_that_imports_ragops_gets_no_output_and_no_level() -> None:
    code = (
        "import logging, ragops.reporter, ragops.cli.main, ragops.report.console\n"
        "logger = logging.getLogger('ragops')\n"
        "assert [type(h) for h in logger.handlers] == [logging.NullHandler], logger.handlers\n"
        "assert logger.level == logging.NOTSET and not logging.getLogger().handlers\n"
        "ragops.reporter.LogReporter().warning('hidden')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_notices_go_to_stderr_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    shown = console_reporter()
    long = "/a very long path/" * 20
    shown.info(f"[red]{long}[/red]")
    shown.warning("look")
    logging.getLogger("ragops.workers.fleet").warning("of %s", "a module")
    logging.getLogger("ragops.workers.fleet").debug("hidden")
    logging.getLogger("httpx").info("hidden")
    assert printed(capsys) == f"[red]{long}[/red]\nwarning: look\nwarning: of a module\n"


def test_events_around_a_command_are_not_for_the_console(capsys: pytest.CaptureFixture[str]) -> None:
    shown = ConsoleReporter()
    for event in ("command_start", "error", "command_end"):
        shown.event(event, "hidden", {}, level=logging.ERROR)
    assert printed(capsys) == ""


def test_consoles_do_not_pile_up(capsys: pytest.CaptureFixture[str]) -> None:
    first, second = ConsoleReporter(), ConsoleReporter()
    assert handlers() == [logging.NullHandler, console.ConsoleHandler]
    first.info("one")
    second.info("two")
    assert printed(capsys) == "one\ntwo\n"
    reporter.uninstall()
    assert handlers() == [logging.NullHandler]
    assert logging.getLogger("ragops").level == logging.NOTSET


def test_without_a_terminal_progress_is_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 100.0
    monkeypatch.setattr(console, "monotonic", lambda: now)
    shown = ConsoleReporter()
    for now in (100.0, 129.9):  # noqa: B007
        shown.progress("embed", 30, 3000)
    assert printed(capsys) == ""
    now = 130.0
    shown.progress("embed", 1200, 3000, "2 workers")
    assert printed(capsys) == "embed: 1,200 of 3,000  40.0/s  2 workers\n"
    shown.end_progress()
    shown.progress("embed", 1200, None)
    assert printed(capsys) == ""


def test_on_a_terminal_progress_is_a_bar_that_goes_away() -> None:
    screen = io.StringIO()
    shown = ConsoleReporter(Console(file=screen, force_terminal=True, width=100))
    shown.progress("embed", 5, 10)
    shown.info("beside the bar")
    shown.progress("index", 1, None)
    reporter.uninstall()
    text = screen.getvalue()
    assert "embed" in text and "beside the bar" in text and "index" in text
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") > 0  # The cursor is shown again.


def test_colours_are_left_out_when_no_color_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    screen = io.StringIO()
    shown = ConsoleReporter(Console(file=screen, force_terminal=True, width=100))
    shown.progress("embed", 5, 10)
    shown.end_progress()
    assert "\x1b[3" not in screen.getvalue()


def test_many_threads_report_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    shown = ConsoleReporter()

    def report(number: int) -> None:
        shown.progress(f"activity {number % 2}", number, None)
        shown.info(f"notice {number}")
        shown.end_progress()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(report, range(200)))
    assert sorted(printed(capsys).splitlines()) == sorted(f"notice {number}" for number in range(200))


def test_rich_is_imported_with_the_first_message() -> None:
    code = (
        "import sys\nfrom ragops.report.console import console_reporter\n"
        "shown = console_reporter()\nassert 'rich.console' not in sys.modules\n"
        "shown.end_progress()\nassert 'rich.console' not in sys.modules\nshown.info('now')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "now\n")
