"""A second column takes the place of the first in other people's tables, and gives it back."""

from __future__ import annotations

import pytest

from clients.corpus import Document
from clients.layout import ASKED, Writing
from clients.stage import Stage, named, wrong_rows

REEMBED = (
    "{step: add_column}",
    "{step: capture_writes}",
    "{step: select_rows, rows: [all]}",
    "{step: embed}",
    "{step: rebuild_indexes, concurrently: true}",
    "{step: drain}",
    "{step: cut_over, when: ready}",
)


# Not LangChain's PGVector with its two collections in one table: see below.
@pytest.mark.parametrize(
    "layout",
    named(
        *("langchain-pgvectorstore", "llama-index", "haystack", "django", "supabase", "pgai", "two-columns"),
        *("tenants", "partitioned", "halfvec", "quoted", "triggers"),
    ),
)
def test_a_second_column_takes_over_and_gives_back(stage: Stage) -> None:
    store, application = stage.store, stage.application
    store.assert_wrong(application)
    columns, vectors, structure = store.columns(), store.vectors(), store.structure()
    playbook = str(store.write_playbook("reembed", REEMBED, beside=True))

    store.ragops("reset", "--playbook", playbook, "--yes", "--json")
    assert wrong_rows(store) == []
    store.assert_right(application)
    assert store.columns() == columns

    store.ragops("cutover", "rollback", "--playbook", playbook, "--json")
    assert store.vectors() == vectors
    assert store.columns() == columns
    store.assert_wrong(application)

    store.ragops("undo", "--playbook", playbook, "--yes", "--json")
    assert store.structure() == structure
    assert store.vectors() == vectors
    assert store.columns() == columns
    store.assert_wrong(application)


@pytest.mark.parametrize("layout", named("supabase", "pgai"))
def test_the_new_column_stays(stage: Stage) -> None:
    """After the cutover and its end nothing but the vectors is another: not one name, index, view or grant."""
    store, application = stage.store, stage.application
    columns, structure = store.columns(), store.structure()
    playbook = str(store.write_playbook("reembed", REEMBED, beside=True))
    store.ragops("reset", "--playbook", playbook, "--yes", "--json")
    store.ragops("cutover", "finish", "--playbook", playbook, "--yes", "--json")
    assert store.structure() == structure
    assert store.columns() == columns
    assert wrong_rows(store) == []
    store.assert_right(application)


@pytest.mark.parametrize("layout", named("langchain-pgvectorstore", "haystack", "django"))
def test_the_library_writes_while_the_campaign_waits(stage: Stage) -> None:
    """It adds and removes documents, with its old vectors; after the cutover it finds the right ones."""
    store, application = stage.store, stage.application
    assert isinstance(application, Writing)
    steps = [step.replace("ready", "asked") for step in REEMBED]
    playbook = str(store.write_playbook("reembed", steps, beside=True))
    store.ragops("reset", "--playbook", playbook, "--yes", "--json")
    asked = store.documents[ASKED[0]]
    gone = store.documents[store.expected(asked)[1]]
    added = Document(100, "five trees", f"{asked.body} lazy", "tree")
    application.remove(gone)
    application.add(added)
    store.documents = (*(document for document in store.documents if document != gone), added)

    store.ragops("cutover", "run", "--playbook", playbook, "--json")
    assert wrong_rows(store) == []
    assert added.number in store.expected(asked)
    store.assert_right(application)


@pytest.mark.parametrize("layout", named("langchain-pgvector"))
def test_a_second_column_that_would_lose_another_collection_is_refused(stage: Stage) -> None:
    """The rows outside `where` have no vector in the second column: their collection would find nothing."""
    store = stage.store
    before = store.outside(), store.structure()
    playbook = str(store.write_playbook("reembed", REEMBED, beside=True))
    done = store.place.ragops("reset", "--playbook", playbook, "--yes", "--json")
    assert done.code != 0, done.out
    assert "where" in done.err, done.err
    assert (store.outside(), store.structure()) == before
