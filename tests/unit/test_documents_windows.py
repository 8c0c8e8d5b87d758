"""A long text is cut window by window: in linear time, to the same chunks, and nothing of it is lost."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from semantic_text_splitter import MarkdownSplitter, TextSplitter

from ragops.documents import windows
from ragops.documents.chunking import Chunker
from ragops.documents.windows import split_windows

ROOM = 128
LONGEST = 64 * ROOM
REPOSITORY = Path(__file__).parents[2]


class Split:
    """The real splitter, with a count of what it does: of the characters before it at each chunk that it makes."""

    def __init__(self, *, markdown: bool = False, room: int = ROOM, per_token: int = 4) -> None:
        def count(text: str) -> int:
            return room + 1 if len(text) > LONGEST else -(-len(text) // per_token)

        kind = MarkdownSplitter if markdown else TextSplitter
        self._splitter = kind.from_callback(count, room, 0)
        self.work = 0
        self.texts: list[str] = []

    def __call__(self, text: str) -> list[tuple[int, str]]:
        chunks = self._splitter.chunk_indices(text)
        self.texts.append(text)
        self.work += len(text) + sum(len(text) - offset for offset, _ in chunks)
        return chunks


def solid(text: str) -> str:
    return "".join(text.split())


@pytest.mark.parametrize("markdown", [False, True])
@pytest.mark.parametrize(
    ("unit", "per_token"),
    [
        ('{"id": 1, "t": "a sentence."}, ', 4),
        ("x", 4),
        ("QUJD+/", 2),
        ("This is a sentence. ", 4),
        ("word ", 4),
        ("\u6f22\u5b57\u4eee\u540d", 1),
        ("a line of text\n", 4),
        ("a" + " " * 40_000, 4),
    ],
    ids=["json", "word", "base64", "sentences", "words", "cjk", "lines", "blanks"],
)
def test_four_times_the_text_is_four_times_the_work(unit: str, per_token: int, markdown: bool) -> None:
    work = {}
    for size in (150_000, 600_000):
        split = Split(markdown=markdown, per_token=per_token)
        text = (unit * (size // len(unit))).strip()
        chunks = list(split_windows(text, split, longest=LONGEST, markdown=markdown))
        assert solid("".join(chunks)) == solid(text)
        work[size] = split.work
    assert work[600_000] < 5 * work[150_000]


def test_tokens_are_counted_in_linear_work() -> None:
    counted = {}
    for size in (100_000, 400_000):
        characters = 0

        def count(texts: list[str]) -> list[int]:
            nonlocal characters
            characters += sum(map(len, texts))
            return [-(-len(text) // 4) + 2 for text in texts]

        # No two chunks are alike, so that none is remembered.
        text = "".join(f"{number:x}" for number in range(size))[:size]
        Chunker(count_tokens=count, max_tokens=ROOM).chunk(text)
        counted[size] = characters
    assert counted[400_000] < 5 * counted[100_000] < 100 * 100_000


@pytest.mark.parametrize("markdown", [False, True])
def test_the_chunks_of_an_ordinary_text_are_what_they_were(markdown: bool) -> None:
    files = [*sorted((REPOSITORY / "docs").rglob("*.md")), REPOSITORY / "CHANGELOG.md"]
    text = "\n\n".join(file.read_text(encoding="utf-8").strip() for file in files)
    assert len(text) > 2 * windows.WINDOW
    split, whole = Split(markdown=markdown), Split(markdown=markdown)
    chunks = list(split_windows(text, split, longest=LONGEST, markdown=markdown))
    assert chunks == [chunk for _, chunk in whole(text)]
    assert max(map(len, split.texts)) <= windows.WINDOW


@pytest.mark.parametrize("unit", ["word ", "x", '{"a": 1}, ', "\u6f22\u5b57"])
def test_the_chunks_of_a_text_without_boundaries_are_what_they_were(unit: str) -> None:
    text = (unit * (60_000 // len(unit))).strip()
    split, whole = Split(), Split()
    assert list(split_windows(text, split, longest=LONGEST, markdown=False)) == [chunk for _, chunk in whole(text)]
    assert max(map(len, split.texts)) < len(text)


def test_a_short_text_is_given_to_the_splitter_whole() -> None:
    split, text = Split(), "A sentence of a few words.\n" * 2000
    assert len(text) < windows.WINDOW
    list(split_windows(text, split, longest=LONGEST, markdown=False))
    assert split.texts == [text]


PIECES = ["word ", "A sentence. ", "\n", "\n\n", "# Head\n", "- item\n", "```\n", "~~~\ncode\n~~~\n", "x" * 40]
PIECES += [" " * 70, "\u6f22\u5b57", "e\u0301", "\u200b", "\x1c", "| a | b |\n", "    indented\n"]


@settings(deadline=None)  # a busy machine is no failure
@given(
    text=st.lists(st.sampled_from(PIECES), max_size=300).map("".join),
    room=st.integers(1, 30),
    overlap=st.booleans(),
    markdown=st.booleans(),
)
def test_nothing_is_lost_whatever_a_window_ends_in(text: str, room: int, overlap: bool, markdown: bool) -> None:
    text = text.strip()
    kind = MarkdownSplitter if markdown else TextSplitter
    splitter = kind.from_callback(len, room, room // 3 if overlap else 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(windows, "WINDOW", 1)
        chunks = list(split_windows(text, splitter.chunk_indices, longest=room, markdown=markdown))
    if not overlap:
        assert solid("".join(chunks)) == solid(text)
    rest, wanted = "".join(map(solid, chunks)), iter(solid(text))
    missing = next(wanted, None)
    for character in rest:
        if character == missing:
            missing = next(wanted, None)
    assert missing is None


def test_markdown_is_divided_where_it_reads_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not within fenced code: what follows the fence would be read as code, and the code as text."""
    monkeypatch.setattr(windows, "WINDOW", 1)
    code = "```python\n# no heading\n\nx = 1\n```"
    text = "\n\n".join(
        f"## Part {number}\n\nSome words.\n\n{code}\n\n- an item\n\n  more of it" for number in range(99)
    )
    split, whole = Split(markdown=True, room=8), Split(markdown=True, room=8)
    chunks = list(split_windows(text, split, longest=200, markdown=True))
    assert chunks == [chunk for _, chunk in whole(text)]
    begins = [window.splitlines()[0] for window in split.texts]
    assert len(begins) > 20
    assert all(begin.startswith(("## Part", "Some words", "```python")) for begin in begins), begins


def test_chunks_of_windows_are_in_order_and_do_not_overlap() -> None:
    text = "".join(f"{number:06d} " for number in range(50_000))
    chunks = list(split_windows(text.strip(), Split(), longest=LONGEST, markdown=False))
    places = [text.index(chunk) for chunk in chunks]
    assert all(here + len(chunk) <= after for (here, after), chunk in zip(pairwise(places), chunks, strict=False))
