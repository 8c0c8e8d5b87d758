"""Encode rows of COPY's text format, for column types whose binary format ragops does not know.

The server reads every type from its text: an enum, citext, ltree, numeric, a domain
(https://www.postgresql.org/docs/current/sql-copy.html, "Text Format").
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ragops.postgres.copy_binary import Column

_SPECIAL = str.maketrans({"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"})


def escaped(text: str) -> str:
    """Escape a value: a backslash, a tab or the end of a line would end it or mean something else."""
    return text.translate(_SPECIAL)


def encode_text_rows(columns: Sequence[Column]) -> bytes:
    """Encode rows from columns of values, all of the same number of rows."""
    spelled = [_spelled(column) for column in columns]
    return "".join("\t".join(row) + "\n" for row in zip(*spelled, strict=True)).encode()


def encode_text_rows_alike(first: Sequence[str], rest: Sequence[object]) -> bytes:
    """Encode rows that share every field but the first."""
    tail = "".join(f"\t{escaped(str(value))}" for value in rest) + "\n"
    joined = "\n".join(first)
    # Thousands of locations without a special character are checked and joined in a handful of calls.
    if "\\" in joined or "\t" in joined or "\r" in joined or joined.count("\n") != len(first) - 1:
        return "".join(escaped(value) + tail for value in first).encode()
    return (joined.replace("\n", tail) + tail).encode() if first else b""


def _spelled(column: Column) -> list[str]:
    """Return the values of a column as the server reads them."""
    if isinstance(column, np.ndarray):
        # 17 digits of a float4 that was widened to float8 are read as the same float4.
        return ["[" + ",".join(map(repr, row)) + "]" for row in column.tolist()]
    return ["\\N" if value is None else escaped(str(value)) for value in column]
