"""Fill the queue from files, manifests and rows: the same items and phases whichever way they come."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from campaigns import execute, make_playbook, open_session, queue_of, reseed_queue, rows, value

from ragops.errors import RagopsError
from ragops.playbook.model import Source
from ragops.playbook.steps import Embed, ReseedQueue
from ragops.playbook.tables import Tables
from ragops.postgres.connection import Connection
from ragops.postgres.queue import seed_statement
from ragops.postgres.queue_seed import BLOCK_ROWS, queue_blocks
from ragops.postgres.row_source import source_relation
from ragops.postgres.statements import text_of

ITEMS = "SELECT id, file_path, status, attempts, phase FROM files_queue ORDER BY id"
STEPS = (ReseedQueue(step="reseed_queue"), Embed(step="embed", until=2), Embed(step="embed", until=5))
QUERY = "SELECT key, body FROM posts WHERE body LIKE '%'"


def reseed(dsn: str, source: Source, *, append: bool = False) -> int:
    with open_session(dsn, make_playbook(source=source, steps=STEPS)) as session:
        return reseed_queue(session, append=append)


def seed_from(connection: Connection, locations: Iterable[str], gates: Sequence[int]) -> int:
    statement = seed_statement(Tables(), relation=None, gates=gates)
    with connection.transaction():
        return queue_of(connection).seed(statement, locations, gates=gates)


def make_posts(dsn: str, count: int) -> None:
    execute(
        dsn,
        "CREATE TABLE posts (key bigint, body text)",
        f"INSERT INTO posts SELECT n, 'body' FROM generate_series({count}, 1, -1) n",
    )


@pytest.mark.parametrize("gates", [(), (1,), (3, 5), (7,), (1000, 100_000)])
def test_phases_are_the_same_whichever_way_the_items_come(
    connection: Connection, dsn: str, gates: tuple[int, ...]
) -> None:
    assert seed_from(connection, map(str, range(1, 8)), gates) == 7
    expected = [(n, str(n), "pending", 0, 1 + sum(gate < n for gate in gates)) for n in range(1, 8)]
    assert rows(dsn, ITEMS) == expected
    execute(dsn, "TRUNCATE files_queue RESTART IDENTITY")
    make_posts(dsn, 7)
    statement = seed_statement(Tables(), relation=source_relation(Source(query=QUERY)), gates=gates)
    with connection.transaction():
        assert queue_of(connection).seed_rows(statement) == 7
    assert rows(dsn, ITEMS) == expected


def test_the_printed_statement_can_be_run_as_it_stands(connection: Connection, dsn: str) -> None:
    make_posts(dsn, 4)
    printed = text_of(seed_statement(Tables(), relation=source_relation(Source(query=QUERY)), gates=(3, 2)))
    assert "'{2,3}'" in printed and "%(" not in printed
    assert "LIKE '%'" in printed
    execute(dsn, printed)
    assert [row[4] for row in rows(dsn, ITEMS)] == [1, 1, 2, 3]
    assert text_of(seed_statement(Tables(), relation=None, gates=(2,))).startswith("COPY ")


def test_gates_cut_blocks_where_they_lie(connection: Connection, dsn: str) -> None:
    count, gates = 2 * BLOCK_ROWS + 7, (1000, BLOCK_ROWS + 1, 2 * BLOCK_ROWS)
    assert seed_from(connection, (f"é{n}.txt" for n in range(count)), gates) == count
    bounds = [0, *gates, count]
    phases = rows(dsn, "SELECT phase, count(*), min(id), max(id) FROM files_queue GROUP BY 1 ORDER BY 1")
    assert phases == [(k, b - a, a + 1, b) for k, (a, b) in enumerate(pairwise(bounds), 1)]
    assert value(dsn, f"SELECT file_path FROM files_queue WHERE id = {count}") == f"é{count - 1}.txt"


def test_locations_are_taken_block_by_block() -> None:
    """No more than a block is in memory: the source is not read ahead of what is sent."""
    taken: list[int] = []

    def source() -> Iterator[str]:
        for number in range(10 * BLOCK_ROWS):
            taken.append(number)
            yield "x"

    blocks = queue_blocks(source(), status="pending", gates=(10,))
    assert next(blocks).rows == len(taken) == 10
    assert next(blocks).rows == BLOCK_ROWS
    assert len(taken) == 10 + BLOCK_ROWS


def test_rows_and_a_manifest_give_the_same_queue(dsn: str, tmp_path: Path) -> None:
    make_posts(dsn, 12)
    assert reseed(dsn, Source(query=QUERY)) == 12
    from_rows = rows(dsn, ITEMS)
    execute(dsn, "TRUNCATE files_queue RESTART IDENTITY")
    manifest = tmp_path / "list.txt"
    manifest.write_text("".join(f"{n}\n" for n in range(1, 13)))
    assert reseed(dsn, Source(manifest=manifest)) == 12
    assert rows(dsn, ITEMS) == from_rows
    assert [row[4] for row in from_rows] == [1] * 2 + [2] * 3 + [3] * 7


def test_appending_rows_skips_what_is_there(dsn: str) -> None:
    make_posts(dsn, 3)
    source = Source(table="posts", id_column="key", text_column="body")
    assert reseed(dsn, source) == 3
    execute(dsn, "INSERT INTO posts VALUES (20, 'b'), (10, 'a')")
    assert reseed(dsn, source, append=True) == 2
    assert rows(dsn, "SELECT file_path, phase FROM files_queue WHERE phase = 3 ORDER BY id") == [
        ("10", 3),
        ("20", 3),
    ]
    with pytest.raises(RagopsError, match="not empty"):
        reseed(dsn, source)


def test_the_planner_knows_what_was_queued(dsn: str) -> None:
    make_posts(dsn, 500)
    reseed(dsn, Source(query=QUERY))
    assert value(dsn, "SELECT reltuples FROM pg_class WHERE oid = 'files_queue'::regclass") == 500
    statistics = (
        "SELECT most_common_vals::text FROM pg_stats WHERE tablename = 'files_queue' AND attname = 'status'"
    )
    assert value(dsn, statistics) == "{pending}"


def test_an_error_in_the_midst_of_the_source_queues_nothing(dsn: str, tmp_path: Path) -> None:
    manifest = tmp_path / "list.txt"
    manifest.write_text("".join(f"{n}.txt\n" for n in range(3 * BLOCK_ROWS)) + "../secret\n")
    with pytest.raises(RagopsError, match=r"'\.\.' in the path") as caught:
        reseed(dsn, Source(manifest=manifest))
    assert (caught.value.where or "").endswith(f"line {3 * BLOCK_ROWS + 1}")
    assert value(dsn, "SELECT count(*) FROM files_queue") == 0
    assert value(dsn, "SELECT count(*) FROM ragops.source") == 0
