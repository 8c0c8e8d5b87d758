"""Definitions of indexes, rewritten for a second vector column of another type and other dimensions."""

from __future__ import annotations

from dataclasses import replace

import pytest
from facts_factory import column, table

from ragops.facts import IndexFacts
from ragops.indexes.beside import copies_of, copy_problems, second_column
from ragops.indexes.definitions import VectorColumn, over_column
from ragops.playbook import Playbook
from ragops.postgres.statements import text_of
from ragops.row_facts import TargetFacts

OLD = VectorColumn("embedding", "vector", 768)
HALF = VectorColumn("embedding_new", "halfvec", 3072)
SAME = VectorColumn("embedding_new", "vector", 768)
DEFINITIONS = [
    (" USING hnsw (embedding vector_ip_ops)", HALF, " USING hnsw (embedding_new halfvec_ip_ops)"),
    (" USING hnsw (embedding vector_ip_ops)", SAME, " USING hnsw (embedding_new vector_ip_ops)"),
    (
        " USING hnsw (embedding extensions.vector_l2_ops) WITH (m='4')",
        HALF,
        " USING hnsw (embedding_new extensions.halfvec_l2_ops) WITH (m='4')",
    ),
    (
        " USING ivfflat (embedding) WITH (lists='9')",
        replace(HALF, type_schema="ext."),
        " USING ivfflat (embedding_new ext.halfvec_l2_ops) WITH (lists='9')",
    ),
    (
        " USING hnsw (((embedding)::halfvec(768)) halfvec_l2_ops)",
        HALF,
        " USING hnsw (((embedding_new)::halfvec(3072)) halfvec_l2_ops)",
    ),
    (
        " USING hnsw (((subvector(embedding, 1, 256))::vector(256)) vector_l2_ops)",
        HALF,
        " USING hnsw (((subvector(embedding_new, 1, 256))::vector(256)) vector_l2_ops)",
    ),
    (
        " USING hnsw (((binary_quantize(embedding))::bit(768)) bit_hamming_ops)",
        HALF,
        " USING hnsw (((binary_quantize(embedding_new))::bit(3072)) bit_hamming_ops)",
    ),
    (
        " USING hnsw (embedding vector_l2_ops) WHERE ((embedding IS NOT NULL) AND (kind <> 'embedding'::text))",
        SAME,
        " USING hnsw (embedding_new vector_l2_ops) WHERE ((embedding_new IS NOT NULL) AND"
        " (kind <> 'embedding'::text))",
    ),
]


@pytest.mark.parametrize(("made", "new", "expected"), DEFINITIONS, ids=map(str, range(len(DEFINITIONS))))
def test_the_column_its_class_and_its_dimensions_are_replaced(made: str, new: VectorColumn, expected: str) -> None:
    is_plain = "(((" not in made
    assert over_column(made, is_plain=is_plain, old=OLD, new=new) == expected


def test_a_column_may_have_the_name_of_a_type_or_need_quotes() -> None:
    made = " USING hnsw (((vector)::vector(768)) vector_l2_ops)"
    old, new = VectorColumn("vector", "vector", None), VectorColumn("Neu %", "vector", 12)
    expected = ' USING hnsw ((("Neu %")::vector(12)) vector_l2_ops)'
    assert over_column(made, is_plain=False, old=old, new=new) == expected
    quoted = ' USING hnsw ("Neu %" vector_l2_ops)'
    found = over_column(quoted, is_plain=True, old=new, new=replace(old, dimensions=12))
    assert found == " USING hnsw (vector vector_l2_ops)"


def target(*definitions: str) -> TargetFacts:
    indexes = tuple(
        IndexFacts(
            name=f"i{number}",
            schema="public",
            table="public.documents",
            method="hnsw",
            column="embedding",
            definition=f"CREATE INDEX i{number} ON public.documents{made}",
            is_valid=True,
            bytes=0,
            reads=("embedding",),
            mentions=frozenset({"embedding"}),
        )
        for number, made in enumerate(definitions, start=1)
    )
    facts = replace(table("documents"), indexes=indexes)
    return TargetFacts(1, facts, (column("id", "bigint"),), "embedding", "embedding_new")


def beside(**more: object) -> Playbook:
    row = {"table": "documents", "text": "{content}", "write": "beside", **more}
    steps = tuple({"step": s} for s in ("add_column", "capture_writes", "select_rows", "embed"))
    return Playbook.model_validate({"version": 1, "name": "t", "targets": (row,), "steps": steps})


def test_a_plan_shows_the_indexes_of_a_column_that_is_not_there_yet() -> None:
    facts = target(" USING hnsw (embedding vector_cosine_ops)")
    column = second_column(facts, beside(type="halfvec"), dimensions=1024)
    (copy,) = copies_of(facts, column)
    assert text_of(copy.build.create) == (
        'CREATE INDEX CONCURRENTLY "i1_new" ON "public"."documents" USING hnsw (embedding_new halfvec_cosine_ops)'
    )
    assert (copy.build.graph.kind, copy.build.graph.dimensions, copy.present) == ("halfvec", 1024, None)


@pytest.mark.parametrize(
    ("settings", "dimensions", "cure"),
    [
        ({}, 2000, None),
        ({}, 3072, "targets[0].type: halfvec"),
        ({"type": "halfvec"}, 3072, None),
        ({"type": "halfvec"}, 4096, "model.dimensions: fewer"),
        ({}, 4096, "model.dimensions: fewer"),
        ({}, None, None),
    ],
)
def test_dimensions_that_no_index_takes_are_refused_with_the_cure(
    settings: dict[str, object], dimensions: int | None, cure: str | None
) -> None:
    facts = target(" USING hnsw (embedding vector_cosine_ops)")
    problems = list(copy_problems(facts, beside(**settings), dimensions=dimensions))
    found = [problem.what for problem in problems]
    assert len(found) == (cure is not None)
    assert all(str(cure) in what and f"gets {dimensions:,}" in what for what in found)
