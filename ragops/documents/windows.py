"""Cut a long text window by window, so that cutting takes time in proportion to its length.

The splitter looks at everything up to the next boundary of a kind (line end, sentence end) for each chunk that
it makes. In a text without such boundaries that is the rest of the text, for each chunk: 1 MB of JSON on one line
took 0.9 s, 4 MB took 14 s (semantic-text-splitter 0.33).
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterator

# Returns the chunks of a text with their offsets, in its order.
SplitText = Callable[[str], list[tuple[int, str]]]

# Characters that the splitter is given at once. A shorter text is not divided; a longer one is rarely worth less.
WINDOW = 64 * 1024
# Within a window, too, the splitter is slow where no line end and no sentence end interrupts a text (64 Ki Chinese
# characters in chunks of 32 tokens: 3 s). Such a stretch is divided into windows of a few chunks.
_UNBROKEN = re.compile(r"[^\n\r.!?\u2026\u3002\uff01\uff0e\uff1f]{8192}")
# The last chunk of a window is cut again from the next one; with fewer chunks that is too much of it.
_FEWEST_CHUNKS, _MOST_CHUNKS = 4, 10
_SMALLEST = 64

_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})(.*)$", re.MULTILINE)
_HEADING = re.compile(r"#{1,6}[ \t\r\n]")
# A line that may belong to the block before although a blank line stands between them.
_MAY_CONTINUE = re.compile(r"[ \t>|<]|[-+*][ \t]|\d{1,9}[.)]")


def split_windows(text: str, split: SplitText, *, longest: int, markdown: bool) -> Iterator[str]:
    """Yield the chunks that `split` makes of a text; of a long one, window by window.

    `longest` is the length beyond which a text never fits into a chunk. A chunk is kept only if more than that
    follows in its window: `split` would have decided the same with the rest of the text in view. The next window
    begins where the first chunk begins that is not kept. Only whitespace is between the chunks, as with `split`.
    """
    size = max(WINDOW, 2 * longest)
    small, start = max(_SMALLEST, longest // 16), 0
    while start < len(text):
        if _UNBROKEN.match(text, start):
            chunks, onward, small = _split_small(text, start, split, small)
            yield from chunks
            start = onward
            continue
        window = text[start : start + size]
        found = split(window)
        until = len(window)
        if start + until < len(text):
            until = _next_start(window, found, longest=longest, markdown=markdown)
        yield from (chunk for offset, chunk in found if offset < until)
        start += until


def _next_start(window: str, chunks: list[tuple[int, str]], *, longest: int, markdown: bool) -> int:
    """Return the offset, greater than 0, from which a window's text is to be cut again."""
    offsets = [offset for offset, _ in chunks]
    decided = bisect_left(offsets, len(window.rstrip()) - longest)
    places = [offset for offset in offsets[: decided + 1] if offset > 0]
    if markdown:
        is_safe = _safe_starts(window)
        places = [offset for offset in places if is_safe(offset)] or places
    # Without a place the window is blank, or one chunk and blank behind it for longer than a chunk can be.
    return places[-1] if places else len(window)


def _split_small(text: str, start: int, split: SplitText, size: int) -> tuple[list[str], int, int]:
    """Split a stretch without boundaries; return its chunks, where to go on, and the size for the next window."""
    while True:
        chunks = split(text[start : start + size])
        if start + size >= len(text):
            return [chunk for _, chunk in chunks], len(text), size
        if len(chunks) >= _FEWEST_CHUNKS and chunks[-1][0] > 0:
            onward = start + chunks[-1][0]
            return [chunk for _, chunk in chunks[:-1]], onward, size // 2 if len(chunks) > _MOST_CHUNKS else size
        size *= 2


def _safe_starts(window: str) -> Callable[[int], bool]:
    """Return a test of offsets in Markdown: whether it reads the same when it is cut there.

    That is before a heading, or before a paragraph behind a blank line, outside of fenced code.
    """
    fences = _fenced(window)
    begins = [begin for begin, _ in fences]

    def is_safe(offset: int) -> bool:
        if offset and window[offset - 1] != "\n":
            return False
        place = bisect_left(begins, offset)
        if place and offset < fences[place - 1][1]:
            return False
        if _HEADING.match(window, offset):
            return True
        return window[:offset].endswith(("\n\n", "\n\r\n")) and not _MAY_CONTINUE.match(window, offset)

    return is_safe


def _fenced(window: str) -> list[tuple[int, int]]:
    """Return begin and end of each fenced block of code; one that is not closed goes on to the end."""
    blocks: list[tuple[int, int]] = []
    opened: tuple[int, str] | None = None
    for found in _FENCE.finditer(window):
        marks, rest = found[1], found[2]
        if opened is None:
            if marks[0] == "~" or "`" not in rest:
                opened = (found.start(), marks)
        elif marks.startswith(opened[1]) and not rest.strip():
            blocks.append((opened[0], found.end()))
            opened = None
    if opened is not None:
        blocks.append((opened[0], len(window)))
    return blocks
