"""What a build is given, as tables: the server's facts in, parameters and reason out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from facts_factory import MB, column, database, definition, hnsw, limits, server, server_host, table
from playbook_factory import with_steps

from ragops.actions import CreateIndex, IndexBuild, RestoreIndex, SetParameter
from ragops.campaign.plan import make_plan
from ragops.errors import PlanRefused
from ragops.facts import ServerFacts
from ragops.indexes.resources import amount, bytes_of, graph_bytes, resources_of
from ragops.playbook.model import Index
from ragops.playbook.steps import RebuildIndexes
from ragops.postgres.ddl import sql_text

GB = 1024 * MB
NAME = "idx_documents_embedding_hnsw"
MEMORY, WORKERS = "maintenance_work_mem", "max_parallel_maintenance_workers"
ONE_INDEX = f"indexes: [{{name: {NAME}, table: documents}}]\n"
SCAN = {"min_parallel_table_scan_size": "0"}


def _create(**changes: Any) -> CreateIndex:
    return CreateIndex(Index(name=NAME, table="documents"), table("documents"), "embedding", **changes)


def _restore(text: str, *, type: str = "vector(768)") -> RestoreIndex:
    on = table("documents")
    return RestoreIndex(NAME, replace(on, columns={**on.columns, "embedding": column("embedding", type)}), text)


def _hnsw(key: str, *, m: int = 16, more: str = "") -> str:
    return f"CREATE INDEX i ON public.documents USING hnsw ({key}) WITH (m='{m}', ef_construction='64'){more}"


# Rows in memory when the server said that the graph was full: PostgreSQL 18, pgvector 0.8.5, no parallel
# workers, by memory in MB, key and m.
FULL: list[tuple[int, str, int, int]] = [
    (12, "embedding vector_l2_ops", 8, 6296),
    (12, "embedding vector_l2_ops", 16, 5588),
    (12, "embedding vector_l2_ops", 32, 4554),
    (8, "((embedding)::halfvec(384)) halfvec_l2_ops", 16, 5666),
    (8, "((embedding)::halfvec(384)) halfvec_l2_ops", 32, 4207),
    (4, "((binary_quantize(embedding))::bit(384)) bit_hamming_ops", 8, 8220),
    (4, "((binary_quantize(embedding))::bit(384)) bit_hamming_ops", 16, 5498),
    (12, "((embedding)::vector(768)) vector_l2_ops", 16, 3321),
    (12, "((embedding)::vector(768)) vector_l2_ops", 32, 2925),
    (8, "((embedding)::halfvec(768)) halfvec_l2_ops", 16, 3724),
    (8, "((embedding)::halfvec(768)) halfvec_l2_ops", 32, 3039),
]


@pytest.mark.parametrize(("memory_mb", "key", "m", "rows"), FULL)
def test_the_estimate_is_what_servers_took(memory_mb: int, key: str, m: int, rows: int) -> None:
    build = _restore(_hnsw(key, m=m), type="vector(384)")
    none = graph_bytes(build, 0)
    estimated = graph_bytes(build, rows)
    assert none is not None and estimated is not None
    assert 1.0 <= (estimated - none) / (memory_mb * MB) < 1.05


SHAPES: dict[str, tuple[IndexBuild, int | None]] = {
    "the playbook's": (_create(), 768 * 4 + 16 * 32),
    "restored": (_restore(definition(NAME)), 768 * 4 + 16 * 32),
    "another m": (_restore(definition(NAME, m=32)), 768 * 4 + 32 * 32),
    "m not given": (
        _restore("CREATE INDEX i ON public.documents USING hnsw (embedding vector_ip_ops)"),
        768 * 4 + 16 * 32,
    ),
    "partial": (_restore(_hnsw("embedding vector_ip_ops", m=4, more=" WHERE (id < 7)")), 768 * 4 + 4 * 32),
    "a column with another name": (_restore(_hnsw('"my vec" vector_ip_ops')), None),
    "a halfvec column": (_restore(_hnsw("embedding halfvec_ip_ops"), type="halfvec(100)"), 100 * 2 + 16 * 32),
    "types in a schema of their own": (
        _restore(_hnsw("embedding extensions.vector_l2_ops"), type="extensions.vector(10)"),
        10 * 4 + 16 * 32,
    ),
    "a cast of a function's value": (
        _restore(_hnsw("((slow(embedding))::vector(32)) vector_l2_ops")),
        32 * 4 + 16 * 32,
    ),
    "no dimensions": (_restore(_hnsw("embedding vector_l2_ops"), type="vector"), None),
    "sparse vectors": (_restore(_hnsw("embedding sparsevec_l2_ops"), type="sparsevec(9)"), None),
}  # fmt: skip


@pytest.mark.parametrize("case", SHAPES)
def test_type_dimensions_and_m(case: str) -> None:
    build, value_and_neighbours = SHAPES[case]
    rows = 1_000_000
    found = graph_bytes(build, rows)
    if value_and_neighbours is None:
        assert found is None
    else:
        assert found is not None
        assert found / rows == pytest.approx((value_and_neighbours + 208) * 1.02, rel=0.01)


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
    found = resources_of(_create(), rows=100_000, server=_with(facts), step=_step())
    assert ({p.name: p.value for p in found.parameters}, found.note) == (settings, note)
    assert all(p.is_local for p in found.parameters)


def _step(**changes: Any) -> RebuildIndexes:
    return RebuildIndexes(step="rebuild_indexes", **changes)


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
    found = resources_of(_create(), rows=rows, server=_with(facts), step=_step(**step))
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
    found = resources_of(_create(), rows=rows, server=facts, step=_step(parallel_workers=asked))
    assert (SetParameter(WORKERS, "0") in found.parameters) == (not is_safe)


def test_values_of_unknown_size_leave_the_server_s_settings() -> None:
    sparse = _restore(_hnsw("embedding sparsevec_l2_ops"), type="sparsevec(9)")
    assert resources_of(sparse, rows=100_000, server=_with(HOST), step=_step()).parameters == ()


def test_without_workers_the_memory_stays() -> None:
    found = resources_of(_create(concurrently=True), rows=100_000, server=_with(HOST), step=_step())
    assert found.without_workers().parameters == (
        SetParameter(MEMORY, "375MB", is_local=False),
        SetParameter(WORKERS, "0", is_local=False),
    )


def test_a_concurrent_build_has_a_session_s_parameters() -> None:
    found = resources_of(_create(concurrently=True), rows=100_000, server=_with(HOST), step=_step())
    assert [sql_text(parameter) for parameter in found.parameters] == [
        "SET \"maintenance_work_mem\" = '375MB'",
        "SET \"min_parallel_table_scan_size\" = '0'",
        "SET \"max_parallel_maintenance_workers\" = '3'",
    ]


def test_a_concurrent_build_behind_a_pooler_has_none() -> None:
    facts = replace(_with(HOST), is_direct=False)
    found = resources_of(
        _create(concurrently=True), rows=100_000, server=facts, step=_step(maintenance_work_mem="1GB")
    )
    assert found.parameters == ()
    assert "behind a pooler" in found.note
    plain = resources_of(_create(), rows=100_000, server=facts, step=_step())
    assert SetParameter(MEMORY, "375MB") in plain.parameters


@pytest.mark.parametrize("own", [2, 0])
def test_an_unsafe_concurrent_build_behind_a_pooler_is_refused(own: int) -> None:
    facts = replace(_with({WORKERS: own}), is_direct=False, pgvector_version="0.8.1")
    build = _create(concurrently=True)
    if own:
        with pytest.raises(PlanRefused, match="CVE-2026-3172"):
            resources_of(build, rows=100_000, server=facts, step=_step())
    else:
        assert resources_of(build, rows=100_000, server=facts, step=_step()).parameters == ()


def test_the_plan_shows_parameters_and_reason() -> None:
    facts = database(server_facts=_with({"host": server_host(8192)}))
    book = with_steps("{step: embed, until: 100000}", "{step: rebuild_indexes}", more=ONE_INDEX)
    step = make_plan(book, facts, items=200_000).steps[-1]
    assert [sql_text(action) for action in step.actions[:-2]] == [
        "SET LOCAL \"maintenance_work_mem\" = '375MB'",
        "SET LOCAL \"min_parallel_table_scan_size\" = '0'",
        "SET LOCAL \"max_parallel_maintenance_workers\" = '3'",
    ]
    assert step.notes == (
        f"{NAME}: graph about 375 MB, 3 parallel workers, from 8.0 GB free on the server's machine",
    )


PLANNED_ROWS: dict[str, tuple[list[str], int | None, tuple[int, int], list[str]]] = {
    "nothing embedded before: the tables as they are": (
        ["{step: rebuild_indexes}", "{step: embed}"], None, (100_000, 200_000), ["375 MB", "744 MB"],
    ),
    "as many chunks a document as now": (
        ["{step: embed, until: 100000}", "{step: rebuild_indexes}"], None, (500, 1_000), ["375 MB", "744 MB"],
    ),
    "one chunk a document at least": (
        ["{step: embed, until: 100000}", "{step: rebuild_indexes}"], None, (500, 100), ["375 MB", "375 MB"],
    ),
    "a source of unknown size": (
        ["{step: embed}", "{step: rebuild_indexes}"], None, (500, 100), ["not known yet", "not known yet"],
    ),
    "a source of known size": (
        ["{step: embed}", "{step: rebuild_indexes}"], 200_000, (0, 0), ["744 MB", "744 MB"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", PLANNED_ROWS)
def test_rows_that_the_plan_counts_on(case: str) -> None:
    steps, items, (documents, chunks), expected = PLANNED_ROWS[case]
    facts = database(
        {
            "documents": table("documents", rows=documents),
            "document_chunks": table("document_chunks", rows=chunks),
        },
        server_facts=_with({"host": server_host(8192)}),
    )
    (step,) = [s for s in make_plan(with_steps(*steps), facts, items=items).steps if s.verb == "rebuild_indexes"]
    assert [word in note for word, note in zip(expected, step.notes, strict=True)] == [True, True]


def test_a_valid_index_gets_no_parameters() -> None:
    facts = database(
        {"documents": table("documents", rows=100_000, indexes=(hnsw(NAME),))},
        server_facts=_with(HOST),
    )
    book = with_steps("{step: rebuild_indexes}", more=ONE_INDEX)
    assert make_plan(book, facts).steps[-1].actions == ()


def test_amounts() -> None:
    assert [bytes_of(text) for text in ("1kB", "64MB", "2GB", "1TB")] == [1024, 64 * MB, 2 * GB, 1024 * GB]
    assert [amount(count) for count in (1, 64 * MB, 1023 * MB, GB, 4_403 * MB)] == [
        "1 MB", "64 MB", "1,023 MB", "1.0 GB", "4.3 GB",
    ]  # fmt: skip
