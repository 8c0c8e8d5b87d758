"""Builds one index. A plain build is one transaction with its record; a concurrent one cannot be."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg

from ragops.actions import CreateIndex, RestoreIndex
from ragops.errors import RagopsError
from ragops.facts import IndexFacts
from ragops.postgres.catalog import read_indexes
from ragops.postgres.connection import Connection
from ragops.postgres.ddl import sql_of
from ragops.postgres.statements import statement


@dataclass(frozen=True, slots=True)
class BuildProgress:
    """Where `CREATE INDEX` is; `total` is 0 while the server does not know it yet."""

    phase: str
    done: int
    total: int
    unit: str


class NoSharedMemory(RagopsError):
    """The server has no room for the shared memory of a parallel build; its disk is not full."""


def create(connection: Connection, build: CreateIndex | RestoreIndex) -> None:
    """Run CREATE INDEX.

    Raises NoSharedMemory when a parallel build has no room, RagopsError when the server refuses it otherwise
    (disk, memory, types).
    """
    try:
        connection.execute(sql_of(build))
    except psycopg.errors.QueryCanceled:
        raise
    except (
        psycopg.errors.DiskFull,
        psycopg.errors.OutOfMemory,
        psycopg.errors.ProgrammingError,
        psycopg.errors.DataError,
    ) as error:
        if is_about_shared_memory(error):
            raise _no_shared_memory(build, error) from error
        raise RagopsError(
            "the index could not be built",
            where=build.table.qualified,
            actual=str(error).splitlines()[0],
            hint="mend the cause, then: ragops index rebuild",
        ) from error


def is_about_shared_memory(error: psycopg.Error) -> bool:
    """Whether dynamic shared memory ran out. The server reports it as a full disk, in its own language.

    The place in its source is the same in every language. Shared memory of the kind mmap does lie on the disk.
    """
    return error.diag.source_file == "dsm_impl.c" and error.diag.source_function != "dsm_impl_mmap"


def _no_shared_memory(build: CreateIndex | RestoreIndex, error: psycopg.Error) -> NoSharedMemory:
    return NoSharedMemory(
        "a parallel index build has no room in shared memory; the disk is not full",
        where=build.table.qualified,
        actual=str(error).splitlines()[0],
        expected="as much free space in the server's /dev/shm as maintenance_work_mem",
        hint="ragops index rebuild --parallel-workers 0   or give the server's container more (docker: shm-size)",
    )


def index_progress(connection: Connection, oid: int) -> BuildProgress | None:
    """Progress of the build that runs on a table, from `pg_stat_progress_create_index`."""
    row = connection.execute(statement("catalog", "index_progress"), {"oid": oid}).fetchone()
    if row is None:
        return None
    phase, tuples_done, tuples_total, blocks_done, blocks_total = row
    # HNSW reports tuples while it loads them; the total comes as blocks.
    if tuples_total:
        return BuildProgress(phase, tuples_done, tuples_total, "rows")
    return BuildProgress(phase, blocks_done, blocks_total, "table blocks")


def find_index(connection: Connection, build: CreateIndex | RestoreIndex, name: str) -> IndexFacts | None:
    """The index of that name on the build's table, as the catalog has it now."""
    found = read_indexes(connection, oid=build.table.oid, table=build.table.qualified)
    return next((index for index in found if index.name == name), None)
