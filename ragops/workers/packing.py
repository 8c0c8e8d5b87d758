"""Pack texts into requests of bounded size, texts of like length together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def pack(texts: Iterable[T], *, tokens_of: Callable[[T], int], limit: int) -> Iterator[list[T]]:
    """Yield requests of at most `limit` tokens, the shortest texts first; a longer text goes alone.

    Attention cost grows with every token in a batch: one long text would slow down the short ones beside it.
    """
    request: list[T] = []
    filled = 0
    for text in sorted(texts, key=tokens_of):
        tokens = tokens_of(text)
        if request and filled + tokens > limit:
            yield request
            request, filled = [], 0
        request.append(text)
        filled += tokens
    if request:
        yield request
