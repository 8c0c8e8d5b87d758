"""Read a manifest: a text file that lists documents, one location per line."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ragops.documents.left_out import IsStorable, LeftOut, printable
from ragops.documents.locations import normalised, plain_line, plain_lines, refusal
from ragops.documents.os_errors import outage
from ragops.errors import UsageError

# Far beyond PATH_MAX (4,096 on Linux). A file without line ends is read to here and refused, not held whole.
LONGEST_LINE_BYTES = 64 * 1024
MOST_BAD_LINES = 10
# PowerShell 5 writes `Get-ChildItem … > list.txt` as UTF-16 with a byte order mark.
_WIDE = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}

# Whole lines: their numbers and their locations.
Lines = tuple[Sequence[int], list[str]]


def read_manifest(
    file: Path, *, left_out: LeftOut | None = None, is_storable: IsStorable | None = None
) -> Iterator[str]:
    """Yield the locations listed in a text file, one per line, each once, reading as they are needed.

    UTF-8, or UTF-16 with a byte order mark. Skips blank lines and lines that start with `#`; yields `./a` and `a`
    both as `a`. Lines that name a file again are counted in `left_out`. Raises UsageError with the lines that are
    absolute, contain `..`, cannot be stored or are no text, and if the file cannot be opened; RagopsError if it
    cannot be read to its end.
    """
    bad, noted = _BadLines(file), left_out or LeftOut()
    if not file.is_file():  # a pipe, which can be read once; or nothing at all
        yield from _once(_lines(file, bad, is_storable), lambda _: True, noted)
        bad.refuse()
        return
    # Twice: whether a line is wrong or repeated must be known before the first location is used, and the locations
    # of a million lines would take 200 MB. Their hashes take 8.
    hashes = [np.fromiter(map(hash, found), np.int64, len(found)) for _, found in _lines(file, bad, is_storable)]
    bad.refuse()
    repeated = _repeated(hashes)
    del hashes
    if repeated:
        yield from _once(_lines(file, bad, None), lambda location: hash(location) in repeated, noted)
    else:
        for _, found in _lines(file, bad, None):
            yield from found
    bad.refuse()


def _repeated(hashes: list[np.ndarray[tuple[int], np.dtype[np.int64]]]) -> frozenset[int]:
    """Return the hashes that occur more than once."""
    if not hashes:
        return frozenset()
    every = np.sort(np.concatenate(hashes))
    return frozenset(every[1:][every[1:] == every[:-1]].tolist())


def _once(blocks: Iterator[Lines], may_repeat: Callable[[str], bool], left_out: LeftOut) -> Iterator[str]:
    seen = set[str]()
    for numbers, found in blocks:
        for number, location in zip(numbers, found, strict=True):
            if may_repeat(location):
                if location in seen:
                    left_out.add("repeated", location, f"line {number:,}")
                    continue
                seen.add(location)
            yield location


@dataclass(slots=True)
class _BadLines:
    """Lines that are no locations: the first ones with their reasons, and how many there are."""

    file: Path
    count: int = 0
    first: list[tuple[int, str, str]] = field(default_factory=list)

    def add(self, number: int, line: str, reason: str) -> None:
        self.count += 1
        if len(self.first) < MOST_BAD_LINES:
            self.first.append((number, _quoted(line), reason))

    def refuse(self) -> None:
        """Raise UsageError if there are any."""
        if not self.count:
            return
        number, line, reason = self.first[0]
        listed = [f"line {number:,}: {line}: {reason}" for number, line, reason in self.first]
        more = self.count - len(listed)
        is_one, count = self.count == 1, f"{self.count:,} invalid lines in the manifest"
        raise UsageError(
            f"invalid location in the manifest: {reason}" if is_one else count,
            where=f"{self.file}, line {number}" if is_one else str(self.file),
            actual=line if is_one else "\n".join([*listed, *([f"and {more:,} more"] if more else [])]),
            expected="a path below the corpus folder, relative to it",
            hint="fix the line, then run the same command again"
            if is_one
            else "fix the lines, then run the same command again",
        )


def _quoted(line: str) -> str:
    """Return a line as it stands, in quotes where an end could not be seen."""
    shown = printable(line)
    return shown if line == line.strip() else f"'{shown}'"


def _lines(file: Path, bad: _BadLines, is_storable: IsStorable | None) -> Iterator[Lines]:
    """Yield the locations block by block, with the numbers of their lines."""
    try:
        handle = file.open("rb")
    except OSError as error:
        raise UsageError(
            "the manifest cannot be opened",
            where=str(file),
            actual=error.strerror or str(error),
            expected="a text file with one location per line",
            hint="check source.manifest in the playbook",
        ) from error
    with handle:
        number = 0
        for block in _blocks_of_lines(handle, str(file)):
            # Measured for a million lines: 0.4 s if the blocks are plain, 12 s if each line is checked. The
            # first line may carry a byte order mark and always is.
            if number and (plain := plain_lines(block)) is not None:
                numbers: Sequence[int] = range(number + 1, number + 1 + len(plain))
                number += len(plain)
                found = plain
            else:
                found, marks = [], []
                for raw in block.removesuffix(b"\n").split(b"\n"):
                    number += 1
                    location = plain_line(raw) if number > 1 else None
                    location = location or _checked_line(bad, number, raw)
                    if location is not None:
                        found.append(location)
                        marks.append(number)
                numbers = marks
            if is_storable is not None:
                for place, location in zip(numbers, found, strict=True):
                    if (reason := is_storable(location)) is not None:
                        bad.add(place, location, reason)
            yield numbers, found


def _blocks_of_lines(handle: BinaryIO, name: str) -> Iterator[bytes]:
    """Yield blocks of whole lines as UTF-8; of a line without an end, enough bytes to see that it is too long."""
    rest, decoder = b"", None
    is_first = True
    while chunk := _read_block(handle, name):
        if is_first and (encoding := _WIDE.get(chunk[:2])) is not None:
            decoder = codecs.getincrementaldecoder(encoding)()
        is_first = False
        if decoder is not None:
            try:
                chunk = decoder.decode(chunk).encode("utf-8")
            except UnicodeError as error:
                raise UsageError(
                    "the manifest is not the UTF-16 text that its byte order mark says",
                    where=name,
                    actual=str(error),
                    hint="save it as UTF-8, then run the same command again",
                ) from error
        whole, newline, rest = (rest + chunk).rpartition(b"\n")
        if newline:
            yield whole + newline
        if len(rest) >= LONGEST_LINE_BYTES:
            yield rest
            rest = b""
    if rest:
        yield rest


def _read_block(handle: BinaryIO, name: str) -> bytes:
    try:
        return handle.read(LONGEST_LINE_BYTES)
    except OSError as error:
        raise outage("the manifest cannot be read to its end", error, where=name) from error


def _checked_line(bad: _BadLines, number: int, raw: bytes) -> str | None:
    """Return the location in a line; None for a blank line, a comment, and a wrong line, which is noted."""
    try:
        # Editors on Windows write UTF-8 with a byte order mark.
        line = raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        reason = refusal(line) if line.strip() else None
    except UnicodeDecodeError as error:
        line, reason = repr(raw[:80]), f"byte 0x{raw[error.start]:02x} is not UTF-8"
    if len(raw) >= LONGEST_LINE_BYTES:
        line, reason = f"{line[:80]}…", f"{LONGEST_LINE_BYTES} bytes without a line's end"
    if line.startswith("#") or not line.strip():
        return None
    if reason is None:
        return normalised(line)
    if "\0" in line:
        reason += " (UTF-16 without a byte order mark? Save the manifest as UTF-8)"
    bad.add(number, line.replace("\0", "\\0"), reason)
    return None
