"""Tables that client libraries make and search by themselves."""

from __future__ import annotations

import importlib.util
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from clients.corpus import Document, Vector
from clients.layout import DIMENSIONS, Application, Found, Layout, Store

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings
    from llama_index.core.schema import TextNode

HANDBOOK = "collection_id = (SELECT uuid FROM langchain_pg_collection WHERE name = 'handbook')"


def is_installed(module: str) -> bool:
    """Return whether a client library can be imported."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _langchain_embeddings(store: Store) -> Embeddings:
    from langchain_core.embeddings import Embeddings

    class OwnEmbeddings(Embeddings):
        def embed_documents(self, texts: list[str]) -> list[Vector]:
            return [store.shifted.stored(text) for text in texts]

        def embed_query(self, text: str) -> Vector:
            return store.shifted.query(text)

    return OwnEmbeddings()


def _langchain_documents(documents: Sequence[Document]) -> list[Any]:
    from langchain_core.documents import Document as LangchainDocument

    return [LangchainDocument(page_content=d.body, metadata={**d.metadata, "title": d.title}) for d in documents]


class Langchain:
    """A vector store of LangChain, whichever: both have the same interface."""

    def __init__(self, vectorstore: Any) -> None:
        self.vectorstore = vectorstore

    def search(self, query: Vector, limit: int) -> list[Found]:
        found = self.vectorstore.similarity_search_by_vector(query, k=limit)
        return [Found(hit.metadata["number"], hit.page_content, hit.metadata) for hit in found]

    def add(self, document: Document) -> None:
        self.vectorstore.add_documents(_langchain_documents([document]), ids=[_uuid(document)])

    def remove(self, document: Document) -> None:
        self.vectorstore.delete([_uuid(document)])


def _uuid(document: Document) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, str(document.number)))


def open_pgvector(store: Store) -> Application:
    """Two collections in one table, whose vector column has no dimensions; the other one's vectors are right."""
    from langchain_postgres import PGVector

    def collection(name: str) -> Any:
        return PGVector(
            embeddings=_langchain_embeddings(store),
            connection=f"postgresql+psycopg{store.url}",
            collection_name=name,
        )

    mine, other = collection("handbook"), collection("archive")
    mine.add_documents(_langchain_documents(store.documents), ids=[f"doc '{d.number}'" for d in store.documents])
    other.add_documents(_langchain_documents(store.documents[:10]))
    return Langchain(mine)


def open_pgvectorstore(store: Store) -> Application:
    """LangChain's newer store: a table of one collection, with its own metadata columns and an HNSW index."""
    from langchain_postgres import Column, PGEngine, PGVectorStore
    from langchain_postgres.v2.indexes import HNSWIndex

    engine = PGEngine.from_connection_string(f"postgresql+asyncpg{store.url}")
    engine.init_vectorstore_table(
        "handbook", DIMENSIONS, metadata_columns=[Column("number", "INTEGER"), Column("topic", "TEXT")]
    )
    vectorstore = PGVectorStore.create_sync(
        engine, _langchain_embeddings(store), "handbook", metadata_columns=["number", "topic"]
    )
    vectorstore.add_documents(
        _langchain_documents(store.documents),
        ids=[_uuid(document) for document in store.documents],
    )
    vectorstore.apply_vector_index(HNSWIndex(name="handbook_hnsw"))
    return Langchain(vectorstore)


def _node(document: Document) -> TextNode:
    from llama_index.core.schema import TextNode

    node = TextNode(
        text=document.body, metadata={**document.metadata, "title": document.title}, id_=f"node-{document.number}"
    )
    node.excluded_embed_metadata_keys = ["number"]
    return node


def llama_index_text(document: Document) -> str:
    """Return what LlamaIndex embeds: metadata lines and the text."""
    return f"topic: {document.topic}\ntitle: {document.title}\n\n{document.body}"


class LlamaIndex:
    """LlamaIndex over its Postgres store."""

    def __init__(self, vectorstore: Any) -> None:
        self.vectorstore = vectorstore

    def search(self, query: Vector, limit: int) -> list[Found]:
        from llama_index.core.vector_stores import VectorStoreQuery

        found = self.vectorstore.query(VectorStoreQuery(query_embedding=query, similarity_top_k=limit))
        return [Found(node.metadata["number"], node.get_content(), node.metadata) for node in found.nodes]


