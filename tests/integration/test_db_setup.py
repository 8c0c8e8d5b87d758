"""`db init` on queues that exist: indexes and settings that are missing, and nothing that its owner chose."""

from __future__ import annotations

import pytest
from campaigns import execute, rows, value
from psycopg import sql

from ragops.errors import PlanRefused
from ragops.playbook.tables import QueueColumns, QueueTable, Tables
from ragops.postgres.connection import Connection, Target
from ragops.postgres.setup import QUEUE_INDEXES, QUEUE_SETTINGS, Addition, initialise, plan_setup

OPTIONS = "SELECT unnest(reloptions) FROM pg_class WHERE oid = 'files_queue'::regclass ORDER BY 1"
INDEXES = "SELECT count(*) FROM pg_index WHERE indrelid = 'files_queue'::regclass"
OLD_QUEUE = (
    "DROP TABLE files_queue",
    "CREATE TABLE files_queue (id bigserial PRIMARY KEY, file_path varchar(900) NOT NULL,"
    " status varchar(20) NOT NULL DEFAULT 'pending')",
    "INSERT INTO files_queue (file_path) SELECT n || '.txt' FROM generate_series(1, 50) n",
)


def plan(connection: Connection, tables: Tables | None = None) -> list[Addition]:
    return plan_setup(connection, tables or Tables(), dimensions=lambda: 32)


def test_a_new_queue_has_its_indexes_and_settings(connection: Connection, dsn: str) -> None:
    assert plan(connection) == []
    assert rows(dsn, OPTIONS) == sorted((f"{name}={setting}",) for name, setting in QUEUE_SETTINGS.items())
    assert value(dsn, INDEXES) == 1 + len(QUEUE_INDEXES)


def test_an_old_queue_gets_what_it_lacks_once(connection: Connection, target: Target, dsn: str) -> None:
    execute(dsn, *OLD_QUEUE)
    additions = plan(connection)
    assert [a.what for a in additions if not a.what.startswith("column")] == [
        "settings of public.files_queue",
        "index of pending items on public.files_queue",
        "index of leases on public.files_queue",
        "index of claims on public.files_queue",
        "index of failed items on public.files_queue",
    ]
    initialise(connection, target, additions)
    assert plan(connection) == []
    assert value(dsn, INDEXES) == 1 + len(QUEUE_INDEXES)
    assert value(dsn, "SELECT count(*) FROM files_queue WHERE phase = 1") == 50


def test_what_the_owner_chose_stays(connection: Connection, target: Target, dsn: str) -> None:
    execute(
        dsn,
        *OLD_QUEUE,
        "ALTER TABLE files_queue SET (fillfactor = 90, autovacuum_vacuum_threshold = 7)",
        "ALTER TABLE files_queue ADD COLUMN phase smallint NOT NULL DEFAULT 1",
        "CREATE INDEX mine ON files_queue (phase, id) INCLUDE (file_path) WHERE status = 'pending'",
    )
    additions = plan(connection)
    assert "index of pending items on public.files_queue" not in [a.what for a in additions]
    initialise(connection, target, additions)
    found = dict(option[0].split("=") for option in rows(dsn, OPTIONS))
    assert found == {**QUEUE_SETTINGS, "fillfactor": "90", "autovacuum_vacuum_threshold": "7"}


@pytest.mark.parametrize(
    "index",
    [
        "CREATE INDEX ON files_queue (id, phase) WHERE status = 'pending'",
        "CREATE INDEX ON files_queue (phase, id)",
        "CREATE INDEX ON files_queue (phase, id) WHERE status = 'failed'",
        "CREATE INDEX ON files_queue (phase, lower(file_path), id) WHERE status = 'pending'",
    ],
)
def test_an_index_of_another_kind_is_no_replacement(connection: Connection, dsn: str, index: str) -> None:
    execute(dsn, *OLD_QUEUE, "ALTER TABLE files_queue ADD COLUMN phase smallint NOT NULL DEFAULT 1", index)
    assert "index of pending items on public.files_queue" in [a.what for a in plan(connection)]


def test_mapped_names_and_an_enum(connection: Connection, target: Target, dsn: str) -> None:
    execute(
        dsn,
        "CREATE TYPE state AS ENUM ('pending', 'processing', 'completed', 'failed')",
        'CREATE TABLE "que%s ue" ("I d" uuid PRIMARY KEY, path text, "st""ate" state NOT NULL)',
    )
    columns = QueueColumns(id="I d", location="path", status='st"ate', lease_until="%(until)s")
    tables = Tables(files_queue=QueueTable(table='"que%s ue"', columns=columns))
    initialise(connection, target, plan(connection, tables))
    assert plan(connection, tables) == []


def test_a_partitioned_queue_has_indexes_and_no_settings(connection: Connection, target: Target, dsn: str) -> None:
    execute(
        dsn,
        "DROP TABLE files_queue",
        "CREATE TABLE files_queue (id bigint, file_path text, status text) PARTITION BY HASH (id)",
        "CREATE TABLE part0 PARTITION OF files_queue FOR VALUES WITH (MODULUS 1, REMAINDER 0)",
    )
    initialise(connection, target, plan(connection))
    assert plan(connection) == []
    assert value(dsn, INDEXES) == len(QUEUE_INDEXES)


def test_a_queue_of_another_role_gets_advice(connection: Connection, target: Target, dsn: str) -> None:
    columns = (
        "attempts int, phase smallint, claim_id uuid, claimed_by text, lease_until timestamptz, last_error text"
    )
    execute(dsn, *OLD_QUEUE, *(f"ALTER TABLE files_queue ADD COLUMN {c}" for c in columns.split(", ")))
    role = sql.Identifier(f"guest_{value(dsn, 'SELECT current_database()')}")
    connection.execute(sql.SQL("CREATE ROLE {}").format(role))
    connection.execute(sql.SQL("GRANT ALL ON ALL TABLES IN SCHEMA public TO {}").format(role))
    connection.execute(sql.SQL("GRANT USAGE ON SCHEMA ragops TO {}").format(role))
    try:
        with connection.transaction():
            connection.execute(sql.SQL("SET LOCAL ROLE {}").format(role))
            additions = plan(connection)
            assert len(additions) == 1 + len(QUEUE_INDEXES)
            assert all(addition.is_advice for addition in additions)
            initialise(connection, target, additions)
    finally:
        connection.execute(sql.SQL("DROP OWNED BY {}").format(role))
        connection.execute(sql.SQL("DROP ROLE {}").format(role))
    assert value(dsn, INDEXES) == 1


def test_a_queue_whose_status_is_a_number_is_named(connection: Connection, target: Target, dsn: str) -> None:
    execute(dsn, "DROP TABLE files_queue", "CREATE TABLE files_queue (id bigint, file_path text, status smallint)")
    with pytest.raises(PlanRefused, match=r"index of pending items on .* cannot be created") as caught:
        initialise(connection, target, plan(connection))
    assert "smallint" in str(caught.value.actual)
    assert (
        value(dsn, "SELECT count(*) FROM pg_attribute WHERE attrelid = 'files_queue'::regclass AND attnum > 0")
        == 3
    )
