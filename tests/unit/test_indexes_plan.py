"""Which indexes a plan builds, as the journal, the catalog or the playbook has them, and for how many rows."""

from __future__ import annotations

import pytest
from facts_factory import database, definition, hnsw, limits, server, server_host, table
from playbook_factory import with_steps

from ragops.campaign.plan import make_plan
from ragops.campaign.steps.base import PlanFacts, PlannedStep
from ragops.facts import IndexFacts, ServerFacts
from ragops.indexes.plan import JournalEntry, index_builds
from ragops.postgres.statements import text_of

D, C = "idx_documents_embedding_hnsw", "idx_document_chunks_embedding_hnsw"
REBUILD, DROP = "{step: rebuild_indexes}", "{step: drop_indexes}"
CHUNKS = hnsw(C, on="document_chunks")
ONE_INDEX = f"indexes: [{{name: {D}, table: documents}}]\n"


def _journaled(name: str, *, on: str = "public.documents", text: str | None = None) -> JournalEntry:
    return JournalEntry("public", name, on, text or definition(name))


def _created(name: str, *, on: str = "documents") -> str:
    """The statement for an index that the playbook describes."""
    return (
        f'CREATE INDEX "{name}" ON "public"."{on}" USING hnsw ("embedding" "vector_cosine_ops") '
        "WITH (m = 16, ef_construction = 64)"
    )


def _sql(step: PlannedStep) -> list[str]:
    return [text_of(statement) for statement in step.statements]


def _creations(step: PlannedStep) -> list[str]:
    return [text for text in _sql(step) if text.startswith("CREATE INDEX ")]


def _builds(steps: list[str], existing: list[IndexFacts], journal: list[JournalEntry]) -> list[str]:
    facts = database(
        {
            "documents": table("documents", indexes=tuple(i for i in existing if i.table == "public.documents")),
            "document_chunks": table(
                "document_chunks", indexes=tuple(i for i in existing if i.table == "public.document_chunks")
            ),
        }
    )
    step = make_plan(PlanFacts(with_steps(*steps), facts, journal)).steps[-1]
    builds = _creations(step)
    assert step.title == f"build {len(builds)} vector index{'' if len(builds) == 1 else 'es'}"
    notes = [note for note in step.notes if "is equal to it" not in note]
    is_covered = len(notes) < len(step.notes)
    assert notes == ([] if builds or is_covered else ["every index is present and valid: nothing to build"])
    return builds


