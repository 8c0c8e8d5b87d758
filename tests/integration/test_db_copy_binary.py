"""Blocks of binary COPY, field by field, against psycopg's own encoding of the same rows."""

from __future__ import annotations

import json
import uuid

import numpy as np
import psycopg
import pytest
from psycopg.types.json import Jsonb

from ragops.postgres import copy_binary
from ragops.postgres.connection import Target, connect

TABLE = """CREATE TEMPORARY TABLE things
    (small smallint, whole integer, large bigint, name text, key uuid, facts jsonb, embedding vector(3))"""
TYPES = ["int2", "int4", "int8", "text", "uuid", "jsonb", "vector"]
NAMES = ["plain", "", "été 🐘 'quote' \\ \n", None]
KEYS = [uuid.UUID(int=n) for n in (0, 1, 2**64, 2**128 - 1)]
FACTS: list[dict[str, object]] = [{}, {"a": [1, 2]}, {"ü": None}, {"n": 1.5}]
VECTORS = np.array([[0, 1, -1], [1e-38, 3e38, 0.1], [1, 1, 1], [-0.5, 0, 2]], np.float32)
NUMBERS = [-(2**15), 0, 7, 2**15 - 1]


def test_a_block_stores_what_rows_written_one_by_one_store(dsn18: str) -> None:
    columns = [
        copy_binary.int2_fields(NUMBERS),
        copy_binary.int4_fields([n * 2**16 for n in NUMBERS]),
        copy_binary.int8_fields(np.array(NUMBERS) * 2**48),
        copy_binary.text_fields(NAMES),
        copy_binary.uuid_fields(KEYS),
        copy_binary.jsonb_fields(map(json.dumps, FACTS)),
        copy_binary.vector_fields(VECTORS),
    ]
    parts = (slice(None, 2), slice(2, None))
    halves = [copy_binary.encode_rows([column[part] for column in columns]) for part in parts]
    rows = zip(NUMBERS, NAMES, KEYS, FACTS, VECTORS, strict=True)
    with connect(Target(dsn18, "test")) as connection:
        connection.execute(TABLE)
        with connection.cursor() as cursor, cursor.copy("COPY things FROM STDIN (FORMAT BINARY)") as copy:
            for part in (copy_binary.HEADER, *halves, copy_binary.TRAILER):
                copy.write(part)
        with connection.cursor() as cursor, cursor.copy("COPY things FROM STDIN (FORMAT BINARY)") as copy:
            copy.set_types(TYPES)
            for n, name, key, facts, vector in rows:
                copy.write_row((n, n * 2**16, n * 2**48, name, key, Jsonb(facts), vector))
        counted = "SELECT t::text, count(*) FROM things t GROUP BY 1"
        rows_and_copies = connection.execute(counted).fetchall()
    assert len(rows_and_copies) == 4
    assert {copies for _, copies in rows_and_copies} == {2}


def test_no_rows_are_no_bytes() -> None:
    assert copy_binary.encode_rows([copy_binary.int8_fields([]), copy_binary.text_fields([])]) == b""
    assert copy_binary.vector_fields(np.empty((0, 3), np.float32)) == []


def test_a_number_that_does_not_fit_is_refused_and_never_cut() -> None:
    with pytest.raises(OverflowError):
        copy_binary.int2_fields([0, 2**15])
    with pytest.raises(OverflowError):
        copy_binary.int4_fields([-(2**31) - 1])


def test_a_block_of_another_width_is_refused_by_the_server(dsn18: str) -> None:
    with connect(Target(dsn18, "test")) as connection:
        connection.execute(TABLE)
        block = copy_binary.encode_rows([copy_binary.int2_fields([1])])
        with (
            pytest.raises(psycopg.errors.BadCopyFileFormat),
            connection.cursor() as cursor,
            cursor.copy("COPY things FROM STDIN (FORMAT BINARY)") as copy,
        ):
            copy.write(copy_binary.HEADER + block + copy_binary.TRAILER)
