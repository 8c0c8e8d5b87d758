"""The playbooks of the how-to pages are valid, and plan against a table of the layout that the page is about."""

from __future__ import annotations

import re
from pathlib import Path

import psycopg
import pytest

from ragops.campaign.plan import Plan
from ragops.campaign.planning import plan_campaign
from ragops.embedder.config import probe_model
from ragops.errors import PlanRefused
from ragops.facts import ModelFacts
from ragops.playbook import Playbook, parse_playbook
from ragops.postgres.connection import Target, connect
from ragops.session import Session

PAGES = Path(__file__).parents[2] / "docs/how-to"
ARTICLES = """
CREATE SCHEMA kb;
CREATE TABLE kb.articles (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant_id int, title text, body text,
    updated_at timestamptz, embedded_at timestamptz, deleted_at timestamptz, embedding vector({dimensions}));
CREATE INDEX articles_vec ON kb.articles USING hnsw (embedding vector_cosine_ops);
INSERT INTO kb.articles (title, body, embedding)
SELECT 'title', 'water and fire ' || i, array_fill(i::real, ARRAY[{dimensions}])::vector
  FROM generate_series(1, 5) i;
"""
PGVECTOR = """
CREATE TABLE langchain_pg_collection (uuid uuid PRIMARY KEY, name varchar UNIQUE, cmetadata json);
CREATE TABLE langchain_pg_embedding (
    id varchar PRIMARY KEY, collection_id uuid REFERENCES langchain_pg_collection, embedding vector,
    document varchar, cmetadata jsonb);
INSERT INTO langchain_pg_collection VALUES ('00000000-0000-0000-0000-000000000001', 'handbook'),
                                           ('00000000-0000-0000-0000-000000000002', 'archive');
INSERT INTO langchain_pg_embedding
SELECT 'doc' || i, ('00000000-0000-0000-0000-00000000000' || 1 + i % 2)::uuid,
       array_fill(1::real, ARRAY[8 + i % 2])::vector, 'fire ' || i, '{{}}' FROM generate_series(1, 5) i;
"""
PGVECTORSTORE = """
CREATE TABLE handbook (
    langchain_id uuid PRIMARY KEY DEFAULT gen_random_uuid(), content text NOT NULL,
    embedding vector(32) NOT NULL, langchain_metadata json);
INSERT INTO handbook (content, embedding) SELECT 'fire', array_fill(1::real, ARRAY[32])::vector
  FROM generate_series(1, 5);
"""
LLAMA_INDEX = """
CREATE TABLE data_handbook (
    id bigserial PRIMARY KEY, text varchar NOT NULL, metadata_ json, node_id varchar, embedding vector(32));
INSERT INTO data_handbook (text, metadata_, embedding)
VALUES ('The text.', json_build_object('_node_content',
          '{{"metadata": {{"module": "billing", "page": 4, "draft": true, "size": 1}},'
          ' "excluded_embed_metadata_keys": ["size"]}}'), NULL),
       ('Alone.', json_build_object('_node_content', '{{"metadata": {{}}}}'), NULL);
"""
SUPABASE = """
DROP EXTENSION vector CASCADE;
CREATE SCHEMA extensions;
CREATE EXTENSION vector SCHEMA extensions;
DROP TABLE documents CASCADE;
CREATE TABLE documents (
    id bigserial PRIMARY KEY, content text, metadata jsonb, embedding extensions.vector(32));
ALTER TABLE documents ENABLE ROW LEVEL SECURITY;
CREATE FUNCTION match_documents (query_embedding extensions.vector(32), match_count int)
RETURNS TABLE (id bigint, similarity float) LANGUAGE sql AS $$
  SELECT id, 1 - (documents.embedding OPERATOR(extensions.<=>) query_embedding) FROM documents
   ORDER BY documents.embedding OPERATOR(extensions.<=>) query_embedding LIMIT match_count $$;
INSERT INTO documents (content) SELECT 'water ' || i FROM generate_series(1, 5) i;
"""
# By the playbook's name. The first two change the dimensions.
LAYOUTS = {
    "new-model": ARTICLES.replace("{dimensions}", "16"),
    "zero-downtime": ARTICLES.replace("{dimensions}", "16"),
    "repair": ARTICLES.replace("{dimensions}", "32"),
    "langchain": PGVECTOR,
    "langchain-handbook": PGVECTORSTORE,
    "llama-index": LLAMA_INDEX,
    "supabase": SUPABASE,
}


