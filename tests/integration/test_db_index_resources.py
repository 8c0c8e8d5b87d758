"""What index builds are given, on real servers: read, planned, set, and gone afterwards."""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from campaigns import execute, make_playbook, open_session, reported, rows, single, value
from conftest import Ragops, wait_for

from ragops.campaign.steps import building
from ragops.campaign.steps.rebuild_indexes import RebuildResult, plan_rebuild, rebuild
from ragops.errors import Interrupted, PlanRefused, RagopsError
from ragops.playbook.model import Index
from ragops.playbook.steps import RebuildIndexes
from ragops.postgres import server_host
from ragops.postgres.catalog import read_server
from ragops.postgres.connection import Connection, is_direct
from ragops.postgres.index_builds import NoSharedMemory, StatementProgress, create, index_progress
from ragops.session import Session

MB = 1024 * 1024
ROWS = 12_000
VECTOR = "(SELECT array_agg(sin(n * i)) FROM generate_series(1, 32) i)"
NAME = "idx_documents_embedding_hnsw"
INDEX = Index(name="one", table="documents", metric="l2", m=8, ef_construction=16)
SHARED_MEMORY = server_host.SHARED_MEMORY
OBSERVED = "maintenance_work_mem", "max_parallel_maintenance_workers", "min_parallel_table_scan_size"
# The last thing that happens before a build: what the server then works with. The concurrent build commits it.
OBSERVER = """
CREATE TABLE observed (memory text, workers text, scan text);
CREATE FUNCTION observe() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
  INSERT INTO observed SELECT current_setting('maintenance_work_mem'),
    current_setting('max_parallel_maintenance_workers'), current_setting('min_parallel_table_scan_size');
END $$;
CREATE EVENT TRIGGER observer ON ddl_command_start WHEN TAG IN ('CREATE INDEX') EXECUTE FUNCTION observe();
"""


def _step(**changes: Any) -> RebuildIndexes:
    return RebuildIndexes(step="rebuild_indexes", **changes)


def _settings(result: RebuildResult) -> dict[str, str]:
    """What the only index that was built was given."""
    (built,) = result.indexes
    return {parameter.name: parameter.value for parameter in built.build.resources.parameters}


@pytest.fixture
def session(dsn: str) -> Iterator[Session]:
    """A table whose graph does not fit into the database's maintenance_work_mem of 1 MB."""
    execute(
        dsn,
        f"INSERT INTO documents (content, embedding) SELECT n, {VECTOR} FROM generate_series(1, {ROWS}) n",
        f"ALTER DATABASE {value(dsn, 'SELECT current_database()')} SET maintenance_work_mem = '1MB'",
        OBSERVER,
    )
    with open_session(dsn, make_playbook(indexes=(INDEX,))) as opened:
        yield opened


@pytest.fixture
def notices(session: Session) -> list[str]:
    """What the server says during builds in the session's connection, parallel workers among it."""
    heard: list[str] = []
    session.connection.execute("SET client_min_messages = debug1")
    session.connection.add_notice_handler(lambda notice: heard.append(notice.message_primary or ""))
    return heard


def _own_settings(connection: Connection) -> list[Any]:
    return [connection.execute(f"SHOW {name}".encode()).fetchone() for name in OBSERVED]


def test_limits_are_read(connection: Connection) -> None:
    found = read_server(connection)
    assert found.is_direct
    assert found.limits is not None
    known = found.limits.maintenance_work_mem, found.limits.max_parallel_maintenance_workers
    assert known == (64 * MB, 2)
    assert (found.limits.max_parallel_workers, found.limits.max_worker_processes) == (8, 8)
    # PostgreSQL's own defaults, which say nothing of the machine.
    assert (found.limits.shared_buffers, found.limits.effective_cache_size) == (None, None)
    connection.execute("SET effective_cache_size = '5GB'")
    changed = read_server(connection).limits
    assert changed is not None and changed.effective_cache_size == 5 * 1024 * MB


def test_the_server_s_machine_is_this_one(connection: Connection) -> None:
    limits = read_server(connection).limits
    assert limits is not None and limits.host is not None
    assert limits.host.cores >= 1
    assert limits.host.memory_bytes > 0
    assert (limits.host.shared_bytes is not None) == SHARED_MEMORY.is_dir()


def test_a_process_of_another_machine_is_not_taken_for_the_server(connection: Connection, tmp_path: Path) -> None:
    pid, now = connection.info.backend_pid, time.time()
    assert server_host.find_server_host(pid, now, shared_memory="posix") is not None
    assert server_host.find_server_host(pid, now - 3600, shared_memory="posix") is None
    assert server_host.find_server_host(os.getpid(), now, shared_memory="posix") is None
    assert server_host.find_server_host(2**22 + 1, now, shared_memory="posix") is None


