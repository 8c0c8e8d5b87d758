"""A log file has one line per event, as text or as JSON."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from ragops import reporter
from ragops.errors import UsageError
from ragops.report import logs
from ragops.reporter import LogReporter, install, uninstall


@pytest.fixture(autouse=True)
def uninstalled() -> Iterator[None]:
    yield
    uninstall()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "ragops.log"


def open_log(file: Path, *, as_json: bool = True) -> LogReporter:
    install(logs.open_log(file, as_json=as_json))
    return LogReporter()


def events(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_a_text_line_has_time_level_event_and_message(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    try:
        log = open_log(file, as_json=False)
        log.info("first\nsecond \x1b[31m", rows=3)
        log.warning("look")
    finally:
        monkeypatch.undo()
        time.tzset()
    first, second, third = file.read_text(encoding="utf-8").splitlines()
    stamp = r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+05:30"
    assert re.fullmatch(rf"{stamp} INFO  notice  first", first)
    assert second == "    second \\x1b[31m"
    assert re.fullmatch(rf"{stamp} WARNING  notice  look", third)
    assert abs(datetime.fromisoformat(first.split()[0]).timestamp() - time.time()) < 60


def test_a_json_line_is_one_object(file: Path) -> None:
    log = open_log(file)
    log.info("ein Satz\nü", rows=3, share=float("nan"), path=Path("a"), names=("a", {"b": 1}))
    event = events(file)[0]
    assert list(event) == ["time", "level", "event", "message", "fields"]
    assert datetime.fromisoformat(event["time"]).tzinfo is not None
    assert (event["level"], event["event"], event["message"]) == ("INFO", "notice", "ein Satz\nü")
    assert event["fields"] == {"rows": 3, "share": None, "path": "a", "names": ["a", {"b": 1}]}
    assert "ü" in file.read_text(encoding="utf-8")


@pytest.mark.parametrize("as_json", [True, False])
def test_a_name_that_is_no_utf_8_is_logged(file: Path, as_json: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    reporter = open_log(file, as_json=as_json)
    # pytest would capture the name, and its workers cannot send a lone surrogate to each other.
    monkeypatch.setattr(logging.getLogger("ragops"), "propagate", False)
    reporter.info(os.fsdecode(b"caf\xe9"))
    assert "caf\\udce9" in file.read_text(encoding="utf-8")
    if as_json:
        assert events(file)[0]["message"] == "caf\udce9"


@pytest.mark.parametrize("as_json", [True, False])
def test_records_of_module_loggers_are_notices(file: Path, as_json: bool) -> None:
    open_log(file, as_json=as_json)
    logger = logging.getLogger("ragops.workers.fleet")
    logger.debug("hidden")
    logging.getLogger("httpx").warning("hidden")
    try:
        raise ValueError("why")
    except ValueError:
        logger.exception("what of %s", "it")
    text = file.read_text(encoding="utf-8")
    assert "hidden" not in text
    if as_json:
        (event,) = events(file)
        assert (event["level"], event["event"], event["message"]) == ("ERROR", "notice", "what of it")
        assert event["fields"]["traceback"].endswith("ValueError: why")
    else:
        assert " ERROR  notice  what of it\n    Traceback (most" in text
        assert text.endswith("\n    ValueError: why\n")


def test_progress_is_written_once_per_second_and_its_end_always(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(logs, "monotonic", lambda: now)
    log = open_log(file)
    for step in range(35):
        now = step / 10
        log.progress("embed", step, 100, "busy")
        log.progress("cache", step, None)
    log.end_progress()
    log.end_progress()
    written = [(event["fields"]["what"], event["fields"]["done"]) for event in events(file)]
    # The next event of any kind writes what waits, so that the older value of `cache` goes first.
    assert [done for what, done in written if what == "embed"] == [0, 10, 20, 30, 34]
    assert [done for what, done in written if what == "cache"] == [0, 9, 19, 29, 34]
    assert {event["event"] for event in events(file)} == {"progress"}
    assert events(file)[0]["message"] == "embed: 0 of 100  busy"
    assert events(file)[1]["message"] == "cache: 0"


def test_a_value_that_waits_is_written_by_the_next_event(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(logs, "monotonic", lambda: now)
    log = open_log(file)
    log.progress("embed", 1, 9)
    log.progress("embed", 2, 9)
    log.info("within the second")
    now = 5.0
    log.info("later")
    assert [event["message"] for event in events(file)] == [
        "embed: 1 of 9",
        "within the second",
        "embed: 2 of 9",
        "later",
    ]


def test_the_last_value_is_written_when_the_log_is_closed(file: Path) -> None:
    log = open_log(file)
    log.progress("embed", 1, 9)
    log.progress("embed", 9, 9)
    uninstall()
    assert [event["fields"]["done"] for event in events(file)] == [1, 9]
    log.info("after the end")
    assert len(events(file)) == 2


def test_the_file_is_appended_to_and_written_at_once(file: Path) -> None:
    file.write_text("kept\n", encoding="utf-8")
    log = open_log(file, as_json=False)
    log.info("one")
    assert file.read_text(encoding="utf-8").splitlines()[0] == "kept"
    assert file.read_text(encoding="utf-8").endswith("one\n")


def test_threads_and_processes_share_a_file(file: Path) -> None:
    code = (
        "import sys, pathlib\nfrom ragops.report.logs import open_log\nfrom ragops.reporter import *\n"
        "from ragops.reporter import install, LogReporter\n"
        "install(open_log(pathlib.Path(sys.argv[1]), as_json=True))\n"
        "for n in range(300): LogReporter().info('x' * 500, n=n)\n"
    )
    others = [subprocess.Popen([sys.executable, "-c", code, str(file)]) for _ in range(2)]
    log = open_log(file)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: log.info("y" * 500, n=n), range(300)))
    assert [other.wait() for other in others] == [0, 0]
    assert len(events(file)) == 900


@pytest.mark.parametrize("name", ["missing/x.log", "."])
def test_a_file_that_cannot_be_opened_is_a_usage_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="cannot open the log file") as refused:
        logs.open_log(tmp_path / name, as_json=False)
    assert refused.value.where == str(tmp_path / name)
    assert refused.value.actual in ("No such file or directory", "Is a directory")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_is_reported_once_and_stops_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    log = open_log(Path("/dev/full"))
    log.info("one")
    log.info("two")
    log.progress("embed", 1, 2)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "warning: the log ends here: /dev/full: No space left on device\n"


def test_console_and_log_file_stand_side_by_side(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from ragops.report.console import console_reporter

    open_log(file)
    console_reporter().info("both", rows=1)
    assert capsys.readouterr().err == "both\n"
    assert [event["fields"] for event in events(file)] == [{"rows": 1}]
    assert len(reporter.LOGGER.handlers) == 3
