"""Fill a queue from streamed locations: blocks of binary COPY, each of one phase."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from psycopg import sql

from ragops.postgres.connection import Connection
from ragops.postgres.copy_binary import (
    HEADER,
    TRAILER,
    encode_rows,
    encode_rows_alike,
    int2_fields,
    int4_fields,
    int8_fields,
    text_fields,
)

# Locations in memory at a time. With blocks of this size seeding runs at 0.95 (manifest) and 0.89 (folder) of the
# speed of a bare COPY of rows encoded beforehand (benchmarks/reseed.py).
BLOCK_ROWS = 4096


@dataclass(frozen=True, slots=True)
class Block:
    """Rows of a COPY in binary format, without header and trailer."""

    rows: int
    data: bytes


def queue_blocks(locations: Iterable[str], *, status: str, gates: Sequence[int]) -> Iterator[Block]:
    """Yield rows (location, status, attempts 0, phase); item i, from 0, has phase k+1 if k gates are ≤ i."""
    remaining, count, bounds = iter(locations), 0, sorted(gates)
    while True:
        # A block ends at a gate, so that its rows have one phase and share every field but the location.
        passed = sum(gate <= count for gate in bounds)
        left = bounds[passed] - count if passed < len(bounds) else BLOCK_ROWS
        batch = list(islice(remaining, min(BLOCK_ROWS, left)))
        if not batch:
            return
        rest = [*text_fields([status]), *int4_fields([0]), *int2_fields([passed + 1])]
        yield Block(len(batch), encode_rows_alike(text_fields(batch), rest))
        count += len(batch)


def incoming_blocks(locations: Iterable[str]) -> Iterator[Block]:
    """Yield rows (position, location), positions from 0."""
    remaining, count = iter(locations), 0
    while batch := list(islice(remaining, BLOCK_ROWS)):
        positions = int8_fields(range(count, count + len(batch)))
        yield Block(len(batch), encode_rows((positions, text_fields(batch))))
        count += len(batch)


def copy_blocks(connection: Connection, query: sql.Composed, blocks: Iterable[Block]) -> int:
    """Send blocks through a COPY; return the number of rows."""
    count = 0
    with connection.cursor() as cursor, cursor.copy(query) as copy:
        copy.write(HEADER)
        for block in blocks:
            copy.write(block.data)
            count += block.rows
        copy.write(TRAILER)
    return count
