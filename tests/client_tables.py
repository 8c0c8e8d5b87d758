"""Tables as well-known clients document them, made by SQL, with a few rows in each."""

from __future__ import annotations

import json

TEXT = "'The planner of query ' || n || ' weighs an index scan against a sequential scan of the table.'"
# A vector of 32 dimensions for row n.
EMBEDDING = "(SELECT array_agg(0.1 + (n * i) % 7) FROM generate_series(1, 32) i)::vector"

LANGCHAIN = (
    "CREATE TABLE langchain_pg_collection (uuid uuid PRIMARY KEY, name varchar NOT NULL UNIQUE, cmetadata json)",
    """CREATE TABLE langchain_pg_embedding (id varchar PRIMARY KEY,
       collection_id uuid REFERENCES langchain_pg_collection (uuid) ON DELETE CASCADE,
       embedding vector, document varchar, cmetadata jsonb)""",
    """INSERT INTO langchain_pg_collection VALUES ('11111111-1111-1111-1111-111111111111', 'handbook'),
       ('22222222-2222-2222-2222-222222222222', 'it''s %s')""",
    f"""INSERT INTO langchain_pg_embedding SELECT 'doc-' || n,
       CASE WHEN n % 3 = 0 THEN '22222222-2222-2222-2222-222222222222'::uuid
            ELSE '11111111-1111-1111-1111-111111111111'::uuid END,
       {EMBEDDING}, {TEXT}, '{{"page": 1}}' FROM generate_series(1, 12) n""",
)
PGVECTORSTORE = (
    """CREATE TABLE handbook (langchain_id uuid PRIMARY KEY, content text NOT NULL, embedding vector(32) NOT NULL,
       langchain_metadata json)""",
    f"""INSERT INTO handbook SELECT gen_random_uuid(), {TEXT}, {EMBEDDING} FROM generate_series(1, 12) n""",
)


def node(metadata: dict[str, object], *, excluded: list[str] | None = None) -> dict[str, object]:
    """Return a row's metadata as LlamaIndex stores it: the keys, and the node without its text."""
    content = {
        "id_": "n1",
        "embedding": None,
        "metadata": metadata,
        "excluded_embed_metadata_keys": excluded or [],
        "excluded_llm_metadata_keys": [],
        "relationships": {},
        "metadata_template": "{key}: {value}",
        "metadata_separator": "\n",
        "text": "",
        "mimetype": "text/plain",
        "start_char_idx": 0,
        "end_char_idx": 0,
        "metadata_seperator": "\n",
        "text_template": "{metadata_str}\n\n{content}",
        "class_name": "TextNode",
    }
    return {**metadata, "_node_content": json.dumps(content), "_node_type": "TextNode", "doc_id": "d"}


def llama_index(*rows: tuple[str, dict[str, object]], dimensions: int = 32) -> tuple[str, ...]:
    """Return the statements of a table data_docs with these texts and metadata."""
    made = [
        """CREATE TABLE data_docs (id bigserial PRIMARY KEY, text varchar NOT NULL, metadata_ jsonb,
           node_id varchar, embedding vector(32))"""
    ]
    for number, (text, metadata) in enumerate(rows):
        stored = json.dumps(metadata).replace("'", "''")
        quoted = text.replace("'", "''")
        made.append(
            f"INSERT INTO data_docs (text, metadata_, node_id, embedding) VALUES ('{quoted}', '{stored}', "
            f"'n{number}', array_fill(0.{number + 1}, ARRAY[{dimensions}])::vector)"
        )
    return tuple(made)


