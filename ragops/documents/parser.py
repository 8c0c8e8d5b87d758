"""Foreign formats (HTML, PDF, DOCX, ...) through kreuzberg, in a child with limits.

A child for each document: a parser that exhausts memory or never returns then fails that one
document, where inside this process it would end the campaign. Starting one takes about 0.15 s.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from ragops.documents.errors import Unreadable
from ragops.errors import RagopsError

_CHILD = Path(__file__).with_name("parse_child.py")
_SUFFIX = re.compile(r"\.[A-Za-z0-9_+-]{1,16}")


@dataclass(frozen=True, slots=True)
class ParserLimits:
    """What one document may cost; memory is enforced on Linux, time everywhere."""

    memory_bytes: int = 2 * 1024**3
    seconds: int = 120


def parse_document(data: bytes, suffix: str, *, limits: ParserLimits) -> tuple[str, str]:
    """Text and media type of a document's bytes; `suffix` (`.pdf`) names the format.

    Raises Unreadable for an unsupported format, a failing parser, and a limit that was reached;
    RagopsError where no parser is installed.
    """
    if not _SUFFIX.fullmatch(suffix):
        raise Unreadable(f"unsupported format: {suffix}")
    # The bytes that were hashed are the bytes that are parsed, whatever happens to the file meanwhile.
    with TemporaryDirectory(prefix="ragops-", ignore_cleanup_errors=True) as folder:
        file = Path(folder) / f"document{suffix.lower()}"
        file.write_bytes(data)
        answer = _answer(_run(file, limits), suffix)
    if answer["media_type"] == "application/octet-stream":
        raise Unreadable(f"unsupported format: {suffix}")
    return answer["text"], answer["media_type"]


def _run(file: Path, limits: ParserLimits) -> str:
    command = [sys.executable, "-P", str(_CHILD), str(file), str(limits.memory_bytes), str(limits.seconds)]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="ascii",
            timeout=limits.seconds + 5,
            # Ctrl-C is for the controller: a child that it ended would look like a bad document.
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Unreadable(f"parser failed: no result within {limits.seconds} s") from None
    if done.returncode != 0:
        raise Unreadable(f"parser failed: {_ending(done.returncode, limits)}")
    return done.stdout


def _ending(returncode: int, limits: ParserLimits) -> str:
    limit = f"{limits.memory_bytes // 1024**2} MiB of memory allowed"
    if returncode > 0:
        return f"ended with code {returncode} ({limit})"
    try:
        name = signal.Signals(-returncode).name
    except ValueError:
        name = f"signal {-returncode}"
    return f"ended by {name} ({limit})"


def _answer(printed: str, suffix: str) -> dict[str, str]:
    answer: dict[str, str] = json.loads(printed)
    kind = answer.get("kind")
    if kind is None:
        return answer
    if kind == "missing":
        raise RagopsError(
            "the document parser cannot be loaded",
            where=sys.executable,
            actual=answer["error"],
            expected="the package kreuzberg",
            hint="pip install kreuzberg",
        )
    if kind == "unsupported":
        raise Unreadable(f"unsupported format: {suffix} ({answer['error']})")
    raise Unreadable(f"parser failed: {answer['error']}")
