-- name: server
SELECT current_database(), (SELECT oid::bigint FROM pg_database WHERE datname = current_database()),
       current_setting('server_version_num')::int,
       (SELECT extversion FROM pg_extension WHERE extname = 'vector'),
       current_setting('transaction_read_only') = 'on' OR pg_is_in_recovery(),
       current_setting('max_connections')::int,
       (SELECT count(*)::int FROM pg_stat_activity WHERE backend_type = 'client backend'),
       current_setting('maintenance_work_mem'), current_setting('max_parallel_maintenance_workers'),
       current_setting('statement_timeout'), current_user::text,
       coalesce((SELECT has_schema_privilege(oid, 'USAGE') AND has_schema_privilege(oid, 'CREATE')
                   FROM pg_namespace WHERE nspname = 'ragops'),
                has_database_privilege(current_database(), 'CREATE'));

-- name: limits
-- What an index build may take, in bytes and processes. A default memory setting says nothing of the machine:
-- null. The session's process and its start tell whether the server runs on the asking machine.
SELECT pg_size_bytes(current_setting('maintenance_work_mem')),
       current_setting('max_parallel_maintenance_workers')::int,
       current_setting('max_parallel_workers')::int, current_setting('max_worker_processes')::int,
       (SELECT pg_size_bytes(current_setting(name)) FROM pg_settings
         WHERE name = 'shared_buffers' AND setting <> boot_val),
       (SELECT pg_size_bytes(current_setting(name)) FROM pg_settings
         WHERE name = 'effective_cache_size' AND setting <> boot_val),
       current_setting('dynamic_shared_memory_type'), pg_backend_pid(),
       (SELECT extract(epoch FROM backend_start)::float8 FROM pg_stat_activity WHERE pid = pg_backend_pid());

-- name: table
SELECT n.nspname, c.relname, c.oid::bigint, c.relpersistence = 'u', c.reltuples::bigint,
       pg_total_relation_size(c.oid)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.oid = to_regclass(%(name)s) AND c.relkind IN ('r', 'p');

-- name: rights
-- What the role may do with a table, in the words of `ragops.campaign.privileges`. Rights on columns count as rights here.
SELECT array_remove(ARRAY[
         CASE WHEN has_any_column_privilege(c.oid, 'SELECT') THEN 'SELECT' END,
         CASE WHEN has_any_column_privilege(c.oid, 'INSERT') THEN 'INSERT' END,
         CASE WHEN has_any_column_privilege(c.oid, 'UPDATE') THEN 'UPDATE' END,
         CASE WHEN has_table_privilege(c.oid, 'DELETE') THEN 'DELETE' END,
         CASE WHEN has_table_privilege(c.oid, 'TRUNCATE') THEN 'TRUNCATE' END,
         CASE WHEN NOT row_security_active(c.oid) THEN 'COPY' END,
         CASE WHEN pg_has_role(c.relowner, 'USAGE') THEN 'OWN' END,
         CASE WHEN has_schema_privilege(c.relnamespace, 'CREATE') THEN 'CREATE' END
       ], NULL)
  FROM pg_class c WHERE c.oid = %(oid)s;

-- name: ragops_table
-- One of ragops' own tables, and whether the role may read it: to_regclass would fail without that right.
SELECT has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = 'ragops' AND c.relname = %(name)s;

-- name: columns
SELECT a.attname, format_type(a.atttypid, a.atttypmod), NOT a.attnotnull,
       a.atthasdef, a.attidentity <> '', a.attgenerated <> ''
  FROM pg_attribute a WHERE a.attrelid = %(oid)s AND a.attnum > 0 AND NOT a.attisdropped
 ORDER BY a.attnum;

-- name: next_value
-- The expression that makes a column's next value: its identity's sequence, else its default.
SELECT CASE WHEN a.attidentity <> ''
            THEN format('nextval(%%L::regclass)', pg_get_serial_sequence(a.attrelid::regclass::text, a.attname))
            ELSE pg_get_expr(d.adbin, d.adrelid) END
  FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
 WHERE a.attrelid = %(oid)s AND a.attname = %(column)s;

-- name: primary_key
SELECT a.attname FROM pg_index i
  JOIN unnest(i.indkey) WITH ORDINALITY AS k(attnum, place) ON true
  JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
 WHERE i.indrelid = %(oid)s AND i.indisprimary ORDER BY k.place;

