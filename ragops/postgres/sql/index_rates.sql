-- How fast a server updates vectors under an index, and builds that index, from a few rows. All of it is rolled back.

-- name: update_sample
-- Gives some rows the vector of another one of them, as an embedding would: every index of the column takes it. SKIP
-- LOCKED: nobody is waited for.
WITH sampled AS MATERIALIZED (
    SELECT t.tableoid AS part, t.ctid AS place, t.{column} AS embedding
      FROM {table} t TABLESAMPLE SYSTEM ({percent}) WHERE t.{column} IS NOT NULL
     LIMIT {count} FOR NO KEY UPDATE SKIP LOCKED
), moved AS (
    SELECT s.part, s.place, lead(s.embedding, 1, s.embedding) OVER (ORDER BY s.part, s.place) AS embedding
      FROM sampled s
)
UPDATE {table} t SET {column} = m.embedding FROM moved m WHERE t.ctid = m.place AND t.tableoid = m.part;

-- name: copy_sample
-- A temporary copy of some rows, to build the index on.
CREATE TEMPORARY TABLE ragops_index_sample ON COMMIT DROP AS
SELECT * FROM {table} t TABLESAMPLE SYSTEM ({percent}) WHERE t.{column} IS NOT NULL LIMIT {count};

-- name: build_sample
-- The same index on the copy.
CREATE INDEX ON pg_temp.ragops_index_sample {made};