OWN = definition(D, m=32, ef=200)
CASES: dict[str, tuple[list[str], list[IndexFacts], list[JournalEntry], list[str]]] = {
    "nothing there: the playbook's": ([REBUILD], [], [], [_created(D), _created(C, on="document_chunks")]),
    "valid ones are left alone": ([REBUILD], [hnsw(D), CHUNKS], [], []),
    "one is missing": ([REBUILD], [hnsw(D)], [], [_created(C, on="document_chunks")]),
    "another name with another operator class does not count": (
        [REBUILD],
        [hnsw("other", definition=definition("other").replace("cosine", "l2")), CHUNKS],
        [],
        [_created(D)],
    ),
    "an invalid one is built anew, as the catalog defines it": (
        [REBUILD],
        [hnsw(D, definition=OWN, is_valid=False), CHUNKS],
        [],
        [OWN],
    ),
    "an invalid one that the playbook does not name": (
        [REBUILD],
        [hnsw("other", is_valid=False), hnsw(D), CHUNKS],
        [],
        [definition("other")],
    ),
    "dropped first: restored as the catalog defines them": (
        [DROP, REBUILD],
        [hnsw(D, definition=OWN), hnsw("other")],
        [],
        [OWN, definition("other"), _created(C, on="document_chunks")],
    ),
    "dropped first, an invalid one among them": (
        [DROP, REBUILD],
        [hnsw(D, is_valid=False), CHUNKS],
        [],
        [CHUNKS.definition, definition(D)],
    ),
    "dropped by an earlier campaign": (
        [REBUILD],
        [CHUNKS],
        [_journaled(D, text=OWN)],
        [OWN],
    ),
    "journaled and there again": ([REBUILD], [hnsw(D), CHUNKS], [_journaled(D, text=OWN)], []),
    "journaled and there, but invalid": (
        [REBUILD],
        [hnsw(D, is_valid=False), CHUNKS],
        [_journaled(D, text=OWN)],
        [OWN],
    ),
    "journaled, made by hand, dropped again: built once, as it was last": (
        [DROP, REBUILD],
        [hnsw(D, definition=OWN), CHUNKS],
        [_journaled(D)],
        [CHUNKS.definition, OWN],
    ),
    "journaled for a table that is not mapped": (
        [REBUILD],
        [hnsw(D), CHUNKS],
        [_journaled("elsewhere", on="public.elsewhere")],
        [],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_builds(case: str) -> None:
    steps, existing, journal, expected = CASES[case]
    assert _builds(steps, existing, journal) == expected


def test_a_drop_after_the_rebuild_changes_nothing_for_it() -> None:
    facts = database(
        {"documents": table("documents", indexes=(hnsw(D),)), "document_chunks": table("document_chunks")}
    )
    first, second = make_plan(PlanFacts(with_steps(REBUILD, DROP), facts)).steps
    assert _creations(first) == [_created(C, on="document_chunks")]
    assert second.title == "journal and drop 1 vector index"


@pytest.mark.parametrize("concurrently", [True, False])
def test_concurrently_reaches_both_kinds(concurrently: bool) -> None:
    facts = database({"documents": table("documents", indexes=(hnsw(D, is_valid=False),))})
    book = with_steps(f"{{step: rebuild_indexes, concurrently: {concurrently}}}")
    statements = _creations(make_plan(PlanFacts(book, facts)).steps[-1])
    word = "CREATE INDEX CONCURRENTLY " if concurrently else "CREATE INDEX "
    assert len(statements) == 2
    assert all(text.startswith(word) and text.count("CONCURRENTLY") == concurrently for text in statements)


def test_each_table_is_analyzed_once() -> None:
    facts = database({"documents": table("documents", indexes=(hnsw("a"), hnsw("b"), hnsw("c")))})
    step = make_plan(PlanFacts(with_steps(DROP, REBUILD), facts)).steps[-1]
    texts = _sql(step)
    assert texts[-2:] == ['ANALYZE "public"."documents"', 'ANALYZE "public"."document_chunks"']
    assert len([text for text in texts if text.startswith("ANALYZE")]) == 2
    assert step.tables == ("public.documents", "public.document_chunks")


def test_a_build_has_its_index_s_name_and_table() -> None:
    broken = hnsw("broken", is_valid=False)
    found = index_builds(
        with_steps(REBUILD),
        database({"documents": table("documents", indexes=(broken,))}),
        existing=[broken],
        journal=[_journaled("dropped")],
        concurrently=False,
    )
    assert [(build.name, build.table.name) for build in found] == [
        ("broken", "documents"),
        ("dropped", "documents"),
        (C, "document_chunks"),
    ]


def _local() -> ServerFacts:
    """A server whose machine is this one, with 8 GB free."""
    return server(limits=limits(host=server_host(8192)))


def test_the_plan_shows_parameters_and_reason() -> None:
    facts = database(server_facts=_local())
    book = with_steps("{step: embed, until: 100000}", REBUILD, more=ONE_INDEX)
    step = make_plan(PlanFacts(book, facts, items=200_000)).steps[-1]
    assert _sql(step)[:-2] == [
        "SET LOCAL \"maintenance_work_mem\" = '375MB'",
        "SET LOCAL \"min_parallel_table_scan_size\" = '0'",
        "SET LOCAL \"max_parallel_maintenance_workers\" = '3'",
    ]
    assert step.notes == (
        f"{D}: graph about 375 MB, 3 parallel workers, from 8.0 GB free on the server's machine",
    )


PLANNED_ROWS: dict[str, tuple[list[str], int | None, tuple[int, int], list[str]]] = {
    "nothing embedded before: the tables as they are": (
        [REBUILD, "{step: embed}"], None, (100_000, 200_000), ["375 MB", "744 MB"],
    ),
    "as many chunks a document as now": (
        ["{step: embed, until: 100000}", REBUILD], None, (500, 1_000), ["375 MB", "744 MB"],
    ),
    "one chunk a document at least": (
        ["{step: embed, until: 100000}", REBUILD], None, (500, 100), ["375 MB", "375 MB"],
    ),
    "a source of unknown size": (
        ["{step: embed}", REBUILD], None, (500, 100), ["not known yet", "not known yet"],
    ),
    "a source of known size": (
        ["{step: embed}", REBUILD], 200_000, (0, 0), ["744 MB", "744 MB"],
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
        server_facts=_local(),
    )
    planned = make_plan(PlanFacts(with_steps(*steps), facts, items=items))
    (step,) = [s for s in planned.steps if s.verb == "rebuild_indexes"]
    assert [word in note for word, note in zip(expected, step.notes, strict=True)] == [True, True]


def test_a_valid_index_gets_no_parameters() -> None:
    facts = database(
        {"documents": table("documents", rows=100_000, indexes=(hnsw(D),))},
        server_facts=_local(),
    )
    book = with_steps(REBUILD, more=ONE_INDEX)
    assert make_plan(PlanFacts(book, facts)).steps[-1].statements == ()
