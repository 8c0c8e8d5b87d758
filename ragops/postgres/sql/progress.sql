-- name: documents
SELECT count(*), count({documents_embedding}) FROM {documents};

-- name: parsed_files
SELECT count(*), count(DISTINCT {parsed_files_file_id}) FROM {parsed_files};

-- name: pending
-- The value stands in the statement, so that the partial index of the pending items answers.
SELECT count(*) FROM {files_queue} WHERE {files_queue_status} = 'pending';

-- name: processing
SELECT count(*) FROM {files_queue} WHERE {files_queue_status} = 'processing';

-- name: estimated_rows
-- As the planner does it: the rows a page of the last ANALYZE or VACUUM, times the pages of now. NULL where
-- there was none. The leaves of a partitioned table are added up.
WITH leaf AS (
    SELECT %(oid)s::oid AS oid
     UNION
    SELECT p.relid::oid FROM pg_partition_tree(%(oid)s::oid::regclass) p WHERE p.isleaf
), size AS (
    SELECT c.reltuples, c.relpages, pg_relation_size(c.oid) / current_setting('block_size')::bigint AS pages
      FROM leaf JOIN pg_class c ON c.oid = leaf.oid
     WHERE c.relkind = 'r'
)
SELECT CASE WHEN NOT coalesce(bool_or(pages > 0 AND (reltuples < 0 OR relpages = 0)), true)
            THEN round(sum(CASE WHEN pages = 0 THEN 0
                                ELSE reltuples::float8 / nullif(relpages, 0) * pages END))::bigint END
  FROM size;

-- name: column_statistics
-- NULLs where the column was never analysed, or may not be read.
SELECT a.attnotnull, s.null_frac, s.n_distinct
  FROM pg_attribute a
  JOIN pg_class c ON c.oid = a.attrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN LATERAL (
       SELECT null_frac, n_distinct FROM pg_stats
        WHERE schemaname = n.nspname AND tablename = c.relname AND attname = a.attname
        ORDER BY inherited DESC LIMIT 1) s ON true
 WHERE a.attrelid = %(oid)s AND a.attname = %(column)s;

-- name: common_values
-- The values of a column that has few of them, each with its share of the rows.
SELECT v.value, v.share
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
 CROSS JOIN LATERAL (
       SELECT most_common_vals::text::text[] AS vals, most_common_freqs AS freqs FROM pg_stats
        WHERE schemaname = n.nspname AND tablename = c.relname AND attname = %(column)s
        ORDER BY inherited DESC LIMIT 1) s
 CROSS JOIN LATERAL unnest(s.vals, s.freqs) AS v(value, share)
 WHERE c.oid = %(oid)s;
