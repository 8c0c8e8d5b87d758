"""Split a text into chunks that fit the model's context, without losing a character."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from semantic_text_splitter import MarkdownSplitter, TextSplitter

from ragops.documents.errors import CheckStop, Unreadable, never_stopped
from ragops.documents.windows import split_windows
from ragops.errors import UsageError

# Texts to token counts, including the model's special tokens, with nothing truncated.
CountTokens = Callable[[list[str]], list[int]]

# No tokenizer in use averages 64 characters per token over a whole context. If a text of such tokens
# existed, it would be split although it fits: that gives a smaller chunk, never one that is too large.
_MOST_CHARACTERS_PER_TOKEN = 64
# Each count is a round trip to the embedder process, so that texts are counted in batches.
_BATCH = 64
# The splitter's binary search measures prefixes of the same text again and again. Forgetting them all at
# 8 Mi characters bounds the memory for a document of many megabytes.
_MEMO_CHARACTERS = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Chunk:
    """One part of a text, without the prefix; `tokens` counts it with prefix and special tokens."""

    index: int
    text: str
    tokens: int


class Chunker:
    """Splits texts at their largest semantic units (paragraphs, sentences, words) that fit.

    `max_tokens` and `overlap_tokens` are tokens of the model. `count_tokens` is called once here, once for a
    text that fits whole, and about five times per chunk otherwise. `check_stop` is called before each measurement.
    The exceptions of both pass through.
    Source of the splitting: B. Brandt, text-splitter (the package semantic-text-splitter).
    Raises UsageError if overlap or prefix leave no room for text.
    """

    def __init__(
        self,
        *,
        count_tokens: CountTokens,
        max_tokens: int,
        overlap_tokens: int = 0,
        prefix: str = "",
        markdown: bool = False,
        check_stop: CheckStop = never_stopped,
    ) -> None:
        if not 0 <= overlap_tokens < max_tokens:
            raise UsageError(
                "the overlap leaves no room for new text in a chunk",
                where="chunking.overlap_tokens",
                actual=f"{overlap_tokens} tokens of overlap in chunks of {max_tokens}",
                expected=f"0 to {max_tokens - 1} tokens",
                hint="lower chunking.overlap_tokens in the playbook",
            )
        base = count_tokens([prefix])[0]
        if base + overlap_tokens >= max_tokens:
            overlap = f", {overlap_tokens} of overlap" if overlap_tokens else ""
            raise UsageError(
                "the prefix leaves no room for text in a chunk"
                if prefix
                else f"chunks of {max_tokens} token{'s' if max_tokens != 1 else ''} have no room for text",
                where="model.document_prefix" if prefix else "chunking.max_tokens or model.parameters.n_ctx",
                actual=f"{base} tokens of {'prefix and ' if prefix else ''}special tokens{overlap}",
                expected=f"fewer than {max_tokens} together",
                hint=f"{'shorten the prefix, ' if prefix else ''}lower the overlap, or allow larger chunks"
                if overlap_tokens or prefix
                else "allow larger chunks: raise chunking.max_tokens and model.parameters.n_ctx",
            )
        self._count_tokens = count_tokens
        self._max_tokens = max_tokens
        self._check_stop = check_stop
        self._prefix = prefix
        self._markdown = markdown
        self._longest = _MOST_CHARACTERS_PER_TOKEN * max_tokens
        self._splitter = MarkdownSplitter if markdown else TextSplitter
        # The splitter measures an overlap like a chunk, that is with prefix and special tokens.
        self._overlap = overlap_tokens + base if overlap_tokens else 0

    def chunk(self, text: str) -> list[Chunk]:
        """Return the chunks in the text's order, each of at most `max_tokens`; [] for a blank text.

        Without overlap, every character that is not whitespace is in exactly one chunk.
        Raises Unreadable if a single character takes more tokens than there is room for.
        """
        text = text.strip()
        if not text:
            return []
        measure = _Measure(self._count_tokens, self._prefix, self._max_tokens, self._check_stop)
        whole = measure(text)
        if whole <= self._max_tokens:
            return [Chunk(index=0, text=text, tokens=whole)]
        splitter = self._splitter.from_callback(measure, self._max_tokens, self._overlap)
        # The splitter's whitespace (Unicode's White_Space) lacks U+001C to U+001F, which `str.strip` removes.
        # A chunk of these alone would be stored with the vector of an empty text.
        parts = split_windows(text, splitter.chunk_indices, longest=self._longest, markdown=self._markdown)
        fitted = self._fit([part for part in parts if part.strip()], measure)
        return [Chunk(index=i, text=part, tokens=tokens) for i, (part, tokens) in enumerate(fitted)]

    def may_fit(self, text: str) -> bool:
        """Return False for a text that is certainly too long for one chunk, without counting its tokens."""
        return len(text) <= self._longest

    def _fit(self, parts: list[str], measure: _Measure) -> list[tuple[str, int]]:
        """Return the parts with their token counts, halving those that are too large until they fit."""
        # The splitter's binary search assumes that a longer text has more tokens. BPE and Unigram do not
        # guarantee it (one more character may complete a merge), so that a part may come out too large.
        while True:
            counts = measure.many(parts)
            if all(count <= self._max_tokens for count in counts):
                return list(zip(parts, counts, strict=True))
            smaller: list[str] = []
            for part, count in zip(parts, counts, strict=True):
                if count <= self._max_tokens:
                    smaller.append(part)
                    continue
                if len(part) == 1:
                    raise Unreadable(
                        f"the character U+{ord(part):04X} takes {count} tokens including the prefix, "
                        f"but a chunk has room for {self._max_tokens}"
                    )
                middle = len(part) // 2
                space = part.rfind(" ", middle // 2, middle)
                cut = space if space > 0 else middle
                smaller += [half for half in (part[:cut].strip(), part[cut:].strip()) if half]
            parts = smaller


class _Measure:
    """Counts the tokens of texts with their prefix; remembers each, because counting is a round trip."""

    def __init__(self, count_tokens: CountTokens, prefix: str, max_tokens: int, check_stop: CheckStop) -> None:
        self._count_tokens = count_tokens
        self._check_stop = check_stop
        self._prefix = prefix
        self._too_many = max_tokens + 1
        self._longest = _MOST_CHARACTERS_PER_TOKEN * max_tokens
        self._known: dict[str, int] = {}
        self._known_characters = 0

    def __call__(self, text: str) -> int:
        if len(text) > self._longest:
            # The splitter asks for many of them between two that are counted.
            self._check_stop()
            return self._too_many
        return self.many([text])[0]

    def many(self, texts: list[str]) -> list[int]:
        """Return the counts of the texts in their order; unknown ones are counted in batches."""
        counts: list[int] = []
        for start in range(0, len(texts), _BATCH):
            self._check_stop()
            batch = texts[start : start + _BATCH]
            by_text = {text: self._known[text] for text in batch if text in self._known}
            unknown = [text for text in dict.fromkeys(batch) if text not in by_text]
            if unknown:
                counted = self._count_tokens([self._prefix + text for text in unknown])
                fresh = dict(zip(unknown, counted, strict=True))
                by_text |= fresh
                self._known_characters += sum(map(len, unknown))
                if self._known_characters > _MEMO_CHARACTERS:
                    self._known.clear()
                    self._known_characters = 0
                self._known |= fresh
            counts.extend(by_text[text] for text in batch)
        return counts
