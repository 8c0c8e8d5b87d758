"""How large claims and requests are: bounded, of like length, spread over all workers, and nothing lost."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from fake_embedder import document
from hypothesis import given
from hypothesis import strategies as st

from ragops.workers.fetcher import claim_size
from ragops.workers.inflight import UniqueText
from ragops.workers.preparation import SMALLEST_REQUEST, requests_of
from ragops.workers.queues import REQUEST_TOKENS


def texts_of(lengths: Sequence[int]) -> list[UniqueText]:
    owner = document(1)
    return [
        UniqueText(str(n).encode(), np.full(length, n, np.int32), [(owner, n)]) for n, length in enumerate(lengths)
    ]


def sizes_of(lengths: Sequence[int], *, workers: int) -> list[int]:
    """Tokens of each request."""
    return [sum(len(text.ids) for text in r) for r in requests_of(texts_of(lengths), workers=workers)]


LENGTHS = st.lists(st.integers(1, 2 * REQUEST_TOKENS) | st.integers(1, 64), max_size=60)


@given(lengths=LENGTHS, workers=st.integers(1, 64))
def test_nothing_is_lost_and_every_request_is_bounded(lengths: list[int], workers: int) -> None:
    texts = texts_of(lengths)
    requests = list(requests_of(texts, workers=workers))
    handed = [text for request in requests for text in request]
    assert sorted(map(id, handed)) == sorted(map(id, texts))
    assert [len(text.ids) for text in handed] == sorted(lengths)
    assert all(requests)
    for request in requests:
        assert len(request) == 1 or sum(len(text.ids) for text in request) <= REQUEST_TOKENS


@pytest.mark.parametrize(
    ("texts", "tokens", "workers", "sizes"),
    [
        (1000, 40, 1, [4080] * 9 + [3280]),  # as large as a request may be
        (40, 64, 4, [640] * 4),  # a short claim: a request for each worker
        (40, 64, 3, [832] * 3 + [64]),
        (8, 64, 4, [512]),  # shorter still: a request of a few tokens pays for no round trip
        (2, 5000, 2, [5000, 5000]),  # longer than a request may be: alone
        (0, 1, 2, []),
    ],
)
def test_sizes_of_requests(texts: int, tokens: int, workers: int, sizes: list[int]) -> None:
    assert sizes_of([tokens] * texts, workers=workers) == sizes


@given(length=st.integers(1, 400), texts=st.integers(1, 300), workers=st.integers(1, 16))
def test_equal_texts_keep_every_worker_busy(length: int, texts: int, workers: int) -> None:
    total = length * texts
    if total >= workers * SMALLEST_REQUEST:
        assert len(sizes_of([length] * texts, workers=workers)) >= workers
    else:
        assert all(size >= SMALLEST_REQUEST - length for size in sizes_of([length] * texts, workers=workers)[:-1])


def test_a_long_text_drags_no_short_ones_along() -> None:
    requests = list(requests_of(texts_of([400, 5] * 100), workers=2))
    mixed = [request for request in requests if len({len(text.ids) for text in request}) > 1]
    assert len(requests) > 5
    assert len(mixed) <= 1


@pytest.mark.parametrize(
    ("wanted", "open_items", "size"),
    [
        (10, None, 10),
        (10, 1000, 10),
        (10, 40, 10),
        (10, 39, 10),
        (10, 36, 9),
        (10, 5, 2),
        (10, 4, 1),
        (10, 1, 1),
        (10, 0, 1),
        (10, -20, 1),  # others have put items in since: the bound is a guess
        (1, 1000, 1),
    ],
)
def test_claims_leave_something_for_others(wanted: int, open_items: int | None, size: int) -> None:
    assert claim_size(wanted, open_items=open_items) == size
