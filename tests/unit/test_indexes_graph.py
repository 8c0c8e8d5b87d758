"""What a graph takes in memory, as tables: an index's definition in, type, dimensions, m and bytes out."""

from __future__ import annotations

from dataclasses import replace

import pytest
from facts_factory import MB, column, database, definition, table
from playbook_factory import playbook

from ragops.indexes.plan import JournalEntry, index_builds
from ragops.indexes.resources import Graph

NAME = "idx_documents_embedding_hnsw"


def _created() -> Graph:
    """The graph of an index that the playbook describes."""
    book = playbook(f"indexes: [{{name: {NAME}, table: documents}}]")
    (build,) = index_builds(book, database(), existing=[], journal=[], concurrently=False)
    assert isinstance(build.graph, Graph)
    return build.graph


def _restored(text: str, *, type: str = "vector(768)") -> Graph:
    """The graph of an index that the journal has, on a column of that type."""
    on = table("documents")
    on = replace(on, columns={**on.columns, "embedding": column("embedding", type)})
    journal = [JournalEntry("public", NAME, "public.documents", text)]
    facts = database({"documents": on})
    (build,) = index_builds(playbook("indexes: []"), facts, existing=[], journal=journal, concurrently=False)
    assert isinstance(build.graph, Graph)
    return build.graph


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
    graph = _restored(_hnsw(key, m=m), type="vector(384)")
    none, estimated = graph.bytes(0), graph.bytes(rows)
    assert none is not None and estimated is not None
    assert 1.0 <= (estimated - none) / (memory_mb * MB) < 1.05


SHAPES: dict[str, tuple[Graph, int | None]] = {
    "the playbook's": (_created(), 768 * 4 + 16 * 32),
    "restored": (_restored(definition(NAME)), 768 * 4 + 16 * 32),
    "another m": (_restored(definition(NAME, m=32)), 768 * 4 + 32 * 32),
    "m not given": (
        _restored("CREATE INDEX i ON public.documents USING hnsw (embedding vector_ip_ops)"),
        768 * 4 + 16 * 32,
    ),
    "partial": (_restored(_hnsw("embedding vector_ip_ops", m=4, more=" WHERE (id < 7)")), 768 * 4 + 4 * 32),
    "a column with another name": (_restored(_hnsw('"my vec" vector_ip_ops')), None),
    "a halfvec column": (_restored(_hnsw("embedding halfvec_ip_ops"), type="halfvec(100)"), 100 * 2 + 16 * 32),
    "types in a schema of their own": (
        _restored(_hnsw("embedding extensions.vector_l2_ops"), type="extensions.vector(10)"),
        10 * 4 + 16 * 32,
    ),
    "a cast of a function's value": (
        _restored(_hnsw("((slow(embedding))::vector(32)) vector_l2_ops")),
        32 * 4 + 16 * 32,
    ),
    "no dimensions": (_restored(_hnsw("embedding vector_l2_ops"), type="vector"), None),
    "sparse vectors": (_restored(_hnsw("embedding sparsevec_l2_ops"), type="sparsevec(9)"), None),
}  # fmt: skip


@pytest.mark.parametrize("case", SHAPES)
def test_type_dimensions_and_m(case: str) -> None:
    graph, value_and_neighbours = SHAPES[case]
    rows = 1_000_000
    found = graph.bytes(rows)
    if value_and_neighbours is None:
        assert found is None
    else:
        assert found is not None
        assert found / rows == pytest.approx((value_and_neighbours + 208) * 1.02, rel=0.01)
