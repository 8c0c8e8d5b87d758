"""Hostile files: what each holds, and what must become of it. The files are in `zoo_*.py`, one entry each.

Silent wrong is the one outcome that no operator ever sees: the item is completed, nothing is recorded as missing,
and its text is not the document's.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from ragops.documents.errors import Unreadable
from ragops.documents.extraction import MAX_BYTES, Extracted, extract
from ragops.documents.parser import ParserLimits
from ragops.documents.reading import DEFAULT_READING, Reading

# A hostile file may take all that it is allowed; the suite's machine is small.
LIMITS = ParserLimits(memory_bytes=1024**3, seconds=60)
_WORD = re.compile(r"\w+")


class Verdict(StrEnum):
    """What became of a file, against what must."""

    RIGHT = "right"
    SILENT_WRONG = "silently wrong"
    WRONG_REASON = "another reason"
    REFUSED = "refused, although it can be read"
    NOT_WHOLE = "partial, although it is whole"
    WRONG_PART = "partial, with other words or parts"


@dataclass(frozen=True, slots=True)
class Exact:
    """The text, but for white space at both ends."""

    text: str

    def holds(self, found: Extracted) -> bool:
        return found.partial is None and found.text.strip() == self.text


@dataclass(frozen=True, slots=True)
class Reads:
    """These words in this order and no others; signs of layout (`|`, `#`, bullets) may stand between them."""

    words: str

    def holds(self, found: Extracted) -> bool:
        return found.partial is None and _WORD.findall(found.text) == _WORD.findall(self.words)


@dataclass(frozen=True, slots=True)
class Incomplete:
    """Recorded as partial: these words in this order, and numbers or names that match."""

    words: str
    measured: str

    def holds(self, found: Extracted) -> bool:
        if found.partial is None or re.search(self.measured, str(found.partial)) is None:
            return False
        return _WORD.findall(found.text) == _WORD.findall(self.words)


@dataclass(frozen=True, slots=True)
class Refused:
    """Failed with a reason that matches."""

    reason: str


Outcome = Exact | Reads | Incomplete | Refused


@dataclass(frozen=True)
class Hostile:
    """One file. `data` may be a function, so that a large one is made in its own test only."""

    name: str
    about: str
    data: bytes | Callable[[], bytes]
    must: tuple[Outcome, ...]
    """What may become of it; more than one where a library's version decides."""
    reading: Reading = field(default=DEFAULT_READING)
    max_bytes: int = MAX_BYTES

    def bytes(self) -> bytes:
        return self.data if isinstance(self.data, bytes) else self.data()


def hostile(
    name: str,
    about: str,
    data: bytes | Callable[[], bytes],
    *must: Outcome,
    reading: Reading = DEFAULT_READING,
    max_bytes: int = MAX_BYTES,
) -> Hostile:
    assert must, name
    return Hostile(name, about, data, must, reading, max_bytes)


def judge(entry: Hostile) -> tuple[Verdict, str]:
    """Extract a file and compare; the verdict, and what was found instead."""
    try:
        found = extract(
            io.BytesIO(entry.bytes()),
            Path(entry.name),
            reading=entry.reading,
            max_bytes=entry.max_bytes,
            limits=LIMITS,
        )
    except Unreadable as failure:
        return _judge_failure(entry.must, failure.reason)
    if any(not isinstance(one, Refused) and one.holds(found) for one in entry.must):
        return Verdict.RIGHT, ""
    told = f"{found.text[:300]!r}, partial: {found.partial}"
    if found.partial is None:
        return Verdict.SILENT_WRONG, told
    is_whole = any(isinstance(one, Exact | Reads) for one in entry.must)
    return Verdict.NOT_WHOLE if is_whole else Verdict.WRONG_PART, told


def _judge_failure(must: Iterable[Outcome], reason: str) -> tuple[Verdict, str]:
    refusals = [one for one in must if isinstance(one, Refused)]
    if any(re.search(one.reason, reason) for one in refusals):
        return Verdict.RIGHT, ""
    return Verdict.WRONG_REASON if refusals else Verdict.REFUSED, reason
