"""Encode blocks of COPY's binary format column by column: thousands of rows cost a handful of calls.

A field is its length as a big-endian int4 followed by its bytes; a row is an int2 with the number of fields,
then the fields (https://www.postgresql.org/docs/current/sql-copy.html, "Binary Format"). The layout of `vector` is
that of pgvector's `vector_send`: int2 dimensions, int2 unused, float4 each.
"""

from __future__ import annotations

import re
import struct
import uuid
from collections.abc import Iterable, Sequence
from itertools import chain, repeat
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Signature, flags, and the length of the header's extension; sent once, before the first block.
HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
# A number of fields of -1; sent once, after the last block.
TRAILER = b"\xff\xff"
# A length of -1 without bytes.
NULL_FIELD = b"\xff\xff\xff\xff"
# As `format_type` prints them. citext, char(n) and name are received as text is.
TEXT_TYPES = frozenset({"text", "character varying", "character", "citext", "name"})
_BINARY_TYPES = TEXT_TYPES | {"bigint", "integer", "smallint", "uuid", "json", "jsonb"}
_length = struct.Struct(">i").pack
# The values of one column, one per row; vectors as an array of shape (rows, dimensions).
Column = Sequence[Any] | NDArray[np.float32]


def encode_rows(columns: Sequence[Sequence[bytes]]) -> bytes:
    """Encode rows from columns of encoded fields, all of the same number of rows."""
    # zip and join do the work in C; the endless repeat() is why zip cannot be strict.
    fields = repeat(len(columns).to_bytes(2, "big"))
    return b"".join(chain.from_iterable(zip(fields, *columns, strict=False)))


def text_fields(values: Iterable[str | None]) -> list[bytes]:
    """Encode fields of text or varchar. Raises UnicodeEncodeError for a lone surrogate."""
    encoded = (None if value is None else value.encode() for value in values)
    return [NULL_FIELD if raw is None else _length(len(raw)) + raw for raw in encoded]


def bytes_fields(values: Iterable[bytes | None]) -> list[bytes]:
    """Encode fields of bytea."""
    return [NULL_FIELD if raw is None else _length(len(raw)) + raw for raw in values]


def jsonb_fields(values: Iterable[str | None]) -> list[bytes]:
    """Encode fields of jsonb from JSON texts."""
    # The first byte is the version of jsonb's wire format.
    encoded = (None if value is None else b"\x01" + value.encode() for value in values)
    return [NULL_FIELD if raw is None else _length(len(raw)) + raw for raw in encoded]


def uuid_fields(values: Iterable[uuid.UUID]) -> list[bytes]:
    """Encode fields of uuid."""
    return [b"\x00\x00\x00\x10" + value.bytes for value in values]


def int2_fields(values: ArrayLike) -> list[bytes]:
    """Encode fields of smallint. Raises OverflowError for a number that does not fit."""
    return _integers(values, np.int16)


def int4_fields(values: ArrayLike) -> list[bytes]:
    """Encode fields of integer. Raises OverflowError for a number that does not fit."""
    return _integers(values, np.int32)


def int8_fields(values: ArrayLike) -> list[bytes]:
    """Encode fields of bigint. Raises OverflowError for a number that does not fit."""
    return _integers(values, np.int64)


def vector_fields(vectors: NDArray[np.float32]) -> list[bytes]:
    """Encode fields of pgvector's `vector` from an array of shape (rows, dimensions)."""
    count, dimensions = vectors.shape
    layout = np.dtype(
        [("length", ">i4"), ("dimensions", ">i2"), ("unused", ">i2"), ("values", ">f4", (dimensions,))]
    )
    rows = np.zeros(count, layout)
    rows["length"] = layout.itemsize - 4
    rows["dimensions"] = dimensions
    rows["values"] = vectors
    return _sliced(rows)


def _integers(values: ArrayLike, kind: type[np.signedinteger]) -> list[bytes]:
    array = np.asarray(values, np.int64)
    limits = np.iinfo(kind)
    # Checked here, because a cast to a smaller type wraps around without an error.
    if array.size and not limits.min <= int(array.min()) <= int(array.max()) <= limits.max:
        raise OverflowError(f"{int(array.min())} to {int(array.max())} does not fit {limits.bits} bits")
    layout = np.dtype([("length", ">i4"), ("value", np.dtype(kind).newbyteorder(">"))])
    rows = np.empty(len(array), layout)
    rows["length"] = layout.itemsize - 4
    rows["value"] = array
    return _sliced(rows)


def _sliced(rows: NDArray[np.void]) -> list[bytes]:
    """Return the bytes of each row of a structured array."""
    raw, size = rows.tobytes(), rows.dtype.itemsize
    return [raw[start : start + size] for start in range(0, len(raw), size)]


def fields_of(values: Column, type_name: str) -> list[bytes]:
    """Encode a column of the type that the catalog spells as `type_name`, one for which `has_fields` is true.

    Raises OverflowError, ValueError, TypeError or AttributeError for a value that the type cannot hold.
    """
    if isinstance(values, np.ndarray):
        return vector_fields(values)
    match plain_type(type_name):
        case "bigint":
            return int8_fields(values)
        case "integer":
            return int4_fields(values)
        case "smallint":
            return int2_fields(values)
        case "uuid":
            return uuid_fields(value if isinstance(value, uuid.UUID) else uuid.UUID(value) for value in values)
        case "jsonb":
            return jsonb_fields(values)
        case _:
            # A mapped `file_id` may be text where ragops' is a number; numbers and uuids have one spelling each.
            return text_fields(value if isinstance(value, str | None) else str(value) for value in values)


def has_fields(type_name: str, *, is_vector: bool) -> bool:
    """Return whether `fields_of` encodes this type; `is_vector`: the values are vectors."""
    plain = plain_type(type_name)
    return plain == "vector" if is_vector else plain in _BINARY_TYPES


def plain_type(type_name: str) -> str:
    """Return a type without schema and modifier: `public.citext` → `citext`, `numeric(10,2)` → `numeric`."""
    return type_name.split("(")[0].strip().rsplit(".", 1)[-1]


def is_text(type_name: str) -> bool:
    """Return whether a type holds texts in the binary format of `text`."""
    return plain_type(type_name) in TEXT_TYPES


def text_limit(type_name: str) -> int | None:
    """Return how many characters a type holds: `character varying(20)` → 20; None without a limit."""
    match = re.fullmatch(r"character(?: varying)?\((\d+)\)", type_name)
    return int(match.group(1)) if match else None
