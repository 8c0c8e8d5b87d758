-- Progress of the tables: counts, and estimates from the planner's statistics for tables that are too large to count.

-- name: documents
-- Documents, and those with a vector, by a full scan.
SELECT count(*), count({documents_embedding}) FROM {documents};

-- name: parsed_files
-- Parsed files, and distinct ones, by a full scan and a sort or hash of the ids.
SELECT count(*), count(DISTINCT {parsed_files_file_id}) FROM {parsed_files};

-- name: pending
-- Pending items. The status is a literal instead of a parameter, so that the partial index of pending items serves.
SELECT count(*) FROM {files_queue} WHERE {files_queue_status} = 'pending';

-- name: processing
-- Items in process, from the partial index of leases.
SELECT count(*) FROM {files_queue} WHERE {files_queue_status} = 'processing';

-- name: estimated_rows
-- The rows of a table as the planner estimates them: rows per page at the last ANALYZE or VACUUM, times the pages of
-- now (https://www.postgresql.org/docs/current/row-estimation-examples.html). NULL if a leaf that has pages was never
-- analyzed. The leaves of a partitioned table are added up, because autovacuum does not analyze the parent.
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
-- The statistics of one column; NULLs if it was never analyzed or the role may not read it.
-- A partitioned table has two rows in pg_stats; the inherited one covers its partitions.
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
-- The most common values of a column as text, each with its share of the rows; no row if it was never analyzed.
-- The array is cast by way of text, because anyarray cannot be cast to text[].
SELECT v.value, v.share
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
 CROSS JOIN LATERAL (
       SELECT most_common_vals::text::text[] AS vals, most_common_freqs AS freqs FROM pg_stats
        WHERE schemaname = n.nspname AND tablename = c.relname AND attname = %(column)s
        ORDER BY inherited DESC LIMIT 1) s
 CROSS JOIN LATERAL unnest(s.vals, s.freqs) AS v(value, share)
 WHERE c.oid = %(oid)s;

-- name: writing_fingerprints
-- The distinct fingerprints of the workers that wrote batches.
SELECT DISTINCT {ingestion_metrics_fingerprint} FROM {ingestion_metrics}
 WHERE {ingestion_metrics_fingerprint} IS NOT NULL;
