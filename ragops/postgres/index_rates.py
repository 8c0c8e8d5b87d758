"""Measure how fast this server updates vectors under their indexes, and builds these indexes, on a few rows.

Everything is rolled back. What stays are some dead entries of the index, as an aborted transaction leaves them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
from psycopg import sql

from ragops.errors import first_line
from ragops.facts import IndexFacts
from ragops.postgres.connection import Connection, transaction
from ragops.postgres.ddl import index_head
from ragops.postgres.statements import statement
from ragops.row_facts import TargetFacts

# Rows that are updated together: locked as long as that takes, and no row of the application longer.
BATCH = 10
MOST_UPDATED = 200
MOST_BUILT = 2_000
# Beyond this a plan would take too long: what was measured until then counts.
UPDATE_S, BUILD_S = 1.0, 1.0
# Fewer rows than this say nothing.
FEWEST = 10


@dataclass(frozen=True, slots=True)
class IndexRates:
    """What was measured of one target; None: it could not be."""

    updates: float | None
    """Rows per second, with every index of the column in place."""
    builds: float | None
    """Rows per second, all indexes one after the other."""
    is_recorded: bool = False
    """The rate of the builds is that of the last build in the ledger, not of a sample."""
    reason: str = ""
    """Why something could not be measured."""


def measure_rates(connection: Connection, facts: TargetFacts, indexes: Sequence[IndexFacts]) -> IndexRates:
    """Return what a target's server does, within about 2 s; `indexes` are those whose build is measured."""
    try:
        updates = _measure_updates(connection, facts)
        builds = _measure_builds(connection, facts, indexes) if indexes else None
    except psycopg.Error as error:
        if connection.closed:
            raise
        return IndexRates(None, None, reason=first_line(error))
    is_known = updates is not None and (builds is not None or not indexes)
    return IndexRates(
        updates, builds, reason="" if is_known else "too few rows have a vector, or it takes too long"
    )


def _measure_updates(connection: Connection, facts: TargetFacts) -> float | None:
    """Return the rows per second that an UPDATE of the vector column writes; None where too few have a vector."""
    settings = {"session_replication_role": "replica"} if facts.silences_triggers else {}
    words = {**_words(facts, MOST_UPDATED), "count": sql.Literal(BATCH)}
    updated, seconds = 0, 0.0
    while updated < MOST_UPDATED and seconds < UPDATE_S:
        with _rolled_back(connection, UPDATE_S * 2, settings):
            started = time.perf_counter()
            count = connection.execute(statement("index_rates", "update_sample", words)).rowcount
            # The first round reads cold pages and makes the plan, as a campaign does once.
            seconds += time.perf_counter() - started
        if count < BATCH:
            updated += max(count, 0)
            break
        updated += count
    return updated / seconds if updated >= FEWEST and seconds else None


def _measure_builds(connection: Connection, facts: TargetFacts, indexes: Sequence[IndexFacts]) -> float | None:
    """Return the rows per second at which these indexes are built one after the other; None where unknown."""
    words = {**_words(facts, MOST_BUILT), "count": sql.Literal(MOST_BUILT)}
    try:
        with _rolled_back(connection, BUILD_S, {}):
            rows = connection.execute(statement("index_rates", "copy_sample", words)).rowcount
            started = time.perf_counter()
            for index in indexes:
                made = sql.SQL(index_head(index.definition).rest)
                connection.execute(statement("index_rates", "build_sample", {"made": made}))
            seconds = time.perf_counter() - started
    except psycopg.errors.QueryCanceled:
        return None
    return rows / seconds if rows >= FEWEST and seconds else None


@contextmanager
def _rolled_back(connection: Connection, timeout_s: float, settings: dict[str, str]) -> Iterator[None]:
    local = {"statement_timeout": f"{int(timeout_s * 1000)}ms", **settings}
    with (
        transaction(connection, lock_timeout_s=0.2, settings=local),
        connection.transaction(force_rollback=True),
    ):
        yield


def _words(facts: TargetFacts, count: int) -> dict[str, sql.Composable]:
    # Pages all over the table, with several times as many rows as are wanted: some have no vector.
    percent = min(100.0, 100.0 * 10 * count / max(facts.table.rows, 1))
    return {
        "table": sql.Identifier(facts.table.schema, facts.table.name),
        "column": sql.Identifier(facts.filled),
        "percent": sql.Literal(percent),
    }
