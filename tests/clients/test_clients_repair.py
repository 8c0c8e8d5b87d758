"""Wrong vectors in other people's tables are made right where they are, and put back again."""

from __future__ import annotations

import pytest

from clients.stage import Stage, named, wrong_rows

SELECT_ALL = ("{step: select_rows, rows: [all]}", "{step: embed}", "{step: validate}")
SELECT_DIVERGENT = ("{step: select_rows, rows: [divergent]}", "{step: embed}", "{step: validate}")


@pytest.mark.parametrize("layout", named())
def test_wrong_vectors_are_repaired_and_undone(stage: Stage) -> None:
    store, application = stage.store, stage.application
    store.assert_wrong(application)
    columns, vectors, structure = store.columns(), store.vectors(), store.structure()
    others = store.outside()
    playbook = store.init("repair") if store.layout.init else store.write_playbook("repair", SELECT_ALL)

    store.ragops("reset", "--playbook", str(playbook), "--yes", "--json")
    assert wrong_rows(store) == []
    store.assert_right(application)
    assert store.columns() == columns
    assert store.structure() == structure
    assert store.outside() == others

    store.ragops("undo", "--playbook", str(playbook), "--yes", "--json")
    assert store.vectors() == vectors
    assert store.columns() == columns
    assert store.structure() == structure
    store.assert_wrong(application)


@pytest.mark.parametrize("layout", named("langchain-pgvector", "partitioned", "halfvec"))
def test_divergent_writes_only_what_is_wrong(stage: Stage) -> None:
    """Rows whose vector is right already are not touched: their versions stay."""
    store = stage.store
    table, column = store.layout.vectors[0]
    text = {"langchain-pgvector": "document"}.get(store.layout.name, "content")
    right = store.documents[:25]
    for document in right:
        vector = str(store.shifted.query(document.body))
        store.place.execute(f"UPDATE {table} SET {column} = '{vector}' WHERE {text} = '{document.body}'")
    bodies = ", ".join(f"'{document.body}'" for document in right)
    versions = f"SELECT tableoid, ctid, xmin::text FROM {table} WHERE {text} IN ({bodies}) ORDER BY 1, 2"
    before = store.place.rows(versions)
    playbook = store.write_playbook("repair", SELECT_DIVERGENT)

    store.ragops("reset", "--playbook", str(playbook), "--yes", "--json")
    assert wrong_rows(store) == []
    assert store.place.rows(versions) == before
    store.assert_right(stage.application)
