"""The oracle of these tests notices each kind of change that a campaign could do by mistake."""

from __future__ import annotations

import pytest

from clients.stage import Stage, named

STRUCTURE = (
    "ALTER INDEX documents_hnsw RENAME TO another",
    "REVOKE SELECT ON documents FROM authenticated",
    "ALTER TABLE documents ALTER COLUMN embedding SET STORAGE plain",
    "ALTER TABLE documents ALTER COLUMN embedding SET STATISTICS 7",
    "COMMENT ON COLUMN documents.embedding IS 'another'",
    "ALTER POLICY readers ON documents RENAME TO writers",
    "ALTER FUNCTION match_documents COST 7",
    "ALTER TABLE documents ADD CHECK (id > 0)",
    "ALTER TABLE documents DISABLE ROW LEVEL SECURITY",
    "SELECT nextval('documents_id_seq')",
)


@pytest.mark.parametrize("layout", named("supabase"))
def test_the_oracle_sees_what_changed(stage: Stage) -> None:
    store = stage.store
    for change in STRUCTURE:
        before = store.structure()
        store.place.execute(change)
        assert store.structure() != before, change
    columns, vectors = store.columns(), store.vectors()
    store.place.execute(
        "UPDATE documents SET embedding = d.embedding FROM documents d WHERE d.id = documents.id + 1"
    )
    assert store.columns() == columns
    assert store.vectors() != vectors
    store.place.execute("UPDATE documents SET content = content || ' ' WHERE id = 1")
    assert store.columns() != columns
