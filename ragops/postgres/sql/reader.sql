-- Stored vectors: samples, counts, distances. `{table}` is `documents` or `document_chunks`, with its `{id}` (of a
-- chunk: its document's), `{content}` and `{embedding}`.
-- `{ext}` is the schema of pgvector with its dot, and `{cosine}` its operator: both are found whatever the search path
-- is. `{table}` may be a sub-select, which needs an alias before PostgreSQL 16. Vectors are cast to `vector`, which reads halfvec and sparsevec as well, and is no step for a vector.
-- `{text}` is the whole text and `{start}` its start, as bytes where the database does not know its encoding.

-- name: text
-- The whole text.
{content}::text;

-- name: start
-- The start of the text.
left({content}::text, 300);

-- name: bytes
-- A text as the bytes that are stored: in SQL_ASCII they may be no UTF-8, and left() may cut within a letter.
convert_to({part}, 'SQL_ASCII');

-- name: counts
-- Rows, rows with a vector, zero vectors, the distinct numbers of dimensions, and rows whose text is not empty and
-- that have no vector: one scan of the table.
-- A zero vector makes every cosine distance NaN, and pgvector leaves it out of a cosine index.
SELECT count(*), count({embedding}), count(*) FILTER (WHERE {ext}vector_norm({embedding}::{ext}vector) = 0),
       array_agg(DISTINCT {ext}vector_dims({embedding}::{ext}vector)) FILTER (WHERE {embedding} IS NOT NULL),
       count(*) FILTER (WHERE {embedding} IS NULL AND {content}::text <> '')
  FROM {table} d;

-- name: set_seed
-- Makes random() repeatable in this session. It must run in the transaction that samples: behind a pooler the next
-- transaction may have another session.
SELECT setseed(%(seed)s);

-- name: sample
-- Documents with a vector, drawn at random, by id.
-- The random order is made over places alone, so that texts and vectors are fetched for the drawn rows only; over
-- places instead of ids, because ids need not be unique.
SELECT d.{id}, {text}, d.{embedding}::{ext}vector, {path} FROM {table} d
  JOIN (SELECT tableoid AS part, ctid AS place FROM {table} d
         WHERE {embedding} IS NOT NULL ORDER BY random() LIMIT %(size)s) s
    ON d.ctid = s.place AND d.tableoid = s.part ORDER BY d.{id};

-- name: repeated_ids
-- Those of some ids that several rows have.
SELECT {id} FROM {table} d WHERE {id} = ANY(%(ids)s) GROUP BY 1 HAVING count(*) > 1;

-- name: repeated_paths
-- Documents whose path another document has, too: each path counts once.
SELECT count({path}) - count(DISTINCT {path}::text COLLATE "C") FROM {table} d;

-- name: chunks_of
-- The chunks of some documents that have a vector, by document and index.
SELECT {number}, {text}, {embedding}::{ext}vector, {id} FROM {table} d
 WHERE {id} = ANY(%(ids)s) AND {embedding} IS NOT NULL ORDER BY {id}, {number};

-- name: distance_stats
-- Cosine distances of one query to all rows: rows, rows with a vector, finite distances, minimum, maximum, mean, and
-- the rows under each threshold: one scan, which may be parallel (with GROUPING SETS or a join over the thresholds
-- it could not be).
-- NaN sorts above every number in PostgreSQL, so it is kept out of minimum, maximum and mean, and under no threshold.
SELECT count(*), count(x.d), count(*) FILTER (WHERE x.d <> 'NaN'), min(x.d) FILTER (WHERE x.d <> 'NaN'),
       max(x.d) FILTER (WHERE x.d <> 'NaN'), avg(x.d) FILTER (WHERE x.d <> 'NaN'),
       ARRAY[{under}]::bigint[]
  FROM (SELECT {embedding}::{ext}vector {cosine} %(vector)s AS d FROM {table} d) x;

-- name: under
-- A part of `distance_stats`: the rows under one threshold.
count(*) FILTER (WHERE x.d < {threshold});

-- name: rank_of
-- The exact rank (1 = nearest) of a row for a query, by a full scan; NULL if it has no finite distance.
WITH own AS (SELECT min({embedding}::{ext}vector {cosine} %(vector)s) AS d FROM {table} d WHERE {id} = %(id)s)
SELECT CASE WHEN coalesce((SELECT d FROM own), 'NaN') = 'NaN' THEN NULL ELSE
       (SELECT count(*) + 1 FROM {table} d
         WHERE {embedding}::{ext}vector {cosine} %(vector)s < (SELECT d FROM own)) END;

-- name: id_of_path
-- The documents that came from a path.
SELECT {id} FROM {table} d WHERE {path} = %(path)s;

-- name: nearest
-- The nearest rows with the start of their text; `{distance}` is the operator of a metric, `{kind}` the column's own
-- type, without which its index would not fit. Whether an index is used depends on the settings of the transaction.
SELECT {id}, {embedding} {distance} %(vector)s::{kind} AS distance, {start} FROM {table} d
 WHERE {embedding} IS NOT NULL{same_dimensions}
 ORDER BY {embedding} {distance} %(vector)s::{kind} LIMIT %(limit)s;

-- name: same_dimensions
-- A part of `nearest`, for a column of vectors of different lengths: only those that can be compared.
 AND {ext}vector_dims({embedding}::{ext}vector) = {dimensions};

-- name: explain
-- The plan of a statement, as JSON.
EXPLAIN (FORMAT JSON) {query};

-- name: documents_without_chunks
-- Documents that no chunk belongs to, by one hash join.
SELECT count(*) FROM {documents} d
 WHERE NOT EXISTS (SELECT 1 FROM {document_chunks} c WHERE c.{document_chunks_document_id} = d.{documents_id});
