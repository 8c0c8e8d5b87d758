-- Space on the server's disks.

-- name: disks
-- Where new tables and the WAL go: one row. The data directory is NULL for a role that may not know it, the
-- tablespace is empty where it lies in the data directory.
SELECT pg_size_bytes(current_setting('max_wal_size')),
       (SELECT setting FROM pg_settings WHERE name = 'data_directory'),
       pg_tablespace_location(coalesce(
           (SELECT oid FROM pg_tablespace WHERE spcname = nullif(current_setting('default_tablespace'), '')),
           (SELECT dattablespace FROM pg_database WHERE datname = current_database())));

-- name: table_bytes
-- Rows with TOAST, without indexes, of tables and their partitions, by the table's oid.
WITH RECURSIVE part ("table", oid) AS (
    SELECT t.oid, t.oid FROM unnest(%(oids)s::oid[]) AS t (oid)
    UNION ALL
    SELECT p."table", i.inhrelid FROM part p JOIN pg_inherits i ON i.inhparent = p.oid
)
SELECT "table"::bigint, sum(coalesce(pg_table_size(oid), 0))::bigint FROM part GROUP BY 1;