@pytest.mark.parametrize(
    ("kind", "has_folder", "is_bounded"), [("posix", True, True), ("mmap", True, False), ("posix", False, False)]
)
def test_only_posix_shared_memory_is_bounded_by_its_folder(
    connection: Connection, tmp_path: Path, kind: str, has_folder: bool, is_bounded: bool
) -> None:
    folder = tmp_path if has_folder else tmp_path / "none"
    found = server_host.find_server_host(
        connection.info.backend_pid, time.time(), shared_memory=kind, folder=folder
    )
    assert found is not None
    assert (found.shared_bytes is not None) == is_bounded


def test_a_pooler_s_key_is_no_process_id(connection: Connection) -> None:
    assert is_direct(connection, connection.info.backend_pid)
    assert not is_direct(connection, connection.info.backend_pid + 1)


def test_without_the_plan_the_graph_does_not_fit(session: Session, notices: list[str]) -> None:
    """The server's own settings, which the next tests are told apart from."""
    rebuild(single(session), _step(maintenance_work_mem="1MB", parallel_workers=0))
    assert any("no longer fits" in line for line in notices)
    assert not any("parallel workers" in line for line in notices)


def test_a_plain_build_fits_and_is_parallel(session: Session, dsn: str, notices: list[str]) -> None:
    before = _own_settings(session.connection)
    result = rebuild(single(session), _step())
    ((memory, workers, scan),) = rows(dsn, "TABLE observed")
    assert (memory, scan) == ("64MB", "0")
    assert int(workers) >= 2
    assert not [line for line in notices if "no longer fits" in line]
    assert f"using {workers} parallel workers" in notices
    assert _settings(result)["maintenance_work_mem"] == "64MB"
    assert result.rows == ROWS
    assert "building one on public.documents: graph about 1" in reported(session)
    assert _own_settings(session.connection) == before


def test_a_concurrent_build_gets_the_same_in_a_session_of_its_own(session: Session, dsn: str) -> None:
    before = _own_settings(session.connection)
    result = rebuild(single(session), _step(concurrently=True))
    ((memory, workers, scan),) = rows(dsn, "TABLE observed")
    assert (memory, scan) == ("64MB", "0")
    assert int(workers) >= 2
    assert _settings(result)["maintenance_work_mem"] == "64MB"
    assert _own_settings(session.connection) == before
    assert value(dsn, "SELECT indisvalid FROM pg_index WHERE indexrelid = 'one'::regclass")


