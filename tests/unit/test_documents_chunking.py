"""Chunks fit, and together they are the text."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragops.documents.chunking import Chunker
from ragops.documents.errors import Stopped, Unreadable
from ragops.errors import UsageError

SPECIAL = 2
TEXTS = st.one_of(
    st.text(max_size=400),
    st.text(alphabet="ab \n\t.!é́#`-*👍🏽\x1c\u2028", max_size=400),
    st.lists(
        st.sampled_from(["word", "# Head", "\n\n", ". ", "- item\n", "```\ncode\n```", " "]), max_size=80
    ).map("".join),
)


class Tokenizer:
    """Counts characters (or words), and the questions put to it."""

    def __init__(self, *, by_words: bool = False) -> None:
        self.by_words = by_words
        self.calls: list[list[str]] = []

    def __call__(self, texts: list[str]) -> list[int]:
        self.calls.append(texts)
        return [(len(text.split()) if self.by_words else len(text)) + SPECIAL for text in texts]


def solid(text: str) -> str:
    return "".join(character for character in text if not character.isspace())


@settings(deadline=None)  # a busy machine is no failure
@given(text=TEXTS, room=st.integers(1, 40), prefix=st.sampled_from(["", "query: "]), markdown=st.booleans())
def test_no_character_is_lost_and_no_chunk_too_large(text: str, room: int, prefix: str, markdown: bool) -> None:
    count = Tokenizer()
    max_tokens = SPECIAL + len(prefix) + room
    chunks = Chunker(count_tokens=count, max_tokens=max_tokens, prefix=prefix, markdown=markdown).chunk(text)
    assert solid("".join(chunk.text for chunk in chunks)) == solid(text)
    assert [chunk.index for chunk in chunks] == list(range(len(chunks)))
    for chunk in chunks:
        assert chunk.tokens == count([prefix + chunk.text])[0] <= max_tokens
        assert solid(chunk.text)


@settings(deadline=None)  # a busy machine is no failure
@given(text=TEXTS, room=st.integers(1, 12), overlap=st.integers(0, 11))
def test_with_overlap_every_character_is_covered(text: str, room: int, overlap: int) -> None:
    max_tokens = SPECIAL + room
    if SPECIAL + overlap >= max_tokens:
        overlap = room - 1
    chunks = Chunker(count_tokens=Tokenizer(), max_tokens=max_tokens, overlap_tokens=overlap).chunk(text)
    rest, wanted = "".join(solid(chunk.text) for chunk in chunks), iter(solid(text))
    missing = next(wanted, None)
    for character in rest:  # the text is a subsequence of its overlapping chunks
        if character == missing:
            missing = next(wanted, None)
    assert missing is None
    assert all(chunk.tokens <= max_tokens for chunk in chunks)


@settings(deadline=None)  # a busy machine is no failure
@given(text=TEXTS, data=st.data())
def test_a_tokenizer_that_is_not_monotonic_never_leads_to_a_chunk_too_large(
    text: str, data: st.DataObject
) -> None:
    salt = data.draw(st.integers(0, 1000))

    def count(texts: list[str]) -> list[int]:
        return [len(t) + (sum(map(ord, t)) * 31 + salt) % 7 if t else 0 for t in texts]

    chunks = Chunker(count_tokens=count, max_tokens=12).chunk(text)
    assert solid("".join(chunk.text for chunk in chunks)) == solid(text)
    assert all(chunk.tokens == count([chunk.text])[0] <= 12 for chunk in chunks)


def test_a_text_that_fits_takes_one_question() -> None:
    count = Tokenizer(by_words=True)
    chunker = Chunker(count_tokens=count, max_tokens=10, prefix="passage: ")
    count.calls.clear()
    (chunk,) = chunker.chunk("  one two three\n")
    assert count.calls == [["passage: one two three"]]
    assert (chunk.index, chunk.text, chunk.tokens) == (0, "one two three", 6)
    assert chunker.chunk(" \n ") == []
    assert len(count.calls) == 1


def test_few_questions_are_asked_and_none_twice() -> None:
    count = Tokenizer(by_words=True)
    text = "\n\n".join(" ".join(f"w{i}x{j}" for j in range(30)) for i in range(200))
    chunks = Chunker(count_tokens=count, max_tokens=128).chunk(text)
    asked = [text for call in count.calls for text in call]
    assert len(asked) == len(set(asked))
    assert len(count.calls) < 8 * len(chunks)
    assert max(map(len, asked)) <= 64 * 128
    assert min(chunk.tokens for chunk in chunks[:-1]) > 60


def test_chunks_end_where_paragraphs_end() -> None:
    chunker = Chunker(count_tokens=Tokenizer(by_words=True), max_tokens=6)
    assert [c.text for c in chunker.chunk("a b c\n\nd e f\n\ng")] == ["a b c", "d e f\n\ng"]


def test_overlap_is_measured_without_prefix_and_special_tokens() -> None:
    count = Tokenizer(by_words=True)
    chunker = Chunker(count_tokens=count, max_tokens=8, overlap_tokens=2, prefix="p ")
    assert [c.text for c in chunker.chunk("a b c d e f g h i")] == ["a b c d e", "d e f g h", "g h i"]


def test_a_word_longer_than_a_chunk_is_cut_not_dropped() -> None:
    chunks = Chunker(count_tokens=Tokenizer(), max_tokens=12).chunk("x" * 95)
    assert [len(c.text) for c in chunks] == [10] * 9 + [5]


def test_a_character_that_cannot_fit_is_named() -> None:
    def count(texts: list[str]) -> list[int]:
        return [SPECIAL + sum(9 if c == "\u0f00" else 1 for c in text) for text in texts]

    with pytest.raises(Unreadable, match=r"U\+0F00 takes 11 tokens .* room for 6"):
        Chunker(count_tokens=count, max_tokens=6).chunk("some words \u0f00 and more")


@pytest.mark.parametrize(
    ("max_tokens", "overlap", "prefix", "found"),
    [
        (10, 10, "", "10 tokens of overlap in chunks of 10"),
        (10, -1, "", "-1 tokens of overlap"),
        (0, 0, "", "chunks of 0"),
        (10, 0, "12345678", "10 tokens of prefix"),
        (10, 5, "123", "5 tokens of prefix and special tokens, 5 of overlap"),
        (2, 0, "", "2 tokens of special tokens"),
    ],
)
def test_settings_without_room_are_refused(max_tokens: int, overlap: int, prefix: str, found: str) -> None:
    with pytest.raises(UsageError) as error:
        Chunker(count_tokens=Tokenizer(), max_tokens=max_tokens, overlap_tokens=overlap, prefix=prefix)
    assert found in str(error.value.actual)
    assert error.value.hint
    assert prefix or "prefix" not in f"{error.value.what} {error.value.where} {error.value.hint}"


@pytest.mark.parametrize("markdown", [False, True])
@pytest.mark.parametrize("separator", [" ", "\n\n"])
def test_a_stop_ends_the_cutting_between_two_questions(separator: str, markdown: bool) -> None:
    count = Tokenizer(by_words=True)
    checks = []

    def check_stop() -> None:
        checks.append(len(count.calls))
        if len(checks) > 20:
            raise Stopped

    chunker = Chunker(count_tokens=count, max_tokens=16, markdown=markdown, check_stop=check_stop)
    with pytest.raises(Stopped):
        chunker.chunk(separator.join(f"w{n}" for n in range(200_000)))
    # It is not asked once more, neither by the splitter nor for a count.
    assert (len(checks), len(count.calls)) == (21, checks[-1])


def test_what_the_tokenizer_raises_passes_through() -> None:
    class Died(Exception):
        pass

    calls = 0

    def count(texts: list[str]) -> list[int]:
        nonlocal calls
        calls += 1
        if calls > 3:
            raise Died
        return [len(text) for text in texts]

    with pytest.raises(Died):
        Chunker(count_tokens=count, max_tokens=10).chunk("some words that do not fit " * 9)
    assert calls == 4


def test_a_short_answer_is_not_taken_for_counts() -> None:
    chunker = Chunker(count_tokens=lambda texts: [1] if texts == [""] else [], max_tokens=10)
    with pytest.raises(ValueError):
        chunker.chunk("text")
