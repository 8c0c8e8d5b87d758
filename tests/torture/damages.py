"""Damages that the oracle must see: each is done to a copy of a database in which everything is right."""

from __future__ import annotations

from dataclasses import dataclass

FIRST = "(SELECT min(id) FROM documents)"
SECOND = "(SELECT min(id) + 1 FROM documents)"
LONG = "(SELECT document_id FROM document_chunks GROUP BY 1 HAVING count(*) > 1 ORDER BY 1 LIMIT 1)"
NEWEST = "(SELECT max(id) FROM ragops.campaign)"
ITEM = "(SELECT min(id) FROM files_queue)"
LAST_ITEM = "(SELECT max(id) FROM files_queue)"
ARCHIVE = "ragops.{documents}"
SWAP = (
    "UPDATE {table} t SET embedding = o.embedding FROM {table} o"
    " WHERE (t.ctid, o.ctid) IN ((({one}), ({two})), (({two}), ({one})))"
)


@dataclass(frozen=True, slots=True)
class Damage:
    name: str
    seen_as: str
    statements: tuple[str, ...]


def _swap(table: str, column: str, one: str, two: str) -> str:
    row = f"SELECT ctid FROM {table} WHERE {column} = "
    return SWAP.format(table=table, one=row + one, two=row + two)