-- name: referenced_by
SELECT c.conname, n.nspname || '.' || r.relname,
       CASE c.confdeltype WHEN 'a' THEN 'NO ACTION' WHEN 'r' THEN 'RESTRICT' WHEN 'c' THEN 'CASCADE'
                          WHEN 'n' THEN 'SET NULL' ELSE 'SET DEFAULT' END
  FROM pg_constraint c JOIN pg_class r ON r.oid = c.conrelid JOIN pg_namespace n ON n.oid = r.relnamespace
 WHERE c.contype = 'f' AND c.confrelid = %(oid)s AND c.conrelid <> c.confrelid AND c.conparentid = 0
 ORDER BY 2, 1;

-- name: vector_indexes
SELECT n.nspname, i.relname, am.amname, coalesce(a.attname, ''), pg_get_indexdef(i.oid), x.indisvalid,
       pg_relation_size(i.oid)
  FROM pg_index x
  JOIN pg_class i ON i.oid = x.indexrelid
  JOIN pg_am am ON am.oid = i.relam
  JOIN pg_namespace n ON n.oid = i.relnamespace
  LEFT JOIN pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = x.indkey[0]
 WHERE x.indrelid = %(oid)s AND am.amname IN ('hnsw', 'ivfflat')
 ORDER BY i.relname;

-- name: partial_indexes
-- The valid ones with a predicate: their key columns in order (null: an expression), and the predicate.
SELECT ARRAY(SELECT a.attname::text
               FROM unnest(x.indkey[0:x.indnkeyatts - 1]) WITH ORDINALITY AS k(attnum, place)
               LEFT JOIN pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = k.attnum
              ORDER BY k.place),
       pg_get_expr(x.indpred, x.indrelid)
  FROM pg_index x WHERE x.indrelid = %(oid)s AND x.indisvalid AND x.indpred IS NOT NULL;

-- name: storage_settings
-- Null for a partitioned table, which has none of its own.
SELECT CASE WHEN c.relkind = 'r'
            THEN ARRAY(SELECT split_part(o, '=', 1) FROM unnest(c.reloptions) AS o) END
  FROM pg_class c WHERE c.oid = %(oid)s;

-- name: blockers
SELECT DISTINCT a.pid, coalesce(a.application_name, ''), coalesce(a.state, ''),
       coalesce(extract(epoch FROM clock_timestamp() - a.xact_start)::int, 0), left(a.query, 80)
  FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
 WHERE l.relation = ANY(%(oids)s::oid[]) AND l.granted AND l.pid <> pg_backend_pid();

-- name: index_progress
SELECT p.phase, p.tuples_done, p.tuples_total, p.blocks_done, p.blocks_total
  FROM pg_stat_progress_create_index p WHERE p.relid = %(oid)s ORDER BY p.pid LIMIT 1;

-- name: oldest_holder
-- A role without `pg_read_all_stats` sees pid, application, user and transaction ids of others, but neither
-- since when nor what they do. Sessions of other databases hold nothing back here; a walsender that passes a
-- standby's feedback on has no database. Workers of vacuum are left out by vacuum itself.
WITH holder AS (
    SELECT 'session' AS kind, coalesce(a.application_name, '') AS name, a.pid, a.usename::text AS username,
           extract(epoch FROM clock_timestamp() - a.xact_start)::int AS age_s,
           greatest(age(a.backend_xmin), age(a.backend_xid)) AS transactions,
           a.state, left(a.query, 80) AS query
      FROM pg_stat_activity a
     WHERE (a.backend_xmin IS NOT NULL OR a.backend_xid IS NOT NULL)
       AND (a.datname = current_database() OR a.datname IS NULL)
       AND a.pid <> pg_backend_pid() AND a.backend_type IS DISTINCT FROM 'autovacuum worker'
    UNION ALL
    SELECT 'prepared transaction', p.gid, NULL, p.owner::text,
           extract(epoch FROM clock_timestamp() - p.prepared)::int, age(p.transaction), NULL, NULL
      FROM pg_prepared_xacts p WHERE p.database = current_database()
    UNION ALL
    SELECT 'replication slot', s.slot_name::text, s.active_pid, NULL, NULL, age(s.xmin),
           CASE WHEN s.active THEN 'active' ELSE 'inactive' END, NULL
      FROM pg_replication_slots s WHERE s.xmin IS NOT NULL
)
SELECT kind, name, pid, username, age_s, transactions, state,
       CASE WHEN state IS NOT NULL THEN query END
  FROM holder
 WHERE age_s >= %(min_age_s)s OR (age_s IS NULL AND transactions >= %(many)s)
 ORDER BY transactions DESC, age_s DESC NULLS LAST LIMIT 1;
