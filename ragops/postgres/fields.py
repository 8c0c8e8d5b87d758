"""Values of a column as fields of COPY's binary format, by the type that the column has in this database."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from psycopg.adapt import PyFormat, Transformer
from psycopg.pq import Format

from ragops.postgres.blocks import (
    NULL_FIELD,
    bytes_field,
    int2_fields,
    int4_fields,
    int8_fields,
    jsonb_fields,
    text_fields,
    uuid_fields,
    vector_fields,
)
from ragops.postgres.connection import Connection

Column = Sequence[Any] | NDArray[np.float32]
"""The values of one column, one for each row; vectors as an array of shape (rows, dimensions)."""


def fields_of(values: Column, type_name: str, connection: Connection) -> list[bytes]:
    """The fields of a column of this type, as the catalog spells it.

    Raises OverflowError for a number and psycopg.DataError for a value that the type cannot hold.
    """
    if isinstance(values, np.ndarray):
        return vector_fields(values)
    if is_text(type_name) or type_name == "json":
        # A user's `file_id` may be text where ours is a number; numbers and uuids have one spelling.
        return text_fields(value if isinstance(value, str) else str(value) for value in values)
    match plain_type(type_name):
        case "bigint":
            return int8_fields(values)
        case "integer":
            return int4_fields(values)
        case "smallint":
            return int2_fields(values)
        case "uuid":
            return uuid_fields(values)
        case "jsonb":
            return jsonb_fields(values)
        case name:
            return _dumped(values, name, connection)


def _dumped(values: Sequence[Any], name: str, connection: Connection) -> list[bytes]:
    """Any other type that psycopg knows, value by value."""
    oid = connection.adapters.types.get_oid(name)
    transformer = Transformer(connection)
    transformer.set_dumper_types([oid], Format.BINARY)
    raw = (transformer.dump_sequence([value], [PyFormat.BINARY])[0] for value in values)
    return [NULL_FIELD if field is None else bytes_field(bytes(field)) for field in raw]


def plain_type(type_name: str) -> str:
    """`public.citext` → `citext`, `numeric(10,2)` → `numeric`: a type without schema and modifier."""
    return type_name.split("(")[0].strip().rsplit(".", 1)[-1]


def is_text(type_name: str) -> bool:
    return type_name == "text" or type_name.startswith("character varying")
