-- Stored vectors: samples, counts, distances. `{table}` is `documents` or `document_chunks`, with its `{id}` (of a
-- chunk: its document's), `{content}` and `{embedding}`.

-- name: counts
-- Rows, rows with a vector, zero vectors, and the distinct numbers of dimensions: one scan of the table.
-- A zero vector makes every cosine distance NaN, and pgvector leaves it out of a cosine index.
SELECT count(*), count({embedding}), count(*) FILTER (WHERE vector_norm({embedding}) = 0),
       array_agg(DISTINCT vector_dims({embedding})) FILTER (WHERE {embedding} IS NOT NULL)
  FROM {table};

-- name: set_seed
-- Makes random() repeatable in this session. It must run in the transaction that samples: behind a pooler the next
-- transaction may have another session.
SELECT setseed(%(seed)s);

-- name: sample
-- Documents with a vector, drawn at random, by id.
-- The random order is made over the ids alone, so that texts and vectors are fetched for the drawn rows only.
SELECT d.{id}, d.{content}, d.{embedding} FROM {table} d
  JOIN (SELECT {id} AS id FROM {table} WHERE {embedding} IS NOT NULL ORDER BY random() LIMIT %(size)s) s
    ON s.id = d.{id} ORDER BY d.{id};

-- name: chunks_of
-- The chunks of some documents that have a vector, by document and index.
SELECT {number}, {content}, {embedding}, {id} FROM {table}
 WHERE {id} = ANY(%(ids)s) AND {embedding} IS NOT NULL ORDER BY {id}, {number};

-- name: distance_stats
-- Cosine distances of one query to all rows: rows, finite ones, minimum, maximum, mean, and the rows under each
-- threshold: one scan, which may be parallel (with GROUPING SETS or a join over the thresholds it could not be).
-- NaN sorts above every number in PostgreSQL, so it is kept out of minimum, maximum and mean, and under no threshold.
SELECT count(*), count(*) FILTER (WHERE x.d <> 'NaN'), min(x.d) FILTER (WHERE x.d <> 'NaN'),
       max(x.d) FILTER (WHERE x.d <> 'NaN'), avg(x.d) FILTER (WHERE x.d <> 'NaN'),
       ARRAY[{under}]::bigint[]
  FROM (SELECT {embedding} <=> %(vector)s AS d FROM {table}) x;

-- name: under
-- A part of `distance_stats`: the rows under one threshold.
count(*) FILTER (WHERE x.d < {threshold});

-- name: rank_of
-- The exact rank (1 = nearest) of a row for a query, by a full scan; NULL if it has no finite distance.
WITH own AS (SELECT {embedding} <=> %(vector)s AS d FROM {table} WHERE {id} = %(id)s)
SELECT CASE WHEN coalesce((SELECT d FROM own), 'NaN') = 'NaN' THEN NULL ELSE
       (SELECT count(*) + 1 FROM {table} WHERE {embedding} <=> %(vector)s < (SELECT d FROM own)) END;

-- name: id_of_path
-- The documents that came from a path.
SELECT {id} FROM {table} WHERE {path} = %(path)s;

-- name: nearest
-- The nearest rows with the start of their text; `{distance}` is the operator of a metric. Whether an index is used
-- depends on the settings of the transaction.
SELECT {id}, {embedding} {distance} %(vector)s AS distance, left({content}, 300) FROM {table}
 WHERE {embedding} IS NOT NULL ORDER BY {embedding} {distance} %(vector)s LIMIT %(limit)s;

-- name: documents_without_chunks
-- Documents that no chunk belongs to, by one hash join.
SELECT count(*) FROM {documents} d
 WHERE NOT EXISTS (SELECT 1 FROM {document_chunks} c WHERE c.{document_chunks_document_id} = d.{documents_id});
