"""`ragops undo` of vectors that were replaced where the rows are: what comes back, and what is left alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import wait_for
from row_targets import install
from workplace import Finished, Workplace

STEPS = """steps:
  - step: drop_indexes
  - step: select_rows
    rows: [all]
  - step: embed
  - step: rebuild_indexes
"""
DOCS = '"Knowledge Base"."Doc Store"'
OLD = (
    # Every tenth row has no vector before.
    """UPDATE kb.articles SET embedding = (SELECT array_agg(sin(i * extract(day FROM id)::int)) FROM
       generate_series(1, 32) i)::vector WHERE extract(day FROM id)::int % 10 <> 0""",
    f"""UPDATE {DOCS} SET "Embedding %" = (SELECT array_agg(cos(i * length("Content"))) FROM
        generate_series(1, 32) i)::vector::halfvec WHERE "Content" IS NOT NULL""",
    "CREATE INDEX articles_hnsw ON kb.articles USING hnsw (embedding vector_l2_ops) WITH (m = 7)",
    f'CREATE INDEX "Docs %" ON {DOCS} USING hnsw ("Embedding %" halfvec_cosine_ops)',
)
PARTITIONED = """
CREATE TABLE parts (tenant int, day date, body text, embedding vector(32), PRIMARY KEY (tenant, day))
    PARTITION BY LIST (tenant);
CREATE TABLE parts_0 PARTITION OF parts FOR VALUES IN (0);
CREATE TABLE parts_rest PARTITION OF parts DEFAULT;
INSERT INTO parts SELECT n % 3, date '2026-01-01' + n, 'body ' || n,
       (SELECT array_agg(sin(i * n)) FROM generate_series(1, 32) i)::vector FROM generate_series(1, 30) n
