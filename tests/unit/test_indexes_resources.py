"""What a build is given, as tables: the server's facts in, parameters and reason out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from facts_factory import MB, column, database, limits, server, server_host, table
from playbook_factory import playbook

from ragops.errors import PlanRefused
from ragops.facts import ServerFacts
from ragops.indexes.plan import IndexBuild, graph_of, index_builds
from ragops.indexes.resources import Parameter, Resources, amount, bytes_of
from ragops.playbook.steps import RebuildIndexes
from ragops.postgres.statements import text_of

GB = 1024 * MB
NAME = "idx_documents_embedding_hnsw"
MEMORY, WORKERS = "maintenance_work_mem", "max_parallel_maintenance_workers"
SCAN = {"min_parallel_table_scan_size": "0"}


def _build(*, concurrently: bool = False) -> IndexBuild:
    book = playbook(f"indexes: [{{name: {NAME}, table: documents}}]")
    (build,) = index_builds(book, database(), existing=[], journal=[], concurrently=concurrently)
    return build


def _given(build: IndexBuild, server: ServerFacts, *, rows: int | None = 100_000, **asked: Any) -> Resources:
    """What the build gets when the step's settings are those `asked` for."""
    settings = RebuildIndexes(step="rebuild_indexes", **asked)
    return build.equipped(rows=rows, server=server, settings=settings).resources


def _with(facts: dict[str, Any]) -> ServerFacts:
    return server(limits=limits(**facts))


# 100,000 rows of 768 dimensions, m = 16: a graph of about 375 MB.
GRAPH = "graph about 375 MB"
UNKNOWN = "within the server's own maintenance_work_mem, as its settings do not tell its memory"
ROOM: dict[str, tuple[dict[str, Any], dict[str, str], str]] = {
    "local, much room": (
        {"host": server_host(8192)},
        {MEMORY: "375MB", **SCAN, WORKERS: "3"},
        f"{GRAPH}, 3 parallel workers, from 8.0 GB free on the server's machine",
    ),
    "local, the server's own memory is enough": (
        {"host": server_host(8192, cores=2), MEMORY: GB},
        SCAN,
        f"{GRAPH}, 2 parallel workers, from 8.0 GB free on the server's machine",
    ),
    "local, little memory": (
        {"host": server_host(400, cores=3)},
        {MEMORY: "300MB", **SCAN},
        f"{GRAPH}, 300 MB of it in memory and the rest slower, 2 parallel workers, "
        "from 400 MB free on the server's machine",
    ),
    "local, no memory at all: as the server has it": (
        {"host": server_host(50, cores=3)},
        SCAN,
        f"{GRAPH}, 64 MB of it in memory and the rest slower, 2 parallel workers, "
        "from 50 MB free on the server's machine",
    ),
    "local, more cores than processes": (
        {"host": server_host(8192, cores=64)},
        {MEMORY: "375MB", **SCAN, WORKERS: "8"},
        f"{GRAPH}, 8 parallel workers, from 8.0 GB free on the server's machine",
    ),
    "local, more processes than parallel queries may have": (
        {"host": server_host(8192, cores=64), "max_worker_processes": 20},
        {MEMORY: "375MB", "max_parallel_workers": "20", **SCAN, WORKERS: "20"},
        f"{GRAPH}, 20 parallel workers, from 8.0 GB free on the server's machine",
    ),
    "local, the server has more workers than cores": (
        {"host": server_host(8192, cores=1), WORKERS: 4},
        {MEMORY: "375MB", **SCAN},
        f"{GRAPH}, 4 parallel workers, from 8.0 GB free on the server's machine",
    ),
    "local, shared memory for all of it": (
        {"host": server_host(8192, shared_mb=400, cores=2)},
        {MEMORY: "375MB", **SCAN},
        f"{GRAPH}, 2 parallel workers, from 8.0 GB free on the server's machine",
    ),
    "local, shared memory for most of it": (
        {"host": server_host(8192, shared_mb=350)},
        {MEMORY: "344MB", **SCAN, WORKERS: "3"},
        f"{GRAPH}, 344 MB of it in memory and the rest slower, 3 parallel workers, "
        "from 8.0 GB free on the server's machine",
    ),
    "local, a container's shared memory": (
        {"host": server_host(8192, shared_mb=60, cores=2)},
        {MEMORY: "375MB", WORKERS: "0"},
        f"{GRAPH}, no parallel workers: /dev/shm has 60 MB free, from 8.0 GB free on the server's machine",
    ),
    "local, shared memory for less than the server's own": (
        {"host": server_host(8192, shared_mb=900, cores=16), MEMORY: GB},
        {WORKERS: "0"},
        f"{GRAPH}, no parallel workers: /dev/shm has 900 MB free, from 8.0 GB free on the server's machine",
    ),
    "remote, nothing but defaults": (
        {},
        SCAN,
        f"{GRAPH}, 64 MB of it in memory and the rest slower, 2 parallel workers, {UNKNOWN}",
    ),
    "remote, buffers set": (
        {"shared_buffers": 1 * GB},
        {MEMORY: "375MB", **SCAN},
        f"{GRAPH}, 2 parallel workers, from a quarter of the server's memory, 4.0 GB as its shared_buffers put it",
    ),
    "remote, the smaller of two accounts": (
        {"shared_buffers": 6 * GB, "effective_cache_size": 900 * MB},
        {MEMORY: "300MB", **SCAN},
        f"{GRAPH}, 300 MB of it in memory and the rest slower, 2 parallel workers, from a quarter of the "
        "server's memory, 1.2 GB as its shared_buffers and effective_cache_size put it",
    ),
    "remote, parallel queries limited by its operator": (
        {MEMORY: GB, "max_parallel_workers": 16, "max_worker_processes": 32},
        {**SCAN, WORKERS: "8"},
        f"{GRAPH}, 8 parallel workers, {UNKNOWN}",
    ),
    "remote, parallel builds switched off": (
        {MEMORY: GB, WORKERS: 0},
        {},
        f"{GRAPH}, no parallel workers, {UNKNOWN}",
    ),
}


