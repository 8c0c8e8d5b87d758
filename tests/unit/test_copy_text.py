"""Rows of COPY's text format, read back as the server reads them."""

from __future__ import annotations

import re

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ragops.postgres.copy_text import encode_text_rows, encode_text_rows_alike

# What a server of UTF-8 can store.
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
_ESCAPED = {"\\\\": "\\", "\\n": "\n", "\\r": "\r", "\\t": "\t"}


def read_back(data: bytes) -> list[list[str | None]]:
    """https://www.postgresql.org/docs/current/sql-copy.html: a line is a row, a tab parts fields, \\N is NULL."""
    lines = data.decode().split("\n")
    assert lines.pop() == ""
    assert "\r" not in data.decode()
    assert "\\." not in lines
    return [
        [None if f == "\\N" else re.sub(r"\\.", lambda m: _ESCAPED[m[0]], f) for f in line.split("\t")]
        for line in lines
    ]


@given(st.lists(st.tuples(st.none() | TEXTS, TEXTS, st.integers())))
def test_rows_are_read_back_as_they_are(rows: list[tuple[str | None, str, int]]) -> None:
    columns = [[row[at] for row in rows] for at in range(3)]
    assert read_back(encode_text_rows(columns)) == [[a, b, str(n)] for a, b, n in rows]


@given(st.lists(TEXTS), TEXTS)
def test_rows_alike_are_read_back_as_they_are(first: list[str], status: str) -> None:
    assert read_back(encode_text_rows_alike(first, [status, 0])) == [[text, status, "0"] for text in first]


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1))
def test_a_vector_is_read_back_bit_by_bit(values: list[float]) -> None:
    vector = np.array([values], np.float32)
    ((text,),) = read_back(encode_text_rows([vector]))
    assert text is not None
    np.testing.assert_array_equal(np.array(text.strip("[]").split(","), np.float32), vector[0])
