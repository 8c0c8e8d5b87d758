"""Which indexes a plan builds: as the journal or the catalog defines them, else as the playbook does."""

from __future__ import annotations

import pytest
from facts_factory import database, definition, hnsw, table
from playbook_factory import with_steps

from ragops.actions import Action, CreateIndex, RestoreIndex
from ragops.campaign.plan import make_plan
from ragops.facts import IndexFacts
from ragops.indexes.plan import JournalEntry
from ragops.postgres.ddl import sql_text

D, C = "idx_documents_embedding_hnsw", "idx_document_chunks_embedding_hnsw"
REBUILD, DROP = "{step: rebuild_indexes}", "{step: drop_indexes}"
CHUNKS = hnsw(C, on="document_chunks")


def _journaled(name: str, *, on: str = "public.documents", text: str | None = None) -> JournalEntry:
    return JournalEntry("public", name, on, text or definition(name))


def _shown(action: Action) -> str | None:
    match action:
        case CreateIndex(index):
            return f"create {index.name}"
        case RestoreIndex(name, _, text):
            return f"restore {name}: {text}"
    return None


def _builds(steps: list[str], existing: list[IndexFacts], journal: list[JournalEntry]) -> list[str]:
    facts = database(
        {
            "documents": table("documents", indexes=tuple(i for i in existing if i.table == "public.documents")),
            "document_chunks": table(
                "document_chunks", indexes=tuple(i for i in existing if i.table == "public.document_chunks")
            ),
        }
    )
    step = make_plan(with_steps(*steps), facts, journal=journal).steps[-1]
    builds = [shown for action in step.actions if (shown := _shown(action))]
    assert step.title == f"build {len(builds)} HNSW index{'' if len(builds) == 1 else 'es'}"
    assert step.notes == (() if builds else ("every index is present and valid: nothing to build",))
    return builds


OWN = definition(D, m=32, ef=200)
CASES: dict[str, tuple[list[str], list[IndexFacts], list[JournalEntry], list[str]]] = {
    "nothing there: the playbook's": ([REBUILD], [], [], [f"create {D}", f"create {C}"]),
    "valid ones are left alone": ([REBUILD], [hnsw(D), CHUNKS], [], []),
    "one is missing": ([REBUILD], [hnsw(D)], [], [f"create {C}"]),
    "another name does not count": ([REBUILD], [hnsw("other"), CHUNKS], [], [f"create {D}"]),
    "an invalid one is built anew, as the catalog defines it": (
        [REBUILD],
        [hnsw(D, definition=OWN, is_valid=False), CHUNKS],
        [],
        [f"restore {D}: {OWN}"],
    ),
    "an invalid one that the playbook does not name": (
        [REBUILD],
        [hnsw("other", is_valid=False), hnsw(D), CHUNKS],
        [],
        [f"restore other: {definition('other')}"],
    ),
    "dropped first: restored as the catalog defines them": (
        [DROP, REBUILD],
        [hnsw(D, definition=OWN), hnsw("other")],
        [],
        [f"restore {D}: {OWN}", f"restore other: {definition('other')}", f"create {C}"],
    ),
    "dropped first, an invalid one among them": (
        [DROP, REBUILD],
        [hnsw(D, is_valid=False), CHUNKS],
        [],
        [f"restore {D}: {definition(D)}", f"restore {C}: {CHUNKS.definition}"],
    ),
    "dropped by an earlier campaign": (
        [REBUILD],
        [CHUNKS],
        [_journaled(D, text=OWN)],
        [f"restore {D}: {OWN}"],
    ),
    "journaled and there again": ([REBUILD], [hnsw(D), CHUNKS], [_journaled(D, text=OWN)], []),
    "journaled and there, but invalid": (
        [REBUILD],
        [hnsw(D, is_valid=False), CHUNKS],
        [_journaled(D, text=OWN)],
        [f"restore {D}: {OWN}"],
    ),
    "journaled, made by hand, dropped again: built once, as it was last": (
        [DROP, REBUILD],
        [hnsw(D, definition=OWN), CHUNKS],
        [_journaled(D)],
        [f"restore {D}: {OWN}", f"restore {C}: {CHUNKS.definition}"],
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
    first, second = make_plan(with_steps(REBUILD, DROP), facts).steps
    assert [_shown(action) for action in first.actions if _shown(action)] == [f"create {C}"]
    assert second.title == "journal and drop 1 HNSW index"


@pytest.mark.parametrize("concurrently", [True, False])
def test_concurrently_reaches_both_kinds(concurrently: bool) -> None:
    facts = database({"documents": table("documents", indexes=(hnsw(D, is_valid=False),))})
    step = make_plan(with_steps(f"{{step: rebuild_indexes, concurrently: {concurrently}}}"), facts).steps[-1]
    statements = [sql_text(action) for action in step.actions if _shown(action)]
    word = "CREATE INDEX CONCURRENTLY " if concurrently else "CREATE INDEX "
    assert len(statements) == 2
    assert all(text.startswith(word) and text.count("CONCURRENTLY") == concurrently for text in statements)


def test_each_table_is_analyzed_once() -> None:
    facts = database({"documents": table("documents", indexes=(hnsw("a"), hnsw("b"), hnsw("c")))})
    step = make_plan(with_steps(DROP, REBUILD), facts).steps[-1]
    texts = [sql_text(action) for action in step.actions]
    assert texts[-2:] == ['ANALYZE "public"."documents"', 'ANALYZE "public"."document_chunks"']
    assert len([text for text in texts if text.startswith("ANALYZE")]) == 2
    assert step.tables == ("public.documents", "public.document_chunks")