"""


def stage(place: Workplace, model: Path, *more: str) -> list[tuple[object, ...]]:
    """A campaign has replaced the vectors of both tables; returns what was there before."""
    install(place, model, steps=STEPS)
    place.execute(*OLD, *more)
    before = state(place)
    done = place.ragops("reset", "-p", "rows.yaml", "--yes", "--json")
    assert done.code == 0, done.err
    assert state(place) != before
    return before


def state(place: Workplace) -> list[tuple[object, ...]]:
    """Every column of both tables, and the definitions of the indexes."""
    return [
        *place.rows("SELECT a::text FROM kb.articles a ORDER BY tenant_id, id"),
        *place.rows(f'SELECT d::text FROM {DOCS} d ORDER BY "Id"'),
        *place.index_definitions(),
    ]


def undo(place: Workplace, *arguments: str) -> Finished:
    return place.ragops("undo", "-p", "rows.yaml", "--json", *arguments)


def test_every_vector_and_index_comes_back(place: Workplace, tiny_model: Path) -> None:
    before = stage(place, tiny_model)
    refused = place.ragops("undo", "-p", "rows.yaml")
    assert refused.code == 2 and "needs a confirmation" in refused.err
    planned = undo(place, "--dry-run")
    assert [(v["column"], v["archived"]) for v in planned.json["vectors"]] == [
        ("Embedding %", 20),
        ("embedding", 40),
    ]
    assert state(place) != before and place.value("SELECT status FROM ragops.campaign") == "done"
    done = undo(place, "--yes")
    assert done.code == 0, done.err
    assert state(place) == before
    counts = {v["column"]: (v["restored"], v["changed"], v["deleted"]) for v in done.json["vectors"]}
    assert counts == {"embedding": (40, 0, 0), "Embedding %": (20, 0, 0)}
    # Nothing is left that would tell an undone vector from any other, nor would be embedded again.
    assert place.value("SELECT count(*) FROM ragops.row_state") == 0
    assert place.value("SELECT count(*) FROM ragops.work") == 0
    assert place.rows("SELECT status, error FROM ragops.campaign") == [("undone", None)]
    again = undo(place, "--yes")
    assert (again.code, again.json["was_undone"], again.json["vectors"]) == (0, True, [])
    assert state(place) == before
    listed = place.ragops("archive", "status", "-p", "rows.yaml", "--json").json["vectors"]
    assert [(v["rows"], v["campaign"], v["restored_at"] is not None) for v in listed] == [
        (40, 1, True),
        (20, 1, True),
    ]
    dropped = place.ragops("archive", "drop", "-p", "rows.yaml", "--yes", "--json")
    assert dropped.json["dropped"] == 2
    assert place.value("SELECT count(*) FROM pg_class WHERE relname LIKE 'vectors\\_%'") == 0


def test_what_others_wrote_since_is_counted_and_left(place: Workplace, tiny_model: Path) -> None:
    before = stage(place, tiny_model)
    place.execute(
        "UPDATE kb.articles SET embedding = array_fill(0.5, ARRAY[32])::vector"
        " WHERE (tenant_id, id) = (2, '2026-01-03')",
        # Another column alone: the vector is the campaign's, and goes.
        "UPDATE kb.articles SET title = 'edited' WHERE (tenant_id, id) = (0, '2026-01-04')",
        "DELETE FROM kb.articles WHERE (tenant_id, id) = (1, '2026-01-05')",
        "INSERT INTO kb.articles VALUES (9, '2026-01-01', 'new', 'row', NULL, NULL)",
        "ALTER TABLE kb.articles RENAME TO papers",
    )
    done = undo(place, "--yes")
    assert done.code == 0, done.err
    place.execute("ALTER TABLE kb.papers RENAME TO articles")
    (own,) = (v for v in done.json["vectors"] if v["column"] == "embedding")
    assert (own["restored"], own["changed"], own["deleted"]) == (38, 1, 1)
    assert own["left"] == [
        {"key": '["1", "2026-01-05"]', "why": "deleted"},
        {"key": '["2", "2026-01-03"]', "why": "changed"},
    ]
    kept = dict(place.rows("SELECT id::text, left(embedding::text, 8) FROM kb.articles WHERE tenant_id = 2"))
    assert kept["2026-01-03"] == "[0.5,0.5"
    now = state(place)
    assert len(set(map(str, before)) - set(map(str, now))) == 3


@pytest.mark.slow
def test_killed_in_the_middle_it_goes_on(place: Workplace, tiny_model: Path) -> None:
    before = stage(place, tiny_model)
    # The first archive's rows take their time: killed while some of them are being put back.
    place.execute(
        """CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
           $$ BEGIN PERFORM pg_sleep(0.3); RETURN NEW; END $$""",
        "CREATE TRIGGER slow BEFORE UPDATE OF embedding ON kb.articles FOR EACH ROW EXECUTE FUNCTION slow()",
        "ALTER TABLE kb.articles ENABLE ALWAYS TRIGGER slow",
        """UPDATE ragops.campaign SET playbook = jsonb_set(playbook, '{targets,0,triggers}', '"fire"')""",
    )
    killed = place.start("undo", "-p", "rows.yaml", "--yes")
    # The other table is done, and this one is not.
    one_done = "SELECT count(*) FROM ragops.vector_archive WHERE restored_at IS NOT NULL"
    wait_for(lambda: place.value(one_done) == 1, what="the first archive")
    killed.kill()
    killed.wait()
    assert place.value("SELECT status FROM ragops.campaign") == "undoing"
    assert "of 60 vectors are put back" in place.value("SELECT error FROM ragops.campaign")
    for command in (["reset", "--resume"], ["reset", "--new", "--yes"]):
        refused = place.ragops(*command, "-p", "rows.yaml")
        assert refused.code == 1 and "ragops undo" in refused.err, refused.err
    assert place.ragops("archive", "drop", "-p", "rows.yaml", "--yes").code == 1
    place.execute("DROP TRIGGER slow ON kb.articles")
    wait_for(
        lambda: (
            not place.value(
                "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep%' AND pid <> pg_backend_pid()"
            )
        )
    )
    done = undo(place, "--yes")
    assert done.code == 0, done.err
    assert state(place) == before
    assert {v["column"]: v["restored"] for v in done.json["vectors"]} == {"embedding": 40, "Embedding %": 20}
    assert place.value("SELECT status FROM ragops.campaign") == "undone"


def test_partitions_and_the_chain_of_campaigns(place: Workplace, tiny_model: Path) -> None:
    """A campaign that was given up and its successor are taken back together: to the vectors before the first."""
    place.execute(*PARTITIONED.split(";"))
    before = place.rows("SELECT p::text FROM parts p ORDER BY tenant, day")
    text = (
        'version: 1\nname: rows\nmodel: {file: "%s"%s}\ntargets: [{table: parts, text: "{body}"}]\n'
        "steps: [{step: select_rows}, {step: embed}]\n"
    )
    (place.folder / "rows.yaml").write_text(text % (tiny_model, ""), encoding="utf-8")
    assert place.ragops("reset", "-p", "rows.yaml", "--yes").code == 0
    place.execute("UPDATE ragops.campaign SET status = 'failed', finished_at = NULL")
    (place.folder / "rows.yaml").write_text(text % (tiny_model, ", document_prefix: 'other: '"), encoding="utf-8")
    second = place.ragops("reset", "-p", "rows.yaml", "--yes", "--new")
    assert second.code == 0, second.err
    done = undo(place, "--yes")
    assert done.code == 0, done.err
    assert place.rows("SELECT p::text FROM parts p ORDER BY tenant, day") == before
    assert place.rows("SELECT status FROM ragops.campaign") == [("undone",), ("undone",)]


def test_what_stands_in_the_way_is_said_before_anything_changes(place: Workplace, tiny_model: Path) -> None:
    stage(place, tiny_model)
    # All of it at once.
    place.execute(
        "DELETE FROM kb.articles WHERE embedding IS NULL",
        "ALTER TABLE kb.articles ALTER embedding SET NOT NULL",
        """CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS
           $$ BEGIN NEW.title = 'touched'; RETURN NEW; END $$""",
        "CREATE TRIGGER touch BEFORE UPDATE ON kb.articles FOR EACH ROW EXECUTE FUNCTION touch()",
        "ALTER TABLE kb.articles ENABLE ALWAYS TRIGGER touch",
        "ALTER TABLE ragops.vectors_2 RENAME TO elsewhere",
    )
    refused = undo(place, "--yes")
    assert refused.code == 1
    for expected in (
        "the archive ragops.vectors_2 of",
        "rows of kb.articles had no vector, and kb.articles.embedding is NOT NULL now",
        "fires trigger touch (BEFORE UPDATE) on kb.articles",
        "ALTER TABLE kb.articles DISABLE TRIGGER touch",
    ):
        assert expected in refused.err.replace('\\"', '"'), refused.err
    place.execute(f"DROP TABLE kb.articles, {DOCS}", "ALTER TABLE ragops.elsewhere RENAME TO vectors_2")
    refused = undo(place, "--yes")
    assert refused.code == 1 and "the table kb.articles is gone" in refused.err
    assert place.value("SELECT status FROM ragops.campaign") == "done"
    assert place.value("SELECT count(*) FROM ragops.undo") == 0
