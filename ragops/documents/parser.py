"""Parse foreign formats (HTML, PDF, DOCX, ...) with kreuzberg, in a child process with limits.

One child per document: a parser that exhausts memory or never returns then fails that document only;
inside this process it would end the campaign. Starting a child takes about 0.15 s.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ragops.documents.errors import CheckStop, Unreadable, never_stopped
from ragops.documents.os_errors import outage
from ragops.documents.reading import MOST_NAMED, Partial
from ragops.errors import RagopsError
from ragops.subprocesses import Purpose, child_environment, ending_of, is_from_outside, new_session_flags

_CHILD = Path(__file__).with_name("parse_child.py")
# A stop is noticed this often while a child parses.
_POLL_S = 0.1
# The suffix becomes part of a file name; whatever is not plain cannot name a format either.
_SUFFIX = re.compile(r"\.[A-Za-z0-9_+-]{1,16}")


@dataclass(frozen=True, slots=True)
class ParserLimits:
    """Limits for one document; memory is enforced on Linux, time everywhere."""

    memory_bytes: int = 2 * 1024**3
    seconds: int = 120


@dataclass(frozen=True, slots=True)
class Parsed:
    """The answer of the parser's process: a text, or the kind of an error and its words."""

    text: str = ""
    media_type: str = ""
    found: int = 0
    expected: int = 0
    unit: str = ""
    missing: tuple[str, ...] | list[str] = ()
    kind: str = ""
    error: str = ""

    @property
    def partial(self) -> Partial | None:
        """What is missing in the text; None for a whole document."""
        if not self.missing and self.found >= self.expected:
            return None
        missing = (*self.missing[:MOST_NAMED],)
        return Partial(self.found, max(self.found, self.expected), self.unit, missing)


def parse_document(
    data: bytes, suffix: str, *, limits: ParserLimits, check_stop: CheckStop = never_stopped
) -> Parsed:
    """Return what a document's bytes say; `suffix` (`.pdf`) names the format where the bytes do not.

    Raises Unreadable for an unsupported format, a failing parser or an exceeded limit; RagopsError if no
    parser is installed or the system lets none run. If `check_stop` raises, the child is killed at once.
    """
    if not _SUFFIX.fullmatch(suffix):
        raise Unreadable(f"unsupported format: {suffix}")
    # The parser reads a copy: the bytes that are parsed must be those that were hashed, even if the file
    # changes in between.
    with _copy_of(data, f"document{suffix.lower()}") as file:
        # Once may be chance: the system's out-of-memory killer takes the process that it likes.
        result = _run_child(file, limits, check_stop) or _run_child(file, limits, check_stop)
    if result is None:
        raise Unreadable(f"parser failed: ended by SIGKILL twice ({_allowed(limits)})")
    kind = result.kind
    if kind == "system":
        raise RagopsError(
            "the document parser cannot work on this machine; no document was failed for it",
            where=tempfile.gettempdir(),
            actual=result.error,
            hint="make room there, or name another folder by TMPDIR; then run the same command again",
        )
    if kind == "missing":
        raise RagopsError(
            "the document parser cannot be loaded",
            where=sys.executable,
            actual=result.error,
            expected="the packages that ragops depends on",
            hint="pip install ragops",
        )
    if kind == "refused":
        raise Unreadable(result.error)
    if kind == "unsupported":
        raise Unreadable(f"unsupported format: {suffix} ({result.error})")
    if kind:
        raise Unreadable(f"parser failed: {result.error}")
    # kreuzberg reports this type, not an error, for content that it does not recognise.
    if result.media_type == "application/octet-stream":
        raise Unreadable(f"unsupported format: {suffix}")
    return result


@contextmanager
def _copy_of(data: bytes, name: str) -> Iterator[Path]:
    """Write bytes to a file in a temporary folder, which goes with the block. Raises RagopsError."""
    try:
        holder = tempfile.TemporaryDirectory(prefix="ragops-", ignore_cleanup_errors=True)
    except OSError as error:
        raise outage("no temporary folder can be made for the document parser", error, where="TMPDIR") from error
    with holder as folder:
        file = Path(folder) / name
        try:
            file.write_bytes(data)
        except OSError as error:
            what = "the copy of a document that the parser reads cannot be written; no document was failed for it"
            raise outage(what, error, where=Path(folder).parent) from error
        yield file


def _run_child(file: Path, limits: ParserLimits, check_stop: CheckStop) -> Parsed | None:
    """Return the child's answer; None if it was killed from outside.

    Raises Unreadable if it crashed or exceeded a limit, RagopsError if it cannot be started.
    """
    command = [sys.executable, "-P", str(_CHILD), str(file), str(limits.memory_bytes), str(limits.seconds)]
    try:
        process = subprocess.Popen(
            command,
            env=child_environment(os.environ, Purpose.PARSER),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="ascii",
            # Ctrl-C goes to the whole foreground process group. A child that it ended would look like a bad
            # document, so the child gets its own session.
            **new_session_flags(),
        )
    except OSError as error:
        what = "the document parser cannot be started; no document was failed for it"
        raise outage(what, error, where=sys.executable) from error
    with process:
        try:
            # The child's own limit comes first; its error is more precise.
            output = _output(process, limits.seconds + 5, check_stop)
        except subprocess.TimeoutExpired:
            raise Unreadable(f"parser failed: no result within {limits.seconds} s") from None
        finally:
            process.kill()  # does nothing after its end
    if is_from_outside(process.returncode):
        return None
    if process.returncode != 0:
        raise Unreadable(f"parser failed: {ending_of(process.returncode)} ({_allowed(limits)})")
    return Parsed(**json.loads(output))


def _output(process: subprocess.Popen[str], limit_s: float, check_stop: CheckStop) -> str:
    """Return what a child prints until its end. Raises TimeoutExpired, and whatever `check_stop` raises."""
    until = time.monotonic() + limit_s
    while True:
        try:
            return process.communicate(timeout=_POLL_S)[0]
        except subprocess.TimeoutExpired:
            check_stop()
            if time.monotonic() >= until:
                raise


def _allowed(limits: ParserLimits) -> str:
    return f"{limits.memory_bytes // 1024**2} MiB of memory allowed"
