"""Cutting a text into chunks that fit the model's context, losing no character of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from semantic_text_splitter import MarkdownSplitter, TextSplitter

from ragops.documents.errors import Unreadable
from ragops.errors import UsageError

CountTokens = Callable[[list[str]], list[int]]
"""Texts to token counts, the model's special tokens included, nothing cut."""

# No tokenizer in use averages 64 characters a token over a context. Where a text of such tokens
# existed, a larger piece would be cut although it fitted: a smaller chunk, never one too large.
_MOST_CHARACTERS_PER_TOKEN = 64
_BATCH = 64
_MEMO_CHARACTERS = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a text, without the prefix; `tokens` counts it with prefix and special tokens."""

    index: int
    text: str
    tokens: int


class Chunker:
    """Cuts texts at their largest semantic units (paragraphs, sentences, words) that fit.

    `max_tokens` and `overlap_tokens` are tokens of the model. `count_tokens` is asked once here,
    once for a text that fits whole, and about five times a chunk otherwise; what it raises passes
    through. Source of the splitting: B. Brandt, text-splitter (the package semantic-text-splitter).
    Raises UsageError where overlap or prefix leave no room for text.
    """

    def __init__(
        self,
        *,
        count_tokens: CountTokens,
        max_tokens: int,
        overlap_tokens: int = 0,
        prefix: str = "",
        markdown: bool = False,
    ) -> None:
        if not 0 <= overlap_tokens < max_tokens:
            raise UsageError(
                "the overlap of the chunks leaves no room for new text",
                where="chunking",
                actual=f"overlap of {overlap_tokens} tokens in chunks of {max_tokens}",
                expected="an overlap from 0 to below the chunk's size",
                hint="lower the overlap in the playbook",
            )
        self._count_tokens = count_tokens
        self._max_tokens = max_tokens
        self._prefix = prefix
        base = self._room_taken(overlap_tokens)
        self._splitter = MarkdownSplitter if markdown else TextSplitter
        # The splitter measures an overlap like a chunk: with prefix and special tokens.
        self._overlap = overlap_tokens + base if overlap_tokens else 0

    def chunk(self, text: str) -> list[Chunk]:
        """Chunks in the text's order, each of at most `max_tokens`; none for a blank text.

        Without overlap every character that is not whitespace stands in exactly one chunk.
        Raises Unreadable where a single character takes more tokens than there is room for.
        """
        text = text.strip()
        if not text:
            return []
        measure = _Measure(self._count_tokens, self._prefix, self._max_tokens)
        whole = measure(text)
        if whole <= self._max_tokens:
            return [Chunk(index=0, text=text, tokens=whole)]
        splitter = self._splitter.from_callback(measure, self._max_tokens, self._overlap)
        # The splitter's whitespace (Unicode's) lacks U+001C to U+001F, which Python's has: a chunk of
        # these alone would be a vector of nothing.
        pieces = [piece for piece in splitter.chunks(text) if piece.strip()]
        fitted = self._fitted(pieces, measure)
        return [Chunk(index=i, text=piece, tokens=tokens) for i, (piece, tokens) in enumerate(fitted)]

    def may_fit(self, text: str) -> bool:
        """False for a text that is certainly too long for one chunk; nothing is asked for it."""
        return len(text) <= _MOST_CHARACTERS_PER_TOKEN * self._max_tokens

    def _room_taken(self, overlap_tokens: int) -> int:
        base = self._count_tokens([self._prefix])[0]
        if base + overlap_tokens < self._max_tokens:
            return base
        raise UsageError(
            "the prefix leaves no room for text",
            where="chunking",
            actual=f"{base} tokens of prefix and special tokens, {overlap_tokens} of overlap",
            expected=f"fewer than {self._max_tokens} together",
            hint="shorten the prefix, lower the overlap, or allow larger chunks",
        )

    def _fitted(self, pieces: list[str], measure: _Measure) -> list[tuple[str, int]]:
        """Checks what the splitter made: a tokenizer's counts need not grow with the text, and
        then its binary search can return a piece that is too large. Such a piece is halved."""
        while True:
            counts = measure.many(pieces)
            if all(count <= self._max_tokens for count in counts):
                return list(zip(pieces, counts, strict=True))
            fitting: list[str] = []
            for piece, count in zip(pieces, counts, strict=True):
                fitting.extend([piece] if count <= self._max_tokens else self._halves(piece, count))
            pieces = fitting

    def _halves(self, piece: str, count: int) -> list[str]:
        if len(piece) == 1:
            raise Unreadable(
                f"the character U+{ord(piece):04X} takes {count} tokens with its prefix, "
                f"and a chunk has room for {self._max_tokens}"
            )
        middle = len(piece) // 2
        space = piece.rfind(" ", middle // 2, middle)
        cut = space if space > 0 else middle
        return [half for half in (piece[:cut].strip(), piece[cut:].strip()) if half]


class _Measure:
    """Tokens of a piece with its prefix; remembers, as each question is a round trip to a child."""

    def __init__(self, count_tokens: CountTokens, prefix: str, max_tokens: int) -> None:
        self._count_tokens = count_tokens
        self._prefix = prefix
        self._too_many = max_tokens + 1
        self._longest = _MOST_CHARACTERS_PER_TOKEN * max_tokens
        self._known: dict[str, int] = {}
        self._held = 0

    def __call__(self, piece: str) -> int:
        if len(piece) > self._longest:
            return self._too_many
        return self.many([piece])[0]

    def many(self, pieces: list[str]) -> list[int]:
        """Counts of the pieces in their order; what is not known yet is asked in batches."""
        counts: list[int] = []
        for start in range(0, len(pieces), _BATCH):
            batch = pieces[start : start + _BATCH]
            found = {piece: self._known[piece] for piece in batch if piece in self._known}
            found.update(self._ask([piece for piece in dict.fromkeys(batch) if piece not in found]))
            counts.extend(found[piece] for piece in batch)
        return counts

    def _ask(self, pieces: list[str]) -> dict[str, int]:
        if not pieces:
            return {}
        counts = self._count_tokens([self._prefix + piece for piece in pieces])
        asked = dict(zip(pieces, counts, strict=True))
        self._held += sum(map(len, pieces))
        if self._held > _MEMO_CHARACTERS:  # a document of many megabytes must not be held several times
            self._known.clear()
            self._held = 0
        self._known.update(asked)
        return asked
