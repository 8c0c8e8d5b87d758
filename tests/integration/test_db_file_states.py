"""How files were when they were queued: kept with their filling, whatever becomes of it, and read by location."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from campaigns import execute, make_playbook, open_session, queue_of, reseed_queue, table_facts, value

from ragops.documents.states import FileChange, FileState
from ragops.playbook.model import Source
from ragops.playbook.tables import Tables
from ragops.postgres.connection import Connection
from ragops.postgres.file_states import changed_files, note_changes, present_seeding, read_states
from ragops.postgres.filling import claim_space, end_filling, read_filling, replace_space, restore_filling
from ragops.session import Session

NAMES = ["a.txt", "docs/größe 2.txt", "docs/日本.txt"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for number, name in enumerate(NAMES):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x" * number, encoding="utf-8")
    return tmp_path


@pytest.fixture
def session(dsn18: str, root: Path) -> Iterator[Session]:
    with open_session(dsn18, make_playbook(source=Source(folder=root))) as opened:
        reseed_queue(opened)
        yield opened


def states(connection: Connection) -> dict[str, FileState]:
    seeding = present_seeding(connection, Tables())
    return {} if seeding is None else read_states(connection, seeding, [*NAMES, "absent.txt"])


def now(root: Path) -> dict[str, FileState]:
    return {name: FileState.of((root / name).stat()) for name in NAMES}


def test_every_file_is_kept_as_it_is(session: Session, root: Path) -> None:
    assert states(session.connection) == now(root)


def test_what_is_appended_does_not_touch_what_is_there(session: Session, root: Path) -> None:
    before = now(root)
    os.utime(root / "a.txt", ns=(1, 1))
    (root / "new.txt").write_text("new", encoding="utf-8")
    assert reseed_queue(session, append=True) == 1
    assert states(session.connection) == before
    seeding = present_seeding(session.connection, Tables())
    assert seeding is not None and len(read_states(session.connection, seeding, ["new.txt"])) == 1


def test_a_changed_file_is_named_and_kept_as_it_was_embedded(session: Session) -> None:
    later = FileState(7, 2**62)
    change, retried = FileChange(later, states(session.connection)[NAMES[1]]), FileChange(later, None)
    note_changes(session.connection, Tables(), {NAMES[1]: change, NAMES[0]: retried})
    found = changed_files(session.connection, Tables())
    assert (found.count, found.first) == (1, (NAMES[1],))
    assert [states(session.connection)[name] for name in NAMES[:2]] == [later, later]


def test_failed_items_that_are_retried_are_read_as_they_are_then(session: Session, dsn18: str) -> None:
    execute(dsn18, "UPDATE files_queue SET status = 'failed' WHERE file_path <> 'a.txt'")
    assert queue_of(session.connection).retry_failed() == 2
    assert list(states(session.connection)) == ["a.txt"]


@pytest.mark.parametrize("is_archived", [True, False])
def test_states_go_and_come_back_with_their_items(session: Session, dsn18: str, is_archived: bool) -> None:
    connection, before = session.connection, states(session.connection)
    queue, filling = table_facts(connection)["files_queue"], read_filling(connection, Tables())
    archived = {"queue": filling.queue, "generation": filling.generation}
    if is_archived:
        execute(
            dsn18,
            "INSERT INTO ragops.archive (logical, schema_name, table_name, archive_table, rows, queue_source)"
            " VALUES ('files_queue', 'public', 'files_queue', 'archive_1_files_queue', 3,"
            f' \'{{"queue": "{filling.queue}", "generation": {filling.generation}}}\')',
        )
    with connection.transaction():
        end_filling(connection, queue)
    assert states(connection) == {}
    assert value(dsn18, "SELECT count(*) FROM ragops.file_state") == (3 if is_archived else 0)
    with connection.transaction():
        restore_filling(connection, queue, archived)
    assert states(connection) == (before if is_archived else {})


def test_a_fleet_that_takes_another_one_s_place_knows_the_states(session: Session) -> None:
    connection, before = session.connection, states(session.connection)
    generation = read_filling(connection, Tables()).generation
    claim_space(connection, Tables(), generation=generation, fingerprint="a", chunking={})
    with connection.transaction():
        assert replace_space(
            connection, Tables(), generation=generation, fingerprint="b", chunking={}, is_campaign=True
        )
    assert read_filling(connection, Tables()).generation == generation + 1
    assert states(connection) == before


def test_a_queue_that_was_emptied_by_hand_is_filled_with_new_states(
    session: Session, dsn18: str, root: Path
) -> None:
    execute(dsn18, "TRUNCATE files_queue")
    os.utime(root / "a.txt", ns=(1, 1))
    reseed_queue(session)
    assert states(session.connection) == now(root)
    assert value(dsn18, "SELECT count(*) FROM ragops.file_state") == 3


def test_nothing_is_kept_where_nobody_asks(dsn18: str, root: Path) -> None:
    with open_session(dsn18, make_playbook(source=Source(folder=root, changed="ignore"))) as session:
        reseed_queue(session)
        assert present_seeding(session.connection, Tables()) is None
