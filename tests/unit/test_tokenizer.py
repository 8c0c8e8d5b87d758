"""Documents cut by a separate child: few requests, and only the document at fault fails."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from fake_embedder import FakeEmbedder, Nursery
from playbook_factory import playbook

from ragops.documents.errors import Stopped, Unreadable
from ragops.documents.extraction import Extracted
from ragops.documents.reading import UnknownTokens
from ragops.embedder.client import Embedder, TokenIds
from ragops.errors import EmbedderDied, EmbedderError, UsageError
from ragops.workers import tokenizer as module
from ragops.workers.supervisor import CANARY, MAX_FAILURES
from ragops.workers.tokenizer import TEXTS_PER_REQUEST, Prepared, Tokenizer

MOST_TOKENS = 12
START, END = 1, 2


def tokens_of(text: str) -> TokenIds:
    """A token for each word between start and end."""
    return np.array([START, *(zlib.crc32(word.encode()) & 0x7FFFFFFF for word in text.split()), END], np.int32)


@dataclass
class Vocabulary(Nursery):
    """Children that count and tokenise words, and record each request."""

    sent: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)

    def start(self) -> Embedder:
        self.starts += 1
        if self.dies_at_start(self.starts):
            raise self.death("the embedder child was killed by SIGILL", "while it started")
        child = Cutter(self)
        self.children.append(child)
        return child

    def tokenizer(self, *lines: str) -> Tokenizer:
        return Tokenizer(
            self.start,
            playbook(f"chunking: {{max_tokens: {MOST_TOKENS}}}", *lines),
            stop=self.stop,
            stats=self.stats,
            failures=self.failures,
        )

    def texts(self, request: str) -> list[tuple[str, ...]]:
        return [texts for name, texts in self.sent if name == request]


class Cutter(FakeEmbedder):
    def __init__(self, vocabulary: Vocabulary) -> None:
        super().__init__(vocabulary, vocab_only=True)
        self._vocabulary = vocabulary

    def count_tokens(self, texts: Sequence[str], *, suffix: str = "") -> list[int]:
        return [len(ids) for ids in self._answer("tokens", texts)]

    def tokenise(self, texts: Sequence[str], *, suffix: str = "") -> list[TokenIds]:
        return self._answer("tokenise", texts)

    def _answer(self, request: str, texts: Sequence[str]) -> list[TokenIds]:
        self._vocabulary.sent.append((request, tuple(texts)))
        self._die_of(texts)
        return [tokens_of(text) for text in texts]


def read(text: str, *, media_type: str = "text/plain") -> Extracted:
    return Extracted(text, content_hash="0" * 64, characters=len(text), media_type=media_type)


def documents(*texts: str) -> list[tuple[object, Extracted]]:
    return list(enumerate(map(read, texts)))


def words(count: int, *, start: int = 0) -> str:
    return " ".join(f"word{number}" for number in range(start, start + count))


def assert_prepared(prepared: Prepared | Unreadable, prefix: str, *chunks: str) -> None:
    assert isinstance(prepared, Prepared)
    assert [chunk.text for chunk in prepared.chunks] == list(chunks)
    assert [chunk.index for chunk in prepared.chunks] == list(range(len(chunks)))
    for chunk, ids in zip(prepared.chunks, prepared.ids, strict=True):
        np.testing.assert_array_equal(ids, tokens_of(prefix + chunk.text))
        assert chunk.tokens == len(ids) <= MOST_TOKENS


def test_one_request_for_many_short_texts() -> None:
    vocabulary = Vocabulary()
    tokenizer = vocabulary.tokenizer()
    vocabulary.sent.clear()
    texts = [f"text number {number}" for number in range(100)]
    prepared = tokenizer.prepare(documents(*texts))
    assert vocabulary.sent == [("tokenise", tuple(texts))]
    for one, text in zip(prepared, texts, strict=True):
        assert_prepared(one, "", text)


def test_requests_are_bounded() -> None:
    vocabulary = Vocabulary()
    prepared = vocabulary.tokenizer().prepare(documents(*["same text"] * (2 * TEXTS_PER_REQUEST + 1)))
    assert list(map(len, vocabulary.texts("tokenise"))) == [TEXTS_PER_REQUEST, TEXTS_PER_REQUEST, 1]
    assert len(prepared) == 2 * TEXTS_PER_REQUEST + 1
    assert Vocabulary().tokenizer().prepare([]) == []


def test_a_text_is_sent_with_the_prefix_and_stored_without_it() -> None:
    vocabulary = Vocabulary()
    prepared = vocabulary.tokenizer("model: {document_prefix: 'passage: '}").prepare(
        documents("  one two\n", "three")
    )
    assert vocabulary.texts("tokenise") == [("passage: one two", "passage: three")]
    assert_prepared(prepared[0], "passage: ", "one two")
    assert_prepared(prepared[1], "passage: ", "three")


@pytest.mark.parametrize("media_type", ["text/plain", "text/markdown"])
def test_a_long_text_is_cut_and_no_word_of_it_lost(media_type: str) -> None:
    long = words(50)
    group = [(1, read("short")), (2, read(long, media_type=media_type))]
    short, cut = Vocabulary().tokenizer("model: {document_prefix: 'p: '}").prepare(group)
    assert_prepared(short, "p: ", "short")
    assert isinstance(cut, Prepared)
    assert " ".join(chunk.text for chunk in cut.chunks).split() == long.split()
    assert len(cut.chunks) == -(-50 // (MOST_TOKENS - 3))
    assert_prepared(cut, "p: ", *(chunk.text for chunk in cut.chunks))


def test_a_text_at_the_limit_is_one_chunk_and_one_more_word_makes_two() -> None:
    fits, cut = Vocabulary().tokenizer().prepare(documents(words(MOST_TOKENS - 2), words(MOST_TOKENS - 1)))
    assert_prepared(fits, "", words(MOST_TOKENS - 2))
    assert isinstance(cut, Prepared)
    assert len(cut.chunks) == 2


def test_a_text_that_is_certainly_too_long_is_not_sent_whole() -> None:
    vocabulary = Vocabulary()
    huge = words(2000)
    vocabulary.tokenizer().prepare(documents("short", huge))
    assert vocabulary.texts("tokenise")[0] == ("short",)
    assert max(len(text) for _, texts in vocabulary.sent for text in texts) < len(huge)


@pytest.mark.parametrize("place", [0, 1, 7])
def test_a_document_that_crashes_the_child_fails_alone(place: int) -> None:
    vocabulary = Vocabulary()
    texts = [f"text {number}" for number in range(8)]
    texts[place] = "this is poison"
    prepared = vocabulary.tokenizer().prepare(documents(*texts))
    for number, one in enumerate(prepared):
        if number == place:
            assert isinstance(one, Unreadable)
            assert one.reason.startswith("the embedder child crashed on this document")
        else:
            assert_prepared(one, "", texts[number])
    assert vocabulary.open_children == 1


def test_a_long_document_that_crashes_the_child_fails_alone() -> None:
    vocabulary = Vocabulary()
    prepared = vocabulary.tokenizer().prepare(documents("one", f"{words(30)} poison {words(30)}", words(30)))
    assert [isinstance(one, Prepared) for one in prepared] == [True, False, True]


def test_the_next_group_has_its_one_request_again() -> None:
    vocabulary = Vocabulary()
    tokenizer = vocabulary.tokenizer()
    tokenizer.prepare(documents("poison", "text"))
    vocabulary.sent.clear()
    tokenizer.prepare(documents("one", "two"))
    assert vocabulary.sent == [("tokenise", ("one", "two"))]


def test_a_refusal_is_not_a_crash() -> None:
    """The child answers with an error for one text: each is sent alone, and the child is not restarted."""

    class Refusing(Cutter):
        def tokenise(self, texts: Sequence[str], *, suffix: str = "") -> list[TokenIds]:
            if len(texts) > 1:
                raise EmbedderError("the request is too large")
            return super().tokenise(texts, suffix=suffix)

    class Vocabularies(Vocabulary):
        def start(self) -> Embedder:
            self.starts += 1
            return Refusing(self)

    vocabulary = Vocabularies()
    prepared = vocabulary.tokenizer().prepare(documents("one", "two"))
    assert_prepared(prepared[0], "", "one")
    assert_prepared(prepared[1], "", "two")
    assert vocabulary.starts == 1


def poison_from(start: int) -> Callable[[str], bool]:
    """Deadly once so many requests were answered."""
    count = [0]

    def is_deadly(_: str) -> bool:
        count[0] += 1
        return count[0] > start

    return is_deadly


def test_a_child_that_dies_on_everything_raises_and_blames_nobody() -> None:
    # It lives through the prefix, which both chunkers measure.
    vocabulary = Vocabulary(is_deadly=poison_from(2))
    tokenizer = vocabulary.tokenizer()
    with pytest.raises(EmbedderDied, match="SIGABRT"):
        tokenizer.prepare(documents("one", "two"))
    assert vocabulary.starts == 1 + MAX_FAILURES


def test_a_child_that_dies_on_every_document_raises() -> None:
    vocabulary = Vocabulary(is_deadly=lambda text: text.startswith("text") or text == CANARY)
    with pytest.raises(EmbedderError, match=f"failed on {MAX_FAILURES} documents in a row"):
        vocabulary.tokenizer().prepare(documents(*(f"text {number}" for number in range(10))))


def test_many_documents_in_a_row_that_the_child_dies_on_fail_alone() -> None:
    vocabulary = Vocabulary(is_deadly=lambda text: text.startswith("text"))
    prepared = vocabulary.tokenizer().prepare(documents(*(f"text {number}" for number in range(10)), "good"))
    assert [isinstance(one, Unreadable) for one in prepared] == [True] * 10 + [False]


def test_a_child_that_does_not_start_raises() -> None:
    with pytest.raises(EmbedderDied, match="SIGILL"):
        Vocabulary(dies_at_start=lambda _: True).tokenizer()


def test_a_prefix_that_leaves_no_room_is_refused() -> None:
    with pytest.raises(UsageError, match="the prefix leaves no room"):
        Vocabulary().tokenizer(f"model: {{document_prefix: '{words(MOST_TOKENS)}'}}")


def test_close_and_kill_end_the_child() -> None:
    vocabulary = Vocabulary()
    tokenizer = vocabulary.tokenizer()
    tokenizer.prepare(documents("poison", "text"))
    tokenizer.close()
    assert vocabulary.open_children == 0
    vocabulary = Vocabulary()
    tokenizer = vocabulary.tokenizer()
    vocabulary.stop.aborted.set()
    tokenizer.kill()
    with pytest.raises(Stopped):
        tokenizer.prepare(documents("text"))
    assert vocabulary.starts == 1


def test_unknown_tokens_are_counted_without_prefix_and_separators() -> None:
    unknown = zlib.crc32(b"?") & 0x7FFFFFFF

    class Reading(Cutter):
        def __init__(self, vocabulary: Vocabulary) -> None:
            super().__init__(vocabulary)
            self.model = replace(self.model, unknown_token=unknown)

    class Vocabularies(Vocabulary):
        def start(self) -> Embedder:
            return Reading(self)

    long = " ".join(["word ?"] * 20)
    texts = ["all is known", "? what ?", long]
    tokenizer = Vocabularies().tokenizer("model: {document_prefix: 'a ? '}")
    found = tokenizer.prepare([(number, read(text)) for number, text in enumerate(texts)])
    tokenizer.close()
    assert all(isinstance(one, Prepared) for one in found)
    assert [one.unknown for one in found if isinstance(one, Prepared)] == [
        UnknownTokens(0, 3),
        UnknownTokens(2, 3),
        UnknownTokens(20, 40),
    ]


def test_a_vocabulary_that_spells_every_byte_has_no_unknown_tokens() -> None:
    tokenizer = Vocabulary().tokenizer()
    (found,) = tokenizer.prepare([(1, read("? ?"))])
    tokenizer.close()
    assert isinstance(found, Prepared) and found.unknown is None


def test_a_document_that_is_cut_for_too_long_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CUTTING_S", -1000.0)
    long = words(2000)
    group = [(1, read("short")), (2, read(long)), (3, read("short, too"))]
    first, cut, last = Vocabulary().tokenizer().prepare(group)
    assert_prepared(first, "", "short")
    assert isinstance(cut, Unreadable)
    assert cut.reason.startswith("not cut into chunks within ")
    assert_prepared(last, "", "short, too")
    # Its time is its own.
    monkeypatch.undo()
    (again,) = Vocabulary().tokenizer().prepare([(2, read(long))])
    assert isinstance(again, Prepared)


def test_a_child_that_is_killed_while_it_measures_the_prefix_is_replaced() -> None:
    """A prefix is counted twice, for plain text and for Markdown, before there is any document."""
    for killed in (1, 2):
        deaths: list[str] = []

        def is_deadly(text: str, killed: int = killed, deaths: list[str] = deaths) -> bool:
            if text == "query: ":
                deaths.append(text)
            return text == "query: " and len(deaths) == killed

        vocabulary = Vocabulary(is_deadly=is_deadly, returncode=-9)
        tokenizer = vocabulary.tokenizer("model: {document_prefix: 'query: '}")
        assert len(deaths) >= killed
        assert vocabulary.starts == 2
        (prepared,) = tokenizer.prepare(documents("a text"))
        assert isinstance(prepared, Prepared)