HAYSTACK = (
    """CREATE TABLE haystack_documents (id varchar(128) PRIMARY KEY, embedding vector(32), content text,
       blob_data bytea, blob_meta jsonb, blob_mime_type varchar(255), meta jsonb)""",
    f"""INSERT INTO haystack_documents (id, embedding, content) SELECT md5(n::text), {EMBEDDING}, {TEXT}
        FROM generate_series(1, 12) n""",
)
SUPABASE = (
    """CREATE TABLE documents (id bigserial PRIMARY KEY, content text, metadata jsonb, embedding vector(32))""",
    """CREATE FUNCTION match_documents (query_embedding vector(32), match_count int) RETURNS SETOF documents
       LANGUAGE sql AS 'SELECT * FROM documents ORDER BY embedding <=> query_embedding LIMIT match_count'""",
    "ALTER TABLE documents ENABLE ROW LEVEL SECURITY",
    f"INSERT INTO documents (content, embedding) SELECT {TEXT}, {EMBEDDING} FROM generate_series(1, 12) n",
)
PGAI = (
    "CREATE SCHEMA ai",
    "CREATE TABLE blog (id int PRIMARY KEY, title text, contents text)",
    """CREATE TABLE blog_contents_embedding_store (embedding_uuid uuid PRIMARY KEY DEFAULT gen_random_uuid(),
       id int NOT NULL REFERENCES blog ON DELETE CASCADE, chunk_seq int NOT NULL, chunk text NOT NULL,
       embedding vector(32) NOT NULL, UNIQUE (id, chunk_seq))""",
    """CREATE VIEW blog_contents_embedding AS SELECT t.*, b.title FROM blog_contents_embedding_store t
       LEFT JOIN blog b USING (id)""",
    """CREATE TABLE ai.vectorizer (id int PRIMARY KEY, source_schema name, source_table name, target_schema name,
       target_table name, config jsonb)""",
    """INSERT INTO ai.vectorizer VALUES (1, 'public', 'blog', 'public', 'blog_contents_embedding_store',
       '{"embedding": {"model": "nomic-embed-text", "dimensions": 32}, "formatting": {"template": "$chunk"}}')""",
    "INSERT INTO blog SELECT n, 'title ' || n FROM generate_series(1, 12) n",
    f"""INSERT INTO blog_contents_embedding_store (id, chunk_seq, chunk, embedding)
        SELECT n, 0, {TEXT}, {EMBEDDING} FROM generate_series(1, 12) n""",
)
OPEN_WEBUI = (
    """CREATE TABLE document_chunk (id text PRIMARY KEY, vector vector(32), collection_name text NOT NULL,
       text text, vmetadata jsonb)""",
    f"""INSERT INTO document_chunk SELECT n::text, {EMBEDDING}, 'file-' || n % 2, {TEXT}, '{{}}'
        FROM generate_series(1, 12) n""",
)
SPRING_AI = (
    """CREATE TABLE vector_store (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), content text, metadata json,
       embedding vector(32))""",
    f"INSERT INTO vector_store (content, embedding) SELECT {TEXT}, {EMBEDDING} FROM generate_series(1, 12) n",
)
DJANGO = (
    "CREATE TABLE django_migrations (id bigint PRIMARY KEY, app varchar(255), name varchar(255))",
    """CREATE TABLE library_article (id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
       slug varchar(50) NOT NULL, body text NOT NULL, updated_at timestamptz NOT NULL DEFAULT now(),
       embedding vector(32))""",
    f"""INSERT INTO library_article (slug, body, embedding) SELECT 'article-' || n, {TEXT}, {EMBEDDING}
        FROM generate_series(1, 12) n""",
)
MEM0 = (
    "CREATE TABLE memories (id uuid PRIMARY KEY, vector vector(32), payload jsonb)",
    f"""INSERT INTO memories
        SELECT gen_random_uuid(), {EMBEDDING}, jsonb_build_object('data', {TEXT}, 'user_id', 'u')
        FROM generate_series(1, 12) n""",
)
QUOTED = (
    'CREATE SCHEMA "Knowledge Base"',
    """CREATE TABLE "Knowledge Base"."Doc Store" ("Id" uuid PRIMARY KEY DEFAULT gen_random_uuid(), "Content" text,
       "Embedding %" halfvec(32))""",
    f"""INSERT INTO "Knowledge Base"."Doc Store" ("Content", "Embedding %")
        SELECT {TEXT}, {EMBEDDING}::halfvec FROM generate_series(1, 12) n""",
)
