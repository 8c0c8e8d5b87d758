"""What a survey reads of the tables that well-known clients make, and what is chosen by it."""

from __future__ import annotations

import json

import client_tables
import psycopg
import pytest
from conftest import Server, fresh_database

from ragops.errors import RagopsError
from ragops.introspection.choices import choose_key, choose_text, choose_where
from ragops.introspection.gathering import Gathered, gather, untouched, warnings
from ragops.introspection.texts import TextChoice
from ragops.playbook import parse_playbook
from ragops.playbook.targets import RowTarget
from ragops.postgres.connection import Connection, Target, connect
from ragops.postgres.introspected_rows import find_repeated, read_texts
from ragops.postgres.introspection import find_vector_columns
from ragops.session import Session

NONE_YET = parse_playbook("version: 1\nname: x\nsteps: [{step: validate}]\n", file="x", environment={})
KNOWN = {
    "langchain_pg_embedding": ("LangChain (PGVector)", client_tables.LANGCHAIN, "{document}", "id"),
    "handbook": ("LangChain (PGVectorStore)", client_tables.PGVECTORSTORE, "{content}", "langchain_id"),
    "haystack_documents": ("Haystack", client_tables.HAYSTACK, "{content}", "id"),
    "documents": ("Supabase", client_tables.SUPABASE, "{content}", "id"),
    "blog_contents_embedding_store": ("pgai", client_tables.PGAI, "{chunk}", "embedding_uuid"),
    "document_chunk": ("Open WebUI", client_tables.OPEN_WEBUI, "{text}", "id"),
    "vector_store": ("Spring AI", client_tables.SPRING_AI, "{content}", "id"),
    "library_article": ("Django", client_tables.DJANGO, "{body}", "id"),
    "memories": ("mem0", client_tables.MEM0, "sql: payload->>'data'", "id"),
}


def session_of(connection: Connection) -> Session:
    return Session.on(connection, Target(connection.info.dsn, "the test database"), NONE_YET)


def look(connection: Connection, table: str, *, column: str | None = None, schema: str | None = None) -> Gathered:
    found = [
        one for one in find_vector_columns(connection) if one.relation == table and schema in (None, one.schema)
    ]
    vector = next(one for one in found if column in (None, one.name))
    return gather(session_of(connection), found, vector)


def make(connection: Connection, *statements: str) -> None:
    for one in statements:
        connection.execute(one.encode())


@pytest.fixture(scope="module")
def clients(pg18: Server) -> object:
    """The tables of every client in one database, each in a schema of its own."""
    with fresh_database(pg18, template="template1") as dsn, psycopg.connect(dsn, autocommit=True) as admin:
        admin.execute("CREATE SCHEMA extensions")
        admin.execute("CREATE EXTENSION vector SCHEMA extensions")
        for table, (_, statements, *_rest) in KNOWN.items():
            admin.execute(f"CREATE SCHEMA of_{table}".encode())
            admin.execute(f"SET search_path = of_{table}, extensions".encode())
            for one in statements:
                admin.execute(one.replace("'public'", f"'of_{table}'").encode())
        yield dsn


@pytest.mark.parametrize("table", KNOWN)
def test_a_client_s_table_is_recognised(table: str, clients: str) -> None:
    client, _, text, key = KNOWN[table]
    # Without the extension's schema on the search path, as behind some poolers.
    with connect(Target(clients, "x")) as connection:
        found = look(connection, table, schema=f"of_{table}")
        assert found.recognised is not None and found.recognised.client == client
        chosen = choose_text(found.survey, found.recognised)
        assert chosen.value is not None and chosen.value.shown == text
        assert choose_key(found.survey).value == (key,)
        assert found.vectors.dimensions == {32: 12}
        target = RowTarget(table=found.survey.table.quoted, text=chosen.value.text, sql=chosen.value.sql)
        assert all("scan against" in (shown or "") for shown in read_texts(connection, found.survey.table, target))


def test_pgai_s_vectorizer_is_named_with_its_model(clients: str) -> None:
    with connect(Target(clients, "x")) as connection:
        found = look(connection, "blog_contents_embedding_store")
        assert found.recognised is not None
        assert any("nomic-embed-text" in line for line in found.recognised.also)
        assert any("its worker embeds new rows" in line for line in found.recognised.also)
        assert any("blog_contents_embedding" in line for line in warnings(found))


