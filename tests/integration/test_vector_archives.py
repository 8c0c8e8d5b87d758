"""Putting archived vectors back in parts: where it goes on, and what happens at the same moment."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import psycopg
import pytest
from campaigns import execute, rows, value

from ragops.playbook.targets import RowTarget
from ragops.postgres.connection import Connection, Target, connect
from ragops.postgres.targets import find_targets
from ragops.postgres.vector_archives import VectorArchive, read_vector_archives, restore_batch
from ragops.row_facts import TargetFacts

ROWS = 30
STAGE = (
    "CREATE TABLE notes (id int PRIMARY KEY, body text, embedding vector(3))",
    f"INSERT INTO notes SELECT n, 'text ' || n, ARRAY[n, 1, 2]::vector FROM generate_series(1, {ROWS}) n",
    "INSERT INTO ragops.campaign (name, playbook, plan, status) VALUES ('c', '{}', '{}', 'undoing')",
    "INSERT INTO ragops.target (relation, relation_oid, column_name, key_columns)"
    " VALUES ('public.notes', 'notes'::regclass, 'embedding', '{id}')",
    "INSERT INTO ragops.vector_archive (campaign_id, target_id, archive_table) VALUES (1, 1, 'vectors_1')",
    "CREATE TABLE ragops.vectors_1 (key text PRIMARY KEY, old vector(3), new_hash bytea)",
    "INSERT INTO ragops.vectors_1 SELECT jsonb_build_array(id::text)::text,"
    " CASE WHEN id > 1 THEN ARRAY[0, id, 0]::vector END, sha256(vector_send(embedding)) FROM notes",
)
RIGHT = """SELECT count(*) FROM notes
            WHERE embedding IS NOT DISTINCT FROM CASE WHEN id > 1 THEN ARRAY[0, id, 0]::vector END"""


@pytest.fixture
def staged(dsn18: str) -> Iterator[tuple[Connection, VectorArchive, TargetFacts]]:
    execute(dsn18, *STAGE)
    with connect(Target(dsn18, "the test database")) as connection:
        (archive,) = read_vector_archives(connection)
        facts, _ = find_targets(connection, [RowTarget(table="notes", text="{body}")])
        yield connection, archive, facts[0]


def test_each_part_begins_behind_the_one_before(
    staged: tuple[Connection, VectorArchive, TargetFacts], dsn18: str
) -> None:
    connection, archive, facts = staged
    assert restore_batch(connection, archive, facts, size=7).counts == {"restored": 7}
    assert value(dsn18, RIGHT) == 7
    # As another process would find it.
    (again,) = read_vector_archives(connection)
    assert (again.restored, again.undone_to, again.is_restored) == (7, '["15"]', False)
    execute(dsn18, "UPDATE notes SET embedding = NULL WHERE id = 9", "DELETE FROM notes WHERE id = 8")
    # What an earlier part has put back is nobody's business any more.
    execute(dsn18, "UPDATE notes SET embedding = ARRAY[9, 9, 9]::vector WHERE id = 1")
    while not restore_batch(connection, again, facts, size=7).is_last:
        pass
    (done,) = read_vector_archives(connection)
    assert (done.restored, done.changed, done.deleted, done.is_restored) == (28, 1, 1, True)
    assert {(row.key, row.why) for row in done.left} == {('["8"]', "deleted"), ('["9"]', "changed")}
    assert restore_batch(connection, done, facts).is_last and value(dsn18, RIGHT) == 27
    assert rows(dsn18, "SELECT embedding::text FROM notes WHERE id = 1") == [("[9,9,9]",)]


@pytest.mark.parametrize(
    ("change", "restored"),
    [("body = 'edited'", ROWS), ("embedding = ARRAY[7, 7, 7]::vector", ROWS - 1)],
    ids=["another-column", "the-vector"],
)
def test_a_row_that_is_written_at_the_same_moment(
    staged: tuple[Connection, VectorArchive, TargetFacts], dsn18: str, change: str, restored: int
) -> None:
    """The undo waits for the application's transaction, and then sees what that has committed."""
    connection, archive, facts = staged
    with psycopg.connect(dsn18) as application:
        application.execute(f"UPDATE notes SET {change} WHERE id = 5".encode())
        commit = threading.Timer(0.5, application.commit)
        commit.start()
        counts = restore_batch(connection, archive, facts).counts
        commit.join()
    assert counts["restored"] == restored and sum(counts.values()) == ROWS
    (body, vector) = rows(dsn18, "SELECT body, embedding::text FROM notes WHERE id = 5")[0]
    assert (body, vector) in [("edited", "[0,5,0]"), ("text 5", "[7,7,7]")]