@pytest.mark.parametrize("case", ROOM)
def test_room(case: str) -> None:
    facts, settings, note = ROOM[case]
    found = _given(_build(), _with(facts))
    assert ({p.name: p.value for p in found.parameters}, found.note) == (settings, note)
    assert all(p.is_local for p in found.parameters)


HOST = {"host": server_host(8192, shared_mb=400)}
SMALL = {"host": server_host(8192, shared_mb=60)}
ASKED: dict[str, tuple[dict[str, Any], dict[str, Any], int | None, dict[str, str]]] = {
    "memory": (HOST, {MEMORY: "1MB"}, 100_000, {MEMORY: "1MB", **SCAN, WORKERS: "3"}),
    "memory that shared memory cannot hold": (HOST, {MEMORY: "1GB"}, 100_000, {MEMORY: "1GB", WORKERS: "0"}),
    "both, whatever there is": (
        SMALL, {MEMORY: "1GB", "parallel_workers": 7}, 100_000, {MEMORY: "1GB", **SCAN, WORKERS: "7"},
    ),
    "more workers than parallel queries may have": (
        HOST, {"parallel_workers": 9}, 100_000,
        {MEMORY: "375MB", "max_parallel_workers": "9", **SCAN, WORKERS: "9"},
    ),
    "no workers": (HOST, {"parallel_workers": 0}, 100_000, {MEMORY: "375MB", WORKERS: "0"}),
    "as many workers as the server has": (
        HOST, {"parallel_workers": 2}, 100_000, {MEMORY: "375MB", **SCAN, WORKERS: "2"},
    ),
    "workers for a table of a few rows": (HOST, {"parallel_workers": 1}, 9_999, {WORKERS: "1"}),
    "memory for rows that are not known": (HOST, {MEMORY: "2GB"}, None, {MEMORY: "2GB"}),
    "nothing, for a few rows": (HOST, {}, 9_999, {}),
    "nothing, for rows that are not known": (HOST, {}, None, {}),
}  # fmt: skip


@pytest.mark.parametrize("case", ASKED)
def test_what_the_operator_asks_for_wins(case: str) -> None:
    facts, step, rows, settings = ASKED[case]
    found = _given(_build(), _with(facts), rows=rows, **step)
    assert {p.name: p.value for p in found.parameters} == settings
    assert ("not known yet" in found.note) == (rows is None)


@pytest.mark.parametrize(
    ("version", "is_safe"), [("0.8.1", False), ("0.6.0", False), ("0.8.2", True), ("0.9", True)]
)
@pytest.mark.parametrize("rows", [10, 100_000, None])
@pytest.mark.parametrize("asked", [None, 4])
def test_no_parallel_build_with_an_unsafe_pgvector(
    version: str, is_safe: bool, rows: int | None, asked: int | None
) -> None:
    facts = replace(_with(HOST), pgvector_version=version)
    found = _given(_build(), facts, rows=rows, parallel_workers=asked)
    assert (Parameter(WORKERS, "0") in found.parameters) == (not is_safe)


def test_values_of_unknown_size_leave_the_server_s_settings() -> None:
    on = table("documents")
    on = replace(on, columns={**on.columns, "embedding": column("embedding", "sparsevec(9)")})
    text = "CREATE INDEX i ON public.documents USING hnsw (embedding sparsevec_l2_ops) WITH (m='16')"
    sparse = replace(_build(), graph=graph_of(text, on))
    assert _given(sparse, _with(HOST)).parameters == ()


def test_without_workers_the_memory_stays() -> None:
    found = _given(_build(concurrently=True), _with(HOST))
    assert found.without_workers().parameters == (
        Parameter(MEMORY, "375MB", is_local=False),
        Parameter(WORKERS, "0", is_local=False),
    )


def test_a_concurrent_build_has_a_session_s_parameters() -> None:
    found = _given(_build(concurrently=True), _with(HOST))
    assert [text_of(parameter.statement) for parameter in found.parameters] == [
        "SET \"maintenance_work_mem\" = '375MB'",
        "SET \"min_parallel_table_scan_size\" = '0'",
        "SET \"max_parallel_maintenance_workers\" = '3'",
    ]


def test_a_concurrent_build_behind_a_pooler_has_none() -> None:
    facts = replace(_with(HOST), is_direct=False)
    found = _given(_build(concurrently=True), facts, maintenance_work_mem="1GB")
    assert found.parameters == ()
    assert "behind a pooler" in found.note
    plain = _given(_build(), facts)
    assert Parameter(MEMORY, "375MB") in plain.parameters


@pytest.mark.parametrize("own", [2, 0])
def test_an_unsafe_concurrent_build_behind_a_pooler_is_refused(own: int) -> None:
    facts = replace(_with({WORKERS: own}), is_direct=False, pgvector_version="0.8.1")
    build = _build(concurrently=True)
    if own:
        with pytest.raises(PlanRefused, match="CVE-2026-3172"):
            _given(build, facts)
    else:
        assert _given(build, facts).parameters == ()


def test_amounts() -> None:
    assert [bytes_of(text) for text in ("1kB", "64MB", "2GB", "1TB")] == [1024, 64 * MB, 2 * GB, 1024 * GB]
    assert [amount(count) for count in (1, 64 * MB, 1023 * MB, GB, 4_403 * MB)] == [
        "1 MB", "64 MB", "1,023 MB", "1.0 GB", "4.3 GB",
    ]  # fmt: skip
