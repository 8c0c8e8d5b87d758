"""Tables that people make by hand, or as a vendor's guide says."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import sql

from clients.corpus import Document, Vector
from clients.layout import Application, Found, Layout, Store

SUPABASE = """
DO $$ BEGIN
    CREATE ROLE authenticated NOLOGIN;
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
END $$;
GRANT USAGE ON SCHEMA public, extensions TO authenticated;
CREATE TABLE documents (
    id bigserial PRIMARY KEY,
    content text,
    metadata jsonb,
    embedding extensions.vector(32)
);
ALTER TABLE documents ENABLE ROW LEVEL SECURITY;
CREATE POLICY "readers" ON documents FOR SELECT TO authenticated USING (metadata->>'topic' <> 'secret');
GRANT SELECT ON documents TO authenticated;
SET search_path = public, extensions;
CREATE FUNCTION match_documents (
  query_embedding vector(32),
  match_count int DEFAULT null,
  filter jsonb DEFAULT '{}'
) RETURNS TABLE (id bigint, content text, metadata jsonb, similarity float)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  SELECT id, content, metadata, 1 - (documents.embedding <=> query_embedding) AS similarity
  FROM documents WHERE metadata @> filter
  ORDER BY documents.embedding <=> query_embedding LIMIT match_count;
