"""A cutover that is killed at any statement, while an application writes: it goes on, and no vector is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from unittest.mock import patch

import pytest
from beside_at_work import beside_at_work, execute
from campaigns import rows, value

from ragops.postgres.collisions import ReadCommittedConnection

SCHEMA = (
    "CREATE TABLE notes (id bigint PRIMARY KEY, body text, other text, embedding vector(32) NOT NULL)",
    "INSERT INTO notes SELECT n, 'text ' || n, 'o', array_fill(0.5, ARRAY[32])::vector"
    " FROM generate_series(1, 9) n",
    "CREATE INDEX notes_hnsw ON notes USING hnsw (embedding vector_cosine_ops)",
    "CREATE TABLE kept AS SELECT array_fill(0.5, ARRAY[32])::vector AS v",
    "CREATE VIEW shown AS SELECT id, embedding FROM notes",
)
COLUMNS = """
SELECT array_agg(attname::text ORDER BY attname) FROM pg_attribute
 WHERE attrelid = 'notes'::regclass AND attname LIKE 'embedding%' AND NOT attisdropped
"""
STATE = "SELECT state FROM ragops.cutover"


class Killed(BaseException):
    """The process is gone."""


@contextmanager
def killed_at(number: int) -> Iterator[list[int]]:
    """Cut the connection before the statement `number`, as the end of a process does; yield what was counted."""
    counted = [0]
    original = ReadCommittedConnection.execute

    def execute(self: Any, *values: Any, **more: Any) -> Any:
        counted[0] += 1
        if counted[0] == number:
            self.close()
            raise Killed
        return original(self, *values, **more)

    with patch.object(ReadCommittedConnection, "execute", execute):
        yield counted


@pytest.mark.slow
@pytest.mark.parametrize("is_back", [False, pytest.param(True, marks=pytest.mark.long)], ids=["forward", "back"])
def test_killed_at_every_statement(dsn18: str, is_back: bool) -> None:
    execute(dsn18, *SCHEMA)
    with beside_at_work(dsn18) as work:
        work.prepare()
        execute(dsn18, "CREATE INDEX notes_hnsw_new ON notes USING hnsw (embedding_new vector_cosine_ops)")
        if is_back:
            work.run_cutover()
    others = "SELECT array_agg((id, other) ORDER BY id) FROM notes"
    number, states = 0, set()
    while True:
        # Not each of some two hundred and fifty: neighbours that are left out leave the same behind.
        number += 7
        execute(
            dsn18,
            f"UPDATE notes SET body = 'edited {number}' WHERE id = {number % 9 + 1}",
            f"INSERT INTO notes (id, body, other, embedding) SELECT {100 + number}, 'new', 'n', v FROM kept",
            f"DELETE FROM notes WHERE id = {93 + number}",
        )
        before = value(dsn18, others)
        with beside_at_work(dsn18) as work, killed_at(number) as counted, suppress(Killed):
            if is_back and work_state(dsn18) == "cut_over":
                work.roll_back()
            else:
                work.run_cutover()
        state = work_state(dsn18)
        states.add(state)
        second = "embedding_old" if state == "cut_over" else "embedding_new"
        # The ledger and the catalog say the same, whatever the moment.
        assert value(dsn18, COLUMNS) == ["embedding", second]
        assert value(dsn18, "SELECT pg_get_viewdef('shown'::regclass) ~ 'embedding_'") is False
        assert value(dsn18, others) == before
        if counted[0] < number:
            break
        if not is_back and state == "cut_over":
            with beside_at_work(dsn18) as work:
                work.run_cutover()
                assert work.wrong_rows("body") == []
                work.roll_back()
        elif is_back and state != "cut_over":
            with beside_at_work(dsn18) as work:
                work.run_cutover()
                assert work.wrong_rows("body") == []
    assert {"cut_over", "rolled_back" if is_back else "filling"} <= states
    with beside_at_work(dsn18) as work:
        work.run_cutover()
        assert work.wrong_rows("body") == []
        assert rows(dsn18, "SELECT count(*) FROM ragops.captured WHERE NOT is_kept") == [(0,)]


def work_state(dsn: str) -> str:
    return str(value(dsn, STATE))