def test_a_concurrent_build_behind_a_pooler_sets_nothing(
    session: Session, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ragops.postgres.catalog.is_direct", lambda *_: False)
    result = rebuild(single(session), _step(concurrently=True))
    assert rows(dsn, "SELECT memory, workers FROM observed") == [("1MB", "2")]
    assert _settings(result) == {}
    assert "behind a pooler" in reported(session)


@pytest.mark.parametrize("concurrently", [False, True])
def test_an_unsafe_pgvector_builds_without_workers(session: Session, dsn: str, concurrently: bool) -> None:
    execute(dsn, "UPDATE pg_extension SET extversion = '0.8.1' WHERE extname = 'vector'")
    rebuild(single(session), _step(concurrently=concurrently, parallel_workers=4))
    assert rows(dsn, "SELECT memory, workers FROM observed")[0][1] == "0"
    assert "CVE-2026-3172" in reported(session)


@pytest.mark.parametrize(("concurrently", "left"), [(False, []), (True, [(False,)])])
def test_ctrl_c_ends_a_build(
    session: Session,
    dsn: str,
    monkeypatch: pytest.MonkeyPatch,
    concurrently: bool,
    left: list[tuple[bool]],
) -> None:
    def interrupt(observer: Connection, oid: int) -> StatementProgress | None:
        wait_for(lambda: (found := index_progress(observer, oid)) is not None and found.done > 0, what="a build")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(building, "index_progress", interrupt)
        with pytest.raises(Interrupted, match="invalid" if concurrently else "nothing of it is left"):
            rebuild(
                single(session), _step(concurrently=concurrently, maintenance_work_mem="1MB", parallel_workers=0)
            )
    validity = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('one')"
    assert rows(dsn, validity) == left
    rebuild(single(session), _step(concurrently=concurrently))
    assert rows(dsn, validity) == [(True,)]


def test_an_unsafe_pgvector_behind_a_pooler_is_refused(
    session: Session, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute(dsn, "UPDATE pg_extension SET extversion = '0.8.1' WHERE extname = 'vector'")
    monkeypatch.setattr("ragops.postgres.catalog.is_direct", lambda *_: False)
    with pytest.raises(PlanRefused, match="CVE-2026-3172"):
        rebuild(single(session), _step(concurrently=True))
    assert rows(dsn, "TABLE observed") == []


@pytest.mark.skipif(
    not SHARED_MEMORY.is_dir(), reason="shared memory has no folder, and so no size, on this system"
)
@pytest.mark.parametrize("concurrently", [False, True])
def test_a_build_without_room_in_shared_memory_goes_on_without_workers(
    session: Session, dsn: str, notices: list[str], concurrently: bool
) -> None:
    """The server is asked for more shared memory than its folder has: it refuses that, whatever is free."""
    too_much = f"{math.ceil(shutil.disk_usage(SHARED_MEMORY).total / 1024**3) + 1}GB"
    result = rebuild(
        single(session), _step(concurrently=concurrently, maintenance_work_mem=too_much, parallel_workers=1)
    )
    heard = reported(session)
    assert "no room in shared memory; the disk is not full" in heard
    assert "going on without parallel workers" in heard
    assert _settings(result) == {"maintenance_work_mem": too_much, "max_parallel_maintenance_workers": "0"}
    assert rows(dsn, "SELECT indisvalid FROM pg_index WHERE indexrelid = 'one'::regclass") == [(True,)]
    assert value(dsn, "SELECT count(*) FROM pg_class WHERE relkind = 'i' AND relname LIKE 'one%'") == 1


@pytest.mark.skipif(
    not SHARED_MEMORY.is_dir(), reason="shared memory has no folder, and so no size, on this system"
)
def test_the_error_about_shared_memory_says_what_to_do(session: Session, dsn: str) -> None:
    too_much = f"{math.ceil(shutil.disk_usage(SHARED_MEMORY).total / 1024**3) + 1}GB"
    (build,) = plan_rebuild(single(session), _step()).builds
    with psycopg.connect(dsn) as connection:
        connection.execute(f"SET LOCAL maintenance_work_mem = '{too_much}'".encode())
        connection.execute("SET LOCAL min_parallel_table_scan_size = 0")
        with pytest.raises(NoSharedMemory) as caught:
            create(connection, [build.create], table=build.table)
    assert caught.value.where == "public.documents"
    assert caught.value.actual is not None and "shared memory" in caught.value.actual
    assert caught.value.hint is not None and "--parallel-workers 0" in caught.value.hint


def test_the_dry_run_shows_what_the_build_then_does(dsn18: str, ragops: Ragops) -> None:
    execute(
        dsn18, f"INSERT INTO documents (content, embedding) SELECT n, {VECTOR} FROM generate_series(1, {ROWS}) n"
    )
    execute(dsn18, "DROP SCHEMA ragops CASCADE")
    arguments = "index", "rebuild", NAME, "--json"
    planned = ragops(*arguments, "--dry-run", RAGOPS_DSN=dsn18).json
    assert value(dsn18, "SELECT count(*) FROM pg_namespace WHERE nspname = 'ragops'") == 0
    (build,) = planned["plan"]
    assert build["sql"][-1].startswith(f'CREATE INDEX "{NAME}"')
    assert "graph about" in build["note"]
    assert planned["rows"] == ROWS
    asked = ("--maintenance-work-mem", "80MB", "--parallel-workers", "1")
    shown = ragops("index", "rebuild", NAME, "--dry-run", *asked, RAGOPS_DSN=dsn18).out
    assert "SET LOCAL \"maintenance_work_mem\" = '80MB';" in shown
    assert "1 parallel worker, from" in shown
    (built,) = ragops(*arguments, *asked, RAGOPS_DSN=dsn18).json["indexes"]
    assert built["settings"]["maintenance_work_mem"] == "80MB"
    assert built["settings"]["max_parallel_maintenance_workers"] == "1"


def test_a_full_disk_is_no_lack_of_shared_memory(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    (build,) = plan_rebuild(single(session), _step()).builds

    def fail(*_: object) -> None:
        raise psycopg.errors.DiskFull('could not extend file "base/5/16387": No space left on device')

    monkeypatch.setattr("ragops.postgres.index_builds.execute_single", fail)
    with pytest.raises(RagopsError, match="could not be built") as caught:
        create(session.connection, build.statements, table=build.table)
    assert not isinstance(caught.value, NoSharedMemory)