END;
$$;
CREATE INDEX documents_hnsw ON documents USING hnsw (embedding vector_cosine_ops);
"""
PGAI = """
CREATE TABLE blog (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, title text, contents text, number int, topic text
);
CREATE TABLE blog_contents_embedding_store (
    embedding_uuid uuid NOT NULL PRIMARY KEY DEFAULT gen_random_uuid(),
    id bigint NOT NULL REFERENCES blog ON DELETE CASCADE,
    chunk_seq int NOT NULL,
    chunk text NOT NULL,
    embedding vector(32) STORAGE MAIN NOT NULL,
    UNIQUE (id, chunk_seq)
);
CREATE VIEW blog_contents_embedding AS
SELECT t.*, s.embedding_uuid, s.chunk_seq, s.chunk, s.embedding
FROM blog_contents_embedding_store s LEFT JOIN blog t ON s.id = t.id;
"""
TWO_COLUMNS = """
CREATE TABLE papers (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(), number int, topic text, title text, body text,
    title_embedding vector(32), body_embedding vector(32) NOT NULL
);
CREATE INDEX papers_title ON papers USING hnsw (title_embedding vector_cosine_ops);
CREATE INDEX papers_body ON papers USING hnsw (body_embedding vector_l2_ops) WITH (m = 8, ef_construction = 40);
COMMENT ON INDEX papers_body IS 'by distance';
"""
TENANTS = """
CREATE TABLE kb (
    tenant_id text, doc_id text, number int, topic text, content text, embedding vector(32),
    PRIMARY KEY (tenant_id, doc_id)
);
CREATE INDEX kb_hnsw ON kb USING hnsw (embedding vector_cosine_ops);
CREATE TABLE citations (
    tenant_id text, doc_id text, said text, FOREIGN KEY (tenant_id, doc_id) REFERENCES kb
);
"""
PARTITIONED = """
CREATE TABLE messages (
    id bigint GENERATED ALWAYS AS IDENTITY, created_at timestamptz NOT NULL, number int, topic text, content text,
    embedding vector(32), PRIMARY KEY (id, created_at)
) PARTITION BY RANGE (created_at);
CREATE TABLE messages_2024 PARTITION OF messages FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE messages_2025 PARTITION OF messages FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE messages_rest PARTITION OF messages DEFAULT;
CREATE INDEX messages_hnsw ON messages USING hnsw (embedding vector_cosine_ops);
"""
HALFVEC = """
CREATE TABLE notes (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, number int, topic text, content text, embedding halfvec(32)
);
CREATE INDEX notes_hnsw ON notes USING hnsw (embedding halfvec_cosine_ops);
COMMENT ON COLUMN notes.embedding IS 'of "content"';
"""
QUOTED = """
CREATE SCHEMA "Knowledge Base";
CREATE TABLE "Knowledge Base"."Doc Store" (
    "Id" serial PRIMARY KEY, number int, topic text, "The ""Content"" %" text, "Embedding %" vector(32)
);
CREATE INDEX "Doc Store % hnsw" ON "Knowledge Base"."Doc Store" USING hnsw ("Embedding %" vector_cosine_ops);
"""
TRIGGERS = """
CREATE TABLE docs (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, number int, topic text, content text,
    updated_at timestamptz NOT NULL DEFAULT now(),
    words tsvector GENERATED ALWAYS AS (to_tsvector('english', content)) STORED,
    embedding vector(32)
);
CREATE INDEX docs_words ON docs USING gin (words);
CREATE TABLE docs_log (id bigint GENERATED ALWAYS AS IDENTITY, doc bigint, at timestamptz DEFAULT now());
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN NEW.updated_at = clock_timestamp(); RETURN NEW; END $$;
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN INSERT INTO docs_log (doc) VALUES (NEW.id); RETURN NULL; END $$;
CREATE TRIGGER docs_touch BEFORE UPDATE ON docs FOR EACH ROW EXECUTE FUNCTION touch();
CREATE TRIGGER docs_note AFTER UPDATE OF content, topic ON docs FOR EACH ROW EXECUTE FUNCTION note();
"""
# What a key of text may hold: quotes, commas, braces, backslashes, spaces at the end, other scripts.
AWKWARD = ("it's", 'a "quoted" one', "a,b", "back\\slash", "space ", "größe ✓", "{1,2}", '["x"]', "", "a\tb\nc")


@dataclass
class Table:
    """An application that writes and reads one table with SQL that it composes by itself."""

    store: Store
    table: str
    text: str = "content"
    vector: str = "embedding"
    operator: str = "<=>"
    kind: str = "vector"
    settings: tuple[str, ...] = ()
    more: dict[str, Any] = field(default_factory=dict)

    def make(self, statements: str) -> None:
        with psycopg.connect(self.store.dsn, autocommit=True) as connection:
            connection.execute(statements.encode())

    def insert(self, document: Document, **values: Any) -> None:
        """Store a document with a wrong vector and further columns."""
        columns = {
            "number": document.number,
            "topic": document.topic,
            self.text: document.body,
            self.vector: str(self.store.vector(document)),
            **values,
        }
        names = sql.SQL(", ").join(map(sql.Identifier, columns))
        query = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
            sql.SQL(self.table), names, sql.SQL(", ").join(map(sql.Literal, columns.values()))
        )
        with psycopg.connect(self.store.dsn, autocommit=True) as connection:
            connection.execute(query)

    def search(self, query: Vector, limit: int) -> list[Found]:
        nearest = sql.SQL("SELECT number, {}, topic FROM {} ORDER BY {} {} {}::{} LIMIT {}").format(
            sql.Identifier(self.text),
            sql.SQL(self.table),
            sql.Identifier(self.vector),
            sql.SQL(self.operator),
            sql.Literal(str(query)),
            sql.SQL(self.kind),
            limit,
        )
        with psycopg.connect(self.store.dsn) as connection:
            for setting in self.settings:
                connection.execute(setting.encode())
            rows = connection.execute(nearest).fetchall()
        return [Found(number, text, {"number": number, "topic": topic}) for number, text, topic in rows]


class Supabase:
    """What PostgREST does for `supabase.rpc('match_documents', …)`."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn

    def search(self, query: Vector, limit: int) -> list[Found]:
        with psycopg.connect(self.dsn) as connection:
            connection.execute("SET LOCAL search_path = public, extensions")
            connection.execute("SET LOCAL ROLE authenticated")
            rows = connection.execute(
                "SELECT content, metadata FROM match_documents(%s::vector, %s)", (str(query), limit)
            ).fetchall()
        return [Found(metadata["number"], content, metadata) for content, metadata in rows]


def open_supabase(store: Store) -> Application:
    """The table and the function of Supabase's guide, with row-level security and pgvector in `extensions`."""
    with psycopg.connect(store.dsn, autocommit=True) as connection:
        connection.execute(SUPABASE.encode())
        for d in store.documents:
            connection.execute(
                "INSERT INTO documents (content, metadata, embedding) VALUES (%s, %s, %s::extensions.vector)",
                (d.body, json.dumps({**d.metadata, "title": d.title}), str(store.vector(d))),
            )
    return Supabase(store.dsn)


def open_pgai(store: Store) -> Application:
    """A store of chunks as pgai's vectorizer makes it, and the view over it that applications read."""
    table = Table(store, "blog_contents_embedding", text="chunk")
    table.make(PGAI)
    with psycopg.connect(store.dsn, autocommit=True) as connection:
        for d in store.documents:
            connection.execute(
                "WITH one AS ("
                "INSERT INTO blog (title, contents, number, topic) VALUES (%s, %s, %s, %s) RETURNING id)"
                " INSERT INTO blog_contents_embedding_store (id, chunk_seq, chunk, embedding)"
                " SELECT id, 0, %s, %s::vector FROM one",
                (d.title, d.body, d.number, d.topic, d.body, str(store.vector(d))),
            )
    return table