def open_llama_index(store: Store) -> Application:
    """LlamaIndex with JSON metadata, an HNSW index and a text search column."""
    from llama_index.core.schema import MetadataMode
    from llama_index.vector_stores.postgres import PGVectorStore

    vectorstore = PGVectorStore.from_params(
        connection_string=f"postgresql+psycopg2{store.url}",
        async_connection_string=f"postgresql+asyncpg{store.url}",
        table_name="handbook",
        embed_dim=DIMENSIONS,
        hybrid_search=True,
        hnsw_kwargs={
            "hnsw_m": 16,
            "hnsw_ef_construction": 64,
            "hnsw_ef_search": 40,
            "hnsw_dist_method": "vector_cosine_ops",
        },
    )
    nodes = [_node(document) for document in store.documents]
    for node, document in zip(nodes, store.documents, strict=True):
        text = node.get_content(metadata_mode=MetadataMode.EMBED)
        assert text == llama_index_text(document)
        node.embedding = store.shifted.stored(text)
    vectorstore.add(nodes)
    return LlamaIndex(vectorstore)


class Haystack:
    """Haystack's document store, searched by its retriever."""

    def __init__(self, store: Store, document_store: Any) -> None:
        self.store = store
        self.document_store = document_store

    def add(self, document: Document) -> None:
        self.document_store.write_documents([_haystack_document(self.store, document)])

    def remove(self, document: Document) -> None:
        self.document_store.delete_documents([_haystack_document(self.store, document).id])

    def search(self, query: Vector, limit: int) -> list[Found]:
        from haystack_integrations.components.retrievers.pgvector import PgvectorEmbeddingRetriever

        retriever = PgvectorEmbeddingRetriever(document_store=self.document_store, top_k=limit)
        found = retriever.run(query_embedding=query)["documents"]
        return [Found(hit.meta["number"], hit.content, hit.meta) for hit in found]


def _haystack_document(store: Store, document: Document) -> Any:
    from haystack import Document as HaystackDocument

    meta = {**document.metadata, "title": document.title}
    id = f"document {document.number}"
    return HaystackDocument(id=id, content=document.body, meta=meta, embedding=store.vector(document))


def open_haystack(store: Store) -> Application:
    """Haystack's table with its HNSW and keyword indexes."""
    from haystack.utils import Secret
    from haystack_integrations.document_stores.pgvector import PgvectorDocumentStore

    document_store = PgvectorDocumentStore(
        connection_string=Secret.from_token(store.dsn), embedding_dimension=DIMENSIONS, search_strategy="hnsw"
    )
    document_store.write_documents([_haystack_document(store, document) for document in store.documents])
    return Haystack(store, document_store)


LAYOUTS = (
    Layout(
        "langchain-pgvector",
        open_pgvector,
        targets=({"table": "langchain_pg_embedding", "text": "{document}", "where": HANDBOOK},),
        vectors=(("public.langchain_pg_embedding", "embedding"),),
        init=("--table", "langchain_pg_embedding", "--where", HANDBOOK),
        client="langchain_postgres",
    ),
    Layout(
        "langchain-pgvectorstore",
        open_pgvectorstore,
        targets=({"table": "handbook", "key": ["langchain_id"], "text": "{content}"},),
        vectors=(("public.handbook", "embedding"),),
        init=("--table", "handbook"),
        client="langchain_postgres",
    ),
    Layout(
        "llama-index",
        open_llama_index,
        targets=(
            {
                "table": "data_handbook",
                "sql": "'topic: ' || (metadata_->>'topic') || E'\\ntitle: ' || (metadata_->>'title')"
                " || E'\\n\\n' || text",
            },
        ),
        vectors=(("public.data_handbook", "embedding"),),
        embedded=llama_index_text,
        init=("--table", "data_handbook"),
        client="llama_index.vector_stores.postgres",
    ),
    Layout(
        "haystack",
        open_haystack,
        targets=({"table": "haystack_documents", "text": "{content}"},),
        vectors=(("public.haystack_documents", "embedding"),),
        init=("--table", "haystack_documents"),
        client="haystack_integrations.document_stores.pgvector",
    ),
)