def playbooks() -> dict[str, str]:
    """Every whole playbook of the pages about rows that stay, by its name."""
    found = {}
    for page in sorted(PAGES.glob("*.md")):
        for block in re.findall(r"^```yaml\n(version: 1\n.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S):
            if "\ntargets:" in block:
                name = re.search(r"^name: (.+)$", block, re.M)
                assert name is not None and name[1] not in found, page
                found[name[1]] = block
    return found


PLAYBOOKS = playbooks()


def read(name: str, model: Path) -> Playbook:
    return parse_playbook(PLAYBOOKS[name], file=f"{name}.yaml", environment={"RAGOPS_MODEL": str(model)})


def test_every_playbook_has_a_layout_to_be_planned_on() -> None:
    assert set(PLAYBOOKS) == set(LAYOUTS)


@pytest.fixture(scope="module")
def facts(tiny_model: Path) -> ModelFacts:
    return probe_model(read("repair", tiny_model))


def lay_out(name: str, dsn: str, *more: str) -> None:
    """Make the page's tables."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statements in (LAYOUTS[name].replace("{{", "{").replace("}}", "}"), *more):
            connection.execute(statements.encode())


def plan(name: str, dsn: str, model: Path, facts: ModelFacts, *, where: str | None = None) -> Plan:
    """Plan the page's playbook, perhaps for a part of the rows."""
    playbook, target = read(name, model), Target(dsn, "test")
    if where is not None:
        targets = tuple(one.model_copy(update={"where": where}) for one in playbook.targets)
        playbook = playbook.model_copy(update={"targets": targets})
    with connect(target) as connection:
        return plan_campaign(Session.on(connection, target, playbook), model=facts)


@pytest.mark.parametrize("name", sorted(LAYOUTS))
def test_the_playbook_plans_on_its_layout(name: str, dsn18: str, tiny_model: Path, facts: ModelFacts) -> None:
    lay_out(name, dsn18)
    found = plan(name, dsn18, tiny_model, facts)
    verbs = [step.settings.step for step in found.steps]
    assert "select_rows" in verbs and "embed" in verbs


def test_the_sql_for_llama_index_is_what_it_embeds(dsn18: str, tiny_model: Path) -> None:
    expression = read("llama-index", tiny_model).targets[0].sql
    assert expression is not None
    lay_out("llama-index", dsn18)
    with psycopg.connect(dsn18) as connection:
        texts = connection.execute(f"SELECT {expression} FROM data_handbook ORDER BY id".encode()).fetchall()
    assert [text for (text,) in texts] == ["module: billing\npage: 4\ndraft: True\n\nThe text.", "Alone."]


def test_a_trigger_on_every_update_is_refused_as_the_page_says(
    dsn18: str, tiny_model: Path, facts: ModelFacts
) -> None:
    trigger = (
        "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;"
        "CREATE TRIGGER touch BEFORE UPDATE ON documents FOR EACH ROW EXECUTE FUNCTION touch()"
    )
    lay_out("supabase", dsn18, trigger)
    with pytest.raises(PlanRefused) as caught:
        plan("supabase", dsn18, tiny_model, facts)
    assert any("triggers: fire" in str(problem) for problem in caught.value.problems)


def test_a_second_column_that_would_leave_rows_without_a_vector_is_refused(
    dsn18: str, tiny_model: Path, facts: ModelFacts
) -> None:
    # Exchanged whole, the other tenant's rows would have no vector any more, and `finish` would drop the old ones.
    lay_out("zero-downtime", dsn18, "UPDATE kb.articles SET tenant_id = id % 2")
    own = "tenant_id = 1 -- one"
    with pytest.raises(PlanRefused) as caught:
        plan("zero-downtime", dsn18, tiny_model, facts, where=own)
    (problem,) = caught.value.problems
    assert "2 rows of kb.articles have a vector and do not belong to targets[0]" in problem.what
    with psycopg.connect(dsn18, autocommit=True) as connection:
        connection.execute("UPDATE kb.articles SET embedding = NULL WHERE tenant_id = 0")
    assert plan("zero-downtime", dsn18, tiny_model, facts, where=own).steps
