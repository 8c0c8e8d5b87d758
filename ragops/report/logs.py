"""Log files: one line per event, as text or as JSON."""

from __future__ import annotations

import json
import logging
import math
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from time import monotonic

from ragops.errors import UsageError
from ragops.report.printable import printable, printable_json
from ragops.reporter import END_OF_PROGRESS, ERROR, NOTICE, PROGRESS

# A fleet reports progress many times a second; a campaign of 14 hours would fill its log with it.
PROGRESS_EVERY_S = 1.0

# Fields of an error in the order of the error screen, with what stands before their lines.
_LABELS = {"where": "where: ", "found": "found: ", "needed": "needed: ", "hint": "next: ", "traceback": ""}


def open_log(path: Path, *, as_json: bool) -> LogFile:
    """Open a log file at its end. Raises UsageError when it cannot be written."""
    try:
        return LogFile(path, as_json=as_json)
    except OSError as error:
        raise UsageError(
            "cannot open the log file",
            where=str(path),
            actual=error.strerror or str(error),
            hint="check that its folder exists and that you may write there, or name another --log-file",
        ) from error


class LogFile(logging.Handler):
    """Append each record of ragops' loggers to a file.

    Progress is written at most once per second for each activity, and always the last value of an activity. When
    the file cannot be written any more (a full disk), one line on stderr reports it and the command goes on
    without it.
    """

    def __init__(self, path: Path, *, as_json: bool) -> None:
        super().__init__(logging.INFO)
        self.setFormatter(JsonLines() if as_json else TextLines())
        self._path = path
        # Append mode and no buffer: one event is one write(2) at the end of the file. Lines of several processes
        # do not mix, nothing is lost when the process is killed, and a signal handler may write in the middle of
        # a write, which io.BufferedWriter refuses ("reentrant call").
        self._file = path.open("ab", buffering=0)
        self._is_broken = False
        # By activity: when its progress was written last, and the newest value that was not written since.
        self._written_at: dict[str, float] = {}
        self._pending: dict[str, logging.LogRecord] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, or keep a progress value until its second is over."""
        event = getattr(record, "event", NOTICE)
        now = monotonic()
        if event == PROGRESS:
            self._pending[str(record.__dict__["fields"]["what"])] = record
            self._write_progress(now)
        elif event == END_OF_PROGRESS:
            self._end_progress()
        else:
            self._write_progress(now)
            self._write(record)

    def close(self) -> None:
        """Write the progress that is still kept, and close the file."""
        self.acquire()
        try:
            self._end_progress()
            self._file.close()
            self._is_broken = True
        finally:
            self.release()
        super().close()

    def _write_progress(self, now: float) -> None:
        for what, record in list(self._pending.items()):
            if now - self._written_at.get(what, -math.inf) >= PROGRESS_EVERY_S:
                self._written_at[what] = now
                self._write(self._pending.pop(what, record))

    def _end_progress(self) -> None:
        for record in self._pending.values():
            self._write(record)
        self._pending.clear()
        self._written_at.clear()

    def _write(self, record: logging.LogRecord) -> None:
        if self._is_broken:
            return
        try:
            # File names may hold bytes that are no UTF-8, which Python keeps as lone surrogates.
            self._file.write(f"{self.format(record)}\n".encode("utf-8", "backslashreplace"))
        except OSError as error:
            self._is_broken = True
            # Not through the logger: the console handler is installed only by commands that report something.
            if sys.stderr is not None:
                reason = error.strerror or str(error)
                print(f"warning: the log ends here: {self._path}: {reason}", file=sys.stderr)  # noqa: T201


class TextLines(logging.Formatter):
    """Format a record as `TIME  LEVEL  EVENT  MESSAGE`; details of an error follow on indented lines."""

    def format(self, record: logging.LogRecord) -> str:
        event, fields = _event_and_fields(record)
        lines = _message(record, event, fields).splitlines() or [""]
        if event == ERROR or "traceback" in fields:
            for name, label in _LABELS.items():
                lines += [label + line for line in str(fields.get(name) or "").splitlines()]
        text = f"{_time(record)} {record.levelname}  {event}  " + "\n    ".join(lines)
        # The terminal that shows the log later must not act on it. The lines after the first are indented, so that
        # no message can forge an event.
        return printable(text)


class JsonLines(logging.Formatter):
    """Format a record as one JSON object: `time`, `level`, `event`, `message`, `fields`."""

    def format(self, record: logging.LogRecord) -> str:
        event, fields = _event_and_fields(record)
        line = {
            "time": _time(record),
            "level": record.levelname,
            "event": event,
            "message": _message(record, event, fields),
            "fields": _plain(fields),
        }
        return printable_json(json.dumps(line, ensure_ascii=False))


def _event_and_fields(record: logging.LogRecord) -> tuple[str, dict[str, object]]:
    """Return the event and the fields of a record; one of a plain module logger is a notice without fields."""
    fields = dict(getattr(record, "fields", {}))
    if record.exc_info and record.exc_info[0] is not None:
        fields["traceback"] = logging.Formatter().formatException(record.exc_info)
    return str(getattr(record, "event", NOTICE)), fields


def _message(record: logging.LogRecord, event: str, fields: Mapping[str, object]) -> str:
    if event != PROGRESS:
        return record.getMessage()
    of = f" of {fields['total']:,.0f}" if fields["total"] else ""
    return f"{fields['what']}: {fields['done']:,.0f}{of}  {fields['note']}".rstrip()


def _time(record: logging.LogRecord) -> str:
    """Return the record's time in the local time zone, with its offset from UTC."""
    return datetime.fromtimestamp(record.created).astimezone().isoformat(timespec="milliseconds")


def _plain(value: object) -> object:
    """Return a value with nothing in it that JSON lacks: NaN and infinity, keys and objects of other types."""
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(part) for part in value]
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value)
