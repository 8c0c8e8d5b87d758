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
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from ragops.documents.errors import Unreadable
from ragops.errors import RagopsError
from ragops.subprocesses import Purpose, child_environment, new_session_flags, signal_name

_CHILD = Path(__file__).with_name("parse_child.py")
# The suffix becomes part of a file name; whatever is not plain cannot name a format either.
_SUFFIX = re.compile(r"\.[A-Za-z0-9_+-]{1,16}")


@dataclass(frozen=True, slots=True)
class ParserLimits:
    """Limits for one document; memory is enforced on Linux, time everywhere."""

    memory_bytes: int = 2 * 1024**3
    seconds: int = 120


def parse_document(data: bytes, suffix: str, *, limits: ParserLimits) -> tuple[str, str]:
    """Return text and media type of a document's bytes; `suffix` (`.pdf`) names the format.

    Raises Unreadable for an unsupported format, a failing parser or an exceeded limit; RagopsError if no
    parser is installed.
    """
    if not _SUFFIX.fullmatch(suffix):
        raise Unreadable(f"unsupported format: {suffix}")
    # The parser reads a copy: the bytes that are parsed must be those that were hashed, even if the file
    # changes in between.
    with TemporaryDirectory(prefix="ragops-", ignore_cleanup_errors=True) as folder:
        file = Path(folder) / f"document{suffix.lower()}"
        file.write_bytes(data)
        result = _run_child(file, limits)
    kind = result.get("kind")
    if kind == "missing":
        raise RagopsError(
            "the document parser cannot be loaded",
            where=sys.executable,
            actual=result["error"],
            expected="the package kreuzberg",
            hint="pip install kreuzberg",
        )
    if kind == "unsupported":
        raise Unreadable(f"unsupported format: {suffix} ({result['error']})")
    if kind is not None:
        raise Unreadable(f"parser failed: {result['error']}")
    # kreuzberg reports this type, not an error, for content that it does not recognise.
    if result["media_type"] == "application/octet-stream":
        raise Unreadable(f"unsupported format: {suffix}")
    return result["text"], result["media_type"]


def _run_child(file: Path, limits: ParserLimits) -> dict[str, str]:
    """Return the child's JSON object. Raises Unreadable if it crashed or exceeded a limit."""
    command = [sys.executable, "-P", str(_CHILD), str(file), str(limits.memory_bytes), str(limits.seconds)]
    try:
        done = subprocess.run(
            command,
            env=child_environment(os.environ, Purpose.PARSER),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="ascii",
            timeout=limits.seconds + 5,  # the child's own limit comes first; its error is more precise
            # Ctrl-C goes to the whole foreground process group. A child that it ended would look like a bad
            # document, so the child gets its own session.
            check=False,
            **new_session_flags(),
        )
    except subprocess.TimeoutExpired:
        raise Unreadable(f"parser failed: no result within {limits.seconds} s") from None
    if done.returncode != 0:
        signal = signal_name(done.returncode)
        ending = f"ended by {signal}" if signal else f"ended with code {done.returncode}"
        allowed = f"{limits.memory_bytes // 1024**2} MiB of memory allowed"
        raise Unreadable(f"parser failed: {ending} ({allowed})")
    result: dict[str, str] = json.loads(done.stdout)
    return result
