"""The child's vocabulary: texts to tokens, what ends a text, and which token stands for the unknown.

Part of the program `child.py` and of the single file that `ragops fingerprint script` prints; like them it
uses the standard library only and keeps to Python 3.9.
"""

from __future__ import annotations

import ctypes
from typing import Any, Callable  # noqa: UP035 (Python 3.9)

# enum llama_token_attr: UNKNOWN, CONTROL and USER_DEFINED, whose texts are markup and not words.
SPECIAL_ATTRIBUTES = 1 << 0 | 1 << 3 | 1 << 4
# Qwen's embedding models end texts with it; files that were converted for chats call another token EOS.
QWEN_END = "<|endoftext|>"
# What llama.cpp takes for the unknown token where the file says nothing, by enum llama_vocab_type (SPM, WPM, UGM).
DEFAULT_UNKNOWN = {1: 0, 3: 100, 4: 2}


class Vocabulary:
    """The tokenizer of one loaded model. Its methods raise ValueError for a text that cannot be tokenised."""

    def __init__(self, lib: Any, vocab: Any, *, meta: Callable[[str], Any], architecture: str) -> None:
        """`meta` returns a scalar of the file's metadata as text, or None."""
        self._lib = lib
        self._vocab = vocab
        self._suffixes: dict[str, tuple[str, list[int]]] = {}
        self.size = int(lib.llama_vocab_n_tokens(vocab))
        self._trailing = self._count_trailing()
        self.ends_with = self._text_of(self._tokens("a", separators=True)[-1]) if self._trailing else ""
        """The special token that the tokenizer puts after every text by itself; "" for none."""
        self.end_token = self._end_token(architecture)
        """The special token that a text of this model should end with; "" if the vocabulary has none."""
        declared = meta("tokenizer.ggml.unknown_token_id")
        token = int(declared) if declared is not None else DEFAULT_UNKNOWN.get(lib.llama_vocab_type(vocab), -1)
        self.unknown_token = token if 0 <= token < self.size else None
        """Id of the token for what the vocabulary cannot spell; None where it spells every byte."""

    def tokenise(self, text: str, suffix: str = "") -> Any:
        """Return the tokens of text and suffix with separators; only in the suffix is markup a special token."""
        head, tail = self._split(suffix)
        ids = self._tokens(text + head, separators=True)
        if not tail:
            return ids
        # What the tokenizer puts at the end by itself stays there, as where the whole is tokenised at once.
        until = len(ids) - self._trailing
        return [*ids[:until], *tail, *ids[until:]]

    def special_tokens(self, suffix: str) -> list[str]:
        """Return the special tokens of a suffix, as text."""
        return [self._text_of(token) for token in self._split(suffix)[1] if self._is_special(token)]

    def _split(self, suffix: str) -> tuple[str, list[int]]:
        """Return what of a suffix is text, up to its first special token, and the tokens from there on."""
        if not suffix:
            return "", []
        if suffix not in self._suffixes:
            ids = list(self._tokens(suffix, separators=False, markup=True))
            first = next((self._text_of(token) for token in ids if self._is_special(token)), None)
            at = len(suffix) if first is None else suffix.find(first)
            head = suffix[:at] if at >= 0 else ""
            rest = suffix[len(head) :]
            self._suffixes[suffix] = head, list(self._tokens(rest, separators=False, markup=True)) if rest else []
        return self._suffixes[suffix]

    def _is_special(self, token: int) -> bool:
        return bool(self._lib.llama_vocab_get_attr(self._vocab, token) & SPECIAL_ATTRIBUTES)

    def _text_of(self, token: int) -> str:
        return str(self._lib.llama_vocab_get_text(self._vocab, token).decode("utf-8", "replace"))

    def _count_trailing(self) -> int:
        """Return how many tokens are put after every text. Measured: versions heed add_eos_token differently."""
        whole, plain = (list(self._tokens("a", separators=with_them)) for with_them in (True, False))
        added = len(whole) - len(plain)
        starts = [at for at in range(added + 1) if whole[at : at + len(plain)] == plain]
        return added - starts[0] if plain and starts else 0

    def _end_token(self, architecture: str) -> str:
        if architecture.startswith("qwen") and len(self._split(QWEN_END)[1]) == 1:
            return QWEN_END
        for token in (self._lib.llama_vocab_eos(self._vocab), self._lib.llama_vocab_sep(self._vocab)):
            if 0 <= token < self.size:
                return self._text_of(token)
        return ""

    def _tokens(self, text: str, *, separators: bool, markup: bool = False) -> Any:
        raw = text.encode("utf-8", "replace")  # a lone surrogate must not reach C++
        room = len(raw) + 8
        # A second try, because a text may have more tokens than bytes; the call then returns -count.
        for _ in range(2):
            tokens = (ctypes.c_int32 * room)()
            count = self._lib.llama_tokenize(self._vocab, raw, len(raw), tokens, room, separators, markup)
            if count >= 0:
                return tokens[:count]
            room = -count
        raise ValueError("llama.cpp could not tokenise a text")