AFTER_A_CAMPAIGN = tuple(
    Damage(name, kind, tuple(statements))
    for name, kind, *statements in (
        ("a document is gone", "lost", f"DELETE FROM document_chunks WHERE document_id = {FIRST}",
         f"DELETE FROM documents WHERE id = {FIRST}"),
        ("a document and its item are gone", "lost", f"DELETE FROM document_chunks WHERE document_id = {FIRST}",
         f"DELETE FROM files_queue WHERE id = (SELECT file_id FROM documents WHERE id = {FIRST})",
         f"DELETE FROM documents WHERE id = {FIRST}"),
        ("a document is there twice", "doubled",
         "INSERT INTO documents (file_id, file_path, content, metadata, embedding)"
         f" SELECT file_id, file_path, content, metadata, embedding FROM documents WHERE id = {FIRST}"),
        ("a document has the text of another", "mixed",
         f"UPDATE documents SET content = (SELECT content FROM documents WHERE id = {SECOND}) WHERE id = {FIRST}"),
        ("a document has the text of the corpus before", "mixed",
         "UPDATE documents d SET content = a.content FROM {documents} a"
         f" WHERE d.id = {FIRST} AND a.file_path = d.file_path"),
        ("two documents have each other's vectors", "vector", _swap("documents", "id", FIRST, SECOND)),
        ("a vector of another space", "vector",
         f"UPDATE documents SET embedding = (SELECT array_agg(n % 5 - 2) FROM generate_series(1, 32) n)::vector"
         f" WHERE id = {FIRST}"),
        ("a vector that is a little off", "vector",
         "UPDATE documents SET embedding = embedding + (SELECT array_agg(CASE n WHEN 1 THEN 0.01 ELSE 0 END)"
         f" FROM generate_series(1, 32) n)::vector WHERE id = {FIRST}"),
        ("a vector of zeros", "vector",
         f"UPDATE documents SET embedding = array_fill(0, ARRAY[32])::vector WHERE id = {FIRST}"),
        ("no vector", "vector", f"UPDATE documents SET embedding = NULL WHERE id = {FIRST}"),
        ("a chunk too many", "mixed",
         "INSERT INTO document_chunks SELECT document_id, 99, content, embedding FROM document_chunks"
         f" WHERE document_id = {FIRST}"),
        ("a chunk too few", "mixed",
         f"DELETE FROM document_chunks WHERE document_id = {LONG} AND chunk_index = 1"),
        ("a chunk with another text", "mixed",
         f"UPDATE document_chunks SET content = 'something' WHERE document_id = {LONG} AND chunk_index = 1"),
        ("two chunks have each other's vectors", "vector",
         "UPDATE document_chunks c SET embedding = o.embedding FROM document_chunks o"
         f" WHERE c.document_id = {LONG} AND o.document_id = {LONG} AND o.chunk_index = 1 - c.chunk_index"
         " AND c.chunk_index < 2"),
        ("a row of no document in parsed_files", "unexpected",
         "INSERT INTO parsed_files (file_id, content_hash) VALUES (-1, 'x')"),
        ("a file that was parsed twice", "mixed",
         "INSERT INTO parsed_files (file_id, content_hash, characters, chunks)"
         " SELECT file_id, content_hash, characters, chunks FROM parsed_files ORDER BY id LIMIT 1"),
        ("a file that was not parsed", "mixed",
         "DELETE FROM parsed_files WHERE id = (SELECT min(id) FROM parsed_files)"),
        ("a batch that is counted twice", "unexpected",
         "INSERT INTO ingestion_metrics (worker, documents) SELECT worker, documents FROM ingestion_metrics"
         " LIMIT 1"),
        ("a document of another corpus", "unexpected",
         "INSERT INTO documents (file_path, content) VALUES ('nowhere.txt', 'x')"),
        ("an item that is left processing", "queue",
         f"UPDATE files_queue SET status = 'processing' WHERE id = {ITEM}"),
        ("an item that failed", "queue", f"UPDATE files_queue SET status = 'failed' WHERE id = {ITEM}"),
        ("a document behind the gate: its item is pending", "unexpected",
         f"UPDATE files_queue SET status = 'pending' WHERE id = {LAST_ITEM}"),
        ("an item that keeps its lease", "lease",
         f"UPDATE files_queue SET lease_until = now() WHERE id = {ITEM}"),
        ("an item that keeps its claim", "lease",
         f"UPDATE files_queue SET claim_id = gen_random_uuid() WHERE id = {ITEM}"),
        ("a campaign that keeps its holder", "lease",
         f"UPDATE ragops.campaign SET holder = 'somebody' WHERE id = {NEWEST}"),
        ("a campaign that keeps its lease", "lease",
         f"INSERT INTO ragops.lease VALUES ({NEWEST}, 1, 'somebody', now())"),
        ("an item too many", "queue",
         "INSERT INTO files_queue (file_path, status) VALUES ('nowhere.txt', 'completed')"),
        ("an item twice", "queue",
         "INSERT INTO files_queue (file_path, status)"
         f" SELECT file_path, status FROM files_queue WHERE id = {ITEM}"),
        ("an item that was completed while its gate was closed", "gate",
         f"UPDATE ragops.campaign SET status = 'running', phase = 1 WHERE id = {NEWEST}",
         f"UPDATE files_queue SET status = 'processing' WHERE id = {LAST_ITEM}",
         f"UPDATE files_queue SET status = 'completed' WHERE id = {LAST_ITEM}",
         f"UPDATE ragops.campaign SET status = 'done', phase = 32767 WHERE id = {NEWEST}"),
        ("an index that is invalid", "index",
         "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'idx_documents_embedding_hnsw'::regclass"),
        ("an index that is missing", "index", "DROP INDEX own_l2"),
        ("an index with other parameters", "index", "DROP INDEX own_l2",
         "CREATE INDEX own_l2 ON documents USING hnsw (embedding vector_l2_ops)"),
        ("an index too many", "index", "CREATE INDEX leftover ON documents USING hnsw (embedding vector_ip_ops)"),
        ("a campaign that is left running", "ledger",
         f"UPDATE ragops.campaign SET status = 'running' WHERE id = {NEWEST}"),
        ("a campaign that was given up", "ledger",
         f"UPDATE ragops.campaign SET status = 'abandoned' WHERE id = {NEWEST}"),
        ("a step that is not done", "ledger",
         f"UPDATE ragops.step SET status = 'running' WHERE campaign_id = {NEWEST} AND number = 3"),
        ("a validation that failed", "ledger",
         "UPDATE ragops.step SET effect = jsonb_set(effect, '{verdict}', '\"fail\"')"
         f" WHERE campaign_id = {NEWEST} AND verb = 'validate'"),
        ("an index that the journal takes for missing", "ledger",
         "UPDATE ragops.index_definition SET restored_at = NULL"
         " WHERE id = (SELECT max(id) FROM ragops.index_definition)"),
        ("an archive with a row too few", "archive",
         "DELETE FROM {documents} WHERE id = (SELECT min(id) FROM {documents})"),
        ("an archive with a row too many", "archive", "INSERT INTO {queue} SELECT * FROM {queue} LIMIT 1"),
        ("an archive with another text", "archive", "UPDATE {documents} SET content = 'x'"),
        ("an archive that is gone", "archive", "DROP TABLE {documents}"),
        ("an archive that nobody recorded", "archive",
         f"DELETE FROM ragops.archive WHERE campaign_id = {NEWEST} AND logical = 'documents'"),
        ("a password in the ledger", "secret",
         "UPDATE ragops.campaign SET error = 'postgresql://keeper:{password}@127.0.0.1/x'"),
    )
)  # fmt: skip
AFTER_AN_UNDO = tuple(
    Damage(name, kind, tuple(statements))
    for name, kind, *statements in (
        ("a row that did not come back", "undo", "DELETE FROM document_chunks",
         f"DELETE FROM documents WHERE id = {FIRST}"),
        ("a row of the campaign that stayed", "undo",
         "INSERT INTO files_queue (file_path, status) VALUES ('stayed.txt', 'completed')"),
        ("a row that came back changed", "undo", f"UPDATE documents SET content = 'x' WHERE id = {FIRST}"),
        ("a vector that came back changed", "undo",
         f"UPDATE documents SET embedding = array_fill(-1, ARRAY[32])::vector * embedding WHERE id = {FIRST}"),
        ("an index that did not come back", "index", "DROP INDEX own_l2"),
        ("a campaign that is still done", "undo",
         f"UPDATE ragops.campaign SET status = 'done' WHERE id = {NEWEST}"),
        ("an undo that is not finished", "undo", "UPDATE ragops.undo SET finished_at = NULL"),
    )
)  # fmt: skip