def test_the_formatting_of_a_vectorizer_is_composed_from_the_source(connection: Connection) -> None:
    statements = [one.replace('"$chunk"', '"$$ ${title}\\n$missing| $chunk!"') for one in client_tables.PGAI]
    statements = [one.replace("config jsonb)", "source_pk jsonb, config jsonb)") for one in statements]
    statements = [one.replace("_store',", '_store\', \'[{"attname": "id"}]\',') for one in statements]
    make(connection, *statements, "ALTER TABLE blog ADD missing text")
    found = look(connection, "blog_contents_embedding_store")
    chosen = choose_text(found.survey, found.recognised)
    assert chosen.certainty == "guess" and chosen.value is not None
    target = RowTarget(table="blog_contents_embedding_store", sql=chosen.value.sql)
    (shown, *_) = read_texts(connection, found.survey.table, target)
    assert shown is not None and shown.startswith("$ title 1\nNone| The planner of query 1 ")


def test_a_locked_table_is_not_waited_for(connection: Connection, target: Target) -> None:
    make(connection, *client_tables.MEM0)
    with connect(target) as other, other.transaction():
        other.execute("LOCK TABLE memories IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(RagopsError, match="locked by another session"):
            look(connection, "memories")
    # Locked in between: what looks into rows afterwards says it, too.
    found = look(connection, "memories")
    with connect(target) as other, other.transaction():
        other.execute("LOCK TABLE memories IN ACCESS EXCLUSIVE MODE")
        wanted = RowTarget(table="memories", text="{payload}")
        with pytest.raises(RagopsError, match="locked by another session"):
            read_texts(connection, found.survey.table, wanted)


def test_json_that_is_no_jsonb_ends_no_survey(connection: Connection) -> None:
    make(
        connection,
        "CREATE TABLE odd (id int PRIMARY KEY, meta json, embedding vector(3))",
        """INSERT INTO odd VALUES (1, '{"a": "\\u0000"}', NULL)""",
    )
    assert look(connection, "odd").survey.columns["meta"].keys == ()


def test_collections_are_targets_of_a_repair_and_one_of_a_second_column(clients: str) -> None:
    with connect(Target(clients, "x")) as connection:
        found = look(connection, "langchain_pg_embedding")
        assert [(group.label, group.rows) for group in found.groups] == [("handbook", 8), ("it's %s", 4)]
        repair, reembed = (
            choose_where(found.vector, found.vectors, found.groups, found.recognised, campaign).value
            for campaign in ("repair", "reembed")
        )
        assert repair is not None and len(repair) == 2 and reembed == ()
        counts = [
            connection.execute(
                f"SELECT count(*) FROM of_langchain_pg_embedding.langchain_pg_embedding WHERE {where}".encode()
            ).fetchone()
            for where in repair
        ]
        assert counts == [(8,), (4,)]
        assert any(
            "rows outside of its condition" in line
            for line in untouched(found, RowTarget(table="x", text="{document}", where=repair[0]))
        )


# What LlamaIndex composes: lines of the metadata in the node's order, without what is excluded, and the text.
NODES: list[tuple[str, dict[str, object], str]] = [
    (
        "A plain text.",
        client_tables.node({"b": "two", "a": 1, "on": True, "none": None}),
        "b: two\na: 1\non: True\nnone: None\n\nA plain text.",
    ),
    (
        "It's 'quoted' %s {x}\n",
        client_tables.node({"path": "C:\\x", "size": 3}, excluded=["size"]),
        "path: C:\\x\n\nIt's 'quoted' %s {x}",
    ),
    ("  Kept as it is. ", client_tables.node({}), "  Kept as it is. "),
    ("All excluded.", client_tables.node({"a": "b"}, excluded=["a"]), "All excluded."),
    ("No node.", {"a": "b"}, "No node."),
]


def test_llama_index_s_text_is_composed_as_it_does(connection: Connection) -> None:
    make(connection, *client_tables.llama_index(*((text, metadata) for text, metadata, _ in NODES)))
    found = look(connection, "data_docs")
    assert found.recognised is not None and found.recognised.client == "LlamaIndex"
    assert found.recognised.text is not None and found.recognised.text.sql is not None
    target = RowTarget(table="data_docs", sql=found.recognised.text.sql)
    assert read_texts(connection, found.survey.table, target) == [text for *_, text in NODES]


def test_another_template_of_llama_index_is_followed(connection: Connection) -> None:
    metadata = client_tables.node({"a": "1", "b": "2"})
    node = json.loads(str(metadata["_node_content"]))
    node |= {"metadata_template": "<{key}|{value}>", "text_template": "[{metadata_str}]\t{content}"}
    node |= {"metadata_separator": "; ", "metadata_seperator": "; "}
    metadata["_node_content"] = json.dumps(node)
    make(connection, *client_tables.llama_index(("text", metadata)))
    found = look(connection, "data_docs")
    assert found.recognised is not None and found.recognised.text is not None
    target = RowTarget(table="data_docs", sql=found.recognised.text.sql)
    assert read_texts(connection, found.survey.table, target) == ["[<a|1>; <b|2>]\ttext"]


def test_models_side_by_side_need_a_condition(connection: Connection) -> None:
    make(
        connection,
        "CREATE TABLE mixed (id int PRIMARY KEY, model text, content text, embedding vector)",
        "INSERT INTO mixed SELECT n, CASE WHEN n < 5 THEN 'small' ELSE 'large' END, 'text of row ' || n, "
        "array_fill(1, ARRAY[CASE WHEN n < 5 THEN 3 ELSE 4 END])::vector FROM generate_series(1, 9) n",
    )
    found = look(connection, "mixed")
    chosen = choose_where(found.vector, found.vectors, found.groups, found.recognised, "repair")
    assert chosen.certainty == "unknown"
    assert "3 and 4 dimensions" in chosen.why
    assert "large (5 rows of 4 dimensions): model = 'large'" in chosen.why


def test_what_is_missing_or_broken_is_counted(connection: Connection) -> None:
    make(
        connection,
        "CREATE TABLE parts (id int PRIMARY KEY, content text, embedding halfvec(3))",
        "INSERT INTO parts VALUES (1, 'a b', '[1,0,0]'), (2, 'a b', '[0,0,0]'), (3, 'a b', NULL)",
    )
    found = look(connection, "parts")
    assert (found.vectors.sampled, found.vectors.missing, found.vectors.broken) == (3, 1, 1)


def test_a_key_that_identifies_no_row_is_found(connection: Connection) -> None:
    make(
        connection,
        'CREATE TABLE keyless (tenant int, id int, "odd %" text, embedding vector(3))',
        "INSERT INTO keyless VALUES (1, 1, 'x', NULL), (2, 1, 'y', NULL), (3, NULL, 'z', NULL)",
    )
    table = look(connection, "keyless").survey.table
    assert choose_key(look(connection, "keyless").survey).certainty == "unknown"
    assert find_repeated(connection, table, ["id"]) in ("1", "NULL")
    assert find_repeated(connection, table, ["tenant", "id"]) == "3, NULL"
    assert find_repeated(connection, table, ["tenant", "odd %"]) is None


def test_several_texts_are_no_guess_and_an_empty_table_tells_by_names(connection: Connection) -> None:
    make(
        connection,
        "CREATE TABLE two (id int PRIMARY KEY, summary text, description text, embedding vector(3))",
        "INSERT INTO two SELECT n, repeat('a long summary ', 9), repeat('a description ', 9) "
        "FROM generate_series(1, 9) n",
        "CREATE TABLE nothing (id int PRIMARY KEY, content text, slug text, embedding vector(3))",
        "CREATE TABLE textless (id int PRIMARY KEY, size int, embedding vector(3))",
    )
    assert choose_text(look(connection, "two").survey, None).certainty == "unknown"
    empty = choose_text(look(connection, "nothing").survey, None)
    assert (empty.certainty, empty.value and empty.value.text) == ("guess", "{content}")
    assert choose_text(look(connection, "textless").survey, None).value is None


def test_names_that_need_quotes_and_what_surrounds_the_table(connection: Connection) -> None:
    make(
        connection,
        *client_tables.QUOTED,
        'CREATE VIEW "Knowledge Base"."The View" AS SELECT * FROM "Knowledge Base"."Doc Store"',
        "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
        'CREATE TRIGGER "Touch!" BEFORE UPDATE ON "Knowledge Base"."Doc Store" FOR EACH ROW '
        "EXECUTE FUNCTION touch()",
        'CREATE INDEX "An Index" ON "Knowledge Base"."Doc Store" USING hnsw ("Embedding %" halfvec_l2_ops)',
    )
    found = look(connection, "Doc Store")
    assert found.vector.quoted == '"Knowledge Base"."Doc Store"."Embedding %"'
    assert choose_text(found.survey, None).value == TextChoice(
        "Content", text="{Content}", why=choose_text(found.survey, None).why
    )
    assert [(index.name, index.metric) for index in found.indexes] == [("An Index", "l2")]
    said = "\n".join(warnings(found))
    assert "Touch!" in said and '"Knowledge Base"."The View"' in said
