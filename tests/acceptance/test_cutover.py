"""A second column: filled beside the first while the application writes, exchanged with it, and back."""

from __future__ import annotations

from pathlib import Path

import pytest
from cutover_library import SCHEMA, WRONG, write_playbook
from tiny_gguf import write_tiny_bert
from workplace import Finished, Workplace


@pytest.fixture(scope="session")
def wide_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another model, of 48 dimensions."""
    return write_tiny_bert(tmp_path_factory.mktemp("models") / "wide.gguf", dimensions=48)


VECTORS = "SELECT md5(string_agg({}::text, ',' ORDER BY id)) FROM kb.articles"
OTHERS = (
    "SELECT md5(string_agg((tenant, id, title, body, deleted_at, note)::text, '' ORDER BY id)) FROM kb.articles"
)
COLUMNS = """
SELECT attname, format_type(atttypid, atttypmod), attnotnull, col_description(attrelid, attnum), attacl::text
  FROM pg_attribute WHERE attrelid = 'kb.articles'::regclass AND attname LIKE 'embedding%' AND NOT attisdropped
 ORDER BY 1
"""
VIEWS = """
SELECT c.relname, format_type(a.atttypid, a.atttypmod), pg_get_viewdef(c.oid), c.relacl::text, c.reloptions,
       obj_description(c.oid)
  FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'embedding'
 WHERE c.relkind = 'v' AND c.relnamespace = 'kb'::regnamespace ORDER BY 1
"""


@pytest.fixture
def library(place: Workplace, wide_model: Path) -> Workplace:
    place.execute("DROP ROLE IF EXISTS reader", SCHEMA)
    place.variables["RAGOPS_MODEL"] = str(wide_model)
    return place


def reembed(place: Workplace) -> Finished:
    return place.ragops("reset", "--playbook", "reembed.yaml", "--yes", "--json")


def test_a_campaign_cuts_over_by_itself(library: Workplace) -> None:
    place = library
    place.execute("UPDATE kb.articles SET deleted_at = NULL")
    write_playbook(place, when="ready")
    done = place.ragops("reset", "--playbook", "reembed.yaml", "--yes")
    assert done.code == 0, done.err
    assert "the application must use" in done.out
    assert place.rows(WRONG.format(column="embedding")) == []
    assert place.rows(COLUMNS)[0][:3] == ("embedding", "vector(48)", True)


@pytest.mark.slow
def test_a_column_of_another_model_takes_the_place_of_the_first_and_gives_it_back(library: Workplace) -> None:
    place = library
    place.execute("UPDATE kb.articles SET deleted_at = NULL")
    write_playbook(place, when="asked", hooks="hooks: {after_cut_over: ['echo switched > switched.txt']}")
    before = {query: place.rows(query) for query in (COLUMNS, VIEWS, OTHERS, VECTORS.format("embedding"))}
    indexes = place.index_definitions()
    done = reembed(place)
    assert done.code == 0, done.err
    assert (done.json["status"], done.json["waiting_for"]) == ("stopped", "ragops cutover run")
    found = place.ragops("cutover", "status", "--json").json["columns"][0]
    assert (found["state"], found["rows"], found["left"], found["next"]) == ("ready", 60, 0, "ragops cutover run")
    # Written while the campaign waits.
    place.execute("UPDATE kb.articles SET title = 'Another title' WHERE id = 7")

    done = place.ragops("cutover", "run", "--json")
    assert done.code == 0, done.err
    assert done.json["use"]["dimensions"] == 48
    assert done.json["use"]["columns"][0]["type"] == "vector(48)"
    assert done.json["use"]["columns"][0]["indexes"] == ["hnsw (vector_cosine_ops)"]
    assert (place.folder / "switched.txt").read_text(encoding="utf-8").strip() == "switched"
    assert place.rows(WRONG.format(column="embedding")) == []
    new, old = place.rows(COLUMNS)
    assert new[:4] == ("embedding", "vector(48)", True, "of the title and the body")
    assert new[4] == old[4] == before[COLUMNS][0][4]
    assert old[:3] == ("embedding_old", "vector(32)", False)
    assert place.rows(VECTORS.format("embedding_old")) == before[VECTORS.format("embedding")]
    assert [view[1] for view in place.rows(VIEWS)] == ["vector(48)"] * 2
    assert [(*view[:1], *view[2:]) for view in place.rows(VIEWS)] == [(*v[:1], *v[2:]) for v in before[VIEWS]]
    assert place.index_definitions()[0] == indexes[0]
    assert [name for name, *_ in place.index_definitions()] == ["articles_hnsw", "articles_hnsw_old"]

    # The old application's vectors, and a row of the new one.
    place.execute("UPDATE kb.articles SET title = 'New title' WHERE id = 5")
    done = place.ragops("cutover", "rollback", "--json")
    assert done.code == 0, done.err
    (written,) = done.json["written"]
    assert written["keys"] == ['["2", "5"]']
    assert place.value(f"SELECT array_agg(id) FROM kb.articles WHERE {written['where']}") == [5]
    assert place.rows(COLUMNS)[0] == before[COLUMNS][0]
    for query in (VIEWS, VECTORS.format("embedding")):
        assert place.rows(query) == before[query]
    assert [name for name, *_ in place.index_definitions()] == ["articles_hnsw", "articles_hnsw_new"]

    done = place.ragops("cutover", "run", "--json")
    assert done.code == 0, done.err
    assert place.rows(WRONG.format(column="embedding")) == []
    assert place.ragops("cutover", "finish").code == 2
    done = place.ragops("cutover", "finish", "--yes", "--json")
    assert done.code == 0, done.err
    assert [row[0] for row in place.rows(COLUMNS)] == ["embedding"]
    assert place.index_definitions() == indexes
    assert place.value("SELECT count(*) FROM pg_trigger WHERE tgname LIKE '%ragops%'") == 0
    assert place.value("SELECT count(*) FROM ragops.captured") == 0
    assert place.ragops("cutover", "status", "--json").json["columns"][0]["state"] == "finished"
    place.execute("UPDATE kb.articles SET title = 'Title ' || id, deleted_at = NULL")
    assert place.rows(OTHERS) == before[OTHERS]