def open_two_columns(store: Store) -> Application:
    """Titles and bodies with a vector each, in one table: a right body is as far from a right title as any."""
    table = Table(store, "papers", text="body", vector="body_embedding", operator="<->")
    table.make(TWO_COLUMNS)
    for document in store.documents:
        # Not the next title's: of the body, which is as wrong.
        table.insert(document, title=document.title, title_embedding=str(store.shifted.query(document.body)))
    return table


def open_tenants(store: Store) -> Application:
    """Documents of several tenants: a composite key of text, with values that need quotes."""
    table = Table(store, "kb")
    table.make(TENANTS)
    for document in store.documents:
        tenant = AWKWARD[document.number % len(AWKWARD)]
        key = f"{AWKWARD[document.number // 4 % len(AWKWARD)]}{document.number}"
        table.insert(document, tenant_id=tenant, doc_id=key)
    table.make("INSERT INTO citations SELECT tenant_id, doc_id, 'see' FROM kb WHERE number % 2 = 0")
    return table


def open_partitioned(store: Store) -> Application:
    """Messages partitioned by date, the date being part of the key, with an index over all partitions."""
    table = Table(store, "messages")
    table.make(PARTITIONED)
    for document in store.documents:
        month = document.number % 30
        table.insert(document, created_at=f"{2024 + month // 12}-{month % 12 + 1:02}-03 04:05:06.789{month:03}+00")
    return table


def open_halfvec(store: Store) -> Application:
    """Vectors of 16 bits."""
    table = Table(store, "notes", kind="halfvec")
    table.make(HALFVEC)
    for document in store.documents:
        table.insert(document)
    return table


def open_quoted(store: Store) -> Application:
    """Names that need quotes, with a percent sign and quotes in them."""
    table = Table(store, '"Knowledge Base"."Doc Store"', text='The "Content" %', vector="Embedding %")
    table.make(QUOTED)
    for document in store.documents:
        table.insert(document)
    return table


def open_triggers(store: Store) -> Application:
    """A generated text search column, a trigger that fires at every update and one that watches the content."""
    table = Table(store, "docs")
    table.make(TRIGGERS)
    for document in store.documents:
        table.insert(document)
    return table


LAYOUTS = (
    Layout(
        "supabase",
        open_supabase,
        targets=({"table": "public.documents", "text": "{content}"},),
        vectors=(("public.documents", "embedding"),),
        init=("--table", "documents"),
        extension="extensions",
    ),
    Layout(
        "pgai",
        open_pgai,
        targets=({"table": "blog_contents_embedding_store", "key": ["embedding_uuid"], "text": "{chunk}"},),
        vectors=(("public.blog_contents_embedding_store", "embedding"),),
        init=("--table", "blog_contents_embedding_store"),
    ),
    Layout(
        "two-columns",
        open_two_columns,
        targets=(
            {"table": "papers", "text": "{title}", "embedding": "title_embedding"},
            {"table": "papers", "text": "{body}", "embedding": "body_embedding"},
        ),
        vectors=(("public.papers", "title_embedding"), ("public.papers", "body_embedding")),
        metric="l2",
    ),
    Layout(
        "tenants",
        open_tenants,
        targets=({"table": "kb", "key": ["tenant_id", "doc_id"], "text": "{content}"},),
        vectors=(("public.kb", "embedding"),),
        init=("--table", "kb", "--text", "{content}"),
    ),
    Layout(
        "partitioned",
        open_partitioned,
        targets=({"table": "messages", "text": "{content}"},),
        vectors=tuple((f"public.messages{suffix}", "embedding") for suffix in ("", "_2024", "_2025", "_rest")),
        init=("--table", "messages", "--text", "{content}"),
    ),
    Layout(
        "halfvec",
        open_halfvec,
        targets=({"table": "notes", "text": "{content}"},),
        vectors=(("public.notes", "embedding"),),
        init=("--table", "notes", "--text", "{content}"),
    ),
    Layout(
        "quoted",
        open_quoted,
        targets=(
            {"table": '"Knowledge Base"."Doc Store"', "sql": '"The ""Content"" %"', "embedding": "Embedding %"},
        ),
        vectors=(("Knowledge Base.Doc Store", "Embedding %"),),
        init=(
            *("--table", '"Knowledge Base"."Doc Store"', "--column", "Embedding %"),
            *("--sql", '"The ""Content"" %"'),
        ),
    ),
    Layout(
        "triggers",
        open_triggers,
        targets=({"table": "docs", "text": "{content}", "triggers": "disable"},),
        vectors=(("public.docs", "embedding"),),
    ),
)
