"""Builds one index. A plain build is one transaction with its record; a concurrent one cannot be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import psycopg

from ragops.errors import RagopsError, first_line
from ragops.facts import IndexFacts, TableFacts
from ragops.postgres.catalog import read_indexes
from ragops.postgres.connection import Connection
from ragops.postgres.single import execute_single
from ragops.postgres.statements import Statement, statement


@dataclass(frozen=True, slots=True)
class StatementProgress:
    """Where `CREATE INDEX` is; `total` is 0 while the server does not know it yet."""

    phase: str
    done: int
    total: int
    unit: str


class NoSharedMemory(RagopsError):
    """The server has no room for the shared memory of a parallel build; its disk is not full."""


def create(connection: Connection, statements: Sequence[Statement], *, table: TableFacts) -> None:
    """Set a build's parameters and run CREATE INDEX on `table`.

    Raises NoSharedMemory when a parallel build has no room, RagopsError when the server refuses it otherwise
    (disk, memory, types).
    """
    try:
        for statement in statements:
            execute_single(connection, statement)
    except psycopg.errors.QueryCanceled:
        raise
    except (
        psycopg.errors.DiskFull,
        psycopg.errors.OutOfMemory,
        psycopg.errors.ProgrammingError,
        psycopg.errors.DataError,
    ) as error:
        if is_about_shared_memory(error):
            raise NoSharedMemory(
                "a parallel index build has no room in shared memory; the disk is not full",
                where=table.quoted,
                actual=first_line(error),
                expected="as much free space in the server's /dev/shm as maintenance_work_mem",
                hint="ragops index rebuild --parallel-workers 0   "
                "or give the server's container more (docker: shm-size)",
            ) from error
        raise RagopsError(
            "the index could not be built",
            where=table.quoted,
            actual=first_line(error),
            hint="fix the cause, then: ragops index rebuild",
        ) from error


def is_about_shared_memory(error: psycopg.Error) -> bool:
    """Whether dynamic shared memory ran out. The server reports it as a full disk, in its own language.

    The place in its source is the same in every language. Shared memory of the kind mmap does lie on the disk.
    """
    return error.diag.source_file == "dsm_impl.c" and error.diag.source_function != "dsm_impl_mmap"


def index_progress(connection: Connection, oid: int) -> StatementProgress | None:
    """Progress of the build that runs on a table, from `pg_stat_progress_create_index`."""
    row = connection.execute(statement("catalog", "index_progress"), {"oid": oid}).fetchone()
    if row is None:
        return None
    return progress_of(*row)


def progress_of(
    phase: str, tuples_done: int, tuples_total: int, blocks_done: int, blocks_total: int
) -> StatementProgress:
    """Return where a build is, from what `pg_stat_progress_create_index` says."""
    # HNSW reports tuples while it loads them; the total comes as blocks.
    if tuples_total:
        return StatementProgress(phase, tuples_done, tuples_total, "rows")
    return StatementProgress(phase, blocks_done, blocks_total, "table blocks")


def find_index(connection: Connection, table: TableFacts, name: str) -> IndexFacts | None:
    """Return the index of that name on the table, as the catalog has it now."""
    indexes = read_indexes(connection, oid=table.oid, name=name)
    return next((index for index in indexes if index.name == name and index.table_oid == table.oid), None)
