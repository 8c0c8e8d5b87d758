"""Of a long document with stored chunks some are embedded again, of every other document all."""

from __future__ import annotations

import numpy as np
import pytest

from ragops.campaign.measure import MOST_CHUNKS, chunks_to_compare
from ragops.postgres.reader import StoredRow


def chunks(count: int, *, dimensions: int = 3) -> list[StoredRow]:
    return [StoredRow(number, "text", np.ones(dimensions, dtype=np.float32)) for number in range(count)]


@pytest.mark.parametrize("count", [1, MOST_CHUNKS])
def test_all_of_a_document_of_ordinary_length(count: int) -> None:
    assert chunks_to_compare(chunks(count), dimensions=3) == list(range(count))


@pytest.mark.parametrize("count", [MOST_CHUNKS + 1, 20_000])
def test_some_of_a_long_one_from_its_beginning_to_its_end(count: int) -> None:
    drawn = chunks_to_compare(chunks(count), dimensions=3)
    assert len(set(drawn)) == MOST_CHUNKS
    assert (drawn[0], drawn[-1]) == (0, count - 1)


def test_all_where_they_have_no_vectors_that_could_stand_for_them() -> None:
    long = chunks(MOST_CHUNKS + 1)
    assert len(chunks_to_compare([*long, *chunks(1, dimensions=0)], dimensions=3)) == len(long) + 1
